"""Filter attempts by verdict, and turn them into demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from selftaught.errors import BadInput, suggest
from selftaught.records import Attempt, Demo, Problem

Truncated = Literal["drop", "open"]
"""How to treat attempts truncated at `max_tokens`: drop them, or train on their text without an end of sequence."""


def by_problem(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    """Group attempts by problem id; problems and attempts stay in order of first appearance."""
    groups: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.problem.id, []).append(attempt)
    return groups


def finished(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts that are neither truncated nor failed.

    Trained with an end of sequence, a truncated one would teach stopping early, and a failed one an empty answer.
    """
    return [attempt for attempt in attempts if not (attempt.truncated or attempt.failed)]


def keep_right(
    attempts: Iterable[Attempt], *, per_problem: int | None = None, truncated: Truncated = "drop"
) -> list[Demo]:
    """Turn the attempts judged RIGHT into demonstrations.

    The training prompt is the problem's own, so that hints used in sampling are not trained on.

    Args:
        attempts: judged attempts.
        per_problem: maximum demonstrations per problem, the first ones; None for all.
        truncated: "drop" omits attempts truncated at `max_tokens`; "open" trains on their text without an end of
            sequence.

    Raises:
        BadInput: `truncated` has another value.
    """
    return demos_of(attempts, lambda attempt: attempt.right, per_problem, truncated)


def keep(attempts: Iterable[Attempt], *, per_problem: int | None = None, truncated: Truncated = "drop") -> list[Demo]:
    """Same as `keep_right` for any verdict: the control that shows the filter's effect.

    Omits failed requests, which have no answer.
    """
    return demos_of(attempts, lambda _: True, per_problem, truncated)


def demos_of(
    attempts: Iterable[Attempt], wanted: Callable[[Attempt], bool], per_problem: int | None, truncated: Truncated
) -> list[Demo]:
    """Turn the wanted attempts into demonstrations; see `keep_right`."""
    if truncated not in get_args(Truncated):
        raise BadInput(f"unknown {truncated!r}", where="truncated", fix=suggest(truncated, get_args(Truncated)))
    some = [one for one in attempts if not one.failed] if truncated == "open" else finished(attempts)
    return [
        Demo(attempt.problem.prompt, attempt.text, attempts=source_ids(attempt), ends=not attempt.truncated)
        for group in by_problem(some).values()
        for attempt in [a for a in group if wanted(a)][:per_problem]
    ]


def teaches_false_end(record: Any, sources: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a record teaches an end of sequence after the text of a truncated attempt.

    Args:
        record: a `Demo`, `Pair`, `Label` or `Ranking`.
        sources: journal payloads of the attempts it refers to.
    """
    cut = tuple(one["text"] for one in sources if one.get("finish") == "length" and one["text"])
    if not cut or not getattr(record, "ends", True):
        return False
    return any(text.endswith(cut) for text in record_texts(record))


def record_texts(record: Any) -> list[str]:
    """The texts that a record teaches or contrasts, without its prompt."""
    texts = (getattr(record, name, "") for name in ("target", "chosen", "rejected", "response"))
    return [text for text in (*texts, *getattr(record, "responses", ())) if text]


def unsolved(attempts: Iterable[Attempt]) -> list[Problem]:
    """The problems without any attempt judged RIGHT."""
    return [group[0].problem for group in by_problem(attempts).values() if not any(a.right for a in group)]


def source_ids(attempt: Attempt) -> tuple[str, ...]:
    """Ids of the attempt and of its parent attempt."""
    return (attempt.id, attempt.parent) if attempt.parent else (attempt.id,)
