"""A reference that moves with the policy, and batches drawn until their outcomes are mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from learn_models import make_policy
from test_online import HOW, PROBLEMS, make_run, steps_of

from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.learn.objectives import grpo
from selftaught.learn.online.config import OnlineConfig
from selftaught.learn.online.rollouts import CreditAssignment

MANY: dict[str, Any] = {"steps": 3, "samples": 8, **HOW}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("base"), spread=0.1)


def kl_by_step(folder: Path, base: Any, **how: Any) -> list[float]:
    with make_run(folder, base) as run:
        run.learn_online(run.base, run.task.train, objective=grpo(kl_coef=0.01), **MANY, **how)
        return [facts["kl"]["1"] for facts in steps_of(run)]


def test_a_moving_reference_follows_the_policy(base, tmp_path):
    fixed = kl_by_step(tmp_path / "fixed", base)
    at_once = kl_by_step(tmp_path / "at once", base, reference_decay=0.0)
    half = kl_by_step(tmp_path / "half", base, reference_decay=0.5)
    assert fixed[0] == pytest.approx(0, abs=1e-6)
    assert at_once == pytest.approx([0, 0, 0], abs=1e-6)  # the reference is the policy that sampled
    assert min(fixed[1:]) > 1e-4
    assert 1e-6 < half[1] < fixed[1]


def test_killed_in_a_step_a_moving_reference_resumes_where_it_was(base, tmp_path, monkeypatch):
    from selftaught.learn.online.trainer import OnlineTrainer

    whole = kl_by_step(tmp_path / "whole", base, reference_decay=0.5)
    plain = OnlineTrainer._train_step

    def killed(self: Any, trainer: Any, reference: Any, step: int, rolled: Any) -> None:
        if step == 2:
            raise KeyboardInterrupt
        plain(self, trainer, reference, step, rolled)

    monkeypatch.setattr(OnlineTrainer, "_train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        kl_by_step(tmp_path / "cut", base, reference_decay=0.5)
    monkeypatch.undo()
    assert kl_by_step(tmp_path / "cut", base, reference_decay=0.5) == pytest.approx(whole, abs=1e-9)


def test_more_batches_are_drawn_until_one_has_mixed_outcomes(base, tmp_path):
    counts = {}
    for most in (1, 4):
        with make_run(tmp_path / str(most), base) as run:
            how = {**MANY, "samples": 2}  # two answers often agree
            run.learn_online(run.base, run.task.train, max_gen_batches=most, **how)
            told = steps_of(run)
            spent = run.ledger.usage
            counts[most] = [(f["rollouts"] // 2, f["rollouts"] // 2 - f["skipped"], len(f["attempts"])) for f in told]
        with make_run(tmp_path / str(most), base) as run:
            run.learn_online(run.base, run.task.train, max_gen_batches=most, **how)
            assert run.ledger.usage == spent
            assert run.engine.busy_seconds == 0
    assert all(drawn == 2 for drawn, _, _ in counts[1])
    assert any(kept < 2 for _, kept, _ in counts[1])
    assert any(drawn > 2 for drawn, _, _ in counts[4])
    assert sum(kept for _, kept, _ in counts[4]) > sum(kept for _, kept, _ in counts[1])
    assert all(kept <= 2 and used == 2 * kept for _, kept, used in counts[4])
    assert all(kept == 2 or drawn == 8 for drawn, kept, _ in counts[4])


def test_draws_of_a_step_take_problems_in_turn():
    plan = OnlineConfig(grpo(), TrainConfig(batch_size=2), 3, 4, CreditAssignment(), 2.0, "named", 0, max_gen_batches=2)
    asked = [p.id for step in range(3) for draw in range(2) for p in plan.problems_of(PROBLEMS, step, draw)]
    assert all(asked.count(problem.id) == 3 for problem in PROBLEMS)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"max_gen_batches": 0}, "max_gen_batches must be at least 1, got 0"),
        ({"reference_decay": 1.5}, "reference_decay must be 0 to 1, got 1.5"),
        ({"reference_decay": 0.9, "lora_rank": 4}, "a moving reference averages the trained weights"),
    ],
)
def test_bad_settings_are_one_line(base, tmp_path, how, message):
    with make_run(tmp_path, base) as run, pytest.raises(BadInput, match=message) as caught:
        run.learn_online(run.base, run.task.train, **MANY, **how)
    assert "\n" not in str(caught.value)
