"""Files written whole or not at all, and errors of the disk as one line."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from selftaught.errors import BadInput
from selftaught.machine.disk import disk_full_error, write_atomically, write_error


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_what_to_do(code: int) -> None:
    found = disk_full_error(OSError(code, "whatever it says"), "/runs/a")
    assert found is not None
    assert (found.where, found.fix) == ("/runs/a", "free some space and run the same command again: it resumes")


def test_a_full_disk_is_known_by_its_words_where_it_has_no_number() -> None:
    assert disk_full_error(RuntimeError("write failed: No space left on device"), "x") is not None
    assert disk_full_error(RuntimeError("write failed"), "x") is None
    assert disk_full_error(PermissionError(errno.EACCES, "Permission denied"), "x") is None


def test_an_unwritable_file_is_one_line() -> None:
    line = str(write_error(PermissionError(errno.EACCES, "Permission denied"), Path("/x/y")))
    assert line.startswith("/x/y: cannot be written (Permission denied)")


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    write_atomically(file, b"one")
    write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]  # no draft is left


def test_a_place_that_is_no_folder_keeps_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    with pytest.raises(BadInput, match="cannot be written"):
        write_atomically(tmp_path / "a" / "b", b"x")
    assert (tmp_path / "a").read_text() == "file"
