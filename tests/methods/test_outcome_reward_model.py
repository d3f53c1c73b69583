"""Outcome reward model: what it labels, learns and measures, on scripted answers."""

from __future__ import annotations

from pathlib import Path

from scripted_world import Objectives
from selftaught.learn.objectives import orm
from selftaught.method import find
from selftaught.records import Label
from selftaught.testing import make_run


def test_every_judged_solution_is_labeled_and_the_policy_is_measured_through_its_choice(tmp_path: Path) -> None:
    learner = Objectives()
    with make_run(tmp_path, learner=learner) as run:
        champion = find("outcome-reward-model")(run, run.base, run.task, rounds=2, samples=3, candidates=4, lm_coef=0.5)
        samples = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
        read = [payload for _, _, payload, _ in run.journal.effects("score")]
        history = list(run.history)
        answers = {p.prompt: p.reference for p in run.task.train}
        decisions = list(run.gate_decisions)
        assert run.ledger.usage == run.journal.usage()
    assert learner.objectives == [orm(0.5)] * 2
    for (base, labels), writer in zip(learner.given, ("base-model", _champion_after(decisions, 1)), strict=True):
        assert base.version == "base-model"
        assert len(labels) == 3 * len(answers)
        for label in labels:
            assert isinstance(label, Label)
            (ident,) = label.attempts
            assert samples[ident]["text"] == label.response
            assert samples[ident]["policy"] == writer
            assert label.good == label.response.endswith(f"Answer: {answers[label.prompt]}")
    assert all(0 <= row["metrics"]["reward model"]["train AUROC"] <= 1 for row in history)
    policies = [row["policy"] for row in history]
    assert {payload["policy"] for payload in read} == set(policies)
    assert champion.version == _champion_after(decisions, 2)
    hot = [p for p in samples.values() if p["policy"] == policies[0] and p["problem"] not in _train(samples, learner)]
    assert len(hot) == 4 * len({p["problem"] for p in hot})  # four candidates for each dev problem


def _champion_after(decisions: list[dict], round: int) -> str:
    promoted = [one["policy"] for one in decisions if one["promoted"] and one["round"] <= round]
    return ["base-model", *promoted][-1]


def _train(samples: dict, learner: Objectives) -> set[str]:
    return {samples[label.attempts[0]]["problem"] for _, labels in learner.given for label in labels}
