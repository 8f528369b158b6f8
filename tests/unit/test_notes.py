"""Notes of this host: whole, or not there."""

from pathlib import Path

import msgspec

from lxdnode.node.notes import Notes


class _Note(msgspec.Struct):
    text: str


def test_what_a_crash_left_half_written_is_gone_with_the_next_start(tmp_path: Path) -> None:
    Notes(tmp_path).put("kind", "whole", _Note("kept"))
    (tmp_path / "kind" / ".whole").write_bytes(b"half a no")
    notes = Notes(tmp_path)
    assert [path.name for path in (tmp_path / "kind").iterdir()] == ["whole"]
    assert list(notes.all("kind", _Note)) == [("whole", _Note("kept"))]
