"""What is kept, paired, voted for and replayed: boundaries, and laws that hold for any attempts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripted_world import judged, with_facts
from selftaught.curate import AnswerPool, by_problem, finished, keep, keep_right, pairs, round_batch
from selftaught.curate.keep import source_ids, teaches_false_end
from selftaught.curate.pairs import right_and_wrong
from selftaught.curate.replay import mix_replay
from selftaught.curate.vote import with_confidence
from selftaught.errors import BadInput
from selftaught.records import Attempt, Demo, Label, Pair, Ranking, Verdict
from selftaught.testing import sums

PROBLEMS = sums(3)
R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN
CUT = {"text": "half a", "finish": "length"}


def attempt(number: int, problem: int, verdict: Verdict, finish: str) -> Attempt:
    made = judged(PROBLEMS[problem], str(number), verdict, name=f"{number:x}")
    return with_facts(made, finish_reason=finish)


@st.composite
def attempts(draw: st.DrawFn) -> list[Attempt]:
    ends = st.sampled_from(["stop", "stop", "length", "error"])
    rows = draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([R, W, U]), ends), max_size=15))
    return [attempt(i, *row) for i, row in enumerate(rows)]


@settings(max_examples=40, deadline=None)
@given(attempts(), st.integers(0, 4), st.integers(0, 6))
def test_a_pair_is_right_over_wrong_and_no_answer_is_in_two(some: list[Attempt], each: int, most: int) -> None:
    found = pairs(some, per_problem=each, max_pairs=most)
    by_id = {one.id: one for one in some}
    used = [name for pair in found for name in pair.attempts]
    assert len(used) == len(set(used))
    for pair in found:
        right, wrong = (by_id[name] for name in pair.attempts)
        assert (right.verdict, wrong.verdict, right.problem) == (R, W, wrong.problem)
        assert (pair.chosen, pair.rejected, pair.prompt) == (right.text, wrong.text, right.problem.prompt)
        assert right.finish_reason == wrong.finish_reason == "stop"
    counts = [len(two) for two in right_and_wrong(some)]
    assert len(found) == min(most, sum(min(each, count) for count in counts))


@settings(max_examples=40, deadline=None)
@given(attempts(), st.one_of(st.none(), st.integers(0, 4)))
def test_what_is_kept_is_finished_in_order_and_at_most_so_many_a_problem(some: list[Attempt], each: int | None) -> None:
    every, right = keep(some, per_problem=each), keep_right(some, per_problem=each)
    assert {demo.attempts[0] for demo in keep_right(some)} <= {demo.attempts[0] for demo in keep(some)}
    assert all(demo.ends for demo in every)
    whole = by_problem(finished(some)).values()
    assert [d.attempts for d in every] == [(a.id,) for group in whole for a in group[:each]]
    assert [d.attempts for d in right] == [(a.id,) for group in whole for a in [a for a in group if a.right][:each]]


def test_open_keeps_the_text_of_a_truncated_attempt_without_its_end() -> None:
    some = [attempt(0, 0, R, "length"), attempt(1, 0, R, "error"), attempt(2, 0, R, "stop")]
    found = keep_right(some, truncated="open")
    assert [(demo.attempts, demo.ends) for demo in found] == [(("0",), False), (("2",), True)]
    with pytest.raises(BadInput, match="truncated: unknown 'opn'") as caught:
        keep(some, truncated="opn")  # pyright: ignore[reportArgumentType]
    assert "open" in caught.value.fix


@pytest.mark.parametrize(
    ("record", "false_end"),
    [
        (Demo((), "here is half a"), True),
        (Demo((), "here is half a", ends=False), False),
        (Demo((), "half a and more"), False),
        (Pair((), "good", "half a"), True),
        (Pair((), "half a", "bad", ends=False), False),
        (Label((), "half a", True), True),
        (Ranking((), ("good", "half a"), (1.0, 0.0)), True),
        (Ranking((), ("good", "bad"), (1.0, 0.0)), False),
    ],
)
def test_a_false_end_is_found_in_every_text_of_a_record(record: Any, false_end: bool) -> None:
    assert teaches_false_end(record, [{"text": "whole", "finish": "stop"}, CUT]) is false_end
    assert not teaches_false_end(record, [{**CUT, "finish": "stop"}, {"text": "", "finish": "length"}])


def test_a_record_names_the_attempt_and_what_that_was_made_from() -> None:
    one = attempt(1, 0, R, "stop")
    assert source_ids(one) == ("1",)
    assert source_ids(replace(one, parent="0")) == ("1", "0")


def test_a_confidence_replaces_the_verdict() -> None:
    found = with_confidence(attempt(1, 0, R, "stop"), 0.25, "vote", "1 of 4 votes")
    (feedback,) = found.feedback
    assert (found.verdict, feedback.score, feedback.source, feedback.text) == (U, 0.25, "vote", "1 of 4 votes")


def test_a_pool_keeps_the_newest_of_each_text_and_pairs_newest_with_newest() -> None:
    pool = AnswerPool()
    old, wrong = attempt(1, 0, R, "stop"), attempt(3, 0, W, "stop")
    pool.add([old, attempt(2, 0, R, "stop"), wrong, attempt(4, 0, U, "stop"), attempt(5, 0, R, "length")])
    again = replace(old, id="6")
    pool.add([again])
    assert [a.id for a in pool.newest(9)] == ["2", "6"]
    assert [a.id for a in pool.newest(1)] == ["6"]
    assert [pair.attempts for pair in pool.pairs(9)] == [("6", "3")]


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 12))
def test_rounds_visit_all_problems_equally_often(count: int, size: int, rounds: int) -> None:
    batches = [round_batch(range(count), size, number) for number in range(1, rounds + 1)]
    assert all(len(set(batch)) == len(batch) == min(size, count) for batch in batches)
    seen = Counter(one for batch in batches for one in batch)
    assert max(seen.values()) - min(seen[i] for i in range(count)) <= 1


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0, 0.95), st.integers(0, 3))
def test_replay_has_the_share_asked_for_or_everything(new: int, earlier: int, share: float, seed: int) -> None:
    found = mix_replay(range(new), range(100, 100 + earlier), share, seed)
    replayed = found[new:]
    assert found[:new] == list(range(new))
    assert len(set(replayed)) == len(replayed)
    assert len(replayed) == earlier or abs(len(replayed) - share * len(found)) <= 0.5


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be_reached_is_one_line(share: float) -> None:
    with pytest.raises(BadInput, match=f"share: got {share}"):
        mix_replay([1], [2], share)
