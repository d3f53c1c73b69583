"""The configuration of a run: what is compared, and what a folder with another one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.journal import Journal
from selftaught.method import recipe
from selftaught.run.config import configure, drop_config, method_config, store_questions
from selftaught.testing.sums import make_task


@recipe()
def learn_twice(run: Any, base: Any, task: Any, *, rounds: int = 2) -> Any:
    """Learn."""
    del run, task, rounds
    return base


KNOWN = {"selftaught": "1.0", "model": "abc", "train": 4, "problems": "h1", "seed": 0, "method": "star", "code": "c1"}


def configured(folder: Path, *wanted: dict[str, Any]) -> dict[str, Any]:
    journal = Journal(folder)
    try:
        for one in wanted:
            configure(journal, one)
        return journal.meta_object("config")
    finally:
        journal.close()


def test_what_is_new_is_added_and_what_is_the_same_changes_nothing(tmp_path: Path) -> None:
    assert configured(tmp_path, KNOWN) == KNOWN
    assert configured(tmp_path, KNOWN, {"seed": 0, "option.rounds": 3}) == KNOWN | {"option.rounds": 3}
    assert configured(tmp_path, {"selftaught": "1.0"}) == KNOWN | {"option.rounds": 3}


def test_values_are_compared_as_json(tmp_path: Path) -> None:
    configured(tmp_path, KNOWN | {"betas": (0.9, 0.99), "where": Path("a/b")})
    again = configured(tmp_path, {"betas": [0.9, 0.99], "where": "a/b"})
    assert (again["betas"], again["where"]) == ([0.9, 0.99], "a/b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"model": "x"}, "the starting model has changed, or its weights"),
        ({"problems": "h2"}, "the problems have changed, in content or order"),
        ({"train": 8, "problems": "h2"}, "train is 4 there, 8 here"),  # other problems follow from that
        ({"code": "c2"}, "the code of the method has changed since"),
        ({"seed": 1, "method": "lmsi"}, "seed is 0 there, 1 here; method is 'star' there, 'lmsi' here"),
        ({"selftaught": "2.0"}, "selftaught is '1.0' there, '2.0' here"),
    ],
)
def test_a_folder_with_another_configuration_names_each_difference(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "run"
    configured(folder, KNOWN)
    with pytest.raises(BadInput) as refused:
        configured(folder, KNOWN | change)
    assert refused.value.what == f"the folder has another configuration: {message}"
    assert refused.value.fix == f"use another run folder (--out {folder}-2), or the same options"
    assert configured(folder) == KNOWN  # nothing was written


def test_the_folder_proposed_does_not_exist_yet(tmp_path: Path) -> None:
    configured(tmp_path / "run", KNOWN)
    for number in (2, 3):
        (tmp_path / f"run-{number}").mkdir()
    with pytest.raises(BadInput, match=r"--out \S+run-4\)"):
        configured(tmp_path / "run", {"seed": 1})


def test_a_folder_of_a_version_that_named_none_is_refused(tmp_path: Path) -> None:
    configured(tmp_path, {"seed": 0})
    with pytest.raises(BadInput, match="the folder was made by an older selftaught, and this version cannot resume it"):
        configured(tmp_path, {"seed": 0})


def test_the_code_of_a_method_inside_another_is_named(tmp_path: Path) -> None:
    configured(tmp_path, KNOWN | {"outer/inner.code": "c1"})
    with pytest.raises(BadInput, match="the code of the method of outer/inner has changed since"):
        configured(tmp_path, {"outer/inner.code": "c2"})


def test_a_setting_that_was_dropped_may_be_replaced(tmp_path: Path) -> None:
    configured(tmp_path, KNOWN | {"verifier": "v1"})
    journal = Journal(tmp_path)
    drop_config(journal, "verifier", "unknown")
    assert journal.meta_object("config") == KNOWN
    journal.close()
    assert configured(tmp_path, {"verifier": "v2"})["verifier"] == "v2"


def test_a_method_adds_its_options_and_its_code() -> None:
    added = method_config({}, learn_twice, {"rounds": 3}, "")
    assert added.keys() == {"method", "option.rounds", "code"}
    assert (added["method"], added["option.rounds"]) == ("learn-twice", 3)
    inner = method_config({}, learn_twice, {"rounds": 3}, "outer/inner")
    assert inner == {"outer/inner.option.rounds": 3, "outer/inner.code": added["code"]}


def test_an_option_that_the_method_no_longer_has_counts_as_a_difference() -> None:
    known = {"method": "learn-twice", "option.gone": 1, "option.rounds": 2}
    assert method_config(known, learn_twice, {"rounds": 2}, "")["option.gone"] is None
    assert "option.gone" not in method_config(known | {"method": "star"}, learn_twice, {"rounds": 2}, "")


def test_questions_are_stored_once(tmp_path: Path) -> None:
    journal, task = Journal(tmp_path), make_task(2, 1, 1)
    store_questions(journal, task)
    stored = journal.meta_object("questions")
    assert stored == {p.id: p.question for p in (*task.train, *task.dev, *task.test)}
    store_questions(journal, make_task(1, 0, 0))
    assert journal.meta_object("questions") == stored
    journal.close()
