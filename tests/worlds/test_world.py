"""Worlds: the problems of a seed, and the harder ones that some claims are tested on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.records import HIDDEN, Verdict, make_problem
from selftaught.tasks import Kind, Task
from selftaught.worlds import synthetic_worlds
from selftaught.worlds.kit.calibration.plan import plan_of
from selftaught.worlds.underfit.families import MARK
from selftaught.worlds.underfit.task import MIDDLE
from selftaught.worlds.underfit.world import WORLD as UNDERFIT
from selftaught.worlds.world import SMOLLM2, worlds


@pytest.mark.parametrize("name", worlds())
def test_harder_problems_are_only_tested_on(name: str) -> None:
    usual, harder = worlds()[name].load(0), worlds()[name].load(0, generalization=True)
    assert (harder.train, harder.dev) == (usual.train, usual.dev)
    assert len(harder.test) == worlds()[name].test
    assert not {p.id for p in harder.test} & {p.id for p in (*usual.train, *usual.dev, *usual.test)}
    assert harder.fingerprint != usual.fingerprint


def test_a_claim_may_need_more_train_problems_than_the_world_has() -> None:
    usual, more = UNDERFIT.load(0), UNDERFIT.load(0, train=512)
    assert (len(usual.train), len(more.train)) == (UNDERFIT.train, 512)
    assert (len(more.dev), len(more.test)) == (UNDERFIT.dev, UNDERFIT.test)
    assert not {p.id for p in more.train} & {p.id for p in (*more.dev, *more.test)}
    assert len(UNDERFIT.load(0, train=512, generalization=True).train) == 512


def test_the_underfit_worlds_harder_problems_are_of_the_next_level() -> None:
    task = UNDERFIT.load(1, generalization=True)
    assert {p.meta["level"] for p in task.train} == {p.meta["level"] for p in task.dev} == {MIDDLE}
    assert {p.meta["level"] for p in task.test} == {MIDDLE + 1}
    hidden, known = task.hidden().test[0], task.test[0]
    assert hidden.reference is HIDDEN
    assert task.verify(hidden, f"{MARK}{known.reference}").verdict is Verdict.RIGHT
    assert task.verify(hidden, f"{MARK}{known.reference}1").verdict is Verdict.WRONG


def test_harder_problems_are_judged_rightly() -> None:
    task = SMOLLM2.load(2, generalization=True)
    first = task.test[0]
    assert task.verify(first, f"Answer: {first.reference}").verdict is Verdict.RIGHT
    assert first.question.count("+") + first.question.count("-") == 2  # three terms, where train has two
    assert task.instruction == SMOLLM2.instruction


def test_a_problem_to_learn_from_is_never_tested_on() -> None:
    one, other, third = (make_problem(f"{i} + {i}", str(2 * i), {}) for i in (1, 2, 3))
    task = Task("few", [one], [other], [], verifier=Exact(), kind=Kind.NUMBER)
    harder = Task("more", [], [], [one, other, third], verifier=Exact(), kind=Kind.NUMBER)
    assert task.tested_on(harder).test == (third,)


def test_a_world_without_harder_problems_says_so() -> None:
    with pytest.raises(BadInput, match="no harder problems"):
        replace(UNDERFIT, generalization="").load(0, generalization=True)


def test_a_claim_may_train_and_test_on_hard_problems_where_the_world_has_some() -> None:
    tiny = replace(worlds()["tiny"], train=4, dev=4, test=4)
    usual, hard = tiny.load(0), tiny.load(0, variant="hard")
    levels = [{p.meta["level"] for p in (*task.train, *task.dev, *task.test)} for task in (usual, hard)]
    assert levels == [{4}, {8}]
    assert [len(split) for split in (hard.train, hard.dev, hard.test)] == [4, 4, 4]
    assert UNDERFIT.load(0, variant="hard").fingerprint == UNDERFIT.load(0).fingerprint  # it has none


def test_the_checkable_problems_are_those_of_the_calibrations_check_of_judges() -> None:
    """The family on which the starting model's judgments select right answers; see check 17."""
    task = replace(worlds()["tiny"], train=4, dev=4, test=4).load(0, variant="checkable")
    assert {p.meta["family"] for p in (*task.train, *task.dev, *task.test)} == {"equation"}
    assert "family=equation" in plan_of(synthetic_worlds()["tiny"]).checkable
