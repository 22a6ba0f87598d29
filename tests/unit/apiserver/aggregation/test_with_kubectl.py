"""Unmodified kubectl works with what an extension API server serves, through the main server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance import aggregated
from tests.conformance.aggregated import NAME, World

every_kubectl = pytest.mark.parametrize(
    "kubectl", ["/usr/bin/kubectl", str(Path(sys.executable).parent / "kubectl")], ids=["1.32", "1.37"]
)

MANIFEST = """
apiVersion: wardle.example.com/v1alpha1
kind: Flunder
metadata: {name: sole, namespace: default, labels: {fish: flat}}
spec: {reference: sea}
"""


class Kubectl:
    def __init__(self, world: World, binary: str) -> None:
        self.world = world
        self._binary = binary
        self._config = world.kubeconfig("root", "system:masters")

    async def __call__(self, *args: str, stdin: str = "", code: int = 0) -> str:
        """What it says, on either stream."""
        pipe = asyncio.subprocess.PIPE
        environment = {"HOME": str(self.world.directory), "KUBECONFIG": self._config, "PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec(
            self._binary, *args, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=environment
        )
        out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        assert process.returncode == code, (args, out.decode())
        return out.decode()


@pytest_asyncio.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with aggregated.world(tmp_path, monkeypatch) as made:
        yield made


@every_kubectl
async def test_api_services(world: World, kubectl: str) -> None:
    run = Kubectl(world, kubectl)
    await world.deploy()
    lines = (await run("get", "apiservices")).splitlines()
    assert lines[0].split() == ["NAME", "SERVICE", "AVAILABLE", "AGE"]
    rows = {line.split()[0]: line.split()[1:3] for line in lines[1:]}
    assert rows["v1."] == rows["v1.apps"] == ["Local", "True"]
    assert rows[NAME] == ["wardle/sample-api", "True"]
    described = await run("describe", "apiservice", NAME)
    for text in ("Group Priority Minimum:  2000", "Reason:                Passed", "Message:               all checks"):
        assert text in described
    await run("delete", "service", "sample-api", "-n", "wardle")
    await world.until("ServiceNotFound")
    assert "wardle/sample-api   False (ServiceNotFound)" in await run("get", "apiservice", NAME)
    refused = await run("get", "flunders", code=1)
    assert "the server is currently unable to handle the request" in refused or "doesn't have a resource" in refused


@every_kubectl
async def test_aggregated_objects(world: World, kubectl: str) -> None:
    run = Kubectl(world, kubectl)
    await world.deploy()
    assert "flunders" in (await run("api-resources", "--api-group=wardle.example.com"))
    row = (await run("api-resources", "--api-group=wardle.example.com")).splitlines()[1].split()
    assert row == ["flunders", "fl", "wardle.example.com/v1alpha1", "true", "Flunder"]
    assert "wardle.example.com/v1alpha1" in await run("api-versions")
    assert "flunder.wardle.example.com/sole created" in await run("create", "-f", "-", stdin=MANIFEST)
    assert (await run("get", "fl", "-l", "fish=flat", "-o", "name")).strip() == "flunder.wardle.example.com/sole"
    assert (await run("get", "flunders", "sole")).splitlines()[0].split() == ["NAME", "AGE"]
    changed = MANIFEST.replace("sea", "ocean")
    assert "configured" in await run("apply", "-f", "-", stdin=changed)
    assert json.loads(await run("get", "flunder", "sole", "-o", "json"))["spec"] == {"reference": "ocean"}
    assert "ocean" in await run("describe", "flunder", "sole")
    assert "reference" in await run("explain", "flunder.spec")
    wrong = await run("create", "-f", "-", stdin=MANIFEST.replace("spec: {", "spec: {colour: blue, "), code=1)
    assert 'unknown field "colour"' in wrong or "AlreadyExists" in wrong or "already exists" in wrong
    assert "deleted" in await run("delete", "flunder", "sole")
    assert "No resources found" in await run("get", "flunders")
    assert "flunders.wardle.example.com is forbidden" in await run("get", "flunders", "--as=jane", code=1)
