"""GRPO: whose answers are rewarded in each round, against which reference, by which loss; and a step on a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_world import Objectives
from selftaught.console import Console
from selftaught.engines.base import Sampling
from selftaught.learn import TrainConfig
from selftaught.method import find
from selftaught.records import RolloutGroup
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import load_task
from selftaught.testing import make_run, make_task, solve_sum

GRPO = find("grpo")


def half_right(policy: Any, request: Any) -> str:
    return solve_sum(policy, request, least=0.5, most=0.5)


def played(folder: Path, **options: Any) -> tuple[Objectives, list[dict[str, Any]], list[dict[str, Any]]]:
    """What a small run learned, its rollout steps and its rounds."""
    learner, task = Objectives(), make_task(train=12, dev=4, test=2)
    small = {"rounds": 2, "steps": 3, "batch_size": 2, "samples": 6}
    with make_run(folder, script=half_right, task=task, learner=learner, settings=Settings()) as run:
        GRPO(run, run.base, run.task, **{**small, **options})
        return learner, [facts for _, _, facts, _ in run.journal.effects("online")], list(run.history)


def test_each_round_goes_on_from_the_last_with_other_problems(tmp_path: Path) -> None:
    learner, steps, rounds = played(tmp_path)
    (first, early), (second, late) = learner.given
    assert first.version == "base-model"
    assert second.base == first
    assert [facts["step"] for facts in steps] == [1, 2, 3] * 2
    assert [row["policy"] for row in rounds] == [second.version, rounds[1]["policy"]]
    asked = [{group.prompt for group in groups} for groups in (early, late)]
    assert not asked[0] & asked[1]
    for group in (*early, *late):
        assert isinstance(group, RolloutGroup)
        assert len(group.samples) == 6
        assert group.rewards == tuple(float(one.right) for one in group.samples)
        assert 0 < sum(group.rewards) < 6
    for settings in learner.settings:
        assert (settings.batch_size, settings.epochs, settings.schedule) == (2, 1, "constant")
        assert settings.learning_rate == pytest.approx(1e-6)
        assert settings.keep_optimizer_state


def test_its_loss_is_the_papers_and_the_reference_the_starting_model(tmp_path: Path) -> None:
    learner, *_ = played(tmp_path)
    for objective in learner.objectives:
        assert objective.name == "grpo"
        assert (objective.advantage, objective.loss_aggregation) == ("group_std", "seq-mean-token-mean")
        assert (objective.clip_low, objective.clip_high, objective.kl_coef) == (0.2, 0.2, 0.04)
        assert (objective.importance_level, objective.kl_importance_weighted) == ("token", False)
        assert objective.reference == learner.given[0][0]


def test_its_variants_are_options(tmp_path: Path) -> None:
    how: dict[str, Any] = {"advantage": "group_mean", "loss_aggregation": "seq-mean-token-sum-norm", "clip_high": 0.28}
    learner, *_ = played(tmp_path / "dr", **how, reference="round", rounds=1)
    (objective,) = learner.objectives
    assert (objective.advantage, objective.max_tokens, objective.clip_high) == ("group_mean", 256, 0.28)
    assert objective.reference is None  # where the round starts


def test_more_batches_are_drawn_where_results_agree(tmp_path: Path) -> None:
    counts = []
    for most in (1, 9):
        _, steps, _ = played(tmp_path / str(most), samples=2, max_gen_batches=most, rounds=1, steps=4)
        counts.append([len(facts["attempts"]) for facts in steps])
    plain, drawn = counts  # of answers learned from, of two problems with two answers each
    assert sum(plain) < sum(drawn) == 4 * 4


@pytest.mark.parametrize(("reference", "stays"), [("start", True), ("round", True), ("average", False)])
def test_it_trains_the_underfit_model(tmp_path: Path, reference: str, stays: bool) -> None:
    """An average of which nothing stays is the policy that samples: it alone has no distance from its reference."""
    task = load_task("underfit:family=chain|add,level=2", train=4, dev=2, test=2, seed=3)
    how = Settings(
        sampling=Sampling(max_tokens=64),
        training=TrainConfig(epochs=1, learning_rate=3e-4, max_tokens_per_pass=2048, precision="float32"),
    )
    with Run(tmp_path, model="underfit", task=task, settings=how, console=Console(quiet=True)) as run:
        small = {"rounds": 1, "steps": 2, "batch_size": 4, "samples": 6, "lr_scale": 1.0}
        GRPO(run, run.base, run.task, **small, reference=reference, reference_decay=0.0)
        steps = [facts for _, _, facts, _ in run.journal.effects("online")]
        (row,) = run.history
    assert all(facts["updates"] == 1 for facts in steps)
    first, second = (facts["kl"]["1"] for facts in steps)
    assert first == pytest.approx(0, abs=1e-5)
    assert second > 1e-4 if stays else second == pytest.approx(0, abs=1e-5)
    assert row["policy"] != run.base.version
