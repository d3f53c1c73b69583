"""Tasks of a world of the kit: problems that its model's text never holds, with exact verdicts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from selftaught.worlds.kit.annotator import KitAnnotator
from selftaught.worlds.kit.family import Checked, Family, split_reply
from selftaught.worlds.kit.language import ANSWER, INLINE, PHRASES
from selftaught.worlds.kit.writer import is_held_out

MOST_DRAWS = 200  # consecutive draws without a new problem after which a family's level counts as exhausted
STEPS = StepFormat(last=f"^{ANSWER}")
NOISE: Mapping[str, tuple[str, ...]] = {"none": (), "wording": ("wording",), "aside": ("aside",), "way": ("way",)}
"""Value of the option `noise` -> what is done to every question."""


class KitVerifier:
    """Exact verdicts on answers, and on each step; in process.

    Args:
        families: of the world.
        version: of its verdicts.
    """

    needs_reference = False

    def __init__(self, families: Sequence[Family], version: str) -> None:
        self._families, self.version = tuple(families), version

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """The verdict on the answer, scored 1 or 0, or by its degree."""
        return self.decide(problem, answer, reference)

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:  # noqa: ARG002
        """Same as `judge`, which is fast."""
        if answer.raw is None:
            return unknown_verdict("no answer", self.version)
        checked = self.check(problem, answer.text)
        verdict = checked.answer
        return Feedback(verdict, checked.score, "", self.version)

    def reads(self, problem: Problem) -> bool:
        """Whether it is a question of this world."""
        return self.family(problem) is not None

    def steps(self, problem: Problem, text: str) -> tuple[Verdict, ...]:
        """A verdict on each step of a reply, given those before it."""
        return self.check(problem, text).steps

    def family(self, problem: Problem) -> Family | None:
        """The family of a problem; None if it belongs to no family of this world."""
        return next((family for family in self._families if family.read(problem.question) is not None), None)

    def check(self, problem: Problem, text: str) -> Checked:
        """All true verdicts on a reply.

        Raises:
            ValueError: the problem does not belong to this world.
        """
        family = self.family(problem)
        if family is None:
            raise ValueError(f"not a question of this world: {problem.question!r:.80}")
        return family.check(family.read(problem.question), problem.reference, *split_reply(text))

    def close(self) -> None:
        """Nothing to stop."""


@dataclass(frozen=True)
class Options:
    """Options of a task specification.

    Attributes:
        families: names of families.
        levels: their levels.
        noise: what is done to questions: a key of `NOISE`.
    """

    families: tuple[str, ...]
    levels: tuple[int, ...]
    noise: str = "none"

    def named(self, world: str) -> str:
        """The canonical specification."""
        noise = f",noise={self.noise}" if self.noise != "none" else ""
        return f"{world}:family={'|'.join(self.families)},level={'|'.join(map(str, self.levels))}{noise}"


def load_kit_task(
    world: str,
    families: Sequence[Family],
    spec: str,
    request: TaskRequest,
    *,
    level: int,
    version: str,
    usual: Sequence[str] = (),
) -> Task:
    """Load `WORLD` or `WORLD:family=NAME|NAME,level=1|2,noise=aside`; by default the usual families at one level.

    Questions that may be in the model's training text are never drawn. Test is drawn first, then dev, then train, so
    that test and dev do not change with the size of train.

    Args:
        world: its name.
        families: its families.
        spec: the specification.
        request: sizes, seed and verifier.
        level: the default level.
        version: of the verdicts.
        usual: names of the families of a specification that names none; all if empty.

    Raises:
        BadInput: an unknown option or value, a verifier that cannot judge the world, or fewer problems than requested.
    """
    options = read_options(spec, families, level, usual)
    chosen = [family for family in families if family.name in options.families]
    total = request.test + request.dev + request.train
    problems = list(islice(problems_of(world, chosen, options, request.seed), total))
    name = options.named(world)
    if len(problems) < total:
        raise BadInput(f"it has {len(problems)} problems, {total} were requested", where=name, fix="request fewer")
    dev = request.test + request.dev
    splits = problems[dev:], problems[request.test : dev], problems[: request.test]
    verifier = _verifier(world, request, KitVerifier(families, version), problems)
    annotator = KitAnnotator(families, version)
    own = {"phrases": PHRASES, "inline": INLINE, "steps": STEPS, "annotator": annotator}
    return Task(name, *splits, verifier=verifier, kind=Kind.STRING, **own)


def _verifier(world: str, request: TaskRequest, own: Verifier, problems: list[Problem]) -> Verifier:
    """The world's verifier, or the user's."""
    wanted = request.verifier
    if wanted is None:
        return own
    if isinstance(wanted, str) and not is_userfile(wanted):
        what = f"the {world} world only accepts its own verifier or a function"
        raise BadInput(what, where=f"verifier {wanted}", fix="leave it out, or give my_file.py:function")
    return choose_verifier(wanted, Kind.STRING, problems)


def read_options(spec: str, families: Sequence[Family], level: int, usual: Sequence[str] = ()) -> Options:
    """The options of a specification.

    Raises:
        BadInput: an unknown option or value.
    """
    levels = sorted({str(level) for family in families for level in family.levels}, key=int)
    known = {"family": [family.name for family in families], "level": levels, "noise": list(NOISE)}
    chosen = {"family": list(usual) or known["family"], "level": [str(level)], "noise": ["none"]}
    for part in filter(None, spec.partition(":")[2].split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise BadInput(f"unknown option {key!r}", where=spec, fix=suggest(key, known))
        chosen[key] = value.split("|")
        for one in chosen[key]:
            if one not in known[key]:
                raise BadInput(f"unknown {key} {one!r}", where=spec, fix=suggest(one, known[key]))
    return Options(tuple(chosen["family"]), tuple(map(int, chosen["level"])), chosen["noise"][0])


def problems_of(world: str, families: Sequence[Family], options: Options, seed: int) -> Iterator[Problem]:
    """Distinct held-out problems, alternating between families and levels; ends when one of them is exhausted."""
    seen: set[str] = set()
    kinds = [
        (family, level, random.Random(f"{seed}/{family.name}/{level}"))
        for level in options.levels
        for family in families
        if level in family.levels
    ]
    while kinds:
        for family, level, rng in kinds:
            drawn = islice(_draws(world, family, level, options.noise, rng), MOST_DRAWS)
            found = next((problem for problem in drawn if problem.id not in seen), None)
            if found is None:
                return
            seen.add(found.id)
            yield found


def _draws(world: str, family: Family, level: int, noise: str, rng: random.Random) -> Iterator[Problem]:
    shares: dict[str, float] = {key: float(key in NOISE[noise]) for key in ("wording", "aside", "way")}
    while True:
        question, reference = family.question(level, rng)
        if not is_held_out(question):
            continue
        question = family.reworded(question, rng, **shares)
        meta: dict[str, Any] = {"source": world, "where": f"{world} [{family.name}]", "family": family.name}
        meta |= {"level": level, "difficulty": level, "question": question}
        meta |= {"solution": family.solution(family.read(question), reference)}
        yield make_problem(question, reference, meta)
