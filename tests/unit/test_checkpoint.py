"""The state of processes that came with a stranger's backup."""

from pathlib import Path

import pytest

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime.checkpoint import require_plain


def test_a_state_of_plain_files_is_taken(tmp_path: Path) -> None:
    (tmp_path / "core-1.img").write_bytes(b"")
    require_plain(tmp_path)


def test_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("")
    (tmp_path / "state").symlink_to(tmp_path / "host")
    with pytest.raises(DriverError, match="state is no plain file"):
        require_plain(tmp_path / "state")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "restore.log").symlink_to(tmp_path / "host" / "secret")
    with pytest.raises(DriverError, match=r"restore\.log is no plain file"):
        require_plain(tmp_path / "linked")
    with pytest.raises(DriverError, match="missing is no plain file"):
        require_plain(tmp_path / "missing")
