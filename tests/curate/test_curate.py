"""Keeping, voting and pairing, on attempts made by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted_world import judged, with_facts
from selftaught.curate import by_problem, elect, keep_right, pairs, round_batch, unsolved, vote
from selftaught.records import Attempt, Problem, Verdict
from selftaught.testing import sums

ONE, TWO, THREE = sums(3)
R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def test_groups_keep_the_order_of_first_appearance() -> None:
    tried = [judged(p, str(i)) for i, p in enumerate((TWO, ONE, TWO, THREE, ONE))]
    groups = by_problem(tried)
    assert list(groups) == [TWO.id, ONE.id, THREE.id]
    assert [a.answer for a in groups[TWO.id]] == ["0", "2"]


@pytest.mark.parametrize(("cap", "kept"), [(None, ["b", "d", "e"]), (1, ["b"]), (2, ["b", "d"]), (0, [])])
def test_only_right_attempts_are_kept_the_first_ones_up_to_the_cap(cap: int | None, kept: list[str]) -> None:
    verdicts = zip("abcdef", (W, R, U, R, R, W), strict=True)
    demos = keep_right([judged(ONE, name, v, name=name) for name, v in verdicts], per_problem=cap)
    assert [demo.attempts for demo in demos] == [(name,) for name in kept]
    assert [demo.target for demo in demos] == [f"Answer: {name}" for name in kept]


def test_what_is_learnt_is_the_problem_s_own_prompt_and_names_its_parent() -> None:
    hinted = replace(judged(ONE, "1", R, name="child"), prompt=TWO.prompt, parent="draft")
    (demo,) = keep_right([hinted])
    assert demo.prompt == ONE.prompt
    assert demo.attempts == ("child", "draft")


def test_unsolved_are_those_without_a_right_attempt() -> None:
    tried = [judged(ONE, "1", W), judged(ONE, "2", R), judged(TWO, "1", W), judged(TWO, "2", U), judged(THREE, None, U)]
    assert unsolved(tried) == [TWO, THREE]


@pytest.mark.parametrize(
    ("answers", "won", "share"),
    [
        ("7 8 8", "8", 2 / 3),
        ("7 8 8 7", "7", 2 / 4),  # a tie goes to the answer given first
        ("- 8 7 7 8", "8", 2 / 5),
        ("- - - 5", "5", 1 / 4),  # no answer is no vote, but it counts against the share
        ("3", "3", 1.0),
    ],
)
def test_the_plurality_wins(answers: str, won: str, share: float) -> None:
    given = [None if a == "-" else a for a in answers.split()]
    found = vote([judged(ONE, a, name=str(i)) for i, a in enumerate(given)])
    assert found is not None
    assert (found.answer, found.share) == (won, pytest.approx(share))
    assert [v.id for v in found.voters] == [str(i) for i, a in enumerate(given) if a == won]


def test_nobody_wins_where_nobody_answers() -> None:
    assert vote([]) is None
    assert vote([judged(ONE, None), judged(ONE, None)]) is None


@given(st.lists(st.sampled_from([None, "1", "2", "3"]), min_size=1, max_size=20))
def test_no_other_answer_has_more_votes(answers: list[str | None]) -> None:
    found = vote([judged(ONE, a) for a in answers])
    counts = Counter(a for a in answers if a is not None)
    if found is None:
        assert not counts
    else:
        assert counts[found.answer] == max(counts.values()) == len(found.voters)
        earlier = answers[: answers.index(found.answer)]
        assert all(counts[a] < counts[found.answer] for a in earlier if a is not None)


def test_the_elected_attempt_carries_its_share_of_the_votes() -> None:
    won = elect([judged(ONE, a, name=str(i)) for i, a in enumerate(("7", "8", None, "8"))])
    assert won is not None
    (feedback,) = won.feedback
    assert (won.id, feedback.score, feedback.verdict) == ("1", 0.5, U)
    assert (feedback.text, feedback.source) == ("2 of 4 votes", "vote")
    assert elect([judged(ONE, None)]) is None


def tried(problem: Problem, verdicts: str) -> list[Attempt]:
    kinds = {"r": R, "w": W, "u": U}
    return [judged(problem, f"{v}{i}", kinds[v], name=f"{problem.id}{v}{i}") for i, v in enumerate(verdicts)]


def test_pairs_use_no_answer_twice_and_take_turns_among_problems_where_they_are_limited() -> None:
    attempts = [*tried(ONE, "rrwwwu"), *tried(TWO, "wr"), judged(TWO, "cut", W, name="cut")]
    attempts[-1] = with_facts(attempts[-1], finish_reason="length")
    assert [pair.prompt for pair in pairs(attempts)] == [ONE.prompt, ONE.prompt, TWO.prompt]
    assert [pair.prompt for pair in pairs(attempts, per_problem=1)] == [ONE.prompt, TWO.prompt]
    limited = pairs(attempts, max_pairs=9)
    assert [pair.prompt for pair in limited] == [ONE.prompt, TWO.prompt, ONE.prompt]
    assert pairs(attempts, max_pairs=2) == limited[:2]
    assert len({name for pair in limited for name in pair.attempts}) == 6
    assert all("r" in pair.chosen.split()[1] and "w" in pair.rejected.split()[1] for pair in limited)


def test_rounds_take_the_problems_in_turn() -> None:
    rounds = [round_batch(range(5), 2, number) for number in (1, 2, 3)]
    assert rounds == [[0, 1], [2, 3], [4, 0]]
    assert round_batch(range(5), 64, 7) == [0, 1, 2, 3, 4]
