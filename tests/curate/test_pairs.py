"""Which attempts become the chosen and the rejected side of a pair, and with which weight and margin."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted_world import judged, with_facts
from selftaught.curate import (
    best_and_worst,
    most_and_least_voted,
    pairs,
    right_and_nearest_wrong,
    right_and_wrong,
    right_times_wrong,
    score_gap,
    similar_length,
    solution_pairs,
    vote_gap,
    written_solutions,
)
from selftaught.errors import BadInput
from selftaught.records import Attempt, Feedback, Problem, Verdict, make_problem
from selftaught.testing import sums

ONE, TWO = sums(2)
R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN
KINDS = {"r": R, "w": W, "u": U}


def tried(verdicts: str, problem: Problem = ONE) -> list[Attempt]:
    return [judged(problem, f"{v}{i}", KINDS[v], name=f"{v}{i}") for i, v in enumerate(verdicts)]


def scored(*scores: float | None, texts: tuple[str, ...] = ()) -> list[Attempt]:
    made = [judged(ONE, str(i), name=str(i)) for i in range(len(scores))]
    made = [replace(a, feedback=(Feedback(U, s),)) for a, s in zip(made, scores, strict=True)]
    return [replace(a, text=text) for a, text in zip(made, texts, strict=True)] if texts else made


def ids(matches: list[list[tuple[Attempt, Attempt]]]) -> list[list[tuple[str, str]]]:
    return [[(a.id, b.id) for a, b in group] for group in matches]


def test_right_and_wrong_are_matched_side_by_side() -> None:
    assert ids(right_and_wrong(tried("rrwwwu"))) == [[("r0", "w2"), ("r1", "w3")]]


def test_the_product_goes_through_both_sides_at_once() -> None:
    assert ids(right_times_wrong(tried("rrwwwu"))) == [
        [("r0", "w2"), ("r1", "w3"), ("r0", "w4"), ("r1", "w2"), ("r0", "w3"), ("r1", "w4")]
    ]
    assert ids(right_times_wrong(tried("rrww"))) == [[("r0", "w2"), ("r1", "w3"), ("r0", "w3"), ("r1", "w2")]]
    assert ids(right_times_wrong(tried("rr"))) == [[]]


def test_each_right_answer_meets_the_wrong_one_that_it_parts_from_last() -> None:
    texts = {"r0": "1 2 3", "r1": "1 7 7", "w2": "9", "w3": "1 2 9", "w4": "1 9"}
    some = [replace(one, text=texts[one.id]) for one in tried("rrwww")]
    assert ids(right_and_nearest_wrong(some)) == [[("r0", "w3"), ("r1", "w3")]]
    some = [replace(one, text=texts[one.id[0] + str(5 - int(one.id[1]) - 1)]) for one in tried("wwwrr")]
    assert ids(right_and_nearest_wrong(some)) == [[("r4", "w1"), ("r3", "w0")]]
    assert ids(right_and_nearest_wrong(tried("rr"))) == [[]] == ids(right_and_nearest_wrong(tried("ww")))


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 50))
def test_the_product_is_complete_and_its_beginning_even(right: int, wrong: int, most: int) -> None:
    (found,) = right_times_wrong(tried("r" * right + "w" * wrong)) or [[]]
    assert len({(a.id, b.id) for a, b in found}) == len(found) == right * wrong
    for side in (0, 1):
        counts = Counter(match[side].id for match in found[:most])
        size = (right, wrong)[side]
        low = min(counts.values()) if len(counts) == size and size else 0
        assert max(counts.values(), default=0) - low <= 1


def test_best_and_worst_go_by_the_score() -> None:
    some = scored(0.4, None, 0.9, 0.1, 0.9)
    assert ids(best_and_worst(some)) == [[("2", "3")]]
    assert ids(best_and_worst(some, min_gap=0.8)) == [[("2", "3")]]
    assert ids(best_and_worst(some, min_gap=0.81)) == [[]]
    assert ids(best_and_worst(some, score=lambda a: -float(a.id))) == [[("0", "4")]]
    assert ids(best_and_worst(scored(0.5, 0.5))) == ids(best_and_worst(scored(None))) == [[]]
    assert ids(best_and_worst(tried("uwr"))) == [[("r2", "w1")]]  # without a score, the verdict


def test_length_decides_among_scores_that_are_nearly_equal() -> None:
    some = scored(1.0, 0.95, 0.0, 0.05, 0.5, texts=("long " * 9, "short", "brief", "wordy " * 9, "x"))
    assert ids(best_and_worst(some)) == [[("0", "2")]]
    assert ids(best_and_worst(some, length_tolerance=0.1)) == [[("1", "3")]]


def test_the_most_voted_answer_is_preferred_to_the_least_voted_whatever_is_right() -> None:
    some = [judged(ONE, a, W if a == "7" else R, name=f"{a}{i}") for i, a in enumerate(("7", "8", "7", "9", "8", "7"))]
    some.append(judged(ONE, None, name="none"))
    assert ids(most_and_least_voted(some)) == [[("70", "93")]]
    assert ids(most_and_least_voted(some, min_share=3 / 7)) == [[("70", "93")]]
    assert ids(most_and_least_voted(some, min_share=0.5)) == [[]]
    assert ids(most_and_least_voted(some[:2])) == ids(most_and_least_voted(some[:1])) == [[]]
    (pair,) = pairs(some, select=most_and_least_voted, weight=vote_gap(some))
    assert (pair.chosen, pair.rejected, pair.attempts) == ("Answer: 7", "Answer: 9", ("70", "93"))
    assert pair.weight == pytest.approx(2 / 7)


def test_matches_of_very_different_length_are_dropped() -> None:
    a, b, c = (replace(one, text="x" * n) for one, n in zip(tried("rww"), (4, 8, 9), strict=True))
    assert ids(similar_length([[(a, b), (a, c), (c, a)]])) == [[("r0", "w1")]]
    assert ids(similar_length([[(a, c)]], max_ratio=3)) == [[("r0", "w2")]]


def test_pairs_take_any_selection_and_margin_up_to_m_per_problem() -> None:
    some = [*tried("rrww"), *tried("wr", TWO)]
    found = pairs(some, select=right_times_wrong, per_problem=3, margin=lambda a, b: float(len(a.text + b.text)))
    assert [pair.attempts for pair in found] == [("r0", "w2"), ("r1", "w3"), ("r0", "w3"), ("r1", "w0")]
    assert {pair.margin for pair in found} == {20.0}
    (pair,) = pairs(scored(0.25, 0.75), select=best_and_worst, margin=score_gap)
    assert pair.margin == 0.5
    assert score_gap(*tried("ru")) == 0.0


def test_no_selection_takes_an_answer_that_is_cut_off() -> None:
    some = [with_facts(a, finish_reason="length") for a in tried("rw")]
    for select in (right_and_wrong, right_times_wrong, right_and_nearest_wrong, best_and_worst, most_and_least_voted):
        assert pairs(some, select=select) == []


def test_written_solutions_are_preferred_to_samples_that_differ() -> None:
    written = str(ONE.meta["solution"])
    same = replace(judged(ONE, "1", name="same"), text=f" {written}\n")
    found = solution_pairs([same, *tried("wr")], written_solutions([ONE, TWO]), per_problem=1)
    assert [(p.prompt, p.chosen, p.rejected, p.attempts) for p in found] == [
        (ONE.prompt, written, "Answer: w0", ("w0",))
    ]


@pytest.mark.parametrize("meta", [{}, {"solution": " "}, {"solution": 4}])
def test_a_problem_without_a_written_solution_is_one_line(meta: dict[str, object]) -> None:
    bare = make_problem("What is 1 + 1?", "2", {"where": "data.jsonl:7", **meta})
    with pytest.raises(BadInput, match=r"^data.jsonl:7: no written solution of 'What is 1 \+ 1\?'; use data with"):
        written_solutions([ONE, bare])
