"""Checks of correction: blind, by critiques of three kinds, and of locating the first error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selftaught.curate import by_problem
from selftaught.learn import sft
from selftaught.measure.flips import correction_metrics, turn_verdicts
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Problem, Verdict, content_hash
from selftaught.refine import criticize, error_step, finds_no_error, revise, two_turns
from selftaught.refine.perturbations import first_error_steps
from selftaught.refine.turns import CRITIQUE, answer_turn
from selftaught.routines import collect_critic_data, critique_demos
from selftaught.run.run import Run
from selftaught.run.solver import SolverResult
from selftaught.tasks import Task
from selftaught.worlds.kit.calibration.figures import Figure, Scores, difference_of, statistic_of
from selftaught.worlds.kit.calibration.lab import SAMPLING, Lab, NotApplicable

DRAFTS = 4  # per problem that a critic learns from

Annotate = Callable[[Problem, str], str]
"""(problem, draft) -> its true critique in the world's words; empty where there is none."""


def blind_correction(lab: Lab) -> dict[str, Figure]:
    """Check 11."""
    with lab.run("self-correction", lab.measured(lab.sizes.problems)) as run:
        solved = run.solve(run.base, run.task.test, "test", solver=two_turns, keep_turns=True, **SAMPLING)
    return correction_figures(solved)


def correction_figures(solved: Sequence[SolverResult]) -> dict[str, Figure]:
    """Second answers against first ones."""
    turns = {one.attempt.problem.id: turn_verdicts(one) for one in solved}
    first, second = (
        {name: float(found.verdicts[place] is Verdict.RIGHT) for name, found in turns.items()} for place in (0, -1)
    )
    rates = {name: Figure(value) for name, value in correction_metrics(list(turns.values())).items() if name != "delta"}
    return {"second answer - first answer": difference_of(second, first), **rates}


@dataclass(frozen=True)
class Critiques:
    """Critiques of the same drafts, and the revisions by them.

    Attributes:
        drafts: one draft per problem.
        error_steps: draft id -> its first wrong step from 1, where it has one.
        written: name of the critic -> critiques, in the order of the drafts.
        revised: name of the critic -> problem -> whether the answer after revision is right, as 0 or 1.
    """

    drafts: Sequence[Attempt]
    error_steps: Mapping[str, int]
    written: Mapping[str, Sequence[Attempt]]
    revised: Mapping[str, Scores]


def revision(lab: Lab) -> dict[str, Figure]:
    """Check 12."""
    return revision_figures(critiques_of(lab))


def revision_figures(found: Critiques) -> dict[str, Figure]:
    """What revision by each critic's critiques gains over the drafts, and the critics against each other."""
    scores = {"draft": {one.problem.id: float(one.right) for one in found.drafts}, **found.revised}
    compared = {
        "true critique: revised - draft": ("true", "draft"),
        "true - trained critique": ("true", "trained"),
        "trained - own critique": ("trained", "own"),
        "trained critique: revised - draft": ("trained", "draft"),
        "own critique: revised - draft": ("own", "draft"),
    }
    known = {name: pair for name, pair in compared.items() if all(one in scores for one in pair)}
    return {name: difference_of(scores[new], scores[old]) for name, (new, old) in known.items()}


def locating(lab: Lab) -> dict[str, Figure]:
    """Check 13."""
    found = critiques_of(lab)
    if not found.error_steps:
        raise NotApplicable("the world's verifier gives no verdicts on steps")
    return location_figures(found)


def location_figures(found: Critiques) -> dict[str, Figure]:
    """F1 of the first error that critiques point at, before and after training the critic."""
    rows = [
        [(error_step(own), error_step(trained), found.error_steps.get(draft.id))]
        for draft, own, trained in zip(found.drafts, found.written["own"], found.written["trained"], strict=True)
    ]

    def at(place: int) -> Callable[[list[tuple[int | None, ...]]], float]:
        return lambda some: location_f1([(row[place], row[2]) for row in some])

    return {
        "F1 of the first error, trained - before": statistic_of(lambda some: at(1)(some) - at(0)(some), rows),
        "F1 before": statistic_of(at(0), rows),
        "F1 after": statistic_of(at(1), rows),
    }


def location_f1(pairs: Sequence[tuple[int | None, int | None]]) -> float:
    """F1 of (named, true) first error steps: a hit names the very step; None names or has no error. 0 without hits."""
    hits = sum(named is not None and named == true for named, true in pairs)
    named, wrong = sum(a is not None for a, _ in pairs), sum(b is not None for _, b in pairs)
    return 2 * hits / (named + wrong) if hits else 0.0


def critiques_of(lab: Lab) -> Critiques:
    """Drafts, critiques and revisions, which checks 12 and 13 share."""
    if "critiques" not in lab.shared:
        task = lab.trained(1)
        test = lab.measured(lab.sizes.some).test
        held_out = {p.id for p in test}
        train = [p for p in task.train if p.id not in held_out]
        with lab.run("critiques", task.with_splits(train, (), test), seed=1) as run:
            lab.shared["critiques"] = _compare_critics(run)
    return lab.shared["critiques"]


def _compare_critics(run: Run) -> Critiques:
    """The starting model, a trained critic and, where the world has one, the exact annotator, on the same drafts."""
    annotate = annotator_of(run.task)
    trained = train_critic(run, annotate)
    solved = run.solve(run.base, run.task.test, "test", **SAMPLING)
    drafts = [one.attempt for one in solved if not one.attempt.failed]
    wrong = [draft for draft in drafts if draft.verdict is Verdict.WRONG]
    critics = {"own": run.base, "trained": trained}
    written = {name: run.attempt(who, drafts, solver=criticize, temperature=0.0) for name, who in critics.items()}
    if annotate:
        written["true"] = [true_critique(own, annotate) for own in written["own"]]
    revised = {name: _revise(run, drafts, some) for name, some in written.items()}
    return Critiques(drafts, first_error_steps(run.task, wrong, ()), written, revised)


def _revise(run: Run, drafts: Sequence[Attempt], critiques: Sequence[Attempt]) -> dict[str, float]:
    """Whether each problem is right after a revision by its critique; a draft without found errors stays."""
    after = {draft.problem.id: draft for draft in drafts}
    flawed = [one for one in critiques if not (one.failed or finds_no_error(one) or not one.text)]
    revised = by_problem(run.attempt(run.base, flawed, solver=revise, **SAMPLING))
    after |= {name: group[0] for name, group in revised.items()}
    return {name: float(attempt.right) for name, attempt in after.items()}


def annotator_of(task: Task) -> Annotate | None:
    """The world's exact annotator; None where it has none."""
    return getattr(getattr(task, "annotator", None), "critique", None)


def true_critique(own: Attempt, annotate: Annotate) -> Attempt:
    """The annotator's critique of the draft that `own` criticizes, in its place in the conversation."""
    draft = own.prompt[-2].content
    text = annotate(own.problem, draft)
    return replace(own, id=content_hash("true critique", own.id, text), text=text, answer=None)


def train_critic(run: Run, annotate: Annotate | None) -> Policy:
    """A critic trained on the annotator's critiques of the starting model's drafts on train problems.

    Without an annotator: on its own critiques that lead to right revisions, as `critique-in-the-loop` does.
    """
    if annotate is None:
        examples = collect_critic_data(run, run.base, run.base, run.task, drafts=DRAFTS)
        demos: list[Any] = critique_demos(examples)
    else:
        drafts = [a for a in run.attempt(run.base, run.task.train, samples=DRAFTS, **SAMPLING) if not a.failed]
        notes = {draft.id: annotate(draft.problem, draft.text) for draft in drafts}
        turns = {draft.id: run.task.turn(answer_turn(draft), "critique", CRITIQUE) for draft in drafts}
        demos = [Demo(turns[d.id], notes[d.id], attempts=(d.id,)) for d in drafts if notes[d.id]]
    if not demos:
        raise NotApplicable("no critique to learn from: the model's own lead to no right revision")
    return run.learn(run.base, sft(), demos)
