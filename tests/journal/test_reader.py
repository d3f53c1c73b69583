"""The reader: what a journal holds, looked up by others, under way or not, without a trace."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from selftaught.errors import BadInput
from selftaught.journal import Journal, JournalReader, Usage


def fill(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.set_meta("config", "{}")
    journal.round = 3
    for key, kind in (("ab1", "sample"), ("ab2", "sample"), ("ac", "sample"), ("ab3", "tree")):
        journal.put(key, kind, {"of": key}, Usage(generated=1))
    return journal


def test_it_sees_what_the_writer_committed_while_it_writes_on(tmp_path: Path) -> None:
    journal = fill(tmp_path)
    with JournalReader(tmp_path) as reader:
        assert reader.entry("ab1") == ("sample", 3, {"of": "ab1"})
        assert reader.entry("later") is None
        journal.put("later", "sample", 1)
        assert reader.entry("later") == ("sample", 3, 1)
        assert reader.digest() == journal.digest()
    journal.close()


def test_keys_are_found_by_kind_and_beginning(tmp_path: Path) -> None:
    fill(tmp_path).close()
    with JournalReader(tmp_path) as reader:
        assert reader.keys("sample") == ["ab1", "ab2", "ac"]
        assert reader.keys("sample", "ab") == ["ab1", "ab2"]
        assert reader.keys("sample", "ab", 1) == ["ab1"]
        assert reader.keys("tree", "ab") == ["ab3"]
        assert reader.keys("sample", "%") == []


def test_it_leaves_no_trace_and_cannot_write(tmp_path: Path) -> None:
    fill(tmp_path).close()
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with JournalReader(tmp_path) as reader:
        assert len(reader.keys("sample")) == 3
        with pytest.raises((BadInput, sqlite3.Error), match=r"readonly|cannot be written"):
            reader._run("DELETE FROM effects")
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_a_journal_of_another_version_is_one_line(tmp_path: Path) -> None:
    journal = fill(tmp_path)
    journal.set_meta("schema", "99")
    journal.close()
    with pytest.raises(BadInput, match="its schema is version 99, this program writes 2"):
        JournalReader(tmp_path)
