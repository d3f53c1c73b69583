"""The last round is cut to fit a budget of compute, and compute counts what a prefix cache does not serve."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from scripted_world import Objectives
from selftaught.control import Budget, Gate
from selftaught.curate import keep_right
from selftaught.errors import BadInput
from selftaught.journal import Ledger, Usage
from selftaught.learn import TrainConfig, sft
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.records import Message
from selftaught.run.round_cut import MARGIN, RoundCut
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.testing import make_run, make_task


def train(run: Run, rounds: int) -> list[int]:
    """Rejection sampling; how many problems each round sampled."""
    sampled = []
    for _ in run.rounds(rounds):
        tried = run.attempt(run.base, run.task.train, samples=2, temperature=0.7)
        sampled.append(len({one.problem.id for one in tried}))
        run.measure(run.learn(run.base, sft(), keep_right(tried)))
    return sampled


def opened(folder: Path, budget: Budget) -> Run:
    settings = Settings(training=TrainConfig(epochs=1), gate=Gate(1.0), budget=budget)
    return make_run(folder, task=make_task(train=160), settings=settings)


def test_the_last_round_is_cut_to_fit_and_none_follows(tmp_path: Path) -> None:
    with opened(tmp_path / "whole", Budget()) as run:
        assert train(run, 2) == [160, 160]
        whole = run.ledger.compute
    limit = round(1.75 * whole)
    with opened(tmp_path / "fitted", Budget(compute=limit)) as run:
        *full, cut = train(run, 9)
        assert full == [160] * len(full)
        assert len(full) >= 2
        assert 0 < cut < 160
        assert 0.85 * limit < run.ledger.compute <= limit
        assert [end.compute for end in run.round_ends][-1] == run.ledger.compute


def test_the_first_round_is_cut_where_its_cost_is_known(tmp_path: Path) -> None:
    with opened(tmp_path / "whole", Budget()) as run:
        train(run, 1)
        cost = run.ledger.compute
    with opened(tmp_path / "cut", Budget(compute=cost // 2, round_compute=cost)) as run:
        (sampled,) = train(run, 3)
        assert 60 <= sampled <= 84
        (whole,) = run.round_ends
        assert 0 < whole.fixed < whole.compute - whole.began == run.ledger.compute
    with opened(tmp_path / "none", Budget(compute=cost // 50, round_compute=cost)) as run:
        assert train(run, 3) == []


@recipe(paper="2203.14465")
def barren(run: Run, base: Policy, task: Task, *, rounds: int = 3) -> Policy:
    """Find nothing to learn from."""
    for _ in run.rounds(rounds):
        run.attempt(base, task.train)
        run.learn(base, sft(), [])
    return run.champion


def test_a_cut_round_that_finds_nothing_to_learn_ends_the_run_and_a_whole_one_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "cut", Budget(compute=4000, round_compute=8000)) as run:
        assert barren(run, run.base, run.task) == run.base
        assert any("produced no training records; the run stops here" in note for note in run.notes)
        assert list(run.round_ends) == []
    with opened(tmp_path / "whole", Budget()) as run, pytest.raises(BadInput, match="nothing to learn from"):
        barren(run, run.base, run.task)


def test_trainings_of_a_fixed_number_of_steps_are_cut_too(tmp_path: Path) -> None:
    def train_steps(run: Run, rounds: int) -> None:
        for _ in run.rounds(rounds):
            tried = run.attempt(run.base, run.task.train, samples=2, temperature=0.7)
            run.measure(run.learn(run.base, sft(), keep_right(tried), steps=40))

    def fixed(folder: Path, budget: Budget, rounds: int) -> tuple[list[int], int]:
        learner, settings = Objectives(), Settings(gate=Gate(1.0), budget=budget)
        task = make_task(train=160)
        with make_run(folder, task=task, settings=settings, learner=learner) as run:
            train_steps(run, rounds)
            return [one.steps for one in learner.settings], run.ledger.compute

    steps, whole = fixed(tmp_path / "whole", Budget(), 2)
    assert steps == [40, 40]
    limit = round(1.3 * whole)
    steps, spent = fixed(tmp_path / "fitted", Budget(compute=limit), 9)
    assert steps[:2] == [40, 40]
    assert len(steps) == 3
    assert 0.4 * 40 < steps[2] < 0.7 * 40  # 0.6 of a round is left, less a margin and what does not shrink
    assert 0.9 * limit < spent <= limit


def test_what_does_not_shrink_is_taken_off_before_the_share_is_computed() -> None:
    ledger = Ledger()
    cut = RoundCut(Budget(compute=250), ledger)
    assert cut.begin_round()
    with cut.fixed_cost():
        ledger.count("measure", Usage(generated=40))
    ledger.count("sample", Usage(generated=60))
    cut.end_round(cast(Policy, None))
    ledger.count("between", Usage(generated=80))  # 70 are left
    assert cut.begin_round()
    assert cut.share == pytest.approx((MARGIN * 70 - 40) / 60)
    assert cut.steps(10) == 4  # 0.383 of them, rounded up
    assert cut.steps(0) == 0  # epochs count
    assert not cut.begin_round()
    known = RoundCut(Budget(compute=70, round_compute=100, round_fixed=40), Ledger())  # as a run before found it
    assert known.begin_round()
    assert known.share == pytest.approx((MARGIN * 70 - 40) / 60)


@pytest.mark.parametrize("budget", [Budget(), Budget(tokens=5)])
def test_without_a_limit_on_compute_nothing_is_cut(budget: Budget) -> None:
    cut = RoundCut(budget, Ledger())
    assert all(cut.begin_round() for _ in range(3))
    assert cut.problems(range(7)) == range(7)


def test_compute_is_what_is_read_anew_and_sampled_and_three_times_what_is_trained() -> None:
    ledger = Ledger()
    ledger.count("a", Usage(prompt=100, generated=20, judge=5, trained=10), prompt="p")
    ledger.count("b", Usage(prompt=100, generated=1), prompt="p")
    ledger.count("c", Usage(prompt=50, generated=1), prompt="q", cached=30)
    assert ledger.compute == 100 + 25 + 30 + 1 + (50 - 30) + 1


def test_a_prompt_is_read_once_however_often_it_is_sampled(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.attempt(run.base, run.task.train, samples=1, temperature=0.7)
        once, cached = run.ledger.usage, run.ledger.cached
        run.attempt(run.base, run.task.train, samples=3, temperature=0.7)
        usage, ledger = run.ledger.usage, run.ledger
    assert (cached, usage.prompt) == (0, 4 * once.prompt)
    assert ledger.cached == 3 * once.prompt
    assert ledger.compute == once.prompt + usage.generated


def test_a_second_turn_reads_only_what_is_new_of_it(tmp_path: Path) -> None:
    async def twice(ask, problem):  # type: ignore[no-untyped-def]
        draft = await ask(problem.prompt)
        turn = (*problem.prompt, Message("assistant", draft.text), Message("user", "Check it."))
        return await ask(turn, role="revise", parent=draft)

    with make_run(tmp_path) as run:
        (one,) = run.attempt(run.base, run.task.train[:1], solver=twice, temperature=0.7)
        ledger = run.ledger
        journal = [(payload, cost) for _, _, payload, cost in run.journal.effects("sample")]
    assert one.parent is not None
    (_, first), (_, second) = journal
    assert 0 < ledger.cached == first.prompt + first.generated < second.prompt
