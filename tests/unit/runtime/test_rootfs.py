from __future__ import annotations

from pathlib import Path

import pytest

from podling.runtime import rootfs
from podling.runtime.base import RuntimeFailure, SecurityContext
from podling.runtime.rootfs import User, resolve_user

PASSWD = "# comment\nroot:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/home/web:/bin/sh\nbroken:x:a:b\n"
GROUP = "root:x:0:\nweb:x:102:\naudio:x:29:root,web\nvideo:x:44:web\n"
STRICT = SecurityContext(supplemental_groups=(500,), supplemental_groups_strict=True)


@pytest.mark.parametrize(
    ("image_user", "security", "user"),
    [
        ("", SecurityContext(), User(0, 0, (0, 29))),
        ("web", SecurityContext(), User(101, 102, (102, 29, 44))),
        ("101", SecurityContext(), User(101, 102, (102, 29, 44))),
        ("web:audio", SecurityContext(), User(101, 29, (29, 44))),
        ("5000:6000", SecurityContext(), User(5000, 6000, (6000,))),
        ("web", SecurityContext(run_as_user=0), User(0, 0, (0, 29))),
        ("web:audio", SecurityContext(run_as_user=7), User(7, 0, (0,))),
        ("web", SecurityContext(run_as_group=9), User(101, 9, (9, 29, 44))),
        ("", SecurityContext(run_as_username="web"), User(101, 102, (102, 29, 44))),
        ("web", SecurityContext(supplemental_groups=(29, 500)), User(101, 102, (102, 29, 500, 44))),
        (
            "web",
            SecurityContext(supplemental_groups=(500,), supplemental_groups_strict=True),
            User(101, 102, (102, 500)),
        ),
    ],
)
def test_user(image_user: str, security: SecurityContext, user: User) -> None:
    assert resolve_user(PASSWD, GROUP, image_user, security) == user


@pytest.mark.parametrize(
    ("image_user", "problem"),
    [
        ("ghost", "unable to find user ghost: no matching entries in passwd file"),
        ("web:ghost", "unable to find group ghost: no matching entries in group file"),
        ("broken", "unable to find user broken: no matching entries in passwd file"),
    ],
)
def test_unknown_names(image_user: str, problem: str) -> None:
    with pytest.raises(RuntimeFailure, match=problem):
        resolve_user(PASSWD, GROUP, image_user, SecurityContext())


def test_numbers_need_no_passwd() -> None:
    assert resolve_user("", "", "12:34", SecurityContext()) == User(12, 34, (34,))


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "etc/passwd").symlink_to(tmp_path / "secret")
    (root / "etc/group").symlink_to("../../../secret")
    (root / "etc/dir").mkdir()
    assert rootfs.read(str(root), "/etc/passwd") == rootfs.read(str(root), "/etc/group") == ""
    assert rootfs.read(str(root), "/etc/missing") == ""
    (root / "secret").write_text("inside")
    assert rootfs.read(str(root), "/etc/group") == "inside"


def test_directories_are_made_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    rootfs.make_directory(str(root), "/a/b")
    rootfs.make_directory(str(root), "/a/b")
    assert (root / "a/b").is_dir()
    with pytest.raises((RuntimeFailure, FileNotFoundError)):
        rootfs.make_directory(str(root), "/link/x")
    assert list(outside.iterdir()) == []
    (root / "file").touch()
    with pytest.raises(RuntimeFailure, match="not a directory"):
        rootfs.make_directory(str(root), "/file/x")
