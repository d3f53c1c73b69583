"""A check looks after some seeds, stops where its claim is decided and goes on where not; legs and preconditions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from check_world import add, helper, make_world, options

from selftaught.check.claim import Alarm, Baseline, Claim, NoWorse, Ordered, Precondition, Statistic, SystemResult
from selftaught.check.results import Result, write_result
from selftaught.check.runner import check
from selftaught.cli.check import print_result
from selftaught.console import Console
from selftaught.curate import keep
from selftaught.engines import Request, ScriptedEngine
from selftaught.engines.scripted import Script
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.learn import sft
from selftaught.measure.association import auroc_of
from selftaught.measure.inference import NO_EFFECT
from selftaught.method import Method, recipe
from selftaught.models import Policy
from selftaught.run.run import Run
from selftaught.tasks import Kind, Task
from selftaught.testing import sums
from selftaught.testing.sums import base_policy, depth, draw
from selftaught.worlds.world import World

GREEDY, AGAIN = "greedy", Baseline("other draws", options={"samples": 2}, contrasts=("as published",))


@recipe(paper="2203.14465")
def lift(run: Run, base: Policy, task: Task, *, rounds: int = 1, samples: int = 1) -> Policy:
    """Learn every answer: of sums right 40 % of the time, and 75 % after a round."""
    policy = base
    for _ in run.rounds(rounds):
        policy = run.learn(policy, sft(), keep(run.attempt(policy, task.train, samples=samples)))
        run.log_metrics("trained", {"depth": depth(policy), "times": float(samples)})
        run.measure(policy)
    return run.champion


def world(folder: Path, test: int, *looks: int, train: int = 4, dev: int = 8) -> World:
    def task(seed: int) -> Task:
        at = 10_000 * seed
        return Task(
            f"{seed}", sums(train, at), sums(dev, at + 1000), sums(test, at + 2000), verifier=Exact(), kind=Kind.NUMBER
        )

    return replace(make_world(folder), task=task, looks=looks, solver_seeds=2, champion="last")


def checked(
    folder: Path, where: World, claim: Claim, *, method: Method = lift, script: Script = add, **more: Any
) -> Result:
    claiming = Method(method.function, method.shape, method.paper, method.needs, claim)
    return check(claiming, where, folder=folder / "check", **options(engine=ScriptedEngine(script), **more))


def played(folder: Path) -> int:
    return len(list(folder.glob("check/lift.*/seed-*")))


# --- looks ---


def test_a_clear_effect_is_decided_at_the_first_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = Claim("It lifts.", (GREEDY,), vote_baseline=False)
    result = checked(tmp_path, world(tmp_path, 100, 6, 9, 12), claim, console=Console())
    assert (result.headline.verdict, result.headline.seeds, result.seeds) == ("reproduced", 6, 6)
    assert played(tmp_path) == 6
    said = capsys.readouterr().err
    assert "12 seeds, decided after 6, 9 where it can be" in said
    assert "as published after 6 seeds: reproduced (decided: efficacy)" in said
    fixed = checked(tmp_path, world(tmp_path, 100, 6), claim)  # the same seeds, looked at once
    (sequential,), (once,) = (found.legs for found in (result, fixed))
    assert sequential.value == once.value
    assert sequential.ci95.low < once.ci95.low < once.ci95.high < sequential.ci95.high  # holds at all looks together


def test_a_harm_ends_it_at_the_first_look_too(tmp_path: Path) -> None:
    claim = Claim("It lowers.", (GREEDY,), direction="lower", vote_baseline=False)
    result = checked(tmp_path, world(tmp_path, 100, 6, 9, 12), claim)
    assert (result.headline.verdict, result.seeds) == ("contradicted", 6)


def test_what_is_open_goes_on_to_the_last_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = Claim("It is better than itself.", (AGAIN,), min_effect=0.001, vote_baseline=False)
    result = checked(tmp_path, world(tmp_path, 20, 2, 3, 5), claim, console=Console())
    assert (result.headline.verdict, result.headline.seeds, result.seeds) == ("inconclusive", 5, 5)
    assert played(tmp_path) == 5
    said = capsys.readouterr().err
    for number in (2, 3):
        assert f"as published after {number} seeds: inconclusive (open, more seeds follow)" in said


def test_an_effect_that_is_ruled_out_ends_it_before_the_last_look(tmp_path: Path) -> None:
    claim = Claim("It is much better than itself.", (AGAIN,), min_effect=0.6, vote_baseline=False)
    result = checked(tmp_path, world(tmp_path, 60, 6, 9, 12), claim)
    assert (result.headline.verdict, result.seeds, played(tmp_path)) == (NO_EFFECT, 6, 6)


def test_a_contrast_that_was_decided_keeps_its_look_while_another_is_open(tmp_path: Path) -> None:
    """Rivals of two kinds: one that is far behind as published, and at equal compute hardly distinguishable."""
    claim = Claim(
        "x",
        (GREEDY, Baseline("other draws", options={"samples": 2}, contrasts=("equal compute",))),
        min_effect=0.001, vote_baseline=False,
    )  # fmt: skip
    result = checked(tmp_path, world(tmp_path, 100, 6, 7, train=24), claim)
    published, equal = result.contrasts["as published"], result.contrasts["equal compute"]
    assert (published.verdict, published.seeds) == ("reproduced", 6)
    assert (equal.verdict, equal.seeds, result.seeds) == ("inconclusive", 7, 7)


# --- preconditions ---


def trained(name: str) -> Callable[[SystemResult], float | None]:
    return lambda result: result.run.history[-1]["metrics"]["trained"][name]


TWICE = Baseline("twice", options={"rounds": 2})


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        (Precondition("it was trained", trained("depth"), at_least=1), 1, True),
        (Precondition("it was trained more", trained("depth"), at_least=2), 1, False),
        (Precondition("another was trained more", trained("depth"), at_least=2, of=TWICE), 2, True),
        (Precondition("by one round", trained("depth"), at_least=1, at_most=1, of=TWICE, over=AGAIN), 1, True),
        (Precondition("it samples more", trained("times"), at_least=0, over=AGAIN), -1, False),
        (Precondition("it was seen", lambda _: None, at_most=1), None, False),
    ],
)
def test_a_precondition_that_fails_leaves_nothing_to_be_tested(
    tmp_path: Path, condition: Precondition, value: float | None, holds: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = Claim("It lifts.", (GREEDY,), preconditions=(condition,), vote_baseline=False)
    result = checked(tmp_path, world(tmp_path, 60, 6, 7), claim)
    assert (result.conditions[0].value, result.conditions[0].holds) == (value, holds)
    assert result.headline.verdict == ("reproduced" if holds else "not testable here")
    assert result.seeds == 6  # what fails ends it at the first look
    assert result.headline.deciding.value > 0.2  # which is shown all the same
    path = write_result(result, tmp_path / "results", "")
    (row,) = json.loads(path.read_text())["preconditions"]
    assert (row["name"], row["holds"], row["value"]) == (condition.name, holds, value)
    print_result(result, path)
    assert condition.name in capsys.readouterr().out


# --- legs ---


def test_an_order_holds_if_each_step_of_it_does(tmp_path: Path) -> None:
    careless = Baseline("careless", options={"word": "carelessly"})
    right = Claim("x", legs=(Ordered((None, "sample", careless)), NoWorse("sample", 0.02)), vote_baseline=False)
    result = checked(tmp_path, world(tmp_path, 60, 2), right, method=helper)
    published = [leg for leg in result.legs if leg.contrast == "as published"]
    assert [(leg.kind, leg.name, leg.outcome) for leg in published] == [
        ("ordered", "helper > sample", "holds"),
        ("ordered", "sample > careless", "holds"),
        ("no worse", "no worse than sample", "holds"),
    ]
    assert result.headline.verdict == "reproduced"
    scores = {row.name: row.score for row in result.baselines}
    steps = (result.score - scores["sample"], scores["sample"] - scores["careless"])
    assert tuple(leg.value for leg in published[:2]) == pytest.approx(steps)
    wrong = checked(tmp_path, world(tmp_path, 60, 2), replace(right, legs=(Ordered((careless, None)),)), method=helper)
    assert wrong.headline.verdict == "contradicted"
    assert wrong.headline.deciding.value == pytest.approx(scores["careless"] - wrong.score)


SEEN: dict[str, list[list[tuple[bool, bool]]]] = {}


def guesses(error: float) -> Callable[[SystemResult], dict[str, list[tuple[bool, bool]]]]:
    """A judge that is wrong so often, on the answers of a system."""

    def observed(result: SystemResult) -> dict[str, list[tuple[bool, bool]]]:
        found = {
            one.attempt.problem.id: [(one.attempt.right != (draw(one.attempt.problem.id) < error), one.attempt.right)]
            for one in result.answers
        }
        SEEN.setdefault(result.policy.version, []).append([pair for pairs in found.values() for pair in pairs])
        return found

    return observed


def binary_auroc(pairs: list[tuple[bool, bool]]) -> float:
    """Of a predictor that says yes or no: the mean of its rates of true positives and true negatives."""
    hits = {truth: fmean(said == truth for said, right in pairs if right == truth) for truth in (True, False)}
    return (hits[True] + hits[False]) / 2


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [({"at_least": 0.6}, "holds"), ({"at_least": 0.95}, "contradicted"), ({"at_most": 0.95}, "holds")],
)
def test_a_statistic_of_trained_policies_is_the_mean_of_the_seeds_own(
    tmp_path: Path, bounds: dict[str, float], outcome: str
) -> None:
    SEEN.clear()
    claim = Claim("x", legs=(Statistic("AUROC", guesses(0.2), auroc_of, **bounds),), vote_baseline=False)
    result = checked(tmp_path, world(tmp_path, 60, 4), claim)
    (leg,) = result.legs
    assert (leg.kind, leg.outcome) == ("statistic", outcome)
    assert leg.value == pytest.approx(fmean(binary_auroc(pairs) for (pairs,) in SEEN.values()))
    assert leg.ci95.low < leg.value < leg.ci95.high
    assert list(result.contrasts) == ["as published"]
    assert result.headline.verdict == ("reproduced" if outcome == "holds" else outcome)


def test_a_statistic_of_a_solver_is_of_all_problems_and_may_be_a_difference(tmp_path: Path) -> None:
    SEEN.clear()
    plain = Statistic("AUROC", guesses(0.2), auroc_of, at_least=0.5)
    result = checked(tmp_path, world(tmp_path, 60, 2), Claim("x", legs=(plain,)), method=helper)
    (seeds,) = SEEN.values()
    assert result.legs[0].value == pytest.approx(binary_auroc([pair for pairs in seeds for pair in pairs]))
    over = replace(plain, over=Baseline("careless", options={"word": "carelessly"}), at_least=None, at_most=0.5)
    found = checked(tmp_path, world(tmp_path, 60, 2), Claim("x", legs=(over,)), method=helper)
    assert found.legs[0].against == "careless"
    assert found.legs[0].value == pytest.approx(0, abs=0.2)  # the same judge
    assert found.headline.verdict == "reproduced"


def unlearn(policy: Policy, request: Request) -> str:
    """Sums that training spoils."""
    a, b = (int(word.rstrip("?")) for word in request.prompt[0].content.split()[2::2])
    return f"Answer: {a + b + (draw(a, b, policy.version) < (0.9 if depth(policy) else 0.1))}"


@pytest.mark.parametrize(("script", "rings", "verdict"), [(unlearn, 1.0, "reproduced"), (add, 0.0, "contradicted")])
def test_an_alarm_must_ring_on_most_seeds(tmp_path: Path, script: Script, rings: float, verdict: str) -> None:
    claim = Claim("Learning every answer does harm.", legs=(Alarm("regression"),), vote_baseline=False)
    result = checked(tmp_path, world(tmp_path, 4, 8, dev=40), claim, script=script)
    (leg,) = result.legs
    assert (leg.kind, leg.name, leg.value) == ("alarm", "alarm regression", rings)
    assert result.headline.verdict == verdict  # 8 of 8: p = 2^-8


# --- one test set for all seeds, and builds ---


def problem_file(folder: Path, count: int) -> str:
    path = folder / "sums.jsonl"
    rows = [{"question": f"What is {a} + {a * 7 % 90 + 10}?", "answer": str(a + a * 7 % 90 + 10)} for a in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_seeds_share_a_test_set_and_the_start_answers_it_once_a_build(tmp_path: Path) -> None:
    other = base_policy(tmp_path / "other")
    other = replace(other, version="other-model")
    where = replace(
        world(tmp_path, 0, 6), task=problem_file(tmp_path, 130), train=20, dev=20, test=60, shared_test=True,
        builds=(other,), instruction="",
    )  # fmt: skip
    result = checked(tmp_path, where, Claim("It lifts.", (GREEDY,), vote_baseline=False))
    assert (result.seeds, result.builds, result.problems, result.train) == (6, 2, 60, 20)
    assert result.versions["model"].split(", ") == [base_policy(tmp_path / "base").version, "other-model"]
    assert result.headline.verdict == "reproduced"
    assert sorted(one.name for one in tmp_path.glob("check/scripted-*/seed-*/*") if one.is_dir()) == [
        "start-0",
        "start-1",
    ]
    tasks = [where.load(seed) for seed in range(3)]
    tests = {tuple(p.id for p in task.test) for task in tasks}
    assert len(tests) == 1
    assert len({tuple(p.id for p in task.train) for task in tasks}) == 3
    for task in tasks:
        assert not {p.id for p in task.test} & {p.id for p in (*task.train, *task.dev)}
    with pytest.raises(BadInput, match="too few problems besides the shared test set"):
        replace(where, train=60).load(0)
