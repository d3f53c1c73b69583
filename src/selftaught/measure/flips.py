"""How revisions change answers: how often they fix wrong ones and break right ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

from selftaught.feedback.equality import same_answer
from selftaught.records import Verdict

if TYPE_CHECKING:
    from selftaught.check.claim import SystemResult
    from selftaught.run.solver import SolverResult

VERDICT_NAMES = {Verdict.RIGHT: "right", Verdict.WRONG: "wrong", Verdict.UNKNOWN: "none"}


def flips(result: SystemResult) -> dict[str, float]:
    """Count how revisions of test answers changed their verdicts, as shares of the test problems.

    A revision is an attempt with the role "revise" that builds on another one. The verdict before it is that of the
    last answer in its history, "none" if there is none; a revision without an answer leaves the verdict unchanged.

    Returns:
        "revisions" (per test problem), and a share for each transition of a verdict: "right to wrong",
        "wrong to right", "none to right", ...; all zero without revisions.
    """
    problems = {problem.id: problem for problem in result.run.task.test}
    samples = {key: payload for key, _, payload, _ in result.run.journal.effects("sample")}
    mine = {key: payload for key, payload in samples.items() if payload["problem"] in problems}

    @cache
    def standing(key: str) -> Verdict:
        payload = mine[key]
        feedback = result.run.task.verify(problems[payload["problem"]], full_text(samples, key))
        before = payload["parent"] if payload["role"] == "revise" else None
        return standing(before) if feedback.verdict is Verdict.UNKNOWN and before in mine else feedback.verdict

    counts: Counter[tuple[Verdict, Verdict]] = Counter(
        (standing(payload["parent"]), standing(key))
        for key, payload in mine.items()
        if payload["role"] == "revise" and payload["parent"] in mine
    )
    total = sum(counts.values())
    shares = {
        f"{VERDICT_NAMES[a]} to {VERDICT_NAMES[b]}": counts[a, b] / total if total else 0.0
        for a in Verdict for b in Verdict
        if b is not Verdict.UNKNOWN or a is Verdict.UNKNOWN
    }  # fmt: skip
    return {"revisions": total / max(1, len(problems)), **shares}


@dataclass(frozen=True, order=True)
class TurnVerdicts:
    """Verdicts of the turns of one solution, without problem and text.

    Attributes:
        verdicts: one per turn, in order.
        unchanged: whether the last turn gives the first one's answer (its text, if neither has an answer).
    """

    verdicts: tuple[Verdict, ...]
    unchanged: bool


def turn_verdicts(solved: SolverResult) -> TurnVerdicts:
    """Return the verdicts of a solution's turns, or of the attempt alone if it has no turns."""
    turns = solved.turns or (solved.attempt,)
    a, b = turns[0], turns[-1]
    same = same_answer(a.answer, b.answer) and (a.answer is not None or a.text == b.text)
    return TurnVerdicts(tuple(turn.verdict for turn in turns), same)


def correction_metrics(turns: Sequence[TurnVerdicts]) -> dict[str, float]:
    """Compare the last turn of each solution with the first, as shares of all solutions.

    Source: Kumar et al., 2409.12917, section 3: Accuracy@t1, Accuracy@t2, their difference, and its
    components. An answer that the verifier cannot judge is not right.

    Args:
        turns: verdicts of solutions whose turns were judged (`correction_metrics` passed to `run.measure`).

    Returns:
        "first", "second" (accuracies), "delta" (second - first, -1..1), "wrong to right", "right to wrong", and
        "unchanged" (the same final answer; the same text, if neither has one); all zero without solutions.
    """
    pairs = [tuple(verdict is Verdict.RIGHT for verdict in (c.verdicts[0], c.verdicts[-1])) for c in turns]

    def share(hits: Sequence[bool]) -> float:
        return sum(hits) / len(hits) if hits else 0.0

    first, second = share([a for a, _ in pairs]), share([b for _, b in pairs])
    return {
        "first": first,
        "second": second,
        "delta": second - first,
        "wrong to right": share([b and not a for a, b in pairs]),
        "right to wrong": share([a and not b for a, b in pairs]),
        "unchanged": share([c.unchanged for c in turns]),
    }


def flip_rates(turns: Sequence[TurnVerdicts]) -> dict[str, float]:
    """How often the last turn changes the first, given what the first was.

    Args:
        turns: verdicts of solutions whose turns were judged.

    Returns:
        "changed": share of solutions whose last answer is another than the first; "fixed": share of right last answers
        among solutions whose first answer is not right; "broken": share of last answers that are not right among those
        whose first answer is; NaN where there is none.
    """
    right = [(c.verdicts[0] is Verdict.RIGHT, c.verdicts[-1] is Verdict.RIGHT) for c in turns]
    after_wrong, after_right = [b for a, b in right if not a], [b for a, b in right if a]
    return {
        "changed": fmean(not c.unchanged for c in turns) if turns else math.nan,
        "fixed": fmean(after_wrong) if after_wrong else math.nan,
        "broken": 1 - fmean(after_right) if after_right else math.nan,
    }


def full_text(samples: Mapping[str, Any], key: str) -> str:
    """Join an answer that was sampled in pieces, from the journal's samples by key."""
    payload = samples[key]
    if "prefix_chars" not in payload:
        return payload["text"]
    parent, forced = samples[payload["parent"]], payload["injected"]
    before = full_text(samples, payload["parent"]) + parent.get("stop_text", "")
    return before[: payload["prefix_chars"] - len(forced)] + forced + payload["text"]
