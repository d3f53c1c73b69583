"""Functions of the user's: how they are found, called and what they may return; and what is refused, in one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftaught.errors import BadInput
from selftaught.feedback.rewards import call_reward, check_columns, check_reward, is_reward
from selftaught.feedback.user import UserFunction, call_form
from selftaught.feedback.userfile import error_location, is_userfile, load_function
from selftaught.feedback.verdicts import MAX_TEXT, parse_verifier_result
from selftaught.feedback.verifiers import ExtractedAnswer
from selftaught.records import Feedback, Problem, Verdict, make_problem

PROBLEM = make_problem("What is 2 + 2?", "4", {"level": 3, "where": "file:1"})


# --- results ---


@pytest.mark.parametrize(
    ("result", "verdict", "score"),
    [
        (True, "right", 1.0),
        (False, "wrong", 0.0),
        (1, "right", 1.0),
        (0.5, "wrong", 0.5),
        (7.0, "right", 1.0),  # scores beyond the scale are cut to it
        (-2, "wrong", 0.0),
        (np.float32(0.25), "wrong", 0.25),
        (np.bool_(True), "right", 1.0),
        (Feedback(Verdict.UNKNOWN, None, "?", "me"), "unknown", None),
        (None, "unknown", None),
        (math.nan, "unknown", None),
        ("right", "unknown", None),
        ({"score": 1.0, "acc": True, "pred": "4"}, "right", 1.0),
        ({"score": -1.0}, "wrong", 0.0),
        ({"reward": 1.0}, "unknown", None),
    ],
)
def test_a_result_becomes_a_verdict_and_a_score(result: Any, verdict: str, score: float | None) -> None:
    assert parse_verifier_result(result)[:2] == (verdict, score)


@pytest.mark.parametrize(("result", "named"), [(None, "None"), (math.nan, "NaN"), ("right", "str"), ([1], "list")])
def test_a_result_of_no_use_is_named(result: Any, named: str) -> None:
    assert named in parse_verifier_result(result)[2]


# --- forms ---


def test_the_form_is_told_by_the_names_of_the_parameters() -> None:
    def by_problem(problem: Any, text: str) -> bool: ...
    def by_item(item: Any, reply: str) -> bool: ...
    def by_reference(text: str, reference: str) -> bool: ...
    def by_gold(x: str, gold: str) -> bool: ...
    def reward(prompts: Any, completions: Any, **columns: Any) -> list[float]: ...

    forms = {f.__name__: call_form(f, "f") for f in (by_problem, by_item, by_reference, by_gold, reward)}
    assert forms == {
        "by_problem": "problem",
        "by_item": "problem",
        "by_reference": "reference",
        "by_gold": "reference",
        "reward": "reward",
    }


def test_what_cannot_be_called_is_refused() -> None:
    def swapped(reference: str, text: str) -> bool: ...
    def lonely(text: str) -> bool: ...
    def greedy(problem: Any, text: str, more: int) -> bool: ...

    for function, said in ((swapped, "takes"), (lonely, "takes"), (greedy, "takes")):
        with pytest.raises(BadInput, match=said):
            call_form(function, function.__name__)
    with pytest.raises(BadInput, match="not a function"):
        call_form(3, "three")  # type: ignore[arg-type]


# --- rewards ---


def test_rewards_are_told_by_their_completions() -> None:
    assert is_reward(["prompts", "completions"])
    assert is_reward(["completions", "kwargs"])
    assert not is_reward(["text", "reference"])


def test_a_reward_gets_lists_of_one_and_the_columns_it_names() -> None:
    seen: dict[str, Any] = {}

    def reward(completions: list[str], level: list[int], answer: list[str], **rest: Any) -> list[float]:
        seen.update(completions=completions, level=level, answer=answer, rest=sorted(rest))
        return [0.5]

    assert call_reward(reward, PROBLEM, "4") == (0.5, "")
    logging = ["log_extra", "log_metric"]
    assert seen == {"completions": ["4"], "level": [3], "answer": ["4"], "rest": [*logging, "prompts"]}


def test_a_reward_may_be_asynchronous_and_return_an_array() -> None:
    async def later(completions: list[str]) -> Any:
        return np.array([0.75])

    assert call_reward(later, PROBLEM, "4") == (0.75, "")


def test_what_a_reward_logs_is_the_text_of_its_feedback() -> None:
    def reward(completions: list[str], log_metric: Any, log_extra: Any) -> list[float]:
        log_metric("length", len(completions[0]))
        log_extra("tags", ["short"])
        return [1.0]

    assert call_reward(reward, PROBLEM, "4") == (1.0, "length: 1, tags: short")
    made = UserFunction(reward)
    assert made.judge(PROBLEM, ExtractedAnswer("4", "4", "4"), "4").text == "length: 1, tags: short"
    made.close()


def test_a_chat_is_handed_over_as_messages() -> None:
    chat = Problem("id", (*PROBLEM.prompt, *PROBLEM.prompt), "4", {})
    assert call_reward(lambda completions: [completions[0][0]["content"] == "4"], chat, "4") == (True, "")
    assert call_reward(lambda completions: [completions[0] == "4"], PROBLEM, "4") == (True, "")


@pytest.mark.parametrize(("result", "said"), [([1, 2], "2 rewards"), ([], "0 rewards"), (0.5, "a float")])
def test_a_reward_of_another_form_is_an_error(result: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call_reward(lambda completions: result, PROBLEM, "4")


def test_what_only_a_trainer_has_is_refused() -> None:
    def reward(completions: Any, completion_ids: Any) -> list[float]: ...
    def ready(completions: Any, completion_ids: Any = None) -> list[float]: ...

    with pytest.raises(BadInput, match="'completion_ids', which only a trainer can provide"):
        check_reward(reward, "reward")
    check_reward(ready, "ready")


def test_a_column_that_the_data_lacks_is_refused_with_those_there_are() -> None:
    def reward(completions: Any, difficulty: Any) -> list[float]: ...
    def fine(completions: Any, level: Any, answer: Any) -> list[float]: ...

    with pytest.raises(BadInput, match=r"file:1: .*'difficulty'.*level"):
        check_columns(reward, "reward", PROBLEM)
    check_columns(fine, "fine", PROBLEM)


# --- files ---


@pytest.mark.parametrize(
    ("spec", "named"),
    [("a.py", True), ("dir/a.py:judge", True), ("a.py:not a name", False), ("exact", False), ("a.jsonl", False)],
)
def test_a_file_of_python_is_told_by_its_name(spec: str, named: bool) -> None:
    assert is_userfile(spec) is named


def test_a_function_is_loaded_from_its_file_with_a_hash_of_its_content(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def judge(problem, text):\n    return text == '4'\n")
    function, digest = load_function(f"{file}:judge", what="verifier")
    assert function(None, "4")
    assert load_function(f"{file}:judge", what="verifier") == (function, digest)  # imported once
    file.write_text("def judge(problem, text):\n    return True\n")
    other, changed = load_function(f"{file}:judge", what="verifier")
    assert other(None, "5")
    assert changed != digest


def test_a_neighboring_file_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "neighbor_of_mine.py").write_text("RIGHT = '4'\n")
    (tmp_path / "mine_too.py").write_text("from neighbor_of_mine import RIGHT\n\ndef judge(a, b):\n    return RIGHT\n")
    assert load_function(f"{tmp_path / 'mine_too.py'}:judge", what="verifier")[0](1, 2) == "4"


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("def judge(a, b): ...", ":jugde", "no function 'jugde'.*did you mean 'judge'"),
        ("def judge(a, b): ...", "", "which function.*:judge"),
        ("def judge(a, b:", ":judge", r"bad\.py:1: not valid Python"),
        ("x = 1\nraise KeyError('x')\ndef judge(a, b): ...", ":judge", r"bad\.py:2: the file raises KeyError"),
    ],
)
def test_a_file_of_no_use_is_one_line(tmp_path: Path, source: str, name: str, said: str) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(BadInput, match=said):
        load_function(f"{tmp_path / 'bad.py'}{name}", what="verifier")


def test_a_missing_file_names_its_neighbor(tmp_path: Path) -> None:
    (tmp_path / "judges.py").touch()
    with pytest.raises(BadInput, match=r"did you mean 'judges\.py'"):
        load_function(f"{tmp_path / 'judge.py'}:judge", what="verifier")


def test_an_error_is_located_in_the_file_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as caught:
        raise KeyError
    assert error_location(caught.value, Path(__file__)).startswith(f"{__file__}:")
    assert error_location(caught.value, tmp_path / "other.py") == str(tmp_path / "other.py")


# --- the worker's messages ---


def test_an_explanation_is_cut_at_a_length() -> None:
    assert parse_verifier_result(Feedback(Verdict.WRONG, 0.0, "x" * MAX_TEXT))[2] == "x" * MAX_TEXT
    assert parse_verifier_result(Feedback(Verdict.WRONG, 0.0, "x" * 50_000_000))[2] == "x" * MAX_TEXT + "…"
