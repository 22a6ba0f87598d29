import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from podling import clock
from podling.apiserver.audit import log_file, metrics
from podling.apiserver.audit.event import Event
from podling.apiserver.audit.log_file import LogFile, LogFileError, Rotation

EVENT = Event(level="Metadata", audit_id="1", stage="RequestReceived")


def stamps(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


async def test_events_are_lines_of_json_behind_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "audit.log"
    for _ in range(2):
        log = LogFile(str(path))
        log.start()
        assert await log.write([EVENT])
        await log.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["auditID"] for line in lines] == ["1", "1"]
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700


async def test_the_legacy_format(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "a"), "legacy")
    log.start()
    await log.write([EVENT])
    await log.close()
    assert ' AUDIT: id="1" stage="RequestReceived"' in (tmp_path / "a").read_text()


async def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log = LogFile("-")
    log.start()
    await log.write([EVENT])
    await log.close()
    assert json.loads(capfdbinary.readouterr().out)["auditID"] == "1"


async def test_a_file_that_grows_too_big_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(str(tmp_path / "audit.log"), rotation=Rotation(size=300))
    log.start()
    for second in range(3):
        now = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
        monkeypatch.setattr(clock, "_now", lambda now=now: now)
        await log.write([EVENT])
    await log.close()
    assert stamps(tmp_path / "x") == [
        "audit-2026-01-01T00-00-01.000.log",
        "audit-2026-01-01T00-00-02.000.log",
        "audit.log",
    ]
    assert all(len(p.read_text().splitlines()) == 1 for p in tmp_path.iterdir())


async def test_what_fits_into_no_file_is_lost_and_counted(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "a"), rotation=Rotation(size=10))
    log.start()
    before = metrics.ERRORS.values.get(("log",), 0)
    assert not await log.write([EVENT])
    assert metrics.ERRORS.values["log",] == before + 1
    await log.close()


def test_old_files_go_by_number_and_by_age(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    now = datetime(2026, 5, 1, tzinfo=UTC)
    for days in (1, 2, 3, 10):
        when = now - timedelta(days=days)
        (tmp_path / f"audit-{when:%Y-%m-%dT%H-%M-%S}.000.log").write_text("x")
    (tmp_path / "audit-notes.log").write_text("mine")
    log_file.tidy(path, Rotation(backups=3, age=0), now)
    assert len(log_file.backups(path)) == 3
    log_file.tidy(path, Rotation(backups=0, age=2), now)
    assert [when.day for when, _ in log_file.backups(path)] == [30, 29]
    assert (tmp_path / "audit-notes.log").exists()


def test_old_files_are_compressed_if_wished(tmp_path: Path) -> None:
    old = tmp_path / "audit-2026-01-01T00-00-00.000.log"
    old.write_text("line\n")
    log_file.tidy(tmp_path / "audit.log", Rotation(compress=True, age=0), datetime(2026, 1, 2, tzinfo=UTC))
    assert not old.exists()
    assert gzip.decompress(old.with_name(old.name + ".gz").read_bytes()) == b"line\n"
    (found,) = log_file.backups(tmp_path / "audit.log")
    assert found[1] == [old.with_name(old.name + ".gz")]


def test_a_file_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogFileError, match=r"audit\.log can't be written: File exists"):
        LogFile(str(tmp_path / "file" / "audit.log")).start()
