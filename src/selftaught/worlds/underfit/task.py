"""The underfit world's problems as a task: `underfit`, `underfit:level=3`, `underfit:family=chain|add,level=3|4`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from selftaught.errors import BadInput, suggest
from selftaught.feedback.userfile import is_userfile
from selftaught.feedback.verifiers import ExtractedAnswer, Verifier, unknown_verdict
from selftaught.records import Feedback, Problem, Verdict, make_problem
from selftaught.tasks.extract import Kind
from selftaught.tasks.source import TaskRequest, choose_verifier
from selftaught.tasks.steps import StepFormat
from selftaught.tasks.task import Task
from selftaught.worlds.underfit.annotator import UnderfitAnnotator
from selftaught.worlds.underfit.families import FAMILIES, LEVELS, MARK, Checked, exactly, split_reply
from selftaught.worlds.underfit.language import PHRASES, family_of
from selftaught.worlds.underfit.text import is_held_out

MIDDLE = 3
MOST_DRAWS = 200  # consecutive draws without a new problem after which a family's level counts as exhausted


class UnderfitVerifier:
    """Exact verdicts on answers, and on each step; in process.

    The reference is the answer itself, one way to the target, or the program that generates the hidden tests.
    """

    version = "underfit/1"
    needs_reference = True

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """The verdict on the answer, scored 1 or 0."""
        return self.decide(problem, answer, reference)

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:  # noqa: ARG002
        """Same as `judge`, which is fast."""
        if answer.raw is None:
            return unknown_verdict("no answer", self.version)
        verdict = check_reply(problem, answer.text).answer
        return Feedback(verdict, 1.0 if verdict is Verdict.RIGHT else 0.0, "", self.version)

    def reads(self, problem: Problem) -> bool:
        """Whether it is a question of this world that has an answer."""
        family = FAMILIES.get(family_of(problem.question) or "")
        return family is not None and family.read(problem.question) is not None

    def steps(self, problem: Problem, text: str) -> tuple[Verdict, ...]:
        """A verdict on each step of a reply, given those before it."""
        return check_reply(problem, text).steps

    def close(self) -> None:
        """Nothing to stop."""


def check_reply(problem: Problem, text: str) -> Checked:
    """The true verdicts on a reply: each step, and the answer.

    Raises:
        ValueError: the problem does not belong to this world.
    """
    question = problem.question
    family = FAMILIES.get(family_of(question) or "")
    if family is None:
        raise ValueError(f"not a question of the underfit world: {question!r:.80}")
    steps, answer = split_reply(text)
    return family.check(family.read(question), problem.reference, steps, answer)


def load(spec: str, request: TaskRequest) -> Task:
    """Load `underfit` or `underfit:family=NAME|NAME,level=1|2`; by default every family, at the middle level.

    Questions that may be in the model's training text are never drawn. Test is drawn first, then dev, then train, so
    that test and dev do not change with the size of train.

    Raises:
        BadInput: an unknown option, family or level, a verifier that cannot judge all families, or fewer problems
            than requested.
    """
    options = _options(spec)
    families, levels = options["family"], [int(level) for level in options["level"]]
    total = request.test + request.dev + request.train
    problems = list(islice(_stream(families, levels, request.seed), total))
    name = f"underfit:family={'|'.join(families)},level={'|'.join(map(str, levels))}"
    if len(problems) < total:
        raise BadInput(f"it has {len(problems)} problems, {total} were requested", where=name, fix="request fewer")
    dev = request.test + request.dev
    return Task(
        name,
        problems[dev:],
        problems[request.test : dev],
        problems[: request.test],
        verifier=_verifier(request, problems),
        kind=Kind.STRING,
        phrases=PHRASES,
        steps=StepFormat(last=f"^{MARK}"),
        annotator=UnderfitAnnotator(),
    )


def _verifier(request: TaskRequest, problems: list[Problem]) -> Verifier:
    """The world's verifier, or the user's: others do not support several right answers to a problem."""
    wanted = request.verifier
    if wanted is None:
        return UnderfitVerifier()
    if isinstance(wanted, str) and not is_userfile(wanted):
        fix = "leave it out, or give my_file.py:function"
        raise BadInput(
            "the underfit world only accepts its own verifier or a function", where=f"verifier {wanted}", fix=fix
        )
    return choose_verifier(wanted, Kind.STRING, problems)


def _options(spec: str) -> dict[str, list[str]]:
    known = {"family": list(FAMILIES), "level": [str(level) for level in LEVELS]}
    chosen = {"family": list(FAMILIES), "level": [str(MIDDLE)]}
    for part in filter(None, spec.partition(":")[2].split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise BadInput(f"unknown option {key!r}", where=spec, fix=suggest(key, known))
        chosen[key] = value.split("|")
        for one in chosen[key]:
            if one not in known[key]:
                raise BadInput(f"unknown {key} {one!r}", where=spec, fix=suggest(one, known[key]))
    return chosen


def _stream(families: list[str], levels: list[int], seed: int) -> Iterator[Problem]:
    """Distinct problems, alternating between families and levels; ends when one of them is exhausted."""
    seen: set[str] = set()
    kinds = [(family, level, random.Random(f"{seed}/{family}/{level}")) for level in levels for family in families]
    while True:
        for family, level, rng in kinds:
            found = next((p for p in islice(_draws(family, level, rng), MOST_DRAWS) if p.id not in seen), None)
            if found is None:
                return
            seen.add(found.id)
            yield found


def _draws(family: str, level: int, rng: random.Random) -> Iterator[Problem]:
    while True:
        question, reference = FAMILIES[family].question(level, rng)
        if is_held_out(question):
            meta: dict[str, Any] = {
                "source": "underfit",
                "where": f"underfit [{family}]",
                "family": family,
                "level": level,
            }
            meta |= {"question": question, "difficulty": level, "solution": _solution(family, question, reference)}
            yield make_problem(question, reference, meta)


def _solution(family: str, question: str, reference: Any) -> str:
    """A solution without errors, as the model's training text has them."""
    of = FAMILIES[family]
    return of.write(of.read(question), reference, exactly, random.Random(question)).text
