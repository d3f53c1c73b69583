"""SCoRe: the credit of its two stages in closed form, its rollouts on scripted answers, and a real step."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripted_world import Objectives, judged, two_rounds
from selftaught.check.baselines import greedy, run_system
from selftaught.console import Console
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.learn.objectives import reinforce
from selftaught.learn.online.config import OnlineConfig
from selftaught.learn.online.rollouts import Rollout
from selftaught.learn.online.rows import learned_groups
from selftaught.learn.online.two_turn_credit import TwoTurnReward
from selftaught.measure.flips import correction_metrics, flip_rates, turn_verdicts
from selftaught.method import find
from selftaught.records import Verdict, make_problem
from selftaught.refine.turns import SELF_CORRECT
from selftaught.routines.self_correction import start_change_rate, start_fix_rate, start_fix_surplus, start_flip_rates
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.run.solver import SolverResult
from selftaught.tasks import load_task
from selftaught.testing import Learner, make_run, make_task
from talking_world import twice

SCORE = find("score")
R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN
SUM = make_problem("What is 1 + 1?", "2")


def rollout(first: Verdict, second: Verdict, name: str) -> Rollout:
    draft = judged(SUM, "2" if first is R else "3", first, name=f"{name}1")
    last = replace(judged(SUM, "2" if second is R else "3", second, name=f"{name}2"), parent=draft.id, role="revise")
    return Rollout(last, (draft, last))


ALL_FOUR = [rollout(W, R, "mends"), rollout(R, W, "spoils"), rollout(R, R, "keeps"), rollout(W, W, "fails")]
NAMES = ("mends", "spoils", "keeps", "fails")


def gains(stage: TwoTurnReward, rollouts: list[Rollout]) -> dict[str, float]:
    """Advantage by attempt; every token of one has the same."""
    made = {credit.attempt.id: set(credit.advantages) for credit in stage(rollouts)}
    return {name: value for name, values in made.items() for value in values}


# --- credit ---


def test_the_bonus_pays_for_mending_and_charges_for_spoiling() -> None:
    found = gains(TwoTurnReward(1.0, 10.0, (0.01, 0.01)), ALL_FOUR)
    # r2 + 10 (r2 - r1) is 11, -10, 1, 0, of mean 0.5; r1 is 0, 1, 1, 0
    second = {"mends2": 10.5, "spoils2": -10.5, "keeps2": 0.5, "fails2": -0.5}
    assert found == second | {"mends1": -0.5, "spoils1": 0.5, "keeps1": 0.5, "fails1": -0.5}
    plain = gains(TwoTurnReward(1.0, 0.0, (0.01, 0.01)), ALL_FOUR)
    assert {name: gain for name, gain in plain.items() if name.endswith("2")} == {
        "mends2": 0.5, "spoils2": -0.5, "keeps2": 0.5, "fails2": -0.5,
    }  # fmt: skip


def test_stage_one_rewards_the_second_answer_alone_and_pins_the_first() -> None:
    stage = TwoTurnReward(0.0, 0.0, (0.11, 0.01))
    found = gains(stage, ALL_FOUR)
    assert {found[f"{name}1"] for name in ("mends", "spoils", "keeps", "fails")} == {0.0}
    assert [found[f"{name}2"] for name in ("mends", "spoils", "keeps", "fails")] == [0.5, -0.5, 0.5, -0.5]
    assert {(c.attempt.id[-1], c.kl_coef) for c in stage(ALL_FOUR)} == {("1", 0.11), ("2", 0.01)}


def test_what_cannot_be_judged_is_left_out_and_a_draft_is_not_learnt() -> None:
    stage = TwoTurnReward(1.0, 10.0, (0.01, 0.01))
    assert stage([rollout(U, R, "a"), rollout(R, U, "b")]) == []
    mends, fails = ALL_FOUR[0], ALL_FOUR[3]
    drafts = {one.turns[0].id: one.turns[0] for one in (mends, fails)}
    later = [Rollout(one.attempt, (one.attempt,)) for one in (mends, fails)]  # the draft was not sampled in them
    stage = replace(stage, offline_drafts=drafts)
    assert gains(stage, later) == {"mends2": 5.5, "fails2": -5.5}
    assert [stage.verdicts(one) for one in later] == [[W, R], [W, W]]


def test_standardized_second_answers_weigh_as_much_as_first_ones_whatever_the_bonus() -> None:
    for bonus in (0.0, 3.0, 10.0):
        found = gains(TwoTurnReward(1.0, bonus, (0.01, 0.01), second_advantage="group_std"), ALL_FOUR)
        rewards = np.array([1 + bonus, -bonus, 1, 0])
        wanted = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        assert [found[f"{name}2"] for name in NAMES] == pytest.approx(wanted.tolist())
        assert [found[f"{name}1"] for name in NAMES] == [-0.5, 0.5, 0.5, -0.5]  # as without
    with pytest.raises(BadInput, match="second_advantage: unknown 'std'"):
        TwoTurnReward(1.0, 1.0, (0.0, 0.0), second_advantage="std")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("verdicts", [(R, R), (W, W), (W, R), (R, W)])
def test_rollouts_that_agree_are_anchored_and_not_reinforced(verdicts: tuple[Verdict, Verdict]) -> None:
    alike = [rollout(*verdicts, name) for name in ("a", "b", "c")]
    for second in ("group_mean", "group_std"):
        stage = TwoTurnReward(1.0, 10.0, (0.11, 0.01), second_advantage=second)
        assert set(gains(stage, alike).values()) == {0.0}
        assert {(c.attempt.id[-1], c.kl_coef) for c in stage(alike)} == {("1", 0.11), ("2", 0.01)}
        plan = OnlineConfig(reinforce(), TrainConfig(), 1, 3, stage.credit_assignment, 2.0, "", 0)
        assert learned_groups([alike, ALL_FOUR], plan) == [alike, ALL_FOUR]


def test_other_stages_have_other_names() -> None:
    stages = [
        TwoTurnReward(0.0, 0.0, (0.1, 0.0)),
        TwoTurnReward(1.0, 0.0, (0.1, 0.0)),
        TwoTurnReward(1.0, 1.0, (0.1, 0.0)),
        TwoTurnReward(1.0, 1.0, (0.1, 0.0), second_advantage="group_std"),
    ]
    assert len({stage.id for stage in stages}) == 4


def test_what_the_second_answer_made_of_the_first_is_counted() -> None:
    groups = [*ALL_FOUR, rollout(W, R, "again"), rollout(U, R, "none")]
    found = correction_metrics([turn_verdicts(SolverResult(one.attempt, 4, one.turns)) for one in groups])
    assert found == pytest.approx({
        "first": 2 / 6, "second": 4 / 6, "delta": 2 / 6, "wrong to right": 3 / 6, "right to wrong": 1 / 6,
        "unchanged": 2 / 6,
    })  # fmt: skip
    assert set(correction_metrics([]).values()) == {0.0}


def test_flips_are_counted_by_what_the_first_answer_was() -> None:
    groups = [*ALL_FOUR, rollout(W, R, "again"), rollout(U, R, "none"), rollout(R, U, "loses")]
    found = flip_rates([turn_verdicts(SolverResult(one.attempt, 4, one.turns)) for one in groups])
    # first not right: mends, fails, again, none; first right: spoils, keeps, loses
    assert found == pytest.approx({"changed": 5 / 7, "fixed": 3 / 4, "broken": 2 / 3})
    only = flip_rates([turn_verdicts(SolverResult(one.attempt, 4, one.turns)) for one in ALL_FOUR[1:3]])
    assert (only["changed"], only["broken"]) == (0.5, 0.5)
    assert math.isnan(only["fixed"])


# --- on scripted answers ---


def played(folder: Path, learner: Learner, /, **options: Any) -> Run:
    run = make_run(folder, script=twice, learner=learner, task=make_task(train=12, dev=40))
    try:
        SCORE(run, run.base, run.task, **{"steps": 4, "samples": 4, **options})
    except BaseException:
        run.close()
        raise
    return run


def samples_of(run: Run) -> dict[str, Any]:
    return {key: payload for key, _, payload, _ in run.journal.effects("sample")}


def test_stage_one_then_stage_two_each_from_the_policy_before(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=3, stage1_rounds=2, kl_coef=0.01, stage1_kl_coef=0.1) as run:
        assert run.base.version == "base-model"
    assert learner.given[0][0].version == "base-model"
    assert all(late.base == early for (early, _), (late, _) in zip(learner.given, learner.given[1:], strict=False))
    for number, (_, credits_) in enumerate(learner.given):
        first, second = ([c for c in credits_ if c.attempt.role == role] for role in ("solve", "revise"))
        assert {c.kl_coef for c in first} == {0.11 if number < 2 else 0.01}
        assert {c.kl_coef for c in second} == {0.01}
        assert (max(abs(c.advantages[0]) for c in first) > 0) is (number == 2)
        assert (max(abs(c.advantages[0]) for c in second) > 2) is (number == 2)
        assert all(c.attempt.prompt[-1].content == SELF_CORRECT for c in second)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_that_share_of_problems_starts_from_first_attempts_of_the_starting_model(tmp_path: Path, share: float) -> None:
    learner = Learner()
    with played(tmp_path, learner, rounds=1, steps=8, offline_fraction=share) as run:
        samples = samples_of(run)
        live = {facts["live"] for _, _, facts, _ in run.journal.effects("online")}
    rolled = [p for p in samples.values() if p["policy"] in live and p["role"] == "revise"]
    given = [p for p in rolled if samples[p["parent"]]["policy"] == "base-model"]
    assert len(rolled) == 8 * 12 * 4
    assert len(given) / len(rolled) == pytest.approx(share, abs=0.2)
    assert len({p["parent"] for p in given}) <= 2 * 12
    credited = {c.attempt.id for _, made in learner.given for c in made}
    assert all(samples[name]["policy"] in live for name in credited)


def test_the_gate_goes_by_the_second_answer_and_the_round_tells_both(tmp_path: Path) -> None:
    with played(tmp_path, Learner(), rounds=1) as run:
        (row,) = run.history
        told = row["metrics"]["two_turns"]
        greedy = {
            (p["problem"], p["role"]): p["text"]
            for p in samples_of(run).values()
            if p["policy"] == row["policy"] and not p["sampling"]["temperature"]
        }
        dev = {p.id: p.reference for p in run.task.dev}
        assert run.champion.version == row["policy"] != "base-model"
    right = {key: text.endswith(f"Answer: {dev[key[0]]}") for key, text in greedy.items()}
    pairs = [(right[name, "solve"], right[name, "revise"]) for name in dev]
    assert told["second"] == row["accuracy"] == sum(b for _, b in pairs) / 40
    assert told["first"] == sum(a for a, _ in pairs) / 40
    assert told["wrong to right"] == sum(b and not a for a, b in pairs) / 40 > 0.2


def test_every_rollout_is_learned_and_one_schedule_and_optimizer_go_through_all_rounds(tmp_path: Path) -> None:
    learner = Objectives()
    with played(tmp_path / "a", learner, rounds=4, stage1_rounds=2, batch_size=5) as run:
        told = [facts for _, _, facts, _ in run.journal.effects("online")]
        live = {facts["live"] for facts in told}
        rolled = [key for key, p in samples_of(run).items() if p["policy"] in live]
    credited = [c.attempt.id for _, made in learner.given for c in made]
    assert sorted(credited) == sorted(rolled)
    zero = [all(a == 0 for a in c.advantages) for _, made in learner.given[2:] for c in made]
    assert 0 < sum(zero) < len(zero)
    spans = [(one.schedule_start, one.schedule_end) for one in learner.settings]
    assert spans == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    assert {(one.keep_optimizer_state, one.schedule, one.batch_size) for one in learner.settings} == {
        (True, "constant", 5)
    }
    adapters, how = Objectives(), Settings(training=TrainConfig(lora_rank=4))
    with make_run(tmp_path / "b", script=twice, learner=adapters, settings=how) as run:
        SCORE(run, run.base, run.task, steps=1, samples=2)
    assert {one.keep_optimizer_state for one in adapters.settings} == {False}


def test_what_the_starting_model_shows_is_known_before_training(tmp_path: Path) -> None:
    task = make_task(train=4, dev=4, test=200)
    with make_run(tmp_path, script=twice, task=task) as run:
        start = greedy(run)
        found = start_flip_rates(start)
        assert start_change_rate(start) == found["changed"]
        assert start_fix_surplus(start) == found["fixed"] - found["broken"]
        assert start_fix_rate(start) == found["fixed"]
        samples = samples_of(run)
        answers = {p.id: p.reference for p in task.test}
    drawn = [p for p in samples.values() if p["sampling"]["temperature"] == 1.0]
    right = {
        (p["problem"], p["role"]): p["text"].endswith(f"Answer: {answers[p['problem']]}") for p in drawn
    }  # fmt: skip
    assert len(right) == len(drawn) == 400
    pairs = [(right[name, "solve"], right[name, "revise"]) for name in answers]
    assert found["fixed"] == pytest.approx(np.mean([b for a, b in pairs if not a]))
    assert found["broken"] == pytest.approx(1 - np.mean([b for a, b in pairs if a]))
    assert found["changed"] > 0.3


def test_its_claim_measures_second_answers_and_a_rerun_the_same(tmp_path: Path) -> None:
    claim, found = SCORE.claim, []
    assert claim is not None
    assert claim.extra_metrics is not None
    for _ in range(2):
        with make_run(tmp_path, script=twice, task=make_task(train=12, dev=40, test=40)) as run:
            mine = run_system(run, SCORE, {"rounds": 1, "steps": 4, "samples": 4})
            scores, figures = claim.metric(mine), claim.extra_metrics(mine)
            start = claim.metric(greedy(run))  # the starting model's own second answers, in the same run
            plain = {one.attempt.problem.id: one.attempt.right for one in mine.answers}
            found.append((scores, figures, start, plain))
    assert found[0] == found[1]
    scores, figures, start, plain = found[0]
    assert set(scores) == set(start) == set(plain)
    assert figures["second"] == sum(scores.values()) / 40 > sum(start.values()) / 40 + 0.2
    assert figures["delta"] == pytest.approx(figures["wrong to right"] - figures["right to wrong"])
    assert figures["first"] == sum(plain.values()) / 40


# --- on the model that ships ---


def test_both_stages_train_the_underfit_model(tmp_path: Path) -> None:
    task = load_task("underfit:family=chain|add,level=2", train=6, dev=4, test=2, seed=3)
    how = Settings(
        sampling=Sampling(max_tokens=64),
        training=TrainConfig(epochs=1, learning_rate=3e-4, batch_size=6, max_tokens_per_pass=2048, precision="float32"),
    )
    with Run(tmp_path, model="underfit", task=task, settings=how, console=Console(quiet=True)) as run:
        SCORE(run, run.base, run.task, steps=1, samples=6, offline_fraction=0.5, lr_scale=1.0)
        steps = [facts for _, _, facts, _ in run.journal.effects("online")]
        made = {p["policy"]: p for _, _, p, _ in run.journal.effects("learn")}
        samples = samples_of(run)
    assert [facts["step"] for facts in steps] == [1, 1]
    assert all(facts["updates"] for facts in steps)
    assert {turn for facts in steps for turn in facts["kl"]} == {"1", "2"}
    assert len(made) == 2
    assert {p["role"] for p in samples.values()} == {"solve", "revise"}
    assert all(Path(tmp_path, "policies", name, "selftaught.json").is_file() for name in made)
    bases = [json.loads(Path(tmp_path, "policies", name, "selftaught.json").read_text())["base"] for name in made]
    assert len(set(map(str, bases))) == 2


def test_a_round_is_a_training(tmp_path: Path) -> None:
    _, learner = two_rounds(tmp_path, "score", samples=3, steps=2)
    assert len(learner.given) == 2
