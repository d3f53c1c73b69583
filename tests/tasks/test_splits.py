"""Cutting problems into splits: nothing shared, nothing lost, stable when only train grows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.errors import BadInput
from selftaught.records import make_problem
from selftaught.tasks.source import TaskRequest
from selftaught.tasks.splits import SourceProblem, Splits, split_problems
from selftaught.tasks.steps import StepFormat


def source(key: int, line: int, answer: str = "1") -> SourceProblem:
    return SourceProblem(str(key), make_problem(f"question {key}", answer, {"where": f"a.jsonl:{line}"}))


POOL = [source(i, i + 1) for i in range(60)]


def cut(pool: list[SourceProblem], train: int, dev: int, test: int, seed: int = 0) -> Splits:
    return split_problems({"train": pool}, TaskRequest(train, dev, test, seed, ""), what="a.jsonl")


def ids(splits: Splits) -> list[set[str]]:
    return [{p.id for p in part} for part in (splits.train, splits.dev, splits.test)]


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 60), st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
def test_splits_share_nothing_and_do_not_depend_on_the_order(have: int, train: int, held: int, shuffle: int) -> None:
    splits, asked = cut(POOL[:have], train, held, held), train + 2 * held
    parts = ids(splits)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert min(have, asked) - sum(map(len, parts)) in (0, 1)  # an odd one is left where there are too few
    assert [len(part) <= n for part, n in zip(parts, (train, held, held), strict=True)] == [True] * 3
    order = random.Random(shuffle).sample(POOL[:have], have)
    assert ids(cut(order, train, held, held)) == parts
    assert bool(splits.notes) is (have < asked)


def test_where_there_are_too_few_train_keeps_two_fifths_but_no_more_than_was_asked_for() -> None:
    assert list(map(len, ids(cut(POOL[:10], 9, 9, 9)))) == [4, 3, 3]
    assert list(map(len, ids(cut(POOL[:10], 1, 9, 9)))) == [1, 4, 4]
    assert list(map(len, ids(cut(POOL[:10], 0, 9, 9)))) == [0, 5, 5]


def test_dev_and_test_stay_when_train_grows_and_change_with_the_seed() -> None:
    small, large, other = cut(POOL, 5, 8, 9), cut(POOL, 40, 8, 9), cut(POOL, 5, 8, 9, seed=1)
    assert ids(small)[1:] == ids(large)[1:] != ids(other)[1:]
    assert ids(small)[0] < ids(large)[0]


def test_duplicates_are_dropped_and_those_that_disagree_are_counted() -> None:
    splits = cut([*POOL[:6], source(0, 90), source(1, 91, "2")], 2, 2, 2)
    assert splits.notes == ("train: 2 duplicate problems dropped, 1 of them with another answer than the first",)


@pytest.mark.parametrize(
    ("pools", "said"),
    [
        ({"train": []}, "a.jsonl: no problems for train"),
        ({"train": [POOL[0], POOL[0]]}, "a.jsonl:1: all 2 problems are the same one"),
        ({"train": POOL[:9], "test": [source(3, 77)]}, "a.jsonl:77: 1 problem of test also in train, the first at a.j"),
        ({"train": POOL[:1]}, "a.jsonl: 1 distinct problem is too few to split"),
    ],
)
def test_pools_that_cannot_be_cut_are_one_line_with_the_place(pools: dict[str, list[SourceProblem]], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        split_problems(pools, TaskRequest(4, 2, 2, 0, ""), what="a.jsonl")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("pools", [{"train": [], "test": POOL[:3]}, {"train": [], "dev": [], "test": POOL[:3]}])
def test_pools_may_be_empty_where_nothing_is_drawn_from_them(pools: dict[str, list[SourceProblem]]) -> None:
    assert list(map(len, ids(split_problems(pools, TaskRequest(0, 0, 3, 0, ""), what="a.py")))) == [0, 0, 3]
    for sizes in ((1, 0, 3), (0, 1, 3)):
        with pytest.raises(BadInput, match=r"a\.py: no problems for (train|dev); give it at least one"):
            split_problems(pools, TaskRequest(*sizes, 0, ""), what="a.py")
    with pytest.raises(BadInput, match="no problems for train"):
        split_problems({"train": [], "test": []}, TaskRequest(0, 0, 0, 0, ""), what="a.py")


@given(st.text("ab1 \n.-", max_size=40), st.sampled_from(["\n", ". ", "--"]))
def test_steps_together_are_the_text_and_each_says_something(text: str, end: str) -> None:
    form = StepFormat(end=end)
    steps = form.split(text)
    assert "".join(steps) == text
    if form.says(text):
        assert all(form.says(step) for step in steps)
        assert all(step.rstrip(" \n.-") != step or step == steps[-1] for step in steps)
