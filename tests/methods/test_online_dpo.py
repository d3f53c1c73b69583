"""Online DPO: whose answers are paired in each round, against which reference, and how many pairs are learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_world import Objectives
from search_world import by_steps
from selftaught.engines import ScriptedEngine
from selftaught.learn.objectives.preference import Dpo
from selftaught.method import find
from selftaught.run.settings import Settings
from selftaught.testing import make_run, make_task


def played(folder: Path, **options: Any) -> tuple[Objectives, list[str]]:
    """What a small run learned, and who sampled in each round."""
    learner, task = Objectives(), make_task(train=10, dev=4, test=2)
    with make_run(folder, engine=ScriptedEngine(by_steps()), task=task, learner=learner, settings=Settings()) as run:
        find("online-dpo")(run, run.base, run.task, **{"rounds": 3, "problems": 5, **options})
        dev = {problem.id for problem in task.dev}
        train = [p for _, _, p, _ in run.journal.effects("sample") if p["problem"] not in dev]
    return learner, list(dict.fromkeys(payload["policy"] for payload in train))


def test_each_round_pairs_answers_of_the_last_policy_against_the_fixed_reference(tmp_path: Path) -> None:
    learner, actors = played(tmp_path)
    assert [base.version for base, _ in learner.given] == actors
    assert len(set(actors)) == 3
    for objective, settings in zip(learner.objectives, learner.settings, strict=True):
        assert type(objective) is Dpo
        assert (objective.reference, objective.beta) == (learner.given[0][0], 0.1)
        assert (settings.learning_rate, settings.epochs) == (pytest.approx(5e-7), 1)
    prompts = [{pair.prompt[0].content for pair in pairs} for _, pairs in learner.given]
    assert not prompts[0] & prompts[1]  # other problems in every round, until all had their turn
    for _, pairs in learner.given:
        assert pairs
        assert all("wrong" in pair.rejected and "wrong" not in pair.chosen for pair in pairs)
        assert all(pair.label_smoothing == 0 for pair in pairs)
        texts = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
        assert len(set(texts)) == len(texts)


def test_no_more_pairs_than_asked_for_are_learned(tmp_path: Path) -> None:
    learner, _ = played(tmp_path, max_pairs=3, problems=10)
    assert [len(pairs) for _, pairs in learner.given] == [3, 3, 3]
