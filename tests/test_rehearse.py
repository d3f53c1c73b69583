"""A dry run foretells what a run asks for, without running anything of the user's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from selftaught.control import Budget
from selftaught.engines import Sampling
from selftaught.feedback.verifiers import ExtractedAnswer
from selftaught.method import find, methods, recipe
from selftaught.models import Policy
from selftaught.records import Feedback, Problem
from selftaught.run.dry_run import dry_run
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task
from selftaught.testing import Learner, make_run, make_task
from selftaught.testing.checks import task_for

RECIPES = [m for m in methods().values() if m.shape == "recipe"]


class Untouchable:
    """A verifier that must not be asked."""

    needs_reference = True
    version = "untouchable"

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        raise AssertionError("a rehearsal judged with the user's verifier")

    def close(self) -> None:
        raise AssertionError("a rehearsal closed the user's verifier")


@pytest.mark.parametrize("method", ["rest-em", "lmsi"])
def test_it_foretells_exactly_what_does_not_hang_on_verdicts(tmp_path: Path, method: str) -> None:
    options = find(method).bind({"rounds": 2, "samples": 5})
    settings = Settings(sampling=Sampling(max_tokens=70))
    expected = dry_run(find(method), options, make_task(verifier=Untouchable()), settings)
    learner = Learner()
    with make_run(tmp_path, settings=settings, learner=learner) as run:
        find(method)(run, run.base, run.task, **options)
        asked = run.journal.count("sample")
        assert run.ledger.usage.generated <= expected["max_generated_tokens"]
    assert expected["requests"] == {"solve": asked}
    assert expected["max_generated_tokens"] == 70 * asked
    assert expected["max_judge_tokens"] == 0
    assert expected["trainings"] == len(learner.given) == 2


@pytest.mark.parametrize("method", RECIPES, ids=lambda m: m.id)
def test_every_recipe_can_be_rehearsed_in_seconds_and_in_silence(
    capfd: pytest.CaptureFixture[str], method: object
) -> None:
    assert method in RECIPES
    chosen = next(m for m in RECIPES if m is method)
    most = {"rounds": 3, "steps": 5}
    few = {o.name: min(o.default, most[o.name]) for o in chosen.options if o.name in most}
    begun = time.process_time()
    expected = dry_run(chosen, chosen.bind(few), task_for(chosen, train=16, dev=16, test=1), Settings(budget=Budget(1)))
    assert time.process_time() - begun < 20
    assert capfd.readouterr() == ("", "")
    if expected["trainings"] or not expected.get("policies_with_notes"):
        assert expected["trainings"] >= 1
        assert expected["records"] > 0
    else:  # it writes notes and trains nothing
        assert expected["records"] == 0


def test_of_many_problems_some_are_played_and_the_figures_scaled() -> None:
    options = find("rest-em").bind({"rounds": 1, "samples": 2})
    whole = dry_run(find("rest-em"), options, make_task(640, 8, 1), Settings())
    assert whole["requests"] == {"solve": 2 * 640 + 2 * 8}
    assert 400 < whole["records"] < 900  # about half of 1280


def test_about_half_of_the_hinted_answers_are_right_too() -> None:
    options = find("star").bind({"rounds": 1})
    with_hints = dry_run(find("star"), options, make_task(64, 8, 1), Settings())
    without = dry_run(find("star"), options | {"rationalization": False}, make_task(64, 8, 1), Settings())
    assert with_hints["requests"]["solve"] > without["requests"]["solve"]
    assert with_hints["records"] > 1.2 * without["records"]


@recipe(paper="2303.17651")
def refining(run: Run, base: Policy, task: Task, *, turns: int = 2) -> Policy:
    """Measure under a solver that criticises."""
    run.measure(base, solver=lambda ask, problem: find("self-refine")(ask, problem, turns=turns))
    return base


def test_roles_are_told_apart_and_missing_references_are_no_matter() -> None:
    known = make_task(4, 6, 1)
    bare = [Problem(p.id, p.prompt) for p in known.train]
    task = Task("bare", bare, known.dev, known.test, verifier=Untouchable(), kind=Kind.NUMBER)
    expected = dry_run(refining, refining.bind({}), task, Settings(sampling=Sampling(max_tokens=10)))
    assert expected["requests"] == {"solve": 6, "critique": 12, "revise": 12}
    assert (expected["max_generated_tokens"], expected["max_judge_tokens"]) == (180, 120)
    options = find("lmsi").bind({"samples": 4})
    assert dry_run(find("lmsi"), options, task, Settings(sampling=Sampling(max_tokens=2)))["records"] > 0
