from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podling.images.base import ImageConfig
from podling.runtime import spec
from podling.runtime.base import (
    ContainerConfig,
    Device,
    Mount,
    Resources,
    RuntimeFailure,
    SeccompKind,
    SecurityContext,
)
from podling.runtime.capabilities import NAMES
from podling.runtime.rootfs import User

NODE = spec.Node(cgroup_version=2, capabilities=frozenset(NAMES))
PLACE = spec.Placement(
    rootfs="/run/c/rootfs",
    cgroup="/kubepods/pod1/c1",
    namespaces={"network": "/ns/net", "pid": "", "mount": ""},
    shm="/run/s/shm",
    resolv_conf="/run/s/resolv.conf",
    hostname_file="/run/s/hostname",
    hostname="web-0",
)


def config(**fields: Any) -> ContainerConfig:
    return ContainerConfig(**{"name": "c", "image": "i", "command": ("run",), **fields})


def build(image: ImageConfig | None = None, node: spec.Node = NODE, **fields: Any) -> spec.Spec:
    return spec.build(config(**fields), image or ImageConfig(), User(1000, 2000, (2000, 3000)), PLACE, node)


def mount_at(built: spec.Spec, target: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [each for each in built["mounts"] if each["destination"] == target]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("command", "args", "argv"),
    [
        ((), (), ("entry", "default")),
        ((), ("own",), ("entry", "own")),
        (("cmd",), (), ("cmd",)),
        (("cmd",), ("own",), ("cmd", "own")),
    ],
)
def test_command_and_args_against_entrypoint_and_cmd(
    command: tuple[str, ...], args: tuple[str, ...], argv: tuple[str, ...]
) -> None:
    image = ImageConfig(entrypoint=("entry",), cmd=("default",))
    assert build(image, command=command, args=args)["process"]["args"] == list(argv)


def test_nothing_to_run() -> None:
    with pytest.raises(RuntimeFailure, match="no command specified"):
        build(command=())


def test_environment_of_the_pod_goes_before_the_images() -> None:
    image = ImageConfig(env=("PATH=/opt/bin", "A=image", "B=x=y"))
    env = build(image, env=(("A", "pod"), ("C", "")), tty=True)["process"]["env"]
    assert env == ["PATH=/opt/bin", "TERM=xterm", "HOSTNAME=web-0", "A=pod", "B=x=y", "C="]
    assert build()["process"]["env"][0] == f"PATH={spec.DEFAULT_PATH}"


@pytest.mark.parametrize(("own", "image", "cwd"), [("", "", "/"), ("", "/srv", "/srv"), ("/app", "/srv", "/app")])
def test_working_directory(own: str, image: str, cwd: str) -> None:
    assert build(ImageConfig(working_dir=image), working_dir=own)["process"]["cwd"] == cwd


def test_namespaces_that_are_not_named_are_the_machines() -> None:
    built = build()
    assert built["linux"]["namespaces"] == [{"type": "network", "path": "/ns/net"}, {"type": "pid"}, {"type": "mount"}]
    assert built["process"]["user"] == {"uid": 1000, "gid": 2000, "additionalGids": [2000, 3000]}


def test_capabilities() -> None:
    caps = build()["process"]["capabilities"]
    assert caps["bounding"] == caps["effective"] == caps["permitted"]
    assert "CAP_NET_RAW" in caps["bounding"] and "CAP_SYS_ADMIN" not in caps["bounding"]
    assert caps["inheritable"] == caps["ambient"] == []
    one = SecurityContext(drop_capabilities=("ALL",), add_capabilities=("NET_ADMIN",))
    assert build(security=one)["process"]["capabilities"]["bounding"] == ["CAP_NET_ADMIN"]
    most = SecurityContext(add_capabilities=("ALL",), drop_capabilities=("SYS_TIME",))
    assert len(build(security=most)["process"]["capabilities"]["bounding"]) == len(NAMES) - 1


def test_what_the_node_cannot_give_is_not_asked_for() -> None:
    poor = NODE._replace(capabilities=frozenset(NAMES) - {"SYS_RESOURCE"}, oom_score_adj_min=100)
    built = build(node=poor, security=SecurityContext(privileged=True), resources=Resources(oom_score_adj=-997))
    assert "CAP_SYS_RESOURCE" not in built["process"]["capabilities"]["bounding"]
    assert built["process"]["oomScoreAdj"] == 100
    assert build(resources=Resources(oom_score_adj=-997))["process"]["oomScoreAdj"] == -997


def test_privileged_is_not_confined() -> None:
    built = build(security=SecurityContext(privileged=True, seccomp=SeccompKind.RUNTIME_DEFAULT))
    assert not {"maskedPaths", "readonlyPaths", "seccomp"} & set(built["linux"])
    assert built["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mount_at(built, "/sys")["options"]


@pytest.mark.parametrize(
    ("profile", "enabled", "applied"),
    [
        ("localhost/mine", True, "mine"),
        ("localhost/mine", False, None),
        ("runtime/default", True, None),
        ("unconfined", True, None),
    ],
)
def test_apparmor_profile(profile: str, enabled: bool, applied: str | None) -> None:
    built = build(node=NODE._replace(apparmor=enabled), security=SecurityContext(apparmor_profile=profile))
    assert built["process"].get("apparmorProfile") == applied


def test_unmasked_proc() -> None:
    built = build(security=SecurityContext(masked_paths=(), readonly_paths=()))
    assert built["linux"]["maskedPaths"] == built["linux"]["readonlyPaths"] == []
    assert build()["linux"]["maskedPaths"] == list(spec.MASKED_PATHS)


def test_default_seccomp_profile_follows_the_capabilities() -> None:
    def rules(**security: Any) -> dict[str, Any]:
        context = SecurityContext(seccomp=SeccompKind.RUNTIME_DEFAULT, **security)
        return build(security=context)["linux"]["seccomp"]

    plain, strong = rules(), rules(add_capabilities=("SYS_ADMIN",))
    assert plain["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {"read", "openat", "futex"} <= set(plain["syscalls"][0]["names"])
    assert not {"mount", "setns", "bpf", "kexec_load", "keyctl"} & set(plain["syscalls"][0]["names"])
    assert {"mount", "setns", "bpf"} <= set(strong["syscalls"][0]["names"])
    assert "seccomp" not in build()["linux"]


def test_localhost_seccomp_profile(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    node = NODE._replace(seccomp_directory=str(tmp_path))
    security = SecurityContext(seccomp=SeccompKind.LOCALHOST, seccomp_localhost="own.json")
    assert build(node=node, security=security)["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_LOG"}
    for name, problem in (("missing.json", "failed to load"), ("bad.json", "failed to decode")):
        (tmp_path / "bad.json").write_text("{")
        with pytest.raises(RuntimeFailure, match=problem):
            build(node=node, security=SecurityContext(seccomp=SeccompKind.LOCALHOST, seccomp_localhost=name))


def test_mounts_of_the_sandbox() -> None:
    built = build()
    assert mount_at(built, "/dev/shm")["source"] == "/run/s/shm"
    assert mount_at(built, "/etc/resolv.conf")["options"] == ["bind", "rw"]
    assert "ro" in mount_at(built, "/sys")["options"]
    readonly = build(security=SecurityContext(readonly_rootfs=True))
    assert readonly["root"]["readonly"] and "ro" in mount_at(readonly, "/etc/hostname")["options"]


def test_volume_takes_the_place_of_a_default_mount() -> None:
    given = tuple(Mount(host_path="/v", container_path=path) for path in ("/dev/shm", "/etc/resolv.conf", "/sys/"))
    built = build(mounts=given)
    assert [mount_at(built, path)["source"] for path in ("/dev/shm", "/etc/resolv.conf", "/sys/")] == ["/v"] * 3
    assert not [each for each in built["mounts"] if each["destination"] == "/sys"]


def test_volume_options_and_order() -> None:
    built = build(
        mounts=(
            Mount(host_path="/b", container_path="/data/deep", readonly=True, propagation="rslave"),
            Mount(host_path="/a", container_path="/data"),
            Mount(host_path="/c", container_path="/c", readonly=True, recursive_readonly=True),
        )
    )
    order = [each["destination"] for each in built["mounts"]]
    assert order.index("/data") < order.index("/data/deep")
    assert mount_at(built, "/data")["options"] == ["rbind", "rprivate", "rw"]
    assert mount_at(built, "/data/deep")["options"] == ["rbind", "rslave", "ro"]
    assert mount_at(built, "/c")["options"] == ["rbind", "rprivate", "rro"]
    assert built["linux"]["rootfsPropagation"] == "rslave"


@pytest.mark.parametrize(
    ("kinds", "root"),
    [((), "private"), (("private",), "private"), (("rslave", "private"), "rslave"), (("rslave", "rshared"), "rshared")],
)
def test_propagation_of_the_root_is_the_widest_needed(kinds: tuple[str, ...], root: str) -> None:
    volumes = tuple(Mount(host_path="/v", container_path=f"/{kind}", propagation=kind) for kind in kinds)
    assert spec.propagation_of_root(volumes) == root


def test_resources_by_cgroup_version() -> None:
    wanted = Resources(cpu_shares=1024, cpu_quota=50_000, cpu_period=100_000, memory_limit=4096, pids_limit=9)
    second = build(resources=wanted)["linux"]["resources"]
    assert second["unified"] == {"cpu.weight": "100", "memory.oom.group": "1"}
    assert second["cpu"] == {"quota": 50_000, "period": 100_000}
    assert (second["memory"], second["pids"]) == ({"limit": 4096}, {"limit": 9})
    first = build(node=NODE._replace(cgroup_version=1, swap_accounting=True), resources=wanted)["linux"]["resources"]
    assert first["cpu"] == {"shares": 1024, "quota": 50_000, "period": 100_000}
    assert first["memory"] == {"limit": 4096, "swap": 4096} and "unified" not in first


def test_hugepages_only_with_their_controller() -> None:
    wanted = Resources(hugepages={"2MB": 1 << 21})
    assert "hugepageLimits" not in build(resources=wanted)["linux"]["resources"]
    limits = build(node=NODE._replace(hugetlb=True), resources=wanted)["linux"]["resources"]["hugepageLimits"]
    assert limits == [{"pageSize": "2MB", "limit": 1 << 21}]


def test_devices() -> None:
    linux = build(devices=(Device("/dev/null", "/dev/void", "rw"),))["linux"]
    assert linux["devices"][0]["path"] == "/dev/void" and linux["devices"][0]["type"] == "c"
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert linux["resources"]["devices"][1]["access"] == "rw"
    with pytest.raises(RuntimeFailure, match='device information for "/dev/missing"'):
        build(devices=(Device("/dev/missing", "/dev/x"),))
    with pytest.raises(RuntimeFailure, match="not a device node"):
        build(devices=(Device("/etc/passwd", "/dev/x"),))
