"""The suite on the underfit world: what it measures, what it keeps, and that the world as it is does not pass."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from selftaught.check.parallel import SeedPool
from selftaught.cli.main import main
from selftaught.console import Console
from selftaught.engines import Engine, EngineConfig, create_engine
from selftaught.models import Policy, resolve
from selftaught.records import Message
from selftaught.worlds import synthetic_worlds
from selftaught.worlds.kit.calibration import suite
from selftaught.worlds.kit.calibration.critics import critiques_of
from selftaught.worlds.kit.calibration.lab import SMOKE, Lab, NotApplicable
from selftaught.worlds.kit.calibration.opening import Suite, opened, parts_of, play_part
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS, CalibrationPlan, Decision, WrittenReply, plan_of
from selftaught.worlds.kit.calibration.table import SMOKE_CHECKS, spec
from selftaught.worlds.underfit.world import WORLD as UNDERFIT

FEW = replace(SMOKE, problems=24, some=24, test=24, few=16, train=24, dev=8, seeds=2, votes=8, repeats=40)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return resolve("underfit")


@pytest.fixture(scope="module")
def engine(policy: Policy) -> Iterator[Engine]:
    with closing(create_engine(policy, EngineConfig(dtype="float32"))) as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path, policy: Policy, engine: Engine) -> Lab:
    plan = plan_of(synthetic_worlds()["underfit"])
    return Lab(UNDERFIT, plan, policy, tmp_path, engine, Console(quiet=True), FEW)


def test_the_smoke_tier_measures_and_the_underfit_world_fails_it(lab: Lab) -> None:
    found = {one.spec.number: one for one in suite.calibrate(lab, SMOKE_CHECKS)}
    assert list(found) == list(SMOKE_CHECKS)
    assert found[1].reason.startswith("the world has no writer")
    assert set(found[5].figures) >= set(spec(5).wanted)
    assert 0 < found[11].figures["first"].value < 1
    assert found[20].figures["share of A/A comparisons called reproduced"].value < 0.2


def test_findings_are_kept_and_nothing_is_measured_twice(lab: Lab, engine: Engine) -> None:
    first = suite.calibrate(lab, (2, 5))
    spent = engine.busy_seconds
    again = suite.calibrate(replace(lab, shared={}), (2, 5))
    assert engine.busy_seconds == spent
    assert [one.to_json() for one in again] == [one.to_json() for one in first]


def test_what_was_cut_off_resumes_from_its_runs(lab: Lab, engine: Engine) -> None:
    suite.calibrate(lab, (2,))
    (lab.folder / "checks" / "02.json").unlink()
    spent = engine.busy_seconds
    suite.calibrate(replace(lab, shared={}), (2,))
    assert engine.busy_seconds == spent


def test_a_finding_of_other_code_or_of_another_plan_or_size_is_measured_again(lab: Lab) -> None:
    path = lab.folder / "checks" / "02.json"
    before = suite.calibrate(lab, (2,))
    kept = json.loads(path.read_text("utf-8")) | {"reason": "stale"}
    path.write_text(json.dumps(kept), "utf-8")
    assert suite.calibrate(lab, (2,))[0].reason == "stale"  # it is read from there
    plan = replace(lab.plan, control_model="underfit")
    for other in (replace(lab, plan=plan), replace(lab, sizes=replace(lab.sizes, seeds=3))):
        path.write_text(json.dumps(kept), "utf-8")
        assert suite.calibrate(other, (2,))[0].reason == before[0].reason == ""
    path.write_text(json.dumps(kept | {"made_with": "old"}), "utf-8")
    assert suite.calibrate(lab, (2,))[0].reason == ""


def test_problems_are_of_the_reserved_seeds_and_held_out(lab: Lab) -> None:
    claims = {p.id for seed in range(3) for p in UNDERFIT.load(seed).train}
    one, two = lab.trained(1), lab.trained(2)
    assert one.test == two.test == lab.fixed.test
    assert {p.id for p in one.train} != {p.id for p in two.train}
    assert len(one.train) == FEW.train
    assert not {p.id for p in one.train} & {p.id for p in (*one.dev, *one.test)}
    assert {p.id for p in one.train} != claims
    assert min(CALIBRATION_SEEDS) > 1000  # claims count theirs from 0


@pytest.mark.slow
def test_training_checks_measure_every_policy_that_other_processes_trained(tmp_path: Path) -> None:
    def none(*_: Any, **__: Any) -> Policy:
        raise AssertionError("trained in the suite's own process")

    few = Suite("underfit", "underfit", tmp_path, replace(FEW, seeds=2, test=12, few=8, train=16, dev=4))
    pool, quiet = SeedPool(2), Console(quiet=True)
    with opened(few, quiet) as lab, closing(pool):
        lab.learner = none
        parts = parts_of((7, 8, 9, 10, 15, 16), range(1, 3))
        assert len(parts) == 5 * 2 + 2
        pool.run_seeds(partial(play_part, few, parts), range(len(parts)), quiet, "part")
        spent = lab.engine.busy_seconds
        found = {one.spec.number: one for one in suite.calibrate(lab, (7, 8, 9, 10, 15, 16))}
        assert lab.engine.busy_seconds == spent  # nothing was sampled here
    assert all(not one.reason for one in found.values())
    assert {"round 1 - start", "round 2 - round 1", "start"} <= set(found[7].figures)
    assert all(set(found[number].figures) >= set(spec(number).wanted) for number in (8, 9, 10, 15, 16))


@pytest.mark.slow
def test_critics_are_compared_on_the_same_drafts(lab: Lab) -> None:
    figures = {one.spec.number: one.figures for one in suite.calibrate(lab, (12, 13))}
    found = critiques_of(lab)
    assert set(found.revised) == {"own", "trained", "true"}
    assert [a.parent for a in found.written["own"]] == [draft.id for draft in found.drafts]
    assert figures[12]["true critique: revised - draft"].value > figures[12]["own critique: revised - draft"].value
    assert set(figures[13]) >= set(spec(13).wanted)
    right = [one.text for one, draft in zip(found.written["true"], found.drafts, strict=True) if draft.right]
    assert right.count("no mistakes") >= 0.9 * len(right) > 0


@pytest.mark.slow
def test_beam_search_and_best_of_n_spend_about_the_same(lab: Lab) -> None:
    lab.plan = replace(lab.plan, search_short="")
    (found,) = suite.calibrate(lab, (14,))
    assert not found.condition("short: beam - best-of-N")  # not measured
    assert 0.6 < found.figures["long: tokens of beam / best-of-N"].value < 1.4


@pytest.mark.slow
def test_judging_and_demonstrations_are_measured(lab: Lab) -> None:
    found = {one.spec.number: one for one in suite.calibrate(lab, (6, 17, 18, 19))}
    assert set(found[6].figures) == set(spec(6).wanted)
    assert set(found[17].figures) >= set(spec(17).wanted)
    assert "CalibrationPlan.wait" in found[18].reason
    assert set(found[19].figures) >= set(spec(19).wanted)


def test_a_forced_look_is_in_line_and_the_control_is_another_model(lab: Lab) -> None:
    waiting = replace(lab, plan=replace(lab.plan, wait="wait\n", control_model="underfit"))
    (found,) = suite.calibrate(waiting, (18,))
    assert set(found.figures) >= set(spec(18).wanted)
    missing = replace(waiting.plan, control_model="no-such-model")
    (found,) = suite.calibrate(replace(lab, plan=missing, folder=lab.folder / "x"), (18,))
    assert "no-such-model" in found.reason


def test_demonstrations_of_the_plan_are_shown_before_the_problem(lab: Lab) -> None:
    shown = lambda problem, seed: (Message("user", problem.question), Message("assistant", f"{seed}"))  # noqa: E731
    (found,) = suite.calibrate(replace(lab, plan=replace(lab.plan, demonstrations=shown)), (19,))
    assert not math.isnan(found.figures["with demonstrations - without"].value)
    with lab.run("demonstrations", lab.measured(FEW.problems)) as run:
        read = [usage.prompt for _, _, _, usage in run.journal.effects("sample")]
    plain, long = sorted(read)[: FEW.problems], sorted(read)[FEW.problems :]
    assert len(long) == FEW.problems
    assert min(long) > max(plain) + len(str(CALIBRATION_SEEDS[0]))  # a token is a character


def test_the_twin_is_run_where_there_is_one(lab: Lab) -> None:
    asked: list[int] = []

    def twin(seed: int) -> dict[str, float]:
        asked.append(seed)
        return {str(i): float((seed * 7919 + i * 104729) % 97 < 48) for i in range(60)}

    (found,) = suite.calibrate(replace(lab, plan=CalibrationPlan(twin=twin)), (20,))
    assert set(asked) <= set(CALIBRATION_SEEDS)
    assert len(asked) == 24
    assert found.figures["share of A/A comparisons called reproduced"].value <= 0.2


def test_a_writer_that_is_the_model_has_no_divergence_and_another_has(lab: Lab, engine: Engine) -> None:
    import asyncio

    problems = lab.measured(6).test
    texts = [p.meta["solution"] for p in problems]

    async def likelihood(prompt: Any, text: str) -> float:
        return (await engine.loglikelihood(lab.policy, prompt, text)).total

    def replies(seed: int, off: float) -> Iterator[WrittenReply]:
        for problem, text in zip(problems, texts, strict=True):
            half, rest = text[: len(text) // 2], text[len(text) // 2]
            before, after = (asyncio.run(likelihood(problem.prompt, some)) for some in (half, half + rest))
            logprob = after - before + off
            choice = Decision(len(half), len(half) + 1, logprob, "char", rest, math.exp(after - before))
            yield WrittenReply(problem.prompt, text, (choice,))

    for off in (0.0, 0.3):
        plan = replace(lab.plan, replies=lambda seed, off=off: replies(seed, off))
        (found,) = suite.calibrate(replace(lab, plan=plan, folder=lab.folder / str(off)), (1,))
        assert found.figures["KL(writer || model), nats a decision"].value == pytest.approx(off, abs=1e-4)
        assert not found.holds  # six choices are too few to compare a skill
    assert len(list(islice(replies(0, 0.0), 3))) == 3


def test_a_task_with_too_few_problems_is_not_applicable(lab: Lab) -> None:
    with pytest.raises(NotApplicable, match="requested"):
        lab.problems("underfit:family=add,level=1", test=10**6)
    with pytest.raises(NotApplicable, match="unknown"):
        lab.problems("underfit:family=nothing")


def test_the_command_prints_json_and_fails_on_underfit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["worlds", "examine", "underfit", "--calibrate", "--smoke", "--problems", "12", "--quiet", "--json"]
    assert main([*words, "--out", str(tmp_path / "suite")]) == 1
    data = json.loads(capsys.readouterr().out)
    assert [one["number"] for one in data["checks"]] == list(SMOKE_CHECKS)
    assert {"name", "holds", "value", "ci95", "threshold"} <= set(data["checks"][0])
    assert data["holds"] is False
    assert data["seeds"] == [900_000, 900_999]
    assert main([*words[:-2], "--out", str(tmp_path / "suite")]) == 1  # resumed, as a table
    assert "of 6 checks hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "underfit", "--calibrate"], "only a model that is there"),
        (["examine", "nowhere", "--calibrate"], "unknown world 'nowhere'"),
        (["examine", "underfit", "--calibrate", "--problems", "2"], "too few problems"),
        (["examine", "underfit", "--calibrate", "--smoke", "--freeze"], "only the whole suite"),
        (["examine", "underfit", "--smoke"], "--smoke belongs to --calibrate"),
        (["examine", "underfit", "--calibrate", "--model", "no-such"], "unknown model 'no-such'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_two(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["worlds", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
