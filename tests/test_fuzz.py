"""Whatever happens to the files of a run, a command that reads them ends well or with one line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from bench import fuzz

CASES, SEED = 80, 20261130


def test_damaged_runs_are_used_or_refused_in_a_line(tmp_path: Path) -> None:
    found = fuzz.fuzz(CASES, SEED, tmp_path)
    assert [one for one in found if one.wrong] == []
    assert {one.command for one in found} == set(fuzz.commands(tmp_path))
    assert {one.status for one in found} >= {0, 2}  # some damage is refused, and some does not matter


@pytest.mark.parametrize(
    ("ended", "wrong"),
    [
        (("run", 0, "", ""), ""),
        (("run", 2, "selftaught: x is damaged; remove it\n", ""), ""),
        (("run", 1, "", ""), "exit status 1"),
        (("audit", 1, "", ""), ""),
        (("run", 2, "", ""), "exit status 2 with 0 lines"),
        (("run", 2, "selftaught: x\nselftaught: y\n", ""), "exit status 2 with 2 lines"),
        (
            ("run", -1, "", '  File "/a/selftaught/b.py", line 3, in c\nValueError: oh\n'),
            'ValueError: oh b.py", line 3',
        ),
    ],
)
def test_what_counts_as_a_bad_end(ended: tuple[str, int, str, str], wrong: str) -> None:
    found = fuzz.wrong(*ended)
    assert found.startswith(wrong) if wrong else found == ""


def test_an_exception_of_a_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(words: list[str]) -> int:
        raise json.JSONDecodeError("oh", "{", 0)

    (tmp_path / "whole" / "policies").mkdir(parents=True)
    (tmp_path / "whole" / "summary.json").write_text("{}")
    monkeypatch.setattr(fuzz, "selftaught", raising)
    found = fuzz.play(tmp_path / "whole", tmp_path / "case", random.Random(1))
    assert (found.status, found.file) == (-1, "summary.json")
    assert found.wrong.startswith("json.decoder.JSONDecodeError: oh")


@pytest.mark.parametrize("damage", fuzz.DAMAGES)
def test_damage_is_of_the_seed_and_takes_empty_files(damage: str) -> None:
    harm, data = fuzz.DAMAGES[damage], bytes(range(256)) * 8
    assert harm(data, random.Random(3)) == harm(data, random.Random(3)) != data
    assert isinstance(harm(b"", random.Random(3)), bytes)
