"""Keeping attempts by their verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from selftaught.errors import BadInput, suggest
from selftaught.records import Attempt, Demo, Problem

TRUNCATED = ("drop", "open")


def by_problem(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    """Attempts grouped by problem id, both in order of first appearance."""
    groups: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.problem.id, []).append(attempt)
    return groups


def whole(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts that came to their own end.

    Learned with an end of sequence, a cut-off one teaches to stop short, and a failed request to say nothing.
    """
    return [attempt for attempt in attempts if not (attempt.truncated or attempt.failed)]


def keep_right(
    attempts: Iterable[Attempt], *, per_problem: int | None = None, truncated: str = "drop"
) -> list[Demo]:  # fmt: skip
    """The attempts judged RIGHT as demonstrations, at most `per_problem` of each problem, the first ones.

    The prompt to learn is the problem's own, so that hints given when sampling are not learnt.

    Args:
        attempts: judged attempts.
        per_problem: most demonstrations of a problem.
        truncated: what becomes of attempts cut off at `max_tokens`: "drop" leaves them out, "open" learns their text
            without an end of sequence.

    Raises:
        BadInput: `truncated` is neither.
    """
    return _demos(attempts, lambda attempt: attempt.right, per_problem, truncated)


def keep(attempts: Iterable[Attempt], *, per_problem: int | None = None, truncated: str = "drop") -> list[Demo]:
    """As `keep_right`, whatever the verdict: the control that shows what a filter is worth.

    Failed requests are left out: they have no answer.
    """
    return _demos(attempts, lambda _: True, per_problem, truncated)


def _demos(
    attempts: Iterable[Attempt], wanted: Callable[[Attempt], bool], per_problem: int | None, truncated: str
) -> list[Demo]:
    if truncated not in TRUNCATED:
        raise BadInput(f"unknown {truncated!r}", where="truncated", fix=suggest(truncated, TRUNCATED))
    some = [one for one in attempts if not one.failed] if truncated == "open" else whole(attempts)
    return [
        Demo(attempt.problem.prompt, attempt.text, attempts=lineage(attempt), ends=not attempt.truncated)
        for group in by_problem(some).values()
        for attempt in [a for a in group if wanted(a)][:per_problem]
    ]


def learned_as_whole(record: Any, sources: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a record teaches an end of sequence behind the text of an attempt that was cut off.

    Args:
        record: a `Demo`, `Pair`, `Label` or `Ranking`.
        sources: what the journal holds of the attempts it names.
    """
    cut = tuple(one["text"] for one in sources if one.get("finish") == "length" and one["text"])
    if not cut or not getattr(record, "ends", True):
        return False
    texts = (getattr(record, name, "") for name in ("target", "chosen", "rejected", "response"))
    return any(text.endswith(cut) for text in (*texts, *getattr(record, "responses", ())))


def unsolved(attempts: Iterable[Attempt]) -> list[Problem]:
    """The problems of which no attempt was judged RIGHT."""
    return [group[0].problem for group in by_problem(attempts).values() if not any(a.right for a in group)]


def lineage(attempt: Attempt) -> tuple[str, ...]:
    """The attempt and the one it builds on."""
    return (attempt.id, attempt.parent) if attempt.parent else (attempt.id,)
