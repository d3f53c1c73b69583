"""A baseline that cannot be given the method's compute is named, and its contrast is not testable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from check_world import TEST, engine, make_world, options

from selftaught.check.claim import Baseline, Claim
from selftaught.check.reading import contrast_text
from selftaught.check.results import BaselineComparison, Result
from selftaught.check.runner import check
from selftaught.console import Console
from selftaught.errors import BadInput
from selftaught.method import Method, find, solver
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask

RECIPE = {"rounds": 2, "samples": 4}


def run_check(method: Method, claim: Claim, folder: Path, **more: Any) -> Result:
    claiming = Method(method.function, method.shape, method.paper, method.needs, claim)
    how = options(engine=engine(), **more)
    return check(claiming, make_world(folder), folder=folder / "check", **{"seeds": 2, **how})


def fitted(result: Result, name: str) -> BaselineComparison:
    return next(row for row in result.baselines if (row.name, row.contrast) == (name, "equal compute"))


@solver(paper="2203.11171")
async def firsts(ask: Ask, problem: Problem, *, samples: int = 6) -> Attempt:
    """Ask several times, and take the first."""
    return (await ask.sample(problem.prompt, samples, temperature=0.7))[0]


@solver(paper="2203.11171")
async def times(ask: Ask, problem: Problem, *, times: int = 2) -> Attempt:
    """Ask so often that no option called samples says it."""
    return (await ask.sample(problem.prompt, times, temperature=0.7))[0]


VOTED = Claim("It beats a vote.", ("greedy", "majority"), options=RECIPE)


def test_a_vote_beside_a_method_that_trains_is_not_dropped_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_check(find("rest-em"), VOTED, tmp_path, console=Console())
    published, equal = result.contrasts["as published"], result.contrasts["equal compute"]
    assert published.verdict != "not testable here"
    assert equal.verdict == "not testable here"
    why = "rest-em trains, it does not, and the claim does not say over how many questions (amortized_over)"
    assert equal.left_out == {"greedy": "it gives one answer per problem", "majority": why}
    assert not published.left_out
    assert f"note: majority is not compared at equal compute: {why}" in capsys.readouterr().err
    data = result.to_json("")["contrasts"]["equal_compute"]
    assert (data["verdict"], data["effect"], data["against"]) == ("not testable here", None, "majority")
    assert contrast_text(data) == f"not testable here: majority cannot be given the method's compute ({why})"


def test_the_other_baselines_do_not_stand_in_for_the_one_that_is_left_out(tmp_path: Path) -> None:
    """What is left would be reproduced: that is no verdict on what was claimed."""
    weak = Baseline("one round", options={"rounds": 1, "samples": 1})
    alone = run_check(find("rest-em"), Claim("x", (weak,), options={"rounds": 3, "samples": 8}), tmp_path / "a")
    both = run_check(find("rest-em"), replace(VOTED, baselines=(weak, "majority")), tmp_path / "b")
    assert alone.contrasts["equal compute"].left_out == {}
    assert alone.contrasts["equal compute"].verdict != "not testable here"
    assert both.contrasts["equal compute"].verdict == "not testable here"
    assert [leg.name for leg in both.legs if leg.contrast == "equal compute"] == ["one round"]  # still shown


def test_training_is_spread_over_as_many_questions_as_the_claim_says(tmp_path: Path) -> None:
    found = {}
    for spread in (TEST, 5 * TEST):
        result = run_check(find("rest-em"), replace(VOTED, amortized_over=spread), tmp_path / str(spread))
        assert result.contrasts["equal compute"].verdict != "not testable here"
        found[spread] = fitted(result, "majority").compute
        greedy = next(row.compute for row in result.baselines if row.name == "greedy")
        limit = greedy + result.method_compute * TEST / spread  # the champion's answers are as long as the start's
        assert limit - 1.1 * greedy < found[spread] < 1.1 * limit  # short of it by less than a sample a problem
    assert found[TEST] > 3 * found[5 * TEST]


def test_a_recipe_beside_a_solver_gets_the_training_that_its_questions_pay_for(tmp_path: Path) -> None:
    rival = Baseline("trained", "rest-em", {"samples": 2}, fit_with="rounds")
    claim = Claim("x", (rival,))
    refused = run_check(firsts, claim, tmp_path / "a")
    assert refused.contrasts["equal compute"].verdict == "not testable here"
    assert list(refused.contrasts["equal compute"].left_out) == ["trained"]
    result = run_check(firsts, replace(claim, amortized_over=10 * TEST), tmp_path / "b")
    row, answers = fitted(result, "trained"), result.method_compute / 6
    assert row.compute <= 10 * (result.method_compute - 0.9 * answers)
    assert row.compute > 0.6 * 10 * (result.method_compute - 1.1 * answers)


def test_one_that_no_option_makes_cheaper_is_named_until_one_is(tmp_path: Path) -> None:
    rival = Baseline("six", options={"times": 6})
    result = run_check(times, Claim("x", (rival, "sample")), tmp_path / "a")
    equal = result.contrasts["equal compute"]
    assert equal.verdict == "not testable here"
    assert equal.left_out["six"].startswith("nothing that it can be cut to fits the method's compute of ")
    named = run_check(times, Claim("x", (replace(rival, fit_with="times"), "sample")), tmp_path / "b")
    assert fitted(named, "six").compute <= named.method_compute
    declared = run_check(times, Claim("x", (replace(rival, contrasts=("as published",)), "sample")), tmp_path / "c")
    assert list(declared.contrasts) == ["as published"]  # which the claim says itself


def test_a_study_s_baselines_are_compared_as_published_alone_where_its_claim_says_so(tmp_path: Path) -> None:
    collapse = find("self-train-collapse")
    assert collapse.claim
    silent = tuple(replace(one, contrasts=("equal compute",)) for one in collapse.claim.baselines[:1])
    result = run_check(collapse, replace(collapse.claim, baselines=silent, legs=()), tmp_path)
    assert list(result.contrasts) == ["equal compute"]
    assert result.headline.verdict == "not testable here"
    assert result.headline.left_out == {
        "frozen": "a study cannot be cut, and no option says how much it does (fit_with)"
    }


def test_a_number_of_questions_below_zero_is_refused() -> None:
    with pytest.raises(BadInput, match="amortized_over must be ≥ 0, got -1"):
        replace(VOTED, amortized_over=-1)
