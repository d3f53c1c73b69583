"""Recipes that call recipes: one budget, one journal, one count of rounds, the options of all of them kept."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught.control import Budget
from selftaught.errors import BadInput
from selftaught.learn import sft
from selftaught.lineage import trace
from selftaught.method import find, recipe
from selftaught.models import Policy
from selftaught.run.conclusion import conclude, write
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.testing import assert_survives, checks, make_run

REST_EM = find("rest-em")


@recipe(paper="2203.14465", needs=("verifier", "reference"))
def curriculum(run: Run, base: Policy, task: Task, *, rounds: int = 1, samples: int = 2) -> Policy:
    """Warm up, and go on from there, twice in each round; then learn what all of it taught."""
    policy = base
    for _ in run.rounds(rounds):
        tried = run.attempt(policy, task.train, samples=samples)
        policy = REST_EM(run, policy, task, rounds=2, samples=samples)
        policy = find("star")(run, policy, task, rounds=1)
        more = run.attempt(policy, task.train, samples=samples)
        assert not {a.id for a in tried} & {a.id for a in more}
        run.measure(policy)
    return REST_EM(run, policy, task, rounds=1, samples=samples + 1)


def test_recipes_run_within_a_recipe_and_again_for_nothing(tmp_path: Path) -> None:
    outcomes = []
    for _ in range(2):
        with make_run(tmp_path) as run:
            champion = curriculum(run, run.base, run.task)
            engine: Any = run.engine
            outcomes.append((champion.version, run.journal.digest(), run.history, run.ledger.usage, run.config))
            assert run.ledger.usage == run.journal.usage()
            calls = engine.calls
    assert outcomes[0] == outcomes[1]
    assert calls == 0
    config, history = outcomes[0][-1], outcomes[0][2]
    assert config["method"] == "curriculum"
    assert config["option.samples"] == 2
    assert config["curriculum/rest-em.option.samples"] == 2
    assert config["curriculum/rest-em 2.option.samples"] == 3
    assert config["curriculum/star.option.rounds"] == 1
    assert [row["round"] for row in history] == [2, 3, 4, 1, 5]
    rationales = {"direct": 11 / 12, "rationalized": 1 / 12}  # what star says of its round
    assert [row["metrics"] for row in history] == [
        {"curriculum/rest-em": {"round": 1}}, {"curriculum/rest-em": {"round": 2}},
        {"curriculum/star": {"round": 1}, "rationales": rationales}, {}, {"curriculum/rest-em 2": {"round": 1}},
    ]  # fmt: skip


@recipe(paper="2203.14465", needs=("verifier",))
def warmed(run: Run, base: Policy, task: Task) -> Policy:
    """One round in which another recipe has one."""
    for _ in run.rounds(1):
        policy = REST_EM(run, base, task, rounds=1, samples=2)
        run.attempt(policy, task.train)
    return run.champion


def test_killed_before_each_effect_it_ends_the_same(tmp_path: Path) -> None:
    killed = assert_survives(lambda run: checks.play(warmed, run, {}), partial(checks.opened, tmp_path), every=True)
    assert killed > 40


def test_it_stays_within_its_budget(tmp_path: Path) -> None:
    checks.keeps_its_budget(curriculum, tmp_path)


def test_the_end_of_an_inner_run_is_not_the_outers(tmp_path: Path) -> None:
    """A later round of the inner recipe without anything to learn from ends that recipe alone."""
    went_on = []

    @recipe(needs=("verifier",))
    def dry(run: Run, base: Policy, task: Task) -> Policy:
        """Learn once, and nothing after."""
        for number in run.rounds(3):
            run.learn(base, sft(), find_demos(run, base, task) if number == 1 else [])
        return base

    @recipe(needs=("verifier",))
    def outer(run: Run, base: Policy, task: Task) -> Policy:
        """Go on."""
        dry(run, base, task)
        went_on.append(run.attempt(base, task.train))
        return base

    with make_run(tmp_path) as run:
        outer(run, run.base, run.task)
        assert any("produced no training records" in note for note in run.notes)
    assert went_on


def find_demos(run: Run, base: Policy, task: Task) -> list[Any]:
    from selftaught.curate import keep_right

    return keep_right(run.attempt(base, task.train, samples=4, temperature=1.0))


def test_a_spent_budget_ends_them_all(tmp_path: Path) -> None:
    with make_run(tmp_path, settings=Settings(budget=Budget(1))) as run:
        assert curriculum(run, run.base, run.task) is run.champion
        assert run.journal.count("sample") == 2 * len(run.task.train)


def test_a_recipe_declares_what_those_need_that_it_calls(tmp_path: Path) -> None:
    @recipe()
    def outer(run: Run, base: Policy, task: Task) -> Policy:
        """Use verdicts through another."""
        return REST_EM(run, base, task)

    with make_run(tmp_path) as run, pytest.raises(BadInput, match=r'outer: it calls rest-em.*needs=\("verifier",\)'):
        outer(run, run.base, run.task)


def test_summary_report_and_lineage_know_them(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        curriculum(run, run.base, run.task)
        summary = write(run, conclude(run))
        champion = run.champion
    assert summary["method"] == "curriculum"
    assert [row["number"] for row in summary["rounds"]][1:] == [2, 3, 4, 1, 5] or len(summary["rounds"]) == 5
    assert "curriculum/rest-em" in (tmp_path / "run" / "report.html").read_text()
    found = trace(tmp_path / "run")
    assert found.start == champion.version
    assert not found.gaps
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rounds"]


def test_other_options_of_an_inner_recipe_are_named(tmp_path: Path) -> None:
    def outer(run: Run, base: Policy, task: Task) -> Policy:
        return REST_EM(run, base, task, rounds=1, samples=samples)

    method = recipe(needs=("verifier",))(outer)
    samples = 2
    with checks.opened(tmp_path) as run:
        method(run, run.base, run.task)
    samples = 3
    with (
        checks.opened(tmp_path) as run,
        pytest.raises(BadInput, match=r"outer/rest-em\.option\.samples is 2 there, 3 here"),
    ):
        method(run, run.base, run.task)
