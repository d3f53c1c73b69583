"""Records for learning: each type says its kind in its JSON, its prompt and its attempts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from selftaught.records import (
    Attempt,
    Demo,
    Feedback,
    Label,
    Pair,
    Prompt,
    Ranking,
    Record,
    RolloutGroup,
    ScoredSteps,
    TokenAdvantages,
    Verdict,
    as_json,
    as_prompt,
    content_hash,
    make_problem,
)
from selftaught.samples import Sample

PROMPT = as_prompt("what is one plus one")
ATTEMPT = Attempt(
    "a", make_problem("what is one plus one"), PROMPT, "two", "two", Sample("two", (5, 6), (-1.0, -2.0), policy="p")
)
RECORDS: dict[str, Record] = {
    "demo": Demo(PROMPT, "two", attempts=("a",)),
    "pair": Pair(PROMPT, "two", "three", attempts=("a",)),
    "ranking": Ranking(PROMPT, ("two", "three"), (1.0, 0.0), attempts=("a",)),
    "label": Label(PROMPT, "two", True, attempts=("a",)),
    "rollout_group": RolloutGroup((ATTEMPT,), (1.0,)),
    "token_advantages": TokenAdvantages(ATTEMPT, (1.0, 1.0)),
    "scored_steps": ScoredSteps(PROMPT, ("two",), (1.0,), attempts=("a",)),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_names_its_kind_its_prompt_and_its_attempts(kind: str) -> None:
    record = RECORDS[kind]
    row = as_json(record)
    assert (record.kind, row["kind"], next(iter(row))) == (kind, kind, "kind")
    assert (record.prompt, record.attempts) == (PROMPT, ("a",))


def test_the_kind_is_part_of_what_is_hashed_and_other_data_has_none() -> None:
    @dataclass(frozen=True)
    class Mine:
        prompt: Prompt
        attempts: tuple[str, ...] = ()

    @dataclass(frozen=True)
    class Named(Mine):
        kind: ClassVar[str] = "mine"

    @dataclass(frozen=True)
    class Tool:
        kind: str = "hammer"

    plain: Any = Mine(PROMPT)
    assert "kind" not in as_json(plain)
    assert as_json(Named(PROMPT)) == {"kind": "mine", **as_json(plain)}
    assert content_hash(Named(PROMPT)) != content_hash(plain)
    assert as_json(Tool("saw")) == {"kind": "saw"}
    assert "kind" not in as_json(ATTEMPT)


def test_right_is_the_verifier_s_verdict_whatever_judges_say() -> None:
    right, wrong = Feedback(Verdict.RIGHT, source="v"), Feedback(Verdict.WRONG, 0.2, "no", "rubric by p", "judge")
    both = replace(ATTEMPT, feedback=(right, wrong))
    assert (both.right, both.verdict, both.task_feedback, both.judgments) == (True, Verdict.RIGHT, right, (wrong,))
    assert replace(ATTEMPT, feedback=(wrong, right, replace(right, verdict=Verdict.WRONG))).verdict is Verdict.WRONG
    judged = replace(ATTEMPT, feedback=(wrong,))
    assert (judged.right, judged.verdict, judged.task_feedback) == (False, Verdict.UNKNOWN, None)


def test_the_score_is_the_mean_of_the_latest_judge_s() -> None:
    given = [Feedback(Verdict.UNKNOWN, score, source=by, kind="judge") for score, by in
             [(0.9, "a"), (0.25, "b"), (None, "b"), (0.75, "b")]]  # fmt: skip
    assert replace(ATTEMPT, feedback=tuple(given)).score == 0.5
    assert replace(ATTEMPT, feedback=tuple(given[:1])).score == 0.9
    assert replace(ATTEMPT, feedback=(given[2],)).score is None
    assert replace(ATTEMPT, feedback=(Feedback(Verdict.RIGHT, 1.0),)).score is None  # the verifier's


def test_feedback_says_that_it_is_a_judge_s_only_where_it_is() -> None:
    assert as_json(Feedback(Verdict.RIGHT)) == {"verdict": "right", "score": None, "text": "", "source": ""}
    assert as_json(Feedback(Verdict.RIGHT, kind="judge"))["kind"] == "judge"
