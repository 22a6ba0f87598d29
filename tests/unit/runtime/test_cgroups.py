from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from podling.runtime import cgroups
from podling.runtime.base import Resources
from podling.runtime.cgroups import V1, V2


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 1), (2, 1), (102, 17), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (1 << 20, 10000)],
)
def test_weight(shares: int, weight: int) -> None:
    assert cgroups.weight(shares) == weight


V1_MOUNTS = """
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
"""
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mountinfo", "controllers", "version", "hybrid"),
    [
        (V1_MOUNTS.lstrip(), "", 1, False),
        (V1_MOUNTS.lstrip() + UNIFIED, "", 1, False),
        (V1_MOUNTS.lstrip() + UNIFIED, "hugetlb\n", 1, True),
        (V2_MOUNTS, "cpu memory pids", 2, False),
    ],
)
def test_detection(mountinfo: str, controllers: str, version: int, hybrid: bool) -> None:
    found = cgroups.detect(mountinfo, controllers)
    assert (found.version, found.hybrid) == (version, hybrid)


def test_version_1_directories_are_those_of_the_mounts() -> None:
    found = cgroups.detect(V1_MOUNTS.lstrip() + UNIFIED, "")
    assert [str(path) for path in found.directories("/pods/a")] == [
        "/sys/fs/cgroup/cpu,cpuacct/pods/a",
        "/sys/fs/cgroup/memory/pods/a",
        "/sys/fs/cgroup/systemd/pods/a",
        "/sys/fs/cgroup/unified/pods/a",
    ]


@pytest.mark.parametrize(
    ("resources", "cpu_max", "settings"),
    [
        (Resources(), "", {}),
        (Resources(cpu_shares=1024), "", {"cpu.weight": "100"}),
        (Resources(cpu_quota=50_000, cpu_period=100_000), "", {"cpu.max": "50000 100000"}),
        (Resources(cpu_quota=20_000), "max 50000", {"cpu.max": "20000 50000"}),
        (Resources(cpu_period=20_000), "10000 50000", {"cpu.max": "10000 20000"}),
        (Resources(cpu_quota=-1, cpu_period=100_000), "10000 50000", {"cpu.max": "max 100000"}),
        (Resources(memory_limit=1 << 20, pids_limit=5), "", {"memory.max": "1048576", "pids.max": "5"}),
        (Resources(memory_limit=-1, pids_limit=-1), "", {"memory.max": "max", "pids.max": "max"}),
        (
            Resources(cpuset_cpus="0-1", hugepages={"2MB": 4096}),
            "",
            {"cpuset.cpus": "0-1", "hugetlb.2MB.max": "4096"},
        ),
    ],
)
def test_version_2_settings(resources: Resources, cpu_max: str, settings: dict[str, str]) -> None:
    assert V2.settings(resources, cpu_max) == settings


def test_version_2_usage(tmp_path: Path) -> None:
    group = tmp_path / "pod"
    group.mkdir()
    for name, text in {
        "memory.current": "5000\n",
        "memory.stat": "anon 3000\nfile 2000\nfile_mapped 500\ninactive_file 1000\npgfault 7\npgmajfault 2\n",
        "memory.swap.current": "600\n",
        "cpu.stat": ("usage_usec 123\nuser_usec 100\nsystem_usec 23\nnr_periods 9\nnr_throttled 8\nthrottled_usec 7\n"),
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1\n",
        "pids.current": "4\n",
        "memory.events": "low 0\nmax 12\noom 3\noom_kill 2\n",
    }.items():
        (group / name).write_text(text)
    found = V2(tmp_path)
    used = found.usage("/pod")
    assert used[:7] == (123_000, 5000, 4000, 3000, 7, 2, 4)
    assert (used.cpu_user_ns, used.cpu_system_ns) == (100_000, 23_000)
    assert (used.cpu_periods, used.cpu_throttled_periods, used.cpu_throttled_ns) == (9, 8, 7000)
    assert (used.cache, used.mapped_file, used.swap) == (2000, 500, 600)
    assert (used.read_bytes, used.written_bytes) == (11, 22)
    assert found.oom_kills("/pod") == 2
    assert found.usage("/gone") == cgroups.Usage()
    assert found.oom_kills("/gone") == 0


def test_version_1_usage(tmp_path: Path) -> None:
    for name, text in {
        "memory/pod/memory.usage_in_bytes": "5000\n",
        "memory/pod/memory.stat": (
            "total_rss 3000\ntotal_inactive_file 1000\ntotal_pgfault 7\ntotal_pgmajfault 2\n"
            "total_cache 2000\ntotal_mapped_file 500\ntotal_swap 600\n"
        ),
        "memory/pod/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "memory/pod/container/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "cpu/pod/cpuacct.usage": "123000\n",
        "cpu/pod/cpuacct.stat": "user 3\nsystem 2\n",
        "cpu/pod/cpu.stat": "nr_periods 9\nnr_throttled 8\nthrottled_time 7000\n",
        "blkio/pod/blkio.throttle.io_service_bytes_recursive": (
            "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n"
        ),
        "pids/pod/pids.current": "4\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    mounts = {
        "memory": tmp_path / "memory",
        "cpu": tmp_path / "cpu",
        "cpuacct": tmp_path / "cpu",
        "pids": tmp_path / "pids",
        "blkio": tmp_path / "blkio",
    }
    found = V1(mounts)
    used = found.usage("/pod")
    assert used[:7] == (123_000, 5000, 4000, 3000, 7, 2, 4)
    assert (used.cpu_user_ns, used.cpu_system_ns) == (30_000_000, 20_000_000)
    assert (used.cpu_periods, used.cpu_throttled_periods, used.cpu_throttled_ns) == (9, 8, 7000)
    assert (used.cache, used.mapped_file, used.swap) == (2000, 500, 600)
    assert (used.read_bytes, used.written_bytes) == (11, 22)
    assert found.oom_kills("/pod") == 3


def test_version_2_gives_controllers_to_children(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "pods", tmp_path / "pods" / "a"):
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.controllers").write_text("memory\n")
        (directory / "cgroup.subtree_control").write_text("")
        (directory / "cpu.max").write_text("max 100000")
        (directory / "memory.max").write_text("max")
    V2(tmp_path).create("/pods/a", Resources(memory_limit=4096))
    for directory in (tmp_path, tmp_path / "pods", tmp_path / "pods" / "a"):
        assert (directory / "cgroup.subtree_control").read_text() == "+memory"
    assert (tmp_path / "pods/a/memory.max").read_text().startswith("4096")


async def test_removal_goes_from_the_leaves_up(tmp_path: Path) -> None:
    (tmp_path / "pods/a/b").mkdir(parents=True)
    (tmp_path / "pods/c").mkdir()
    found = V2(tmp_path)
    assert found.exists("/pods/a")
    await found.remove("/pods/a")
    await found.remove("/pods/a")
    assert not found.exists("/pods/a") and found.exists("/pods/c")


async def test_kill_returns_when_all_have_ended(tmp_path: Path) -> None:
    group = tmp_path / "pod"
    group.mkdir()
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    (group / "cgroup.procs").write_text(f"{process.pid}\n")
    killing = asyncio.ensure_future(V2(tmp_path).kill("/pod"))
    assert await process.wait() == -9
    (group / "cgroup.procs").write_text("")
    await killing
