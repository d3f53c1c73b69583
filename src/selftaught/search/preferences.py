"""Preferences between sibling steps of a search tree, as pairs to learn from; and a tree as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from selftaught.learn.objectives.step_dpo import visit_label_smoothing
from selftaught.records import Pair, Problem, Solution
from selftaught.search.tree import Decision, Node

RECORD_DIGITS = 6  # decimals kept of the numbers in a tree's record


class Preference(NamedTuple):
    """The chosen step, the rejected step, and the label smoothing that their visit counts imply."""

    chosen: Node
    rejected: Node
    smoothing: float


def preferences(decisions: Sequence[Decision]) -> list[Preference]:
    """At each root of a search, prefer the child of the highest Q to that of the lowest Q.

    Q and visits N are those at the time when the search went on. Label smoothing is 1 / (N(chosen) / N(rejected) + 1),
    at most 0.5. A step with a single continuation is extended to the next branch point, as in the authors' code. No
    preference where the Q values are equal or one answer is a prefix of the other.
    """
    found: list[Preference] = []
    for made in decisions:
        best, worst = made.qs.index(max(made.qs)), made.qs.index(min(made.qs))
        pair = made.children[best], made.children[worst]
        chosen, rejected = (collapse_chain(node).answer for node in pair)
        if made.qs[best] > made.qs[worst] and not chosen.startswith(rejected) and not rejected.startswith(chosen):
            found.append(Preference(*pair, smoothing_of(made.visits[best], made.visits[worst])))
    return found


def smoothing_of(chosen: int, rejected: int) -> float:
    """`visit_label_smoothing` of two visit counts; 0 where the rejected step was never visited."""
    return visit_label_smoothing(max(1, chosen), rejected) if rejected else 0.0


def collapse_chain(node: Node) -> Node:
    """Follow single-child links to the next branch point, or to the end of the answer."""
    while len(node.children) == 1:
        node = node.children[0]
    return node


def to_pair(problem: Problem, preference: Preference) -> Pair:
    """A preference as a record to learn from: both steps with the answer before them.

    The end of sequence is learned only where both answers are complete.
    """
    best, worst = sides = collapse_chain(preference.chosen), collapse_chain(preference.rejected)
    ids = tuple(dict.fromkeys(step.id for side in sides for step in side.path))
    ends = all(side.ended and not side.truncated for side in sides)
    return Pair(
        problem.prompt, best.answer, worst.answer, label_smoothing=preference.smoothing, attempts=ids, ends=ends
    )


def pairs_from(solution: Solution) -> list[Pair]:
    """The preference pairs of the tree behind a solution of `MCTSSolver`."""
    prompt = solution.attempt.problem.prompt
    return [
        Pair(prompt, chosen, rejected, label_smoothing=smoothing, attempts=tuple(attempts))
        for chosen, rejected, smoothing, attempts in solution.data["pairs"]
    ]


def to_record(root: Node, decisions: Sequence[Decision], found: Sequence[Preference]) -> dict[str, Any]:
    """A tree as plain data for the journal: its nodes with their statistics, the preferences, the path of its roots.

    Nodes are numbered in the order of `nodes`, parents first; the other lists hold these numbers.
    """
    nodes = list(root)
    number = {id(node): i for i, node in enumerate(nodes)}
    rows = [
        {
            "id": node.id,
            "parent": number[id(node.parent)] if node.parent else None,
            "text": node.text,
            "prior": round(node.prior, RECORD_DIGITS),
            "value": round(node.value, RECORD_DIGITS),
            "p_true": None if node.p_true is None else round(node.p_true, RECORD_DIGITS),
            "visits": node.visits,
            "q": round(node.q, RECORD_DIGITS),
            "verdict": node.verdict,
            "ended": node.ended,
        }
        for node in nodes
    ]
    pairs = [[number[id(one.chosen)], number[id(one.rejected)], round(one.smoothing, RECORD_DIGITS)] for one in found]
    return {"nodes": rows, "pairs": pairs, "line": [number[id(made.chosen)] for made in decisions]}
