"""Convert search trees from journal records to nested steps for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_TREES = 6  # per page: half from the first round with searches, half from the last


@dataclass(frozen=True)
class TreeStep:
    """One node of a tree.

    Attributes:
        text: text of the step.
        prior: p(a|s), 0..1.
        value: value of the partial answer by itself.
        visits: N.
        q: Q.
        p_true: the model's own probability that the partial answer is right, 0..1, or None.
        verdict: "right", "wrong", "unknown"; empty if the answer continues.
        main: whether it is on the most visited path.
        marks: its use in training: "chosen, smoothing 0.12" (of its label), "rejected".
        steps: child steps.
    """

    text: str
    prior: float
    value: float
    visits: int
    q: float
    p_true: float | None = None
    verdict: str = ""
    main: bool = False
    marks: tuple[str, ...] = ()
    steps: tuple[TreeStep, ...] = ()


@dataclass(frozen=True)
class TreeView:
    """One search: the problem, policy, round, number of nodes and pairs, and the steps."""

    question: str
    policy: str
    round: int
    visits: int
    nodes: int
    pairs: int
    steps: tuple[TreeStep, ...]


def trees_of(records: Iterable[tuple[int, Mapping[str, Any]]], question: Callable[[str], str]) -> tuple[TreeView, ...]:
    """Select the trees to show from `(round, record)` as journaled by the search (`selftaught.search.to_record`).

    Args:
        question: maps a problem's id to its question.
    """
    found = [(number, record) for number, record in records if record["nodes"]]
    if not found:
        return ()
    first, last = found[0][0], found[-1][0]
    early = [one for one in found if one[0] == first]
    late = [one for one in found if one[0] == last] if last != first else early[MAX_TREES // 2 :]
    return tuple(
        _tree(number, record, question) for number, record in [*early[: MAX_TREES // 2], *late[: MAX_TREES // 2]]
    )


def _tree(number: int, record: Mapping[str, Any], question: Callable[[str], str]) -> TreeView:
    rows, pairs = record["nodes"], record["pairs"]
    below: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        if row["parent"] is not None:
            below.setdefault(row["parent"], []).append(i)
    steps: dict[int, TreeStep] = {}
    for i in reversed(range(1, len(rows))):  # parents precede children in the record
        inner = tuple(steps[child] for child in below.get(i, ()))
        steps[i] = _step(i, rows[i], record["line"], pairs, inner)
    first = tuple(steps[child] for child in below.get(0, ()))
    asked = question(record["problem"])
    return TreeView(asked, record["policy"], number, rows[0]["visits"], len(rows) - 1, len(pairs), first)


def _step(
    number: int,
    row: Mapping[str, Any],
    line: Sequence[int],
    pairs: Sequence[Sequence[Any]],
    inner: tuple[TreeStep, ...],
) -> TreeStep:
    marks = [f"chosen, smoothing {softness:.2f}" for chosen, _, softness in pairs if chosen == number]
    marks += ["rejected" for _, rejected, _ in pairs if rejected == number]
    numbers = {name: row[name] for name in ("prior", "value", "visits", "q", "p_true")}
    return TreeStep(
        row["text"], **numbers, verdict=row["verdict"] or "", main=number in line, marks=tuple(marks), steps=inner
    )
