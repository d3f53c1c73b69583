"""The underfit world's exact annotator: right critiques, revisions and solutions in the model's own words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from selftaught.records import Problem, Verdict
from selftaught.worlds.underfit.families import FAMILIES, Family, Written, exactly
from selftaught.worlds.underfit.language import NO_MISTAKES, family_of
from selftaught.worlds.underfit.text import Case, case_of_draft

MAX_STEPS = 12  # of a revision


class UnderfitAnnotator:
    """An `Annotator` that works a draft out step by step."""

    version = "underfit/1"

    def critique(self, problem: Problem, text: str) -> str:
        """The first wrong or missing step and what it should be, or that nothing is wrong; empty if neither is known.

        Nothing is known of a draft without steps or answer, of one whose answer alone is wrong, and where going on
        from its right steps requires a search.
        """
        case = case_of_draft(problem.question, problem.reference, text)
        if case is None:
            return ""
        if case.right and case.truth.first_error is None:
            return NO_MISTAKES
        steps = _right_steps(case)
        step = case.family.proceed(case.problem, case.reference, steps)
        return f"step {len(steps) + 1}: {step}" if step else ""

    def revision(self, problem: Problem, text: str) -> str:
        """The draft up to its first wrong step and a right rest; a solution of its own where it cannot go on."""
        case = case_of_draft(problem.question, problem.reference, text)
        if case is None:
            return self.solution(problem)
        if case.right and case.truth.first_error is None:
            return text
        own = _solved(case.family, case.problem, case.reference, case.question)
        steps = _finished(case, _right_steps(case))
        checked = case.family.check(case.problem, case.reference, steps, own.answer)
        sound = checked.answer is Verdict.RIGHT and checked.first_error is None
        return Written(tuple(steps), own.answer).text if sound and len(steps) >= len(own.steps) else own.text

    def solution(self, problem: Problem) -> str:
        """A solution without errors, as the model's training text has them."""
        family = FAMILIES[family_of(problem.question) or ""]
        return _solved(family, family.read(problem.question), problem.reference, problem.question).text


def _solved(family: Family, problem: Any, reference: Any, question: str) -> Written:
    return family.write(problem, reference, exactly, random.Random(question))


def _right_steps(case: Case) -> list[str]:
    """The draft's steps before its first wrong one."""
    first = case.truth.first_error
    return list(case.draft.steps[: first - 1] if first else case.draft.steps)


def _finished(case: Case, steps: Sequence[str]) -> list[str]:
    """The steps and those that follow, as far as they follow without a search."""
    found = list(steps)
    while len(found) < MAX_STEPS and (step := case.family.proceed(case.problem, case.reference, found)):
        found.append(step)
    return found
