"""Resources changed in place: what the API says, what the cgroups say, and that nothing restarts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conformance.batch import Batch
from tests.e2e.conformance.client import Namespace, Object, Refused, eventually
from tests.e2e.conformance.pods import BUSYBOX, pod

pods = Batch()

Amounts = dict[str, tuple[str, str] | None]


@pytest.fixture(scope="module")
def running(shared: Namespace) -> Iterator[Namespace]:
    yield from pods.run(shared)


def resources(request: tuple[str, str] | None, limit: tuple[str, str] | None = None) -> Object:
    """cpu and memory of requests and limits."""
    found = {}
    if request:
        found["requests"] = dict(zip(("cpu", "memory"), request, strict=True))
    if limit:
        found["limits"] = dict(zip(("cpu", "memory"), limit, strict=True))
    return found


def guaranteed(*amounts: tuple[str, str]) -> list[Object]:
    return [resources(each, each) for each in amounts]


def resizable(name: str, wanted: list[Object]) -> Object:
    body = [
        {"name": f"c{n}", "image": BUSYBOX, "command": ["sleep", "3600"], "resources": each,
         "resizePolicy": [{"resourceName": r, "restartPolicy": "NotRequired"} for r in ("cpu", "memory")]}
        for n, each in enumerate(wanted, 1)
    ]  # fmt: skip
    return pod(name, *body)


THREE = guaranteed(("100m", "100Mi"), ("100m", "100Mi"), ("100m", "100Mi"))
BURSTABLE = [
    resources(None), resources(("100m", "100Mi")), resources(("100m", "100Mi"), ("200m", "200Mi")),
    resources(("100m", "100Mi")), resources(("100m", "100Mi"), ("200m", "200Mi")), resources(None),
]  # fmt: skip
CASES = {
    "increase": (THREE, guaranteed(("100m", "100Mi"), ("150m", "200Mi"), ("150m", "200Mi"))),
    "decrease": (THREE, guaranteed(("100m", "50Mi"), ("75m", "100Mi"), ("50m", "50Mi"))),
    "mixed": (THREE, guaranteed(("50m", "50Mi"), ("150m", "200Mi"), ("100m", "100Mi"))),
    "equivalents": ([resources(("2m", "50Mi"), ("10m", "50Mi"))], [resources(("1m", "50Mi"), ("5m", "50Mi"))]),
    "burstable": (BURSTABLE, [
        resources(("50m", "50Mi"), ("100m", "100Mi")), resources(("150m", "150Mi"), ("200m", "200Mi")),
        resources(("150m", "150Mi"), ("250m", "250Mi")), resources(("200m", "200Mi")), BURSTABLE[4],
        resources(("10m", "10Mi")),
    ]),
}  # fmt: skip
for name, (before, _) in CASES.items():
    pods.add(resizable(name, before))

V1 = "cd /sys/fs/cgroup; cat cpu/cpu.shares cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes"
V2 = "cd /sys/fs/cgroup; cat cpu.weight cpu.max memory.max"


def millis(text: str) -> int:
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def expected(wanted: Object, v2: bool) -> list[str]:
    """What the cgroups of a container with these resources say."""
    requests, limits = wanted.get("requests", {}), wanted.get("limits", {})
    cpu = requests.get("cpu") or limits.get("cpu")
    shares = max(2, millis(cpu) * 1024 // 1000) if cpu else 2
    quota = max(1000, millis(limits["cpu"]) * 100) if "cpu" in limits else -1
    memory = str(int(limits["memory"].removesuffix("Mi")) << 20) if "memory" in limits else ""
    if v2:
        return [
            str(1 + (shares - 2) * 9999 // 262142),
            "max 100000" if quota < 0 else f"{quota} 100000",
            memory or "max",
        ]
    return [str(shares), str(quota), memory or "9223372036854771712"]


def settled(space: Namespace, name: str, wanted: list[Object], v2: bool) -> bool:
    found = space.get("pods", name)
    assert not [c for c in found["status"]["conditions"] if c["type"].startswith("PodResize")]
    for number, want in enumerate(wanted):
        status = found["status"]["containerStatuses"][number]
        assert status["restartCount"] == 0
        assert found["spec"]["containers"][number]["resources"] == want
        assert status["resources"] == want and status.get("allocatedResources") == want.get("requests")
        said = space.exec(name, "sh", "-c", V2 if v2 else V1, container=f"c{number + 1}").splitlines()
        assert said == expected(want, v2), (name, number)
    return True


@pytest.mark.parametrize("name", CASES)
def test_resources_change_in_place_and_back(running: Namespace, name: str) -> None:
    before, after = CASES[name]
    running.ready(name)
    v2 = bool(running.exec(name, "mount", "-t", "cgroup2", container="c1").strip())
    settled(running, name, before, v2)
    for wanted in (after, before) if name != "burstable" else (after,):
        changes = [{"name": f"c{n}", "resources": each} for n, each in enumerate(wanted, 1)]
        generation = running.get("pods", name)["metadata"]["generation"]
        answer = running.patch("pods", name, {"spec": {"containers": changes}}, sub="resize")
        assert answer["metadata"]["generation"] == generation + 1
        eventually(lambda wanted=wanted: settled(running, name, wanted, v2), 30)  # type: ignore[misc]


def test_a_whole_pod_can_be_put_to_resize(running: Namespace) -> None:
    running.run(resizable("put", guaranteed(("100m", "100Mi"))))

    def change(body: Object) -> None:
        body["spec"]["containers"][0]["resources"] = resources(("150m", "150Mi"), ("150m", "150Mi"))

    running.update("pods", "put", change, sub="resize")
    # The status goes on changing between two reads.
    eventually(lambda: running.get("pods", "put", "resize") == running.get("pods", "put"))
    assert running.get("pods", "put")["spec"]["containers"][0]["resources"]["limits"]["memory"] == "150Mi"


def test_the_class_of_quality_stays(running: Namespace) -> None:
    running.run(resizable("class", guaranteed(("100m", "100Mi"))))
    assert running.get("pods", "class")["status"]["qosClass"] == "Guaranteed"
    changes = [{"name": "c1", "resources": {"requests": {"cpu": "50m"}}}]
    with pytest.raises(Refused, match="Pod QOS Class may not change as a result of resizing"):
        running.patch("pods", "class", {"spec": {"containers": changes}}, sub="resize")
