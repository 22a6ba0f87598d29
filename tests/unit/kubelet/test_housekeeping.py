"""Logs are rotated, images removed, strays cleaned up; nothing else is touched."""

from __future__ import annotations

import asyncio
import gzip
from datetime import timedelta
from pathlib import Path

from podling import clock
from podling.images.base import Image
from podling.kubelet import gc, log_rotation
from podling.kubelet.backoff import Backoff
from podling.kubelet.termination_message import termination_message
from podling.runtime.base import ContainerState, ContainerStatus, Mount
from podling.runtime.fake_images import FakeImages


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


def test_which_images_go() -> None:
    now = clock.EPOCH
    images = [Image(id=name, size=10, pinned=name == "pinned") for name in ("old", "new", "used", "pinned", "young")]
    last = {
        "old": now - timedelta(days=2),
        "new": now - timedelta(days=1),
        "used": now - timedelta(days=3),
        "pinned": now - timedelta(days=3),
        "young": now - timedelta(seconds=5),
    }
    found = gc.images_to_remove(images, {"used"}, last, now, 120)
    assert [i.id for i in found] == ["old", "new"]


def test_images_are_removed_until_enough_is_free() -> None:
    async def main() -> None:
        images = FakeImages(present=("a:1", "b:1", "c:1"), sizes={"a:1": 100, "b:1": 100, "c:1": 100})
        collector = gc.ImageCollector(images, high=85, low=80, minimum_age=60)
        used = await images.status("b:1")
        assert used is not None
        await collector.note_used({used.id})
        assert await collector.collect({used.id}, wanted=150) == 0
        await asyncio.sleep(100)
        assert await collector.collect({used.id}, wanted=150) == 200
        assert [i.id for i in await images.list()] == [used.id]

    clock.run_virtual(main())


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
