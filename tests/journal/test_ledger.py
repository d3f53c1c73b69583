"""Seconds and tokens of a run, and what is read back of its journal."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.errors import BadInput
from selftaught.journal import Journal, JournalReader, Ledger, Usage
from selftaught.journal.reader import RESUME_FIX, readable_error

NUMBERS = st.integers(0, 10**12)
USAGES = st.builds(Usage, NUMBERS, NUMBERS, NUMBERS, NUMBERS)


@settings(max_examples=40)
@given(USAGES, USAGES, USAGES)
def test_usage_adds_up_field_by_field(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == a + (b + c) == c + b + a
    assert a + Usage() == a
    assert (a + b).spent == a.spent + b.spent == (a + b).generated + (a + b).judge + (a + b).trained
    assert (a + b).prompt == a.prompt + b.prompt


def test_the_ledger_says_whether_an_effect_is_new() -> None:
    ledger = Ledger()
    found = [ledger.count(key, Usage(generated=2)) for key in ("a", "b", "a")]
    assert found == [True, True, False]
    assert ledger.usage == Usage(generated=4)


def journal_with_times(folder: Path, sessions: list[tuple[float, float]], effects: dict[str, float]) -> None:
    """A journal with the times of its sessions (start, end) and effects written by hand."""
    journal = Journal(folder)
    for key in effects:
        journal.put(key, "round", {}, Usage(1, 2, 3, 4))
    journal.close()
    with sqlite3.connect(folder / "journal.sqlite") as db:
        db.execute("DELETE FROM sessions")
        db.executemany("INSERT INTO sessions VALUES (NULL, ?, ?, 1, 0.5, 100)", sessions)
        db.executemany("UPDATE effects SET at = ? WHERE key = ?", [(at, key) for key, at in effects.items()])
    db.close()


def test_seconds_until_an_effect_leave_out_the_pauses_between_sessions(tmp_path: Path) -> None:
    effects = {"a": 105.0, "b": 110.0, "c": 1004.0}
    journal_with_times(tmp_path, [(100.0, 110.0), (1000.0, 1020.0)], effects)
    with JournalReader(tmp_path) as reader:
        assert reader.seconds_until("round") == {"a": 5.0, "b": 10.0, "c": 14.0}
        assert reader.seconds_until("gate") == {}
        assert reader.seconds() == {"total": 30.0, "engine": 2.0, "learn": 1.0, "peak_rss_mb": 100.0}
        assert reader.usage() == Usage(3, 6, 9, 12)
        assert (reader.count("round"), reader.count("gate")) == (3, 0)


JSON = st.recursive(
    st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text("aé\x00\ud83d\"", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def test_a_payload_is_read_back_as_it_was_put(tmp_path: Path) -> None:
    journal, count = Journal(tmp_path), 0

    @settings(max_examples=50)
    @given(JSON, USAGES)
    def put_and_get(payload: Any, usage: Usage) -> None:
        nonlocal count
        count += 1
        journal.put(str(count), "sample", payload, usage)
        assert journal.get(str(count)) == (payload, usage)
        assert journal.entry(str(count)) == ("sample", 0, payload)

    put_and_get()
    assert journal.count("sample") == count > 10
    journal.close()


def test_a_replaced_effect_keeps_its_key_and_takes_the_round_and_cost_of_its_successor(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.put("a", "sample", {"failed": True}, Usage(1))
    journal.round = 2
    journal.replace("a", {"text": "4"}, Usage(5, 6))
    journal.put_new("a", "sample", "ignored: the key is taken")
    assert journal.entry("a") == ("sample", 2, {"text": "4"})
    assert journal.get("a") == ({"text": "4"}, Usage(5, 6))
    assert journal.count("sample") == 1
    journal.close()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("database or disk is full", f"j: the disk is full (database or disk is full); {RESUME_FIX}"),
        ("disk I/O error", f"j: the disk is full or failing (disk I/O error); {RESUME_FIX}"),
        (
            "file is not a database",
            "j: not a journal, or a damaged one (file is not a database); use another run folder",
        ),
        (
            "database disk image is malformed",
            "j: not a journal, or a damaged one (database disk image is malformed); use another run folder",
        ),
        (
            "Could not decode to UTF-8 column 'payload' with text 'secret'",
            "j: not a journal, or a damaged one (a text in it is not UTF-8); use another run folder",
        ),
        (
            "no such table: effects",
            "j: not a journal, or a damaged one (no such table: effects); use another run folder",
        ),
        (
            "attempt to write a readonly database",
            "j: cannot be written (attempt to write a readonly database); use a folder you may write to",
        ),
    ],
)
def test_what_the_user_can_mend_of_sqlite_is_one_line(text: str, line: str) -> None:
    error = readable_error(sqlite3.OperationalError(text), Path("j"))
    assert isinstance(error, BadInput)
    assert str(error) == line


def test_any_other_error_of_sqlite_stays_itself() -> None:
    bug = sqlite3.OperationalError("no such column: kindd")
    assert readable_error(bug, Path("j")) is bug


@pytest.mark.parametrize("text", ["[1]", '"a"', "null", "1"])
def test_a_named_object_is_an_object_or_the_journal_is_damaged(tmp_path: Path, text: str) -> None:
    journal = Journal(tmp_path)
    assert journal.meta_object("config") == {}
    journal.set_meta("config", text)
    with pytest.raises(BadInput, match="a damaged journal, its config is no JSON object; put a copy of the file back"):
        journal.meta_object("config")
    journal.set_meta("config", json.dumps({"a": 1}))
    assert journal.meta_object("config") == {"a": 1}
    journal.close()


def test_a_folder_without_a_journal_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        JournalReader(tmp_path)
    assert str(refused.value) == f"{tmp_path}: not a run folder (no journal.sqlite); give the folder of a run"
