"""Alarms: each is raised by what it is named after, and by nothing that a sound run does."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught.control.alarms import (
    Vitals,
    compute_vitals,
    degeneration,
    dev_regression,
    diversity_collapse,
    vote_disagreement,
)
from selftaught.control.health import HealthMonitor
from selftaught.engines import Request
from selftaught.measure import Comparison, Interval, Measurement, compare
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Feedback, Verdict, as_prompt
from selftaught.samples import Sample
from selftaught.testing import Inverted, make_run, make_task, sums

SOUND = Vitals(
    attempts=256, distinct_answers=0.6, nll=0.2, length=30.0, distinct_4=0.98, reward=0.4, verdict_inconsistency=0.0
)
PROBLEMS = sums(20)


def attempt(
    problem: int = 0, answer: str | None = "1", verdict: Verdict | None = None, tokens: Sequence[int] = (1, 2),
    logprobs: Sequence[float] = (-0.5, -0.5), name: str = "", text: str = "text",
) -> Attempt:  # fmt: skip
    feedback = (Feedback(verdict, source="test"),) if verdict else ()
    p = PROBLEMS[problem]
    return Attempt(
        name or f"{problem}/{answer}", p, p.prompt, text, answer,
        Sample(text, tuple(tokens), tuple(logprobs), policy="base"), feedback=feedback,
    )  # fmt: skip


def grouped(*attempts: Attempt) -> dict[str, list[Attempt]]:
    groups: dict[str, list[Attempt]] = {}
    for one in attempts:
        groups.setdefault(one.problem.id, []).append(one)
    return groups


def named(lines: Sequence[str]) -> list[str]:
    return [line.partition(":")[0] for line in lines]


# --- vitals ---


def test_vitals_are_what_they_say() -> None:
    right, wrong = Verdict.RIGHT, Verdict.WRONG
    found = compute_vitals(
        grouped(
            attempt(0, "1", right, (1, 2, 3, 4, 5), (-1, -1, -1, -1, -1)),
            attempt(0, "1", right, (7, 7, 7, 7, 7, 7), (0, 0, 0, 0, 0, -1)),
            attempt(1, "2", wrong, (1,), (-4,)),
            attempt(1, None, wrong, (1,), (-1,)),
            attempt(2, None, Verdict.UNKNOWN, (), ()),  # refused
        )
    )
    assert found is not None
    assert found.attempts == 4
    assert found.distinct_answers == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert found.nll == pytest.approx((5 + 1 + 4 + 1) / (5 + 6 + 1 + 1))
    assert found.length == pytest.approx((5 + 6 + 1 + 1) / 4)
    assert found.distinct_4 == pytest.approx((1 + 1 / 3 + 1 + 1) / 4)  # 7777 three times over
    assert found.reward == pytest.approx(2 / 4)
    assert found.verdict_inconsistency is None


def test_vitals_of_nothing() -> None:
    assert compute_vitals({}) is None
    assert compute_vitals(grouped(attempt(tokens=(), logprobs=()))) is None
    alone = compute_vitals(grouped(attempt(0), attempt(1)))
    assert alone is not None
    assert (alone.distinct_answers, alone.reward) == (None, None)


@pytest.mark.parametrize(("error", "low", "high"), [(0.0, 0.0, 0.0), (0.1, 0.25, 0.45), (0.5, 0.85, 1.15)])
def test_clash_tells_a_judge_that_errs_from_one_that_does_not_look(error: float, low: float, high: float) -> None:
    rng = random.Random(0)
    tried = []
    for problem in range(20):
        for i in range(30):
            answer = rng.choice("ab")
            right = (answer == "a") != (rng.random() < error)
            tried.append(attempt(problem, answer, Verdict.RIGHT if right else Verdict.WRONG, text=f"{i} {answer}"))
            tried += [tried[-1]] * 3  # said again, judged as before
    found = compute_vitals(grouped(*tried))
    assert found is not None
    assert found.verdict_inconsistency is not None
    assert low <= found.verdict_inconsistency <= high
    assert ("verdicts" in named(degeneration(found, found))) is (error == 0.5)


# --- narrowing and disorder, against the first sampling ---


@pytest.mark.parametrize(
    ("name", "sound", "unsound"),
    [
        ("diversity", {"distinct_answers": 0.31}, {"distinct_answers": 0.29}),
        ("entropy", {"nll": 0.101}, {"nll": 0.099}),
        ("length", {"length": 15.5}, {"length": 14.5}),
        ("length", {"length": 59.0}, {"length": 61.0}),
        ("repetition", {"distinct_4": 0.5}, {"distinct_4": 0.48}),
        ("verdicts", {"verdict_inconsistency": 0.45}, {"verdict_inconsistency": 0.55}),
    ],
)
def test_each_alarm_has_its_cause_and_only_that(name: str, sound: dict[str, float], unsound: dict[str, float]) -> None:
    def found(change: dict[str, float]) -> list[str]:
        now = replace(SOUND, **change)
        return named(diversity_collapse(SOUND, now) + degeneration(SOUND, now))

    assert found({}) == []
    assert found(sound) == []
    assert found(unsound) == [name]


def test_of_a_handful_of_attempts_nothing_is_said() -> None:
    gone = replace(SOUND, distinct_answers=0.1, nll=0.0, length=1.0, distinct_4=0.1)
    for few in ((SOUND, replace(gone, attempts=31)), (replace(SOUND, attempts=31), gone)):
        assert diversity_collapse(*few) + degeneration(*few) == ()
    assert named(diversity_collapse(SOUND, gone)) == ["diversity", "entropy", "length"]


def test_sharpening_at_the_usual_temperature_takes_two_rounds_to_raise_entropy() -> None:
    p, surprises = 0.8, []
    for _ in range(6):
        surprises.append(-p * math.log(p) - (1 - p) * math.log(1 - p))
        p = p ** (1 / 0.7) / (p ** (1 / 0.7) + (1 - p) ** (1 / 0.7))
    alarmed = [bool(diversity_collapse(replace(SOUND, nll=surprises[0]), replace(SOUND, nll=s))) for s in surprises]
    assert alarmed == [False, False, True, True, True, True]


# --- harm and divergence ---


def compared(lost: int, won: int = 0, n: int = 100) -> Comparison:
    def measured(name: str, scores: list[float]) -> Measurement:
        values = {str(i): score for i, score in enumerate(scores)}
        return Measurement(name, "dev", "policy", 1, n, sum(scores) / n, Interval(0, 1), scores=values)

    rest = [1.0] * (n - lost - won)
    return compare(
        measured("old", [1.0] * lost + [0.0] * won + rest), measured("new", [0.0] * lost + [1.0] * won + rest)
    )


def rewards(before: float, after: float) -> tuple[dict[str, float], dict[str, float]]:
    first = {str(i): before for i in range(40)}
    return first, dict.fromkeys(first, after)


@pytest.mark.parametrize(("lost", "won", "harmed"), [(5, 0, False), (6, 0, True), (9, 3, False), (0, 20, False)])
def test_harm_is_a_fall_beyond_chance(lost: int, won: int, harmed: bool) -> None:
    assert named(dev_regression(compared(lost, won), None)) == (["regression"] if harmed else [])


def test_divergence_is_harm_while_the_reward_rose() -> None:
    fallen = compared(12)
    (line,) = dev_regression(fallen, rewards(0.5, 0.75))
    assert line.startswith("overoptimization: dev accuracy fell by 0.120")
    assert "from 50% to 75%: the training reward does not measure dev accuracy" in line
    assert named(dev_regression(fallen, rewards(0.5, 0.5))) == ["regression"]
    assert named(dev_regression(fallen, rewards(0.5, 0.25))) == ["regression"]
    assert dev_regression(compared(2), rewards(0.5, 0.75)) == ()


def test_a_reward_that_rose_by_chance_is_no_divergence() -> None:
    first = {str(i): 0.5 for i in range(6)}
    mixed = {str(i): value for i, value in enumerate((0.75, 0.75, 0.75, 0.25, 0.25, 0.75))}
    assert named(dev_regression(compared(12), (first, mixed))) == ["regression"]


# --- agreement ---


def voted(problem: int) -> list[Attempt]:
    """Five of eight agree."""
    return [attempt(problem, a, name=f"{problem}/{i}") for i, a in enumerate("aaaaabcd")]


@pytest.mark.parametrize(
    ("picked", "dissents"), [((0, 1), False), ((5,), True), ((0, 5, 6, 7), True), (range(8), False)]
)
def test_what_is_learnt_against_the_vote_is_noticed(picked: Sequence[int], dissents: bool) -> None:
    groups = grouped(*(one for problem in range(20) for one in voted(problem)))
    learnt = frozenset(f"{problem}/{i}" for problem in range(20) for i in picked)
    assert named(vote_disagreement(groups, learnt)) == (["agreement"] if dissents else [])


def test_what_is_picked_blindly_is_no_dissent() -> None:
    groups = grouped(*(one for problem in range(20) for one in voted(problem)))
    false = 0
    for seed in range(50):
        rng = random.Random(seed)
        false += bool(vote_disagreement(groups, frozenset(f"{p}/{rng.randrange(8)}" for p in range(20))))
    assert false <= 2


# --- the watch ---


def spread(tokens: int, distinct: int, surprise: float = 0.5, n: int = 40) -> dict[str, list[Attempt]]:
    """Two answers a problem to 20 problems."""
    tried = [
        attempt(i % 20, str((i // 20) % distinct), tokens=range(tokens), logprobs=(-surprise,) * tokens)
        for i in range(n)
    ]
    return grouped(*tried)


def test_only_like_samplings_are_compared() -> None:
    watch = HealthMonitor()
    watch.observe_samples("warm", spread(10, 2))
    watch.observe_samples("hot", spread(40, 2))
    assert watch.end_round("base", "p", compared(0))["alarms"] == []
    watch.observe_samples("warm", spread(40, 2))
    assert named(watch.end_round("base", "p", compared(0))["alarms"]) == ["length"]
    assert watch.end_round("base", "p", compared(0))["alarms"] == []  # said in its round only


def test_a_policy_that_is_better_for_it_may_narrow() -> None:
    for won, lost, alarm in ((5, 0, False), (4, 0, True), (0, 0, True)):
        watch = HealthMonitor()
        watch.observe_samples("warm", spread(10, 2, 1.0))
        watch.observe_samples("warm", spread(4, 2, 0.1))
        ended = watch.end_round("base", "p", compared(lost, won))
        assert named(ended["alarms"]) == (["entropy", "length"] if alarm else [])
        assert ended["vitals"]["sampled"]["length"] == 4


def test_dev_answers_are_compared_with_the_starting_model_s() -> None:
    watch = HealthMonitor()
    watch.observe_measurement("p", spread(30, 1))
    watch.observe_measurement("base", spread(10, 1))
    assert named(watch.end_round("base", "p", compared(0))["alarms"]) == ["length"]
    assert watch.end_round("base", "base", None)["alarms"] == []


# --- through a run ---


def ill(policy: Policy, request: Request, *, say: Callable[[str], str]) -> str:
    """A starting model that is right now and then; once trained it says one thing."""
    if policy.base:
        return say(request.prompt[-1].content)
    return (
        f"luck {request.seed % 997} of the draw\nAnswer: {(request.seed % 2 and right(request)) or request.seed % 997}"
    )


def right(request: Request) -> int:
    words = request.prompt[0].content.split()
    return int(words[2]) + int(words[4].rstrip("?"))


def history(
    folder: Path, verifier: Any = None, say: Callable[[str], str] = lambda _: "Answer: 7"
) -> list[dict[str, Any]]:
    task = make_task(train=16, dev=40, verifier=verifier)
    rows, journalled = [], list[dict[str, Any]]()
    for _ in range(2):
        with make_run(folder, task=task, script=partial(ill, say=say)) as run:
            find("rest-em")(run, run.base, run.task, rounds=2, samples=4)
            rows.append(([row["alarms"] for row in run.history], run.journal.digest()))
            journalled = [payload for _, _, payload, _ in run.journal.effects("round")]
            assert [row["alarms"] for row in journalled] == [row["alarms"] for row in run.history]
            assert all(set(row["vitals"]) == {"sampled", "dev"} for row in journalled)
    assert rows[0] == rows[1]
    return journalled


def test_a_run_that_collapses_says_so_and_again_when_resumed(tmp_path: Path) -> None:
    rows = history(tmp_path)
    assert named(rows[0]["alarms"])[0] == "regression"


def test_a_run_with_an_inverted_reward_diverges(tmp_path: Path) -> None:
    class OnTrain(Inverted):
        def decide(self, problem: Any, answer: Any, reference: Any) -> Any:
            found = super().decide(problem, answer, reference)
            return found if problem.id in train else super(Inverted, self).decide(problem, answer, reference)

    train = {p.id for p in make_task(train=16).train}
    rows = history(tmp_path, OnTrain())
    assert "overoptimization" in named(rows[1]["alarms"])


def test_a_run_that_gets_better_raises_none(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(train=16, dev=40)) as run:
        find("rest-em")(run, run.base, run.task, rounds=3, samples=4)
        assert run.champion != run.base
        assert [row["alarms"] for row in run.history] == [[], [], []]


def test_what_is_learnt_without_verdicts_is_held_against_the_vote() -> None:
    for by_verdict in (True, False):
        watch = HealthMonitor()
        watch.observe_samples("x", grouped(*(one for problem in range(20) for one in voted(problem))))
        watch.observe_training(
            [Demo(as_prompt("q"), "t", attempts=(f"{p}/6",)) for p in range(20)], by_verdict=by_verdict
        )
        assert named(watch.end_round("base", "p", None)["alarms"]) == ([] if by_verdict else ["agreement"])
