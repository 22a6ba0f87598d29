"""The mount namespace that crun is called in on hosts that mix cgroup versions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from podling import mounts
from podling.runtime import syscalls
from podling.runtime.crun import HybridPin

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not Path("/sys/fs/cgroup/unified").is_dir(), reason="this machine does not mix cgroup versions"),
]


def test_commands_enter_the_namespace_also_while_it_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin, foreign = HybridPin(tmp_path / "pin"), tmp_path / "foreign"
    foreign.mkdir()
    codes = []

    def enter() -> None:
        codes.append(subprocess.run([*prefix, "test", "!", "-e", "/sys/fs/cgroup/unified/cgroup.procs"]).returncode)

    def observed(flags: int) -> None:
        enter()
        unshare(flags)

    try:
        prefix, unshare = pin.prefix(), syscalls.unshare
        enter()
        monkeypatch.setattr(syscalls, "unshare", observed)
        for _ in range(3):
            mounts.mount("tmpfs", str(foreign), "tmpfs")
            mounts.mount("none", str(foreign), flags=mounts.PRIVATE)
            assert pin.prefix() == prefix
        enter()
        assert codes == [0] * 5
        assert len([m for m in mounts.targets_below(str(tmp_path / "pin")) if "/mnt." in m]) == 2
    finally:
        mounts.unmount_all(str(foreign))
        mounts.unmount(str(tmp_path / "pin"))
        pin.close()
