"""Champions of the learners of a run, and the gate's decisions on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from selftaught.control.gate import GateDecision
from selftaught.errors import BadInput
from selftaught.measure import Measurement, compare
from selftaught.models import Policy
from selftaught.records import content_hash

if TYPE_CHECKING:
    from selftaught.run.context import RunContext

MAIN = "main"
"""The learner whose champion a recipe returns and the test split is opened for."""

BY_HAND = "set by hand"
"""The reason of a champion that the program which uses a run has set."""


class Champions(dict[str, Policy]):
    """Learner -> its champion; the starting model for a learner that was not promoted yet."""

    def __init__(self, base: Policy) -> None:
        super().__init__({MAIN: base})
        self.base = base
        self.kinds: dict[str, str] = {}  # name -> "a learner" or "an ensemble"

    def __missing__(self, name: str) -> Policy:
        return self.base


def check_name(name: str) -> str:
    """The name of a learner or an ensemble, which is also one of a file.

    Raises:
        BadInput: it is unsuitable.
    """
    if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]{0,39}", name)):
        raise BadInput(f"unsuitable name {name!r}", where="champion", fix="use up to 40 letters, digits, _, - or .")
    return name


def claim_name(context: RunContext, name: str, kind: str) -> None:
    """Take a name for a learner or an ensemble.

    Args:
        kind: "a learner" or "an ensemble".

    Raises:
        BadInput: the name is unsuitable, or the other kind has it.
    """
    if (other := context.champions.kinds.setdefault(check_name(name), kind)) != kind:
        fix = f"give {kind} a name of its own"
        raise BadInput(f"{name!r} is the name of {other} in this run", where="champion", fix=fix)


def decide(
    context: RunContext, learner: str, held: Measurement, found: Measurement, how: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> GateDecision:  # fmt: skip
    """Have the gate decide between what reigns and what was found; journaled.

    Args:
        learner: whose gate it is.
        held: measurement of what reigns.
        found: measurement of what is new.
        how: both were measured, as plain data; empty for greedy answers without a solver.
        more: further facts to journal.
    """
    decision = context.settings.gate.decide(compare(held, found))
    payload = {"champion": held.policy, "policy": found.policy, "round": context.round, **asdict(decision)}
    named = {} if learner == MAIN else {"learner": learner, **(more or {})}
    parts = [*([learner] if named else []), *([how] if how else [])]
    key = content_hash("gate", held.policy, found.policy, context.round, *parts)
    named |= {"measured": dict(how)} if how else {}
    context.journal.put_new(key, "gate", payload | named)
    context.gate_decisions.append(payload | named)
    return decision


def set_by_hand(context: RunContext, policy: Policy) -> None:
    """Make a policy the main learner's champion without a gate; journaled like a decision of one."""
    before = context.champions[MAIN]
    payload = {"champion": before.version, "policy": policy.version, "round": context.round, "promoted": True}
    key = content_hash("gate", BY_HAND, before.version, policy.version, context.round)
    context.journal.put_new(key, "gate", payload | {"reason": BY_HAND})
    context.champions[MAIN] = policy


def note(context: RunContext, learner: str, facts: Mapping[str, Any]) -> None:
    """Keep the latest measurement of a learner for the end of the round; a decision on another policy goes."""
    kept = context.round_facts
    if learner != MAIN:
        kept = context.round_facts.setdefault("learners", {}).setdefault(learner, {})
    if facts.get("policy", kept.get("policy")) != kept.get("policy"):
        kept.pop("decision", None)
    kept |= facts


def learner_rows(learners: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The measurements of a round's other learners, as plain data."""
    rows = {}
    for name, facts in learners.items():
        found, decision = facts["measurement"], facts.get("decision", GateDecision(False, "it is the champion already"))
        row = {"policy": facts["policy"], "accuracy": found.accuracy, "ci95": list(found.ci95), "n": found.n}
        rows[name] = row | asdict(decision)
    return rows
