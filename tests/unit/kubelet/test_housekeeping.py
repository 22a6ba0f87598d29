"""Logs are rotated, images removed, strays cleaned up; nothing else is touched."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

from podling import clock
from podling.kubelet import gc, log_rotation
from podling.kubelet.backoff import Backoff
from podling.kubelet.termination_message import termination_message
from podling.runtime.base import ContainerState, ContainerStatus, Mount


def test_rotation_keeps_few_files(tmp_path: Path) -> None:
    class Runtime:
        reopened = 0

        async def reopen_log(self, container_id: str) -> None:
            Runtime.reopened += 1
            path.touch()

    path = tmp_path / "0.log"

    async def main() -> None:
        rotator = log_rotation.LogRotator(Runtime(), max_size=1000, max_files=3)  # type: ignore[arg-type]
        for number in range(5):
            path.write_text(f"{number}" * 1001)
            assert await rotator.check("c", str(path))
            rotated = [p for p in tmp_path.iterdir() if p.name != "0.log" and not p.name.endswith(".gz")]
            # Names hold seconds: let each have its own.
            rotated[-1].rename(tmp_path / f"0.log.2026010{number}-000000")
        assert not await rotator.check("c", str(path))

    asyncio.run(main())
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["0.log", "0.log.20260103-000000.gz", "0.log.20260104-000000"]
    assert gzip.decompress((tmp_path / files[1]).read_bytes()) == b"3" * 1001
    assert Runtime.reopened == 5


def test_back_off() -> None:
    async def main() -> None:
        backoff = Backoff(10, 300)
        assert backoff.remaining("a", clock.now()) == 0
        for expected in (10, 20, 40, 80, 160, 300, 300):
            backoff.next("a", clock.now())
            assert backoff.get("a") == expected
            assert backoff.remaining("a", clock.now()) == expected
            await asyncio.sleep(expected)
            assert backoff.remaining("a") == 0
        await asyncio.sleep(601)
        backoff.next("a", clock.now())
        assert backoff.get("a") == 10
        backoff.collect()
        assert backoff.get("a") == 10

    clock.run_virtual(main())


def _ended(tmp_path: Path, policy: str, exit_code: int) -> ContainerStatus:
    return ContainerStatus(
        id="c",
        sandbox_id="s",
        name="app",
        attempt=0,
        state=ContainerState.EXITED,
        created_at=clock.EPOCH,
        exit_code=exit_code,
        log_path=str(tmp_path / "0.log"),
        annotations={
            "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
            "io.kubernetes.container.terminationMessagePolicy": policy,
        },
        mounts=(Mount(host_path=str(tmp_path / "message"), container_path="/dev/termination-log"),),
    )


def test_termination_messages(tmp_path: Path) -> None:
    (tmp_path / "message").write_text("")
    (tmp_path / "0.log").write_text(
        "2026-01-01T00:00:00Z stdout F first\n2026-01-01T00:00:01Z stderr P sec\n2026-01-01T00:00:01Z stderr F ond\n"
    )
    assert termination_message(_ended(tmp_path, "File", 1)) == ""
    assert termination_message(_ended(tmp_path, "FallbackToLogsOnError", 0)) == ""
    assert termination_message(_ended(tmp_path, "FallbackToLogsOnError", 1)) == "first\nsecond\n"
    (tmp_path / "message").write_text("x" * 5000 + "end")
    assert len(termination_message(_ended(tmp_path, "File", 1))) == 4096
    assert termination_message(_ended(tmp_path, "File", 1)).endswith("end")


def test_a_folder_with_something_mounted_in_it_stays(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "pod" / "data").mkdir(parents=True)
    monkeypatch.setattr(gc.mounts, "targets_below", lambda prefix: [f"{prefix}/data"])
    assert not gc.remove_tree(str(tmp_path / "pod"))
    assert (tmp_path / "pod" / "data").exists()
    monkeypatch.setattr(gc.mounts, "targets_below", lambda prefix: [])
    assert gc.remove_tree(str(tmp_path / "pod"))
    assert not (tmp_path / "pod").exists()
