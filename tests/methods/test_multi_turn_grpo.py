"""Multi-turn GRPO: its exact flow in the toy environment, its claim's baseline, and a small model in an episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from playing_world import WAY, next_on_the_way, rooms_task, walker
from selftaught.console import Console
from selftaught.engines import Request
from selftaught.engines.base import Sampling
from selftaught.engines.scripted import Script
from selftaught.journal import JournalReader
from selftaught.learn import TrainConfig
from selftaught.method import find
from selftaught.models import Policy
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import load_task, with_retries
from selftaught.testing import Learner, make_run
from selftaught.testing.sums import depth

METHOD = find("multi-turn-grpo")
EARNS = {"take key": 0.5, "open door": 1.0, "go west": -0.25}


def played(folder: Path, learner: Learner, script: Script = walker, **options: Any) -> Run:
    settings = Settings(training=TrainConfig(epochs=1, batch_size=2))
    with make_run(folder, script=script, task=rooms_task(), settings=settings, learner=learner) as run:
        METHOD(run, run.base, run.task, **{"rounds": 2, "steps": 2, "samples": 4, **options})
    return run


def returns(rewards: list[float], discount: float) -> list[float]:
    """The return to go of each turn, by its definition."""
    return [sum(discount ** (k - t) * rewards[k] for k in range(t, len(rewards))) for t in range(len(rewards))]


def test_each_turn_is_credited_with_its_return_among_those_at_the_same_turn(tmp_path: Path) -> None:
    learner = Learner()
    run = played(tmp_path, learner, discount=0.9, rounds=1, steps=1)
    ((base, credited),) = learner.given
    assert base.version == "base-model"
    reader = make_run(tmp_path, script=walker, task=rooms_task(), settings=run.settings)
    with reader:
        samples = {key: payload for key, _, payload, _ in reader.journal.effects("sample")}
        steps = {payload["text"]: payload for _, _, payload, _ in reader.journal.effects("env") if "turn" in payload}
    own = {one.attempt.id: one for one in credited}
    # put the episodes together from parents alone, and compute the advantages by hand
    parents = {payload["parent"] for payload in samples.values()}
    live = {samples[key]["policy"] for key in own}
    last = [key for key, payload in samples.items() if payload["policy"] in live and key not in parents]
    episodes = []
    for key in last:
        chain = []
        while key:
            chain.append(key)
            key = samples[key]["parent"]
        episodes.append(chain[::-1])
    places: dict[tuple[str, int], list[tuple[str, float]]] = {}
    for chain in episodes:
        rewards = [EARNS.get(samples[key]["text"], 0.0) for key in chain]
        for place, (key, value) in enumerate(zip(chain, returns(rewards, 0.9), strict=True)):
            places.setdefault((samples[key]["problem"], place), []).append((key, value))
    checked = 0
    for group in places.values():
        if len(group) < 2 or not all(key in own for key, _ in group):
            continue
        values = [value for _, value in group]
        mean = sum(values) / len(values)
        deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
        for key, value in group:
            assert list(set(own[key].advantages)) == pytest.approx([(value - mean) / (deviation + 1e-4)])
            checked += 1
    assert checked == len(own) > 8
    assert {"take key", "open door"} <= set(steps)


def test_with_credit_by_episode_every_turn_of_an_episode_has_one_advantage(tmp_path: Path) -> None:
    learner = Learner()
    played(tmp_path, learner, credit="episode", rounds=1, steps=1)
    ((_, credited),) = learner.given
    by_id = {one.attempt.id: one for one in credited}
    pairs = [(one, by_id[one.attempt.parent]) for one in credited if one.attempt.parent]
    assert len(pairs) > 4
    assert all(set(late.advantages) == set(early.advantages) for late, early in pairs)


def told_apart(policy: Policy, request: Request) -> str:
    """Where it is measured, the starting model bumps into walls; trained twice, it tries the door before its way."""
    if request.sampling.temperature:
        return walker(policy, request)
    if not depth(policy):
        return "go west"
    return "open door" if depth(policy) == 2 and len(request.prompt) == 1 else next_on_the_way(request)


def test_rounds_go_on_from_the_policy_before_and_are_measured_by_playing(tmp_path: Path) -> None:
    learner = Learner()
    run = played(tmp_path, learner, told_apart)
    (first, _), (second, _) = learner.given
    assert first.version == "base-model"
    assert second.base == first
    with JournalReader(run.folder) as reader:
        trained = [facts["policy"] for _, _, facts, _ in reader.effects("learn")]
        samples = {key: payload for key, _, payload, _ in reader.effects("sample")}
        steps = [payload for _, _, payload, _ in reader.effects("env") if "turn" in payload]
    assert trained[0] == second.version
    assert [(row["policy"], row["accuracy"]) for row in run.history] == [(policy, 1.0) for policy in trained]
    dev = [problem.id for problem in run.task.dev]
    for policy, actions in zip(trained, [WAY, ("open door", *WAY)], strict=True):
        own = [step for step in steps if samples[step["attempt"]]["policy"] == policy]
        episodes = {p: tuple(step["text"] for step in own if step["problem"] == p) for p in dev}
        assert episodes == dict.fromkeys(dev, actions)


def test_the_underfit_model_plays_and_learns_from_its_turns(tmp_path: Path) -> None:
    """It speaks digits: an environment says only that an answer is not right, in the model's own word for it."""
    task = with_retries(load_task("underfit:family=chain|add,level=2", train=4, dev=2, test=2, seed=3), 3)
    how = Settings(
        sampling=Sampling(max_tokens=64),
        training=TrainConfig(epochs=1, learning_rate=3e-4, batch_size=4, max_tokens_per_pass=2048, precision="float32"),
    )
    outcomes = []
    for _ in range(2):
        with Run(tmp_path, model="underfit", task=task, settings=how, console=Console(quiet=True)) as run:
            METHOD(run, run.base, run.task, rounds=1, steps=1, samples=4, lr_scale=1.0)
            (facts,) = (payload for _, _, payload, _ in run.journal.effects("online"))
            steps = [payload for _, _, payload, _ in run.journal.effects("env") if "turn" in payload]
            outcomes.append((run.journal.digest(), run.ledger.usage, run.ledger.environment_steps))
    assert outcomes[0] == outcomes[1]
    assert facts["updates"] == 1
    assert facts["tokens"] > 0
    assert {step["observation"] for step in steps} == {"revise", ""}
    assert {step["turn"] for step in steps} == {1, 2, 3}
    assert {bool(step["reward"]) for step in steps} == {True, False}
