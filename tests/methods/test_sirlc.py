"""SIRLC: what is rewarded is the model's own word, never a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selftaught.console import Console
from selftaught.engines import Request, Sampling
from selftaught.engines.scripted import ScriptedEngine
from selftaught.errors import BadInput
from selftaught.journal import JournalReader
from selftaught.learn import TrainConfig
from selftaught.methods.improve.rl.sirlc import sirlc
from selftaught.models import Policy
from selftaught.refine.turns import JUDGE
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import load_task
from selftaught.testing import make_run
from selftaught.testing.sums import Inverted, Learner, make_task, solve_or_judge


def script(policy: Policy, request: Request) -> str:
    return solve_or_judge(policy, request, least=0.5)


def played(folder: Path, verifier: Any = None, **options: Any) -> Learner:
    learner = Learner()
    task = make_task(train=4, dev=3, test=1, verifier=verifier)
    with make_run(folder, task=task, engine=ScriptedEngine(script), learner=learner) as run:
        sirlc(run, run.base, run.task, rounds=1, steps=2, samples=4, **options)
    return learner


def test_an_answer_s_reward_is_whether_the_model_calls_it_right(tmp_path: Path) -> None:
    learner = played(tmp_path / "sound")
    records = [record for _, records in learner.given for record in records]
    with make_run(tmp_path / "sound", task=make_task(train=4, dev=3, test=1), engine=ScriptedEngine(script)) as run:
        judgments = {p["attempts"][0]: p["feedback"][0] for _, _, p, _ in run.journal.effects("judgment")}
        asked = [p for _, _, p, _ in run.journal.effects("sample") if p["role"] == "judge"]
        assert {p["policy"] for p in asked} == {run.base.version}
        assert {p["sampling"]["temperature"] for p in asked} == {0.0}
    assert records
    for record in records:
        assert set(record.rewards) == {0.0, 1.0}  # others teach nothing
        for attempt, reward in zip(record.samples, record.rewards, strict=True):
            assert judgments[attempt.id][:2] == [{1.0: "right", 0.0: "wrong"}[reward], reward]
            assert attempt.task_feedback is None
    other = played(tmp_path / "inverted", Inverted())
    assert [r.rewards for _, rs in other.given for r in rs] == [r.rewards for r in records]


@pytest.mark.parametrize("frozen", [True, False])
def test_it_judges_with_the_starting_model_or_if_asked_with_the_policy_in_training(
    tmp_path: Path, frozen: bool
) -> None:
    assert played(tmp_path, frozen_judge=frozen).given
    with JournalReader(tmp_path / "run") as reader:
        samples = {key: payload for key, _, payload, _ in reader.effects("sample")}
        live = {facts["live"] for _, _, facts, _ in reader.effects("online")}
        (trained,) = (facts["policy"] for _, _, facts, _ in reader.effects("learn"))
    judged = [(samples[p["parent"]]["policy"], p["policy"]) for p in samples.values() if p["role"] == "judge"]
    assert len(live) == 2
    assert {answered for answered, _ in judged} == {*live, trained}  # at train problems, and at last on dev
    assert {judge for _, judge in judged} == ({"base-model"} if frozen else {*live, trained})
    assert frozen or all(answered == judge for answered, judge in judged)


def test_another_judge_rewards_if_asked(tmp_path: Path) -> None:
    learner = played(tmp_path / "rubric", judge="rubric")
    rewards = {reward for _, records in learner.given for record in records for reward in record.rewards}
    assert len(rewards) > 1
    assert all(0.19 < reward < 0.81 for reward in rewards)  # from 1 to 4 points of 5
    with pytest.raises(BadInput, match="star: it is a recipe, not a judge"):
        played(tmp_path / "no", judge="star")


def test_the_question_is_worded_as_the_task_s_model_knows_it(tmp_path: Path) -> None:
    task = load_task("underfit:family=chain|add,level=1", train=8, dev=4, test=2, seed=3)
    settings = Settings(
        sampling=Sampling(max_tokens=64),
        training=TrainConfig(batch_size=4, learning_rate=3e-4, max_tokens_per_pass=2048),
    )
    with Run(tmp_path, model="underfit", task=task, settings=settings, console=Console(quiet=True)) as run:
        sirlc(run, run.base, run.task, rounds=1, steps=2, samples=6, lr_scale=1.0)
        (row,) = run.history
        said = [p["text"] for _, _, p, _ in run.journal.effects("sample") if p["role"] == "judge"]
        steps = [facts for _, _, facts, _ in run.journal.effects("online")]
    assert sum(word in ("right", "wrong") for word in said) >= 0.9 * len(said) > 0
    grade = row["metrics"]["grade on dev"]
    assert 0 <= grade["low"] <= grade["mean"] <= grade["high"] <= 1
    assert all(0 <= facts["reward"] <= 1 for facts in steps)
    assert any(facts["tokens"] > 0 for facts in steps)
    assert JUDGE not in said
