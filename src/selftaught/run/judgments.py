"""Judgments through the journal: a judge asked about attempts, and what it may see of them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.identity import require_identity, solver_name, unwrap
from selftaught.journal import Journal
from selftaught.models.policy import Policy
from selftaught.records import HIDDEN, Attempt, Feedback, Verdict, content_hash
from selftaught.run.ask import Ask
from selftaught.run.ask_reading import AskEffects
from selftaught.run.requests import JournaledRequest
from selftaught.run.solver import JUDGE_ROLES, AnyJudge
from selftaught.run.user_code import errors_of
from selftaught.samples import well_formed
from selftaught.tasks import Task
from selftaught.tasks.task import hide

Group = tuple[Attempt, ...]
"""Attempts at one problem that are judged together; of a judge of single attempts, one."""

FIX = "return Feedback(verdict, score, text)"
SIGNATURE = "write it as async (ask, attempt) -> Feedback"


@dataclass(frozen=True, slots=True)
class JudgeBatch:
    """Judgments that belong together: one policy, one judge.

    Attributes:
        label: shown beside the progress bar.
        policy: what the judge samples.
        work: each group as the judge may see it, and the name of that call, which is part of its keys.
    """

    label: str
    policy: Policy
    judge: AnyJudge
    sampling: Sampling
    work: Sequence[tuple[Group, str]]


@dataclass(frozen=True, slots=True)
class JournaledJudge:
    """Asks judges through the journal.

    Attributes:
        effects: what judges may have the run do, through the journal.
        task: words requests for its model.
        journal: where judgments are kept, beside the samples that they are read from.
    """

    effects: AskEffects
    task: Task
    journal: Journal

    async def judge(self, batch: JudgeBatch, group: Group, name: str) -> tuple[Feedback, ...]:
        """One judgment of a group: the feedback of each of its attempts.

        Raises:
            BadInput: the judge returned something else.
        """
        effects = replace(self.effects, sample=self._sample_as_judge)
        ask = Ask(effects, batch.policy, group[0].problem, batch.sampling, name, self.task)
        given = await call_judge(ask, group, batch.judge)
        self._keep(batch, group, name, ask, given)
        return given

    async def _sample_as_judge(self, asked: JournaledRequest) -> Attempt:
        """Whatever a judge samples are judge tokens."""
        return await self.effects.sample(asked if asked.role in JUDGE_ROLES else replace(asked, role="judge"))

    def _keep(self, batch: JudgeBatch, group: Group, name: str, ask: Ask, given: Sequence[Feedback]) -> None:
        """Journal a judgment, for the lineage; not where a request failed, as the next start asks again."""
        replies = ask.attempts
        if any(reply.failed for reply in replies):
            return
        payload = {
            "problem": group[0].problem.id, "policy": batch.policy.version, "source": given[0].source,
            "attempts": [attempt.id for attempt in group], "replies": [reply.id for reply in replies],
            "feedback": [[one.verdict, one.score, one.text] for one in given],
        }  # fmt: skip
        self.journal.put_new(content_hash("judgment", name, payload), "judgment", payload)


async def call_judge(ask: Ask, group: Group, judge: AnyJudge) -> tuple[Feedback, ...]:
    """Ask a judge about a group: feedback of kind "judge" for each attempt, from the judge and the policy by name.

    Raises:
        BadInput: it returns something else.
    """
    name, single = solver_name(judge), len(group) == 1 and not takes_groups(judge)
    subject: Any = group[0] if single else group
    with errors_of(judge, "judge"):
        made: Any = judge(ask, subject)
        if not inspect.isawaitable(made):
            raise BadInput(f"it returned {_shown(made)} without await", where=name, fix=SIGNATURE)
        found: Any = await made
    given = (found,) if single else found
    if not isinstance(given, tuple | list):
        raise BadInput(f"it returned {_shown(given)}, expected a tuple of {len(group)} Feedback", where=name, fix=FIX)
    if len(given) != len(group):
        what = f"it returned {len(given)} Feedback of {len(group)} attempts"
        raise BadInput(what, where=name, fix="return one for each attempt, in their order")
    return tuple(_checked(one, name, f"{name} by {ask.policy}") for one in given)


def _checked(one: Any, name: str, source: str) -> Feedback:
    """Feedback as it is kept; a verdict without a score is a score of 1 or 0."""
    if not isinstance(one, Feedback):
        raise BadInput(f"it returned {_shown(one)}, expected a Feedback", where=name, fix=FIX)
    score = one.score
    if score is None and one.verdict is not Verdict.UNKNOWN:
        score = float(one.verdict is Verdict.RIGHT)
    number = score is None or (isinstance(score, int | float) and math.isfinite(score) and 0 <= score <= 1)
    wrong = {
        f"verdict {_shown(one.verdict)}": isinstance(one.verdict, Verdict),
        f"score {_shown(score)}": number,
        f"text {_shown(one.text)}": isinstance(one.text, str),
    }
    if said := [what for what, fits in wrong.items() if not fits]:
        fix = "give a Verdict, and a score in 0..1 or None"
        raise BadInput(f"its feedback has {' and '.join(said)}", where=name, fix=fix)
    score = None if score is None else float(score)
    return Feedback(one.verdict, score, well_formed(one.text), source, "judge")


def _shown(value: Any) -> str:
    """What a message says of a value: a short one itself, of any other its type."""
    written = repr(value)
    return written if len(written) <= 40 else f"a {type(value).__name__}"


def check_judge(judge: Any, size: int) -> str:
    """The name of a judge that is to judge `size` attempts together.

    Raises:
        BadInput: it is no judge, judges another number of attempts, or cannot be told from others.
    """
    from selftaught.method import Method

    inner = unwrap(judge)
    if isinstance(inner, Method) and inner.shape != "judge":
        raise BadInput(f"it is a {inner.shape}, not a judge", where=inner.id, fix="pass a judge")
    if not callable(inner):
        raise BadInput(f"{judge!r:.60} is not a judge", where="judge", fix=SIGNATURE)
    name = require_identity(judge, "a judgment").name
    try:
        inspect.signature(judge if not isinstance(judge, Method) else judge.function).bind(None, None)
    except (TypeError, ValueError) as error:
        raise BadInput(f"it cannot be called as a judge: {error}", where=name, fix=SIGNATURE) from None
    wanted = group_size(judge)
    if wanted is not None and wanted != size and (wanted or size < 2):
        kind = {0: "groups of attempts", 1: "single attempts", 2: "pairs of attempts"}.get(wanted, f"{wanted} attempts")
        fix = "pass the attempts themselves" if wanted == 1 else "pass tuples of attempts, such as curate.all_pairs"
        raise BadInput(f"it judges {kind}, got {size} at a time", where=name, fix=fix)
    return name


def group_size(judge: Any) -> int | None:
    """How many attempts a judge takes at a time by its annotations: 1, the size of a tuple, or 0 for any number.

    None where it is not annotated.
    """
    function = getattr(unwrap(judge), "function", judge)
    places = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    stated = places[1].annotation if len(places) > 1 else inspect.Parameter.empty
    if stated is inspect.Parameter.empty:
        return None
    text = stated if isinstance(stated, str) else str(stated)
    if "tuple" not in text and "Sequence" not in text and "list" not in text:
        return 1
    return 0 if "..." in text or "tuple" not in text else text.count("Attempt")


def takes_groups(judge: Any) -> bool:
    """Whether a judge takes a tuple of attempts; by its annotations, else a single one."""
    return group_size(judge) not in (1, None)


def as_judge_sees(attempt: Attempt, *, reference: bool, verdict: bool) -> Attempt:
    """An attempt without its problem's reference and without the task's feedback, unless the judge may see them."""
    feedback = attempt.feedback if verdict else attempt.judgments
    problem = attempt.problem if reference or attempt.problem.reference is HIDDEN else hide(attempt.problem)
    return replace(attempt, feedback=feedback, problem=problem)
