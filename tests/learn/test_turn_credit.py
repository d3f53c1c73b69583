"""Credit by turn in closed form, and each token credited to its speaker alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playing_world import WAY, next_on_the_way, rooms_task
from scripted_world import judged, with_facts
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.learn.objectives import grpo, reinforce
from selftaught.learn.online.config import OnlineConfig
from selftaught.learn.online.rollouts import CreditAssignment, Rollout, broadcast_advantage
from selftaught.learn.online.rows import learned_groups, records_of
from selftaught.learn.online.turn_credit import TurnCredit, credit_by_episode, credit_by_turn
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, TokenAdvantages, Verdict, make_problem
from selftaught.refine import answered
from selftaught.run.ask import Ask
from selftaught.run.settings import Settings
from selftaught.testing import Learner, make_run

HOUSE = make_problem("Find the door.")
R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def rollout(name: str, rewards: tuple[float | None, ...], verdict: Verdict = R, speakers: str = "") -> Rollout:
    """A rollout of a turn per reward; `speakers` names who wrote each, "m" is the policy in training."""
    who = speakers or "m" * len(rewards)
    turns = [with_facts(judged(HOUSE, str(i), name=f"{name}{i}"), policy=who[i]) for i in range(len(rewards))]
    turns[-1] = replace(turns[-1], feedback=judged(HOUSE, "", verdict).feedback)
    return Rollout(turns[-1], tuple(turns), "m", rewards)


def by_turn(made: Any) -> dict[str, float]:
    """Advantage by attempt; every token of one has the same."""
    found = {one.attempt.id: set(one.advantages) for one in made}
    assert all(len(one.advantages) == len(one.attempt.token_ids) for one in made)
    return {name: value for name, values in found.items() for value in values}


def plan(credit: CreditAssignment, objective: Any = None) -> OnlineConfig:
    return OnlineConfig(objective or grpo(), TrainConfig(), 1, 2, credit, 2.0, "", 0)


# --- returns ---


def test_a_turn_returns_what_comes_from_it_on_discounted() -> None:
    one = rollout("a", (0.0, 0.5, None, 1.0))
    assert TurnCredit(discount=1.0).returns(one) == [1.5, 1.5, 1.0, 1.0]
    assert TurnCredit(discount=0.5).returns(one) == [0.5 * (0.5 + 0.5 * 0.5), 0.5 + 0.25, 0.5, 1.0]
    assert TurnCredit(discount=0.0).returns(one) == [0.0, 0.5, 0.0, 1.0]


def test_turns_are_compared_at_the_same_place() -> None:
    group = [rollout("a", (0.5, 1.0)), rollout("b", (0.0, -0.25, 1.0)), rollout("c", (-0.25, 0.0, 0.0, 0.0), W)]
    found = by_turn(TurnCredit(1.0, "group_mean")(group))
    # returns to go: a 1.5 1; b .75 .75 1; c -.25 0 0 0
    mean = [2 / 3, 1.75 / 3, 0.5]
    assert found == pytest.approx({
        "a0": 1.5 - mean[0], "b0": 0.75 - mean[0], "c0": -0.25 - mean[0],
        "a1": 1.0 - mean[1], "b1": 0.75 - mean[1], "c1": 0.0 - mean[1],
        "b2": 0.5, "c2": -0.5,
    })  # fmt: skip
    assert "c3" not in found  # nothing to compare it with
    deviation = math.sqrt(sum((x - mean[0]) ** 2 for x in (1.5, 0.75, -0.25)) / 2)
    standard = by_turn(TurnCredit(1.0, "group_std")(group))
    assert standard["a0"] == pytest.approx((1.5 - mean[0]) / (deviation + 1e-4))
    assert by_turn(TurnCredit(1.0, "none")(group))["c3"] == 0.0


def test_with_one_reward_at_the_end_and_equal_lengths_it_is_the_advantage_of_the_episode() -> None:
    group = [rollout(name, (0.0, 0.0, reward), R if reward else W) for name, reward in (("a", 1.0), ("b", 0.0))]
    whole = by_turn(broadcast_advantage("group_std", credit_by_episode().reward)(group))
    assert by_turn(TurnCredit()(group)) == pytest.approx(whole)


def test_an_episode_that_the_environment_broke_is_left_out() -> None:
    group = [rollout("a", (1.0,)), rollout("b", (0.0,), W), rollout("c", (5.0,), U)]
    assert set(by_turn(TurnCredit()(group))) == {"a0", "b0"}
    assert credit_by_episode().reward(group[2]) is None


def test_groups_of_equal_rewards_teach_nothing() -> None:
    credit = credit_by_turn()
    same = [rollout("a", (0.5, 1.0)), rollout("b", (0.5, 1.0))]
    other = [rollout("a", (0.5, 1.0)), rollout("b", (1.0, 0.5))]
    assert learned_groups([same, other], plan(credit)) == [other]
    assert learned_groups([same, other], plan(credit_by_episode())) == []


def test_credit_has_an_identity_and_refuses_an_unknown_estimator() -> None:
    assert len({TurnCredit().id, TurnCredit(0.5).id, TurnCredit(1.0, "none").id}) == 3
    with pytest.raises(BadInput, match="unknown 'median'"):
        credit_by_turn(estimator="median")  # pyright: ignore[reportArgumentType]


# --- speakers ---


def test_in_a_dialogue_only_the_turns_of_the_policy_in_training_are_credited() -> None:
    group = [rollout("a", (None, 0.0, None, 1.0), R, "mxmx"), rollout("b", (None, 0.0, None, 0.0), W, "mxmx")]
    own = {"a0", "a2", "b0", "b2"}
    for credit in (CreditAssignment(), credit_by_turn(), credit_by_episode()):
        assert set(by_turn(records_of(group, plan(credit)))) == own
    assert by_turn(TurnCredit(1.0, "group_mean")(group)) == {"a0": 0.5, "a2": 0.5, "b0": -0.5, "b2": -0.5}


def test_credit_that_a_method_makes_of_another_speakers_turn_is_dropped() -> None:
    def careless(rollouts: Any) -> list[TokenAdvantages]:
        return [TokenAdvantages(turn, (1.0,) * len(turn.token_ids)) for one in rollouts for turn in one.turns]

    group = [rollout("a", (0.0, 1.0), R, "xm")]
    assert set(by_turn(records_of(group, plan(CreditAssignment(advantages=careless))))) == {"a1"}


def test_an_answer_of_another_policy_alone_is_not_learned() -> None:
    group = [rollout("a", (1.0,), R, "x"), rollout("b", (0.0,), W, "x"), rollout("c", (0.0,), W, "m")]
    (record,) = records_of(group, plan(CreditAssignment(), reinforce()))
    assert record.attempts == ("c0",)
    assert learned_groups([group], plan(CreditAssignment())) == []


def test_a_partner_without_token_ids_does_not_spoil_the_rollout() -> None:
    one, two = rollout("a", (None, 1.0), R, "xm"), rollout("b", (None, 0.0), W, "xm")
    group = [
        replace(each, turns=(with_facts(each.turns[0], token_ids=(), logprobs=(), num_tokens=3), each.turns[1]))
        for each in (one, two)
    ]
    assert learned_groups([group], plan(CreditAssignment())) == [group]


def test_two_policies_play_one_episode_and_each_token_is_credited_to_its_speaker(tmp_path: Path) -> None:
    """The partner, another policy, makes every second move; online learning credits none of its tokens."""
    partner = Policy("partner", tmp_path)

    def script(policy: Policy, request: Any) -> str:
        lost = policy.version != "partner" and request.seed % 3 == 0
        return "go west" if lost else next_on_the_way(request)

    async def together(ask: Ask, problem: Problem) -> Attempt:
        attempt, seen, turn = await ask(problem.prompt), None, 0
        while not (seen := await ask.act(attempt, seen)).done:
            turn += 1
            who = partner if turn % 2 else None
            attempt = await ask(answered(attempt, seen.text), policy=who, parent=attempt)
        return attempt

    learner = Learner()
    settings = Settings(training=TrainConfig(epochs=1, batch_size=2))
    with make_run(tmp_path, script=script, task=rooms_task(), settings=settings, learner=learner) as run:
        run.learn_online(run.base, run.task.train, solver=together, credit=credit_by_turn(), steps=2, samples=4)
        samples = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
    ((_, credited),) = learner.given
    spoken = {samples[one.attempt.id]["policy"] for one in credited}
    assert credited
    assert any(payload["policy"] == "partner" for payload in samples.values())
    assert "partner" not in spoken
    assert {one.attempt.text for one in credited} <= {*WAY, "go west"}
    assert any(one.advantages[0] > 0 for one in credited)
    assert any(one.advantages[0] < 0 for one in credited)
