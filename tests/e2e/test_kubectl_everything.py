"""What kubectl does with any kind: an object of each that people write, taken through every command that takes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.harness import Kubectl, eventually

#: What controllers write to without there being a status.
WRITTEN = {"ServiceAccount", "EndpointSlice", "PersistentVolumeClaim"}
#: What kubectl patches again and again: stringData, quantities and lists that are one value, with defaults in them.
PATCHED = {
    "secret/secret", "limitrange/limits", "resourcequota/quota", "pod/pod", "persistentvolumeclaim/claim",
    "deployment/deployment", "statefulset/stateful", "job/job", "poddisruptionbudget/budget", "networkpolicy/policy",
    "endpointslice/slice", "resourceclaim/devices", "resourceclaimtemplate/devices",
}  # fmt: skip
REGISTERED = ("validatingwebhookconfiguration", "mutatingwebhookconfiguration", "validatingadmissionpolicy")
MANIFESTS = Path(__file__).parent / "everything.yaml"


@pytest.fixture
def file(simulated: Kubectl, tmp_path: Path) -> Iterator[str]:
    """The manifests, with names of this test's own; afterwards none of their objects is left."""
    path = tmp_path / "everything.yaml"
    path.write_text(MANIFESTS.read_text().replace("NAME", simulated.namespace))
    try:
        yield str(path)
    finally:
        simulated.outcome("delete", "-f", str(path), "--ignore-not-found", "--now", "--wait=false")


def names(file: str) -> list[str]:
    """`<resource>/<name>` of each manifest, without what stands for the group."""
    return [f"{m['kind'].lower()}/{m['metadata']['name']}" for m in yaml.safe_load_all(Path(file).read_text())]


def shown(said: str) -> dict[str, str]:
    """What a command says of each object, by kind and name."""
    found = {}
    for line in said.splitlines():
        what, _, rest = line.partition(" ")
        kind, _, name = what.partition("/")
        found[f"{kind.partition('.')[0]}/{name}"] = rest
    return found


def objects(simulated: Kubectl, file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = simulated.json("get", "-f", file)["items"]
    return found


@pytest.mark.parametrize("side", ["client", "server"])
def test_what_is_applied_is_applied_already(simulated: Kubectl, file: str, side: str) -> None:
    words = ["-f", file] + (["--server-side"] if side == "server" else [])
    made = shown(simulated("apply", *words))
    assert made == dict.fromkeys(names(file), "created" if side == "client" else "serverside-applied")

    def versions() -> dict[str, str]:
        """Of what nobody but this test writes."""
        found = [o for o in objects(simulated, file) if "status" not in o and o["kind"] not in WRITTEN]
        assert len(found) >= 20
        return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"] for o in found}

    before = versions()
    again = shown(simulated("apply", *words))
    assert again.keys() == made.keys()
    if side == "client":
        # Where the server has defaults within lists that are one value, or writes numbers another way, kubectl sends
        # a patch; it changes nothing.
        patched = {name for name, what in again.items() if what != "unchanged"}
        assert patched <= PATCHED | {f"{kind}/{simulated.namespace}" for kind in REGISTERED}
    assert versions() == before
    assert simulated.outcome("diff", *words) == (0, "")


def test_all_is_shown_and_described(simulated: Kubectl, file: str) -> None:
    simulated("create", "-f", file)
    wanted = names(file)
    assert shown(simulated("get", "-f", file, "-o", "name")).keys() == set(wanted)
    for more in ([], ["-o", "wide"], ["--show-labels"]):
        table = simulated("get", "-f", file, *more)
        # A table for each kind, one below the other.
        rows = [line for line in table.splitlines() if line.strip() and not line.startswith("NAME ")]
        assert [row.split()[0].rpartition("/")[2] for row in rows] == [name.partition("/")[2] for name in wanted]
        assert ("set=everything" in table) == (more == ["--show-labels"])
    described = simulated("describe", "-f", file)
    found = re.findall(r"^Name: +(\S+)$", described, re.MULTILINE)
    assert set(found) >= {name.partition("/")[2] for name in wanted}
    assert described.count("set=everything") > 35


def test_all_can_be_read_in_each_form_and_put_back(simulated: Kubectl, file: str) -> None:
    simulated("create", "-f", file)
    kyaml = "kyaml" in simulated("get", "--help")

    def same() -> bool:
        """All forms say the same, once nobody changes anything in between."""
        read = objects(simulated, file)
        forms = [simulated("get", "-f", file, "-o", form) for form in ("yaml", *(["kyaml"] if kyaml else []))]
        assert not kyaml or forms[-1].startswith("---\n{\n")
        return all(yaml.safe_load(said)["items"] == read for said in forms)

    eventually(same)
    read = objects(simulated, file)
    # Put back as it was read. Controllers may have changed some of it in between.
    _, said = simulated.outcome("replace", "-f", "-", input=simulated("get", "-f", file, "-o", "yaml"))
    lines = said.splitlines()
    assert len(lines) == len(read) and "replaced" in said
    assert all(line.endswith(" replaced") or "the object has been modified" in line for line in lines)
    editor = {"KUBE_EDITOR": "sed -i 's/set: everything/set: edited/'"}
    edited = eventually(lambda: simulated("edit", "-f", file, env=editor))
    assert edited.count(" edited\n") == len(read)
    assert {o["metadata"]["labels"]["set"] for o in objects(simulated, file)} == {"edited"}


def test_all_can_be_labelled_annotated_patched_and_deleted(simulated: Kubectl, file: str) -> None:
    simulated("create", "-f", file)
    wanted = dict.fromkeys(names(file))
    assert shown(simulated("label", "-f", file, "x=y")) == dict.fromkeys(wanted, "labeled")
    assert shown(simulated("annotate", "-f", file, "remark=some words")) == dict.fromkeys(wanted, "annotated")
    patch = json.dumps({"metadata": {"labels": {"x": None, "z": "1"}}})
    assert shown(simulated("patch", "-f", file, "--type=merge", "-p", patch)) == dict.fromkeys(wanted, "patched")
    labels = [o["metadata"]["labels"] for o in objects(simulated, file)]
    assert all("x" not in each and each["z"] == "1" for each in labels)
    # Waiting, kubectl would ask five times a second and no more often.
    gone = simulated("delete", "-f", file, "--wait=false")
    assert gone.count(" deleted") == len(wanted)
    eventually(lambda: simulated("get", "-f", file, "--ignore-not-found") == "")
