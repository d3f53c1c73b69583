"""The graph of a lineage, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from selftaught.records import as_json


@dataclass(frozen=True, slots=True)
class LineageNode:
    """An attempt, record, tree or policy of a run.

    Attributes:
        id: what to ask for it with: the key of an attempt or a tree, the version of a policy, `VERSION:NUMBER` of the
            record with that number (from 0) among those that a policy learned from.
        kind: "policy", "record", "attempt" or "tree".
        role: of an attempt "solve", "critique", "judge", "revise", ...; of a record "demo", "pair", "ranking", "label",
            "token advantages", "rollout group", "scored steps"; of a policy "base", "trained", "noted" where it has
            notes, "live" where its weights were in training, "tuned" where they lived for one answer, or "annotator"
            for the task's annotator, or "teacher" for a model that annotated.
        policy: who wrote the attempt, grew the tree or learned the record; empty for a policy.
        problem: the question, or the problem's id if the run does not record it.
        verdict: the verifier's, "right", "wrong" or "unknown"; empty where it gave none.
        text: the text sampled for an attempt, without the prefix it continues; the target of a record.
        round: that it is filed under; 0 before the first.
        note: further remarks, in one line.
        gap: what is missing from here on; empty if nothing is.
    """

    id: str
    kind: str
    role: str = ""
    policy: str = ""
    problem: str = ""
    verdict: str = ""
    text: str = ""
    round: int = 0
    note: str = ""
    gap: str = ""


@dataclass(frozen=True, slots=True)
class LineageLink:
    """A link from a node to one of its sources.

    Attributes:
        source: id of the node that it leads from.
        target: id of the node that it leads to.
        how: "trained from", "learned" and, while in training, "updated from" (a policy's); "made of" (a record's);
            "notes for" and "made of" (of a policy with notes);
            "by" ("read by" of a step of a written solution), "continues", and "answers a problem from" where the run
            posed it (an attempt's); "by" and "step" (a tree's).
    """

    source: str
    target: str
    how: str


@dataclass(frozen=True)
class Lineage:
    """Everything that a node derives from, back to the starting model.

    Attributes:
        start: id of the requested node.
        base: id of the policy that the run started from.
        nodes: by id, in the order in which the walk came to them.
        links: from each node to its sources.
    """

    start: str
    base: str
    nodes: Mapping[str, LineageNode]
    links: tuple[LineageLink, ...]
    _from: dict[str, list[LineageLink]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for link in self.links:
            self._from.setdefault(link.source, []).append(link)

    def sources(self, id: str) -> list[LineageLink]:
        """Links from a node to its sources, in order; none for the base."""
        return self._from.get(id, [])

    @cached_property
    def gaps(self) -> dict[str, str]:
        """What is missing: node id -> why the walk incomplete there. Empty where all end at the base, an annotator
        or a teacher."""
        return {node.id: node.gap for node in self.nodes.values() if node.gap}

    def to_json(self) -> dict[str, Any]:
        """The graph as JSON data."""
        nodes = [as_json(node) for node in self.nodes.values()]
        links = [{"from": link.source, "to": link.target, "how": link.how} for link in self.links]
        return {"start": self.start, "base": self.base, "nodes": nodes, "links": links, "gaps": self.gaps}
