"""B-STaR on scripted answers: what it probes, marks, selects and learns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from scripted_world import Objectives, judged, two_rounds
from selftaught.control.balance import ScoredAttempt, balance_scores
from selftaught.control.tuning import THRESHOLDS
from selftaught.engines import Request
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.method import find
from selftaught.models import Policy
from selftaught.packed_numbers import packed_length
from selftaught.records import Problem, Verdict
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import load_task
from selftaught.testing import Learner, make_run, make_task
from selftaught.testing.sums import depth, draw
from selftaught.worlds.underfit.families.chain import Chain

R, W = Verdict.RIGHT, Verdict.WRONG
BSTAR, ONLINE_RFT = find("b-star"), find("online-rft")
RFT: dict[str, Any] = {"samples": 8, "target": 2, "selected": 3, "steps": 4, "step_reward": "model"}
SMALL: dict[str, Any] = {**RFT, "rounds": 2, "probe": 6, "num_temperatures": 4}


def warm(policy: Policy, request: Request) -> str:
    """The cooler the fewer different answers, the hotter the fewer right ones; marks go by the answer's own words."""
    if "+ where" in request.prompt[-1].content:
        return "+-" if "shaky" in request.prompt[-2].content else "++"
    a, b = map(int, re.findall(r"(\d+) \+ (\d+)", request.prompt[0].content)[0])
    heat, luck = request.sampling.temperature, draw(request.prompt[0].content, request.seed)
    off = 0 if luck < 1.4 - heat else 1
    way = int(1000 * luck) % max(1, round(6 * heat)) if heat else 0
    return f"way {way}{' shaky' if way == 0 else ''} ({depth(policy)}).\nAnswer: {a + b + off}"


def played(folder: Path, learner: Learner, **options: Any) -> Run:
    run = make_run(folder, script=warm, learner=learner)
    BSTAR(run, run.base, run.task, **{**SMALL, **options})
    return run


def fixed(folder: Path, learner: Learner, **options: Any) -> Run:
    """B-STaR's baseline: one setting throughout."""
    run = make_run(folder, script=warm, learner=learner)
    ONLINE_RFT(run, run.base, run.task, **{**RFT, "rounds": 2, **options})
    return run


def test_each_round_learns_distinct_answers_above_the_threshold_on_top_of_the_last_policy(tmp_path: Path) -> None:
    learner = Learner()
    with played(tmp_path, learner) as run:
        texts = {key: p for key, _, p, _ in run.journal.effects("sample")}
        train = {p.id: p for p in run.task.train}
        last = json.loads((learner.given[1][0].path / "selftaught.json").read_text())["version"]
        assert [base.version for base, _ in learner.given] == [run.base.version, last]
        told = [row["metrics"]["balance"] for row in run.history]
        assert len(told) == 2
        for (base, demos), row in zip(learner.given, told, strict=True):
            sampled = [texts[d.attempts[0]] for d in demos]
            assert len({(d.prompt, d.target) for d in demos}) == len(demos) > 0
            assert {(p["policy"], p["sampling"]["temperature"]) for p in sampled} == {
                (base.version, row["temperature"])
            }
            right = [
                d.target.endswith(f"Answer: {train[p['problem']].reference}")
                for d, p in zip(demos, sampled, strict=True)
            ]
            assert row["precision"] == pytest.approx(sum(right) / len(right))
            assert row["selected"] == len(demos) / len(train)
            assert 0 < row["balance_score"] <= 1
            assert row["reward_gap"] == pytest.approx(row["pass_at_k"] - row["best_of_k"])
            drawn = [p for p in texts.values() if p["policy"] == base.version and p["role"] == "solve"]
            mine = [p for p in drawn if p["sampling"]["temperature"] == row["temperature"] and p["problem"] in train]
            assert len(mine) == 8 * len(train)  # all train problems, those of the probe once
            solved = {p["problem"] for p in mine if p["text"].endswith(f"Answer: {train[p['problem']].reference}")}
            assert row["pass_at_k"] == pytest.approx(len(solved) / len(train))


def test_the_threshold_is_chosen_on_all_answers_not_on_the_probe(tmp_path: Path) -> None:
    """Steps of problems on the probe are marked as they should be, those of the others the other way round."""
    shuffled = sorted(make_task().train, key=lambda p: p.id)
    probed = [p.question for p in shuffled[:4]]

    def says(question: str, way: int) -> tuple[str, bool]:
        a, b = map(int, re.findall(r"(\d+) \+ (\d+)", question)[0])
        off = int(2 * draw(question, way))
        return f"way {way}. Answer: {a + b + off}", not off

    def script(policy: Policy, request: Request) -> str:
        question = request.prompt[0].content
        if "+ where" not in request.prompt[-1].content:
            return says(question, request.seed % 1000)[0]
        good = says(question, int(request.prompt[-2].content.split(".")[0][4:]))[1]
        return "+" if good is (question in probed) else "-"

    def chosen(problems: Sequence[Problem], samples: Sequence[Mapping[str, Any]]) -> float:
        plus = [math.exp(-44 / 256), 1 - math.exp(-46 / 256)]  # the scripted engine's p(+) where it writes "+", or "-"
        groups = {}
        for problem in problems:
            rows = [p for p in samples if p["problem"] == problem.id and p["role"] == "solve"]
            right = [p["text"].endswith(f"Answer: {problem.reference}") for p in rows]
            marks = [plus[0 if good is (problem.question in probed) else 1] for good in right]
            rewards = [math.log(mark / (1 - mark)) / 5 for mark in marks]
            groups[problem.id] = [
                ScoredAttempt(replace(judged(problem, "", R if good else W), text=p["text"]), good + reward)
                for p, good, reward in zip(rows, right, rewards, strict=True)
            ]  # fmt: skip
        scores = {x: fmean(balance_scores(groups, x, 2, 3, reference=True).values()) for x in THRESHOLDS}
        return max(x for x in THRESHOLDS if scores[x] == max(scores.values()))

    how = {**SMALL, "rounds": 1, "probe": 4, "num_temperatures": 1, "min_temperature": 1.0}
    with make_run(tmp_path, script=script) as run:
        BSTAR(run, run.base, run.task, **how)
        found = run.history[0]["metrics"]["balance"]["threshold"]
        samples = [p for _, _, p, _ in run.journal.effects("sample") if p["sampling"]["temperature"]]
    assert found == chosen(shuffled, samples) != chosen(shuffled[:4], samples)


def test_the_probe_is_paid_once_and_marks_are_judge_tokens(tmp_path: Path) -> None:
    """3 arms of the first halving on half of the probe... the ledger has them all, and the judge's words apart."""
    with played(tmp_path, Learner(), rounds=1) as run:
        samples = [p for _, _, p, _ in run.journal.effects("sample")]
        probed = sorted(run.task.train, key=lambda p: p.id)[:6]
        train = {p.id for p in run.task.train}
        solved = [p for p in samples if p["role"] == "solve" and p["problem"] in train]
        marked = [p for p in samples if p["role"] == "judge"]
        chosen = run.history[0]["metrics"]["balance"]
        on_probe = [p for p in solved if p["problem"] in {q.id for q in probed}]
        assert len(on_probe) == 8 * (4 * 3 + 2 * 3)  # four on half of the probe, two on the rest
        rest = [p for p in solved if p not in on_probe]
        assert len(rest) == 6 * chosen["samples"]
        assert {p["sampling"]["temperature"] for p in rest} == {chosen["temperature"]}
        assert {p["policy"] for p in marked} == {run.base.version}
        assert run.ledger.usage.judge == sum(packed_length(p["tokens"]) for p in marked) > 0


def temperatures_of(run: Run) -> set[float]:
    return {p["sampling"]["temperature"] for _, _, p, _ in run.journal.effects("sample")} - {0.0}


def test_what_is_not_tuned_stays(tmp_path: Path) -> None:
    with played(tmp_path / "t", Learner(), min_temperature=0.9, num_temperatures=1) as run:
        assert temperatures_of(run) == {0.9}
        assert {row["metrics"]["balance"]["temperature"] for row in run.history} == {0.9}
    with played(tmp_path / "x", Learner(), threshold=0.7) as run:
        assert len(temperatures_of(run)) > 1
        assert {row["metrics"]["balance"]["threshold"] for row in run.history} == {0.7}


def test_online_rft_samples_once_and_learns_on_top_of_the_last_policy(tmp_path: Path) -> None:
    learner = Learner()
    with fixed(tmp_path, learner, temperature=0.9, threshold=0.7) as run:
        right = {p.prompt: p.reference for p in run.task.train}
        texts = {key: p for key, _, p, _ in run.journal.effects("sample")}
        solved = [p for p in texts.values() if p["role"] == "solve" and p["sampling"]["temperature"]]
        assert temperatures_of(run) == {0.9}
        assert len(solved) == 2 * 8 * len(run.task.train)
    (_, first), (second_base, second) = learner.given
    assert second_base.base is not None
    for base, demos in learner.given:
        assert {texts[d.attempts[0]]["policy"] for d in demos} == {base.version}
    assert first
    assert second
    for demo in (*first, *second):
        assert demo.target.endswith(f"Answer: {right[demo.prompt]}")


def test_online_rft_and_b_star_with_nothing_to_tune_learn_the_same(tmp_path: Path) -> None:
    """The same draws, marks and selection: what the claim compares differs in the tuning alone."""
    one, other = Learner(), Learner()
    with fixed(tmp_path / "rft", one, temperature=0.9, threshold=0.7, samples=2) as run:
        drawn = {p["text"] for _, _, p, _ in run.journal.effects("sample")}
    alone = {"min_temperature": 0.9, "num_temperatures": 1, "threshold": 0.7, "samples": 2}
    with played(tmp_path / "b-star", other, **alone) as run:
        assert {p["text"] for _, _, p, _ in run.journal.effects("sample")} == drawn
    learned = [[{(d.prompt, d.target) for d in demos} for _, demos in who.given] for who in (one, other)]
    assert learned[0] == learned[1]


def test_the_process_reward_prefers_answers_whose_steps_are_sound(tmp_path: Path) -> None:
    for step_reward, shaky in (("model", False), ("none", True)):
        learner = Learner()
        with fixed(tmp_path / step_reward, learner, rounds=1, step_reward=step_reward, threshold=1.0 - 1e-9):
            texts = [demo.target for _, demos in learner.given for demo in demos]
            assert any("shaky" in text for text in texts) is shaky


def test_exact_verdicts_on_steps_of_the_underfit_world(tmp_path: Path) -> None:
    task = load_task("underfit:family=chain,level=2", train=6, dev=4, test=2, seed=0, instruction=None)
    chain = Chain()

    def script(policy: Policy, request: Request) -> str:
        """Right all through; or, as often, two slips that make up for each other."""
        del policy
        terms = chain.read(request.prompt[0].content)
        assert terms is not None
        first, second = (value for value in terms.rest)
        middle = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[first[0]](terms.first, first[1])
        off = request.seed % 2
        lines = [
            f"{terms.first}{first[0]}{first[1]}={middle + off}", f"{middle + off}{second[0]}{second[1]}={terms.value}"
        ]  # fmt: skip
        return "\n".join([*lines, f"Answer: {terms.value}"])

    learner = Learner()
    with make_run(tmp_path, task=task, script=script, learner=learner) as run:
        sound = {p.prompt: task.step_verdicts(p, script(run.base, Request(p.prompt, seed=0))) for p in task.train}
        assert all(verdict == "right" for steps in sound.values() for verdict in steps or ["none"])
        how = {"rounds": 1, "samples": 8, "target": 1, "threshold": 1.0}
        ONLINE_RFT(run, run.base, run.task, step_reward="exact", **how)
    ((_, demos),) = learner.given
    problems = {p.prompt: p for p in task.train}
    assert {d.prompt for d in demos} == set(problems)
    for demo in demos:
        assert all(verdict == "right" for verdict in task.step_verdicts(problems[demo.prompt], demo.target) or ["none"])


@pytest.mark.parametrize("play", [played, fixed])
def test_every_round_has_the_same_steps_of_one_schedule_and_optimizer(tmp_path: Path, play: Any) -> None:
    learner = Objectives()
    with play(tmp_path, learner, rounds=4):
        pass
    assert len({len(records) for _, records in learner.given}) > 1  # however much is selected
    assert {(one.steps, one.min_lr_ratio, one.keep_optimizer_state) for one in learner.settings} == {(4, 0.05, True)}
    spans = [(one.schedule_start, one.schedule_end) for one in learner.settings]
    assert spans == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]


def test_with_adapters_each_round_has_a_fresh_optimizer(tmp_path: Path) -> None:
    learner, settings = Objectives(), Settings(training=TrainConfig(lora_rank=4))
    with make_run(tmp_path, script=warm, learner=learner, settings=settings) as run:
        BSTAR(run, run.base, run.task, **SMALL)
    assert [one.keep_optimizer_state for one in learner.settings] == [False, False]


@pytest.mark.parametrize(("method", "more"), [(BSTAR, {"probe": 6, "num_temperatures": 2}), (ONLINE_RFT, {})])
def test_a_trained_process_reward_is_learned_once_and_judges_every_round(
    tmp_path: Path, method: Any, more: dict[str, Any]
) -> None:
    learner = Objectives()
    how = {**RFT, "rounds": 2, "step_reward": "trained", "step_solutions": 4, "step_rollouts": 2, **more}
    with make_run(tmp_path, script=warm, learner=learner) as run:
        method(run, run.base, run.task, **how)
        told = [row["metrics"]["balance"] for row in run.history]
        read = {(p["of"], p["policy"]): p["values"] for _, _, p, _ in run.journal.effects("score")}
        samples = {key: p for key, _, p, _ in run.journal.effects("sample")}
        answers = {p.id: p.reference for p in run.task.train}
    assert [one.name for one in learner.objectives] == ["prm", "sft", "sft"]
    assert learner.given[0][0] == learner.given[1][0]  # trained aside of the policy
    (judge,) = {policy for _, policy in read}
    assert not any(p["role"] == "judge" for p in samples.values())
    values = {(samples[name]["problem"], samples[name]["text"]): each for (name, _), each in read.items()}
    for row, (_, demos) in zip(told, learner.given[1:], strict=True):
        rewards = []
        for demo in demos:
            problem = samples[demo.attempts[0]]["problem"]
            log_odds = max(-5, min(5, min(values[problem, demo.target])))
            rewards.append(demo.target.endswith(f"Answer: {answers[problem]}") + log_odds / 5)
        assert min(rewards) > row.get("threshold", 0.5)
        assert 0 <= row["process_auroc"] <= 1
    assert judge not in {base.version for base, _ in learner.given}


def test_wrong_uses_are_one_line(tmp_path: Path) -> None:
    wrong = "step_reward: must be one of 'trained', 'model', 'exact', 'none', got 'exakt'; did you mean 'exact'"
    with make_run(tmp_path) as run, pytest.raises(BadInput, match=wrong):
        BSTAR(run, run.base, run.task, step_reward="exakt")
    with make_run(tmp_path / "b") as run, pytest.raises(BadInput, match="no verdicts on steps"):
        BSTAR(run, run.base, run.task, rounds=1, samples=2, step_reward="exact")


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "b-star", samples=3, num_temperatures=2, probe=2, steps=4)
    assert champion.base
    assert [type(records[0]).__name__ for _, records in learner.given] == ["ScoredSteps", "Demo", "Demo"]
