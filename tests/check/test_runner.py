"""A check on scripted answers: verdicts, both contrasts, equal compute, looks, preconditions, resuming."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from check_world import CLAIM, TEST, TRAIN, add, engine, harmer, helper, idler, make_world, options

from selftaught.check.baselines import run_system
from selftaught.check.claim import Baseline, Claim, SystemResult
from selftaught.check.reading import result_cells
from selftaught.check.results import Result, write_result
from selftaught.check.runner import check
from selftaught.cli.check import print_result, print_results
from selftaught.console import Console
from selftaught.curate import keep
from selftaught.engines import EngineError, Request, Sample, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.journal import Journal
from selftaught.learn import sft
from selftaught.measure.inference import NO_EFFECT
from selftaught.method import Method, Preset, find, recipe, solver
from selftaught.models import Policy
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.testing import make_run


def run_check(method: Any, folder: Path, **more: Any) -> Result:
    return check(method, make_world(folder), folder=folder / "check", **options(engine=engine(), **more))


def claiming(method: Method, claim: Claim) -> Method:
    return Method(method.function, method.shape, method.paper, method.needs, claim)


def rows(result: Result, contrast: str = "as published") -> dict[str, Any]:
    return {row.name: row for row in (*result.baselines, *result.ablations) if row.contrast == contrast}


def verdict_of(result: Result) -> str:
    return result.headline.verdict


@pytest.mark.parametrize(
    ("method", "verdicts"),
    [(helper, {"reproduced"}), (harmer, {"contradicted"}), (idler, {"inconclusive", NO_EFFECT})],
)
def test_what_helps_is_told_from_what_does_nothing_and_what_harms(
    tmp_path: Path, method: Method, verdicts: set[str]
) -> None:
    result = run_check(method, tmp_path)
    assert verdict_of(result) in verdicts
    assert result.contrasts["equal compute"].verdict in verdicts
    assert (result.seeds, result.problems) == (5, 5 * TEST)
    for row in result.baselines:
        assert row.effect == pytest.approx(result.score - row.score)
        assert row.ci95.low < row.effect < row.ci95.high


def test_lower_can_be_what_is_claimed(tmp_path: Path) -> None:
    def errors(outcome: SystemResult) -> dict[str, float]:
        return {one.attempt.problem.id: 1.0 - one.attempt.right for one in outcome.answers}

    claim = Claim("It errs less.", ("greedy",), metric=errors, direction="lower")
    result = run_check(claiming(helper, claim), tmp_path)
    assert verdict_of(result) == "reproduced"
    assert result.headline.deciding.value < 0
    assert result.headline.deciding.ci95.high < 0
    assert [row.name for row in result.baselines] == ["greedy"]  # the vote is added where accuracy is measured


def test_a_vote_stands_beside_answers_reached_another_way_by_its_accuracy(tmp_path: Path) -> None:
    def none(outcome: SystemResult) -> dict[str, float]:
        return {one.attempt.problem.id: 0.0 for one in outcome.answers}

    claim = Claim("It is never right.", ("greedy",), metric=none, vote_baseline=True)
    result = rows(run_check(claiming(helper, claim), tmp_path, seeds=2))
    assert result["greedy"].score == 0
    assert (result["majority of 16"].score > 0.1, result["majority of 16"].in_claim) == (True, False)


CLAIMED = Claim(
    "It beats the start.",
    (
        "greedy",
        "majority",
        Baseline("itself, one each", options={"per_problem": 1}),
        Baseline("star", "star", {"steps": 2}),
    ),
    options={"rounds": 2, "samples": 4},
    ablations={"one round": {"rounds": 1}},
)


def test_a_recipe_s_rivals_run_as_published_and_at_equal_compute_and_never_over_it(tmp_path: Path) -> None:
    rest_em = claiming(find("rest-em"), CLAIMED)
    result = run_check(rest_em, tmp_path, seeds=3, ablate=True)
    found, fitted = rows(result), rows(result, "equal compute")
    assert list(found) == ["greedy", "majority", "itself, one each", "star", "one round"]
    assert list(fitted) == ["itself, one each", "star"]
    sample = len("Answer: 1234")
    assert found["majority"].tokens == pytest.approx(3 * TEST * 16 * sample, rel=0.1)  # 16 samples, whatever is spent
    mine = result.method_compute
    for name, row in fitted.items():
        assert 0.75 * mine < row.compute <= mine, name
    assert (
        fitted["itself, one each"].compute > found["itself, one each"].compute
    )  # it learns less, and gets more rounds
    assert found["one round"].tokens < 0.8 * result.method_tokens
    plain = run_check(rest_em, tmp_path, seeds=3)
    assert result.tokens == plain.tokens
    assert result.seconds <= plain.seconds  # which resumes, so that what was before counts too
    assert result.ablation_seconds > plain.ablation_seconds == 0  # what ablations take is kept apart
    assert found["greedy"].effect > 0.1
    assert found["greedy"].in_claim
    assert not found["one round"].in_claim


def test_a_claim_that_needs_more_train_problems_than_the_task_has_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for train in (TRAIN, TRAIN + 1):
        claim = Claim("x", ("greedy",), options={"rounds": 1, "samples": 1}, vote_baseline=False, train=train)
        result = run_check(claiming(find("rest-em"), claim), tmp_path, seeds=2, console=Console())
        assert result.to_json("")["train"] == result.train == TRAIN
        found[train] = capsys.readouterr().err
    assert f"{TRAIN + 1} train problems each" in found[TRAIN + 1]
    assert f"note: the claim needs {TRAIN + 1} train problems, the task has {TRAIN}" in found[TRAIN + 1]
    assert "note" not in found[TRAIN]


def folders(tmp_path: Path, name: str) -> list[Path]:
    """Run folders of a system on all seeds."""
    return sorted(one for one in tmp_path.glob(f"check/*/seed-*/{name}*") if one.is_dir())


def test_other_methods_as_baselines_and_plain_samples_are_shared_by_claims(tmp_path: Path) -> None:
    star = Baseline("star", "star", {"rounds": 1}, contrasts=("as published",))
    first = Claim("x", ("greedy", star), options={"rounds": 1, "samples": 2})
    run_check(claiming(find("rest-em"), first), tmp_path, seeds=2)
    before = {
        one: (one / "journal.sqlite").read_bytes() for name in ("star-", "start") for one in folders(tmp_path, name)
    }
    assert len(before) == 4
    engine_of_second = engine()
    second = claiming(find("lmsi"), Claim("y", ("greedy", star), options={"samples": 2}))
    alone = engine()
    check(second, make_world(tmp_path), folder=tmp_path / "alone", seeds=2, **options(engine=alone))
    check(second, make_world(tmp_path), folder=tmp_path / "check", seeds=2, **options(engine=engine_of_second))
    assert [one for name in ("star-", "start") for one in folders(tmp_path, name)] == list(before)  # none of its own
    assert engine_of_second.calls < alone.calls - 2 * TEST


def test_a_champion_answers_with_the_solver_of_its_claim(tmp_path: Path) -> None:
    voting = find("self-consistency").with_options(samples=3)
    method = claiming(find("rest-em"), Claim("It votes.", baselines=("greedy",), solver=voting))
    with make_run(tmp_path) as run:
        found = run_system(run, method, {"rounds": 1, "samples": 2})
        asked = [p["policy"] for _, _, p, _ in run.journal.effects("sample") if p["problem"] == run.task.test[0].id]
    assert {one.attempt.judgments[-1].source for one in found.answers} == {"vote"}
    assert asked == [found.policy.version] * 3
    assert found.tokens == run.ledger.usage.spent


ONCE = Preset(
    paper="2303.17651",
    options={"rounds": 1, "samples": 3},
    differs="Train once.",
    claim=Claim(
        "x", ("greedy", Baseline("hot", options={"temperature": 1.0}), Baseline("rival", "rft", {"samples": 3}))
    ),
)


def test_a_preset_is_checked_with_its_own_defaults_and_claim(tmp_path: Path) -> None:
    host = recipe(needs=("verifier",), presets={"once": ONCE})(find("rest-em").function)
    result = run_check(host.presets_by_id["once"], tmp_path, seeds=2)
    assert (result.id, result.options["samples"], result.options["rounds"]) == ("once", 3, 1)
    assert set(rows(result)) == {"greedy", "hot", "rival", "majority of 16"}
    places = [one for one in (tmp_path / "check").glob("*/seed-0/*") if one.is_dir()]
    configs = {where.name.partition("-")[0]: config_of(where) for where in places}
    assert configs["method"]["method"] == configs["hot"]["method"] == "once"
    assert configs["rival"]["method"] == "rft"
    for name in ("method", "hot", "rival"):  # as the preset says, which sets its rounds: at equal compute too
        assert (configs[name]["option.rounds"], configs[name]["option.samples"]) == (1, 3)


def config_of(folder: Path) -> Any:
    journal = Journal(folder)
    config = journal.meta_object("config")
    journal.close()
    return config


def test_a_solver_s_vote_gets_as_many_samples_as_published_and_what_fits_its_compute(tmp_path: Path) -> None:
    consistent = claiming(find("self-consistency"), Claim("x", ("best-logprob", "greedy"), options={"samples": 7}))
    result = run_check(consistent, tmp_path, seeds=2)
    found, fitted = rows(result), rows(result, "equal compute")
    assert set(found) == {"best-logprob", "greedy", "majority of 7"}
    assert found["best-logprob"].tokens == found["majority of 7"].tokens
    assert found["best-logprob"].compute == pytest.approx(result.method_compute, rel=0.02)
    assert set(fitted) == {"best-logprob"}
    assert 6 / 7 * 0.95 * result.method_compute < fitted["best-logprob"].compute <= result.method_compute


def test_best_logprob_is_the_likeliest_sample(tmp_path: Path) -> None:
    from selftaught.check.baselines import best_logprob, majority, plain_compute, samples_to_fit

    with make_run(tmp_path, script=add) as run:
        drawn = samples_to_fit(run, 2000)
        likely = best_logprob(run, drawn)
        voted = majority(run, drawn)
        count = len(drawn) // len(run.task.test)
        more = run.solve(run.base, run.task.test, "test", samples=count + 1, temperature=0.7, top_k=40)
    for one in likely.answers:
        group = [s.attempt for s in drawn if s.attempt.problem == one.attempt.problem]
        best = max(sum(a.logprobs) / len(a.logprobs) for a in group)
        assert sum(one.attempt.logprobs) / len(one.attempt.logprobs) == best
    for one in voted.answers:
        answers = [s.attempt.answer for s in drawn if s.attempt.problem == one.attempt.problem]
        assert answers.count(one.attempt.answer) == max(map(answers.count, answers))
    assert likely.tokens == voted.tokens == sum(s.tokens for s in drawn)
    assert plain_compute(drawn) == likely.compute <= 2000 < plain_compute(more)


def test_a_vote_at_equal_compute_uses_what_a_further_sample_of_every_problem_would_exceed(tmp_path: Path) -> None:
    from selftaught.check.baselines import majority, plain_compute, samples, samples_to_fit

    with make_run(tmp_path, script=add) as run:
        two, three = (plain_compute(samples(run, count)) for count in (2, 3))
        limit = (two + three) // 2
        drawn, dearest = samples_to_fit(run, limit), max(one.tokens for one in samples(run, 3))
        counts = Counter(one.attempt.problem.id for one in drawn)
        assert set(counts) == {one.id for one in run.task.test}
        assert set(counts.values()) == {2, 3}
        assert limit - dearest < plain_compute(drawn) <= limit
        assert len({one.attempt.id for one in drawn}) == len(drawn)
        assert [one.attempt.problem for one in majority(run, drawn).answers] == list(run.task.test)
        assert plain_compute(samples_to_fit(run, two)) == two  # nothing is left over


def test_resuming_samples_nothing_and_finds_the_same(tmp_path: Path) -> None:
    rest_em = claiming(find("rest-em"), CLAIMED)
    first, again = (run_check(rest_em, tmp_path, seeds=2) for _ in range(2))
    silent = ScriptedEngine(refuse)
    third = check(rest_em, make_world(tmp_path), folder=tmp_path / "check", seeds=2, **options(engine=silent))
    assert silent.calls == 0
    for other in (again, third):
        assert replace(other, seconds=0.0) == replace(first, seconds=0.0)


def refuse(policy: Policy, request: Request) -> str:
    raise AssertionError("it was asked again")


class Tired(ScriptedEngine):
    """Gives up after so many answers."""

    def __init__(self, most: int) -> None:
        super().__init__(add)
        self.most = most

    async def sample(self, policy: Policy, request: Request) -> Sample:
        if self.calls >= self.most:
            raise EngineError("tired")
        return await super().sample(policy, request)


def test_a_check_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    whole, parts = engine(), engine()
    expected = check(helper, make_world(tmp_path), folder=tmp_path / "a", seeds=2, **options(engine=whole))
    with pytest.raises(EngineError):
        check(helper, make_world(tmp_path), folder=tmp_path / "b", seeds=2, **options(engine=Tired(whole.calls // 2)))
    found = check(helper, make_world(tmp_path), folder=tmp_path / "b", seeds=2, **options(engine=parts))
    assert replace(found, seconds=0.0) == replace(expected, seconds=0.0)
    assert parts.calls <= whole.calls - whole.calls // 2 + 1


def test_what_the_starting_model_said_in_one_check_is_not_asked_again_in_the_next(tmp_path: Path) -> None:
    run_check(claiming(find("rest-em"), CLAIMED), tmp_path, seeds=2)
    shutil.rmtree(next((tmp_path / "check").glob("scripted-*")))  # the runs; the samples are kept beside
    alone, after = engine(), engine()
    plain = claiming(idler, Claim("x", ("sample", "greedy"), vote_baseline=False))
    expected, found = (
        check(plain, make_world(tmp_path), folder=tmp_path / where, seeds=2, **options(engine=who))
        for where, who in (("a", alone), ("check", after))
    )
    assert replace(found, seconds=0.0) == replace(expected, seconds=0.0)
    assert after.calls == 2 * TEST < alone.calls  # its own questions; the baselines' were asked before


def test_a_rival_with_other_options_starts_afresh_where_the_method_goes_on(tmp_path: Path) -> None:
    for options_of_rival in ({"per_problem": 1}, {"per_problem": 2}):
        claim = replace(CLAIMED, baselines=(Baseline("itself", options=options_of_rival),))
        run_check(claiming(find("rest-em"), claim), tmp_path, seeds=2)
    assert len(list((tmp_path / "check").glob("*/seed-0/method"))) == 1
    assert len({config_of(one)["option.per_problem"] for one in folders(tmp_path, "itself-")}) == 2


@pytest.mark.parametrize(("rounds", "said"), [(1, True), (4, False)])
def test_a_rival_that_ends_below_equal_compute_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rounds: int, said: bool
) -> None:
    """One whose claim sets fewer rounds ends before; one with more of them is cut."""
    claim = replace(CLAIMED, baselines=(Baseline("itself", options={"rounds": rounds}),), vote_baseline=False)
    result = run_check(claiming(find("rest-em"), claim), tmp_path, seeds=2, console=Console())
    fitted = rows(result, "equal compute")["itself"]
    assert fitted.compute <= result.method_compute
    assert (fitted.compute < 0.7 * result.method_compute) == said
    assert ("itself spent " in capsys.readouterr().err) == said
    published = rows(result)["itself"].compute
    assert (published > 1.5 * result.method_compute) != said


def test_a_study_is_held_against_itself_by_its_own_figure(tmp_path: Path) -> None:
    result = run_check(find("self-train-collapse"), tmp_path, seeds=2)
    assert [row.name for row in result.baselines] == ["frozen", "right ones only", "half replay"]
    assert result.problems > 0
    assert all(row.tokens > 0 for row in result.baselines)


KEYS = {
    "id", "also", "claim", "world", "ability", "contrasts", "legs", "preconditions", "baselines", "seeds", "builds",
    "problems", "compute", "seconds", "command", "versions",
}  # fmt: skip


def test_the_result_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_check(helper, tmp_path, seeds=2)
    path = write_result(result, tmp_path / "results", "selftaught check helper --seeds 2")
    assert path.name == "helper.scripted.json"
    assert write_result(replace(result, world="tiny"), tmp_path / "results", "").name == "helper.json"
    data = json.loads(path.read_text())
    assert set(data) >= KEYS
    for row in data["baselines"]:
        assert set(row) >= {"name", "contrast", "score", "effect", "ci95", "tokens", "compute", "in_claim"}
    for key, shown in zip(("as_published", "equal_compute"), result_cells(data), strict=False):
        hard = min((row for row in data["baselines"] if row["contrast"] == key), key=lambda row: row["ci95"][0])
        head = data["contrasts"][key]
        assert (head["effect"], head["ci95"], head["against"]) == (hard["effect"], hard["ci95"], hard["name"])
        low, high = head["ci95"]
        assert shown == f"reproduced: {head['effect']:+.3f} [{low:+.3f}, {high:+.3f}] over {hard['name']}"
    assert data["ability"] == "planted"
    assert data["versions"]["model"] == "base-model"
    print_result(result, path)
    print_results([result])
    said = capsys.readouterr().out
    assert all(word in said for word in ("helper", "majority", verdict_of(result), str(path.name)[:6]))


@recipe(paper="2203.14465", claim=CLAIM)
def blind(run: Run, base: Policy, task: Task, *, rounds: int = 1) -> Policy:
    """Learn every answer."""
    for _ in run.rounds(rounds):
        run.measure(run.learn(base, sft(), keep(run.attempt(base, task.train))))
    return run.champion


def test_seeds_have_problems_of_their_own_and_the_champion_is_what_the_gate_let_through(tmp_path: Path) -> None:
    run_check(blind, tmp_path, seeds=3)
    problems, promoted = [], []
    for seed in sorted((tmp_path / "check").glob("blind.*/seed-*")):
        journal = Journal(seed / "method")
        problems.append({payload["problem"] for _, _, payload, _ in journal.effects("sample")})
        promoted += [payload["promoted"] for _, _, payload, _ in journal.effects("gate")]
        journal.close()
    assert len(problems) == 3
    assert not set.intersection(*problems)
    assert len(promoted) == 3


def test_what_cannot_be_checked_is_refused_in_a_line(tmp_path: Path) -> None:
    bare = Method(helper.function, "solver", "", (), None)
    with pytest.raises(BadInput, match="no claim"):
        run_check(bare, tmp_path)
    with pytest.raises(BadInput, match="interval"):
        run_check(blind, tmp_path, seeds=1)
    assert run_check(helper, tmp_path, seeds=1).seeds == 1  # the problem is the random unit
    with pytest.raises(BadInput, match="majority"):
        Claim("x", ("majorty",))
    with pytest.raises(BadInput, match="at least one baseline"):
        Claim("x", ())


@solver(paper="2303.17651")
async def several(ask: Ask, problem: Problem, *, samples: int = 6) -> Attempt:
    """Ask several times, and take the first."""
    return (await ask.sample(problem.prompt, samples, temperature=0.7))[0]


def test_a_rival_grows_until_it_takes_the_methods_compute_and_figures_are_reported(tmp_path: Path) -> None:
    def asked(outcome: SystemResult) -> dict[str, float]:
        return {"answers": float(len(outcome.answers))}

    rival = Baseline("itself, smaller", options={"samples": 1}, fit_with="samples")
    result = run_check(claiming(several, Claim("It is the same.", (rival,), extra_metrics=asked)), tmp_path)
    assert rows(result)["itself, smaller"].compute < 0.5 * result.method_compute
    row = rows(result, "equal compute")["itself, smaller"]
    assert 0.9 * result.method_compute < row.compute <= result.method_compute
    assert result.extra_metrics == {"answers": TEST}
    assert result.to_json("")["extra_metrics"] == {"answers": TEST}
    print_result(result, tmp_path)
