"""The file of static tokens (`--token-auth-file`): lines of `token,user,uid,"group1,group2"`."""

from __future__ import annotations

from pathlib import Path

from podling import log
from podling.api.request import User

LOG = log.get(__name__)


def load(path: str) -> dict[str, User]:
    """Users by token. Raises OSError, and ValueError for a line that is too short."""
    import csv

    users: dict[str, User] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if not row:
                continue
            if len(row) < 3:
                what = "must have at least 3 columns (token, user name, user uid)"
                raise ValueError(f"token file '{path}' {what}, found {len(row)}")
            if not row[0]:
                LOG.warning("empty token has been found in token file '%s', record number '%d'", path, number)
                continue
            if row[0] in users:
                LOG.warning("duplicate token has been found in token file '%s', record number '%d'", path, number)
            groups = tuple(row[3].split(",")) if len(row) > 3 else ()
            users[row[0]] = User(row[1], groups, row[2])
    return users
