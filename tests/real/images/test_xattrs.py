"""Extended attributes make the whole way: directory, layer, image, mount."""

import os
import struct
from pathlib import Path

import pytest

from podling.images.build import create_from_rootfs
from podling.images.store import ImageStore

pytestmark = pytest.mark.real

#: vfs_cap_data, revision 2: cap_net_raw, permitted and effective.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


async def test_file_capabilities(store: ImageStore, tmp_path: Path, root: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "ping").write_text("x")
    os.chown(source / "ping", 3, 4)
    os.chmod(source / "ping", 0o4755)
    os.setxattr(source / "ping", "security.capability", CAPABILITY)
    os.setxattr(source / "ping", "user.note", "ä\0b".encode())
    image = await create_from_rootfs(store, "x:1", str(source))
    await store.mount(image.id, "c1", str(root))
    assert os.getxattr(root / "ping", "security.capability") == CAPABILITY
    assert os.getxattr(root / "ping", "user.note") == "ä\0b".encode()
    found = (root / "ping").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (3, 4, 0o4755)
