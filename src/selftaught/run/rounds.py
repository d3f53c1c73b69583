"""Rounds: counted as they begin; their outcome as data for the journal and as lines for the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from selftaught.control.budget import RunStopped
from selftaught.control.gate import GateDecision
from selftaught.journal.ledger import Usage
from selftaught.measure import Measurement, compare
from selftaught.records import content_hash
from selftaught.run.champions import learner_rows
from selftaught.run.settings import require_positive

if TYPE_CHECKING:
    from selftaught.run.context import RunContext


def count_rounds(context: RunContext, max_rounds: int) -> Iterator[int]:
    """See `Run.rounds`."""
    require_positive("rounds", max_rounds)
    inner = len(context.methods) > 1
    for number in range(1, max_rounds + 1):
        try:
            context.check_budget()
        except RunStopped:
            return
        if not inner and not context.cut.begin_round():
            return
        context.rounds_begun += 1
        context.enter_round(context.rounds_begun)
        context.loop_round, context.round_facts = number, {}
        if inner:
            context.log_metrics(context.methods[-1][1], {"round": number})
        yield number
        if not inner:
            context.cut.end_round(context.champion)
        end_round(context)


def end_round(context: RunContext) -> None:
    """Journal the round's results and print its line."""
    facts, context.round_facts = context.round_facts, {}
    if "measurement" not in facts and facts.get("learners"):  # none of them is the main one
        facts |= list(facts["learners"].values())[-1]
    if "measurement" not in facts:
        context.monitor.reset_round()
        return
    base, found = context.base.version, facts["measurement"]
    start = context.measurements.get(base)
    alike = start and context.measured_with[base] == facts["under"] and found.policy != base
    against = compare(start, found) if start and alike else None
    payload = round_payload(context.round, facts, context.ledger.usage)
    payload |= context.monitor.end_round(base, found.policy, against)
    context.journal.put_new(round_key(payload), "round", payload)
    context.history.append(payload)
    context.console.print("\n  ".join([*round_lines(payload), context.cost_line()]))


def round_payload(number: int, facts: Mapping[str, Any], spent: Usage) -> dict[str, Any]:
    """A round as plain data.

    Args:
        number: of the round.
        facts: `policy` (version) and `measurement` (on dev); if present `decision` (of the gate), `records` (number
            trained on), `pass_at` (of the sampling on train), `metrics` (see `Run.log_metrics`), `learners` (other
            than the main one, with the same facts) and `truncation` (see `truncation_line`).
        spent: tokens from the start of the run to the end of the round.
    """
    found: Measurement = facts["measurement"]
    decision: GateDecision = facts.get("decision", GateDecision(False, "it is the champion already"))
    return {
        "round": number,
        "policy": facts["policy"],
        "records": facts.get("records"),
        "accuracy": found.accuracy,
        "ci95": list(found.ci95),
        "unknown_rate": found.unknown_rate,
        "n": found.n,
        "pass_at": facts.get("pass_at", {}),
        "promoted": decision.promoted,
        "reason": decision.reason,
        "tokens": asdict(spent),
        "metrics": facts.get("metrics", {}),
        **({"learners": learner_rows(facts["learners"])} if facts.get("learners") else {}),
        **({"truncation": dict(cut)} if (cut := facts.get("truncation")) and cut["truncated"] else {}),
    }


def round_key(payload: Mapping[str, Any]) -> str:
    """Key of a round's effect in the journal."""
    return content_hash("round", payload["round"], payload["policy"])


def round_lines(payload: Mapping[str, Any]) -> list[str]:
    """The round as lines: accuracy on dev with its interval and the gate's decision, logged metrics, alarms."""
    low, high = payload["ci95"]
    line = (
        f"round {payload['round']}: dev accuracy {payload['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        f" (unknown {payload['unknown_rate']:.0%}), {payload['reason']}"
    )
    more = [f"{name}: {metrics_line(metrics)}" for name, metrics in payload.get("metrics", {}).items()]
    more += [
        f"{name}: dev accuracy {row['accuracy']:.3f}, {row['reason']}"
        for name, row in payload.get("learners", {}).items()
    ]
    more += [truncation_line(payload["truncation"])] if "truncation" in payload else []
    return [line, *more, *(f"alarm: {alarm}" for alarm in payload.get("alarms", ()))]


def truncation_line(counts: Mapping[str, int]) -> str:
    """How many of `answers` were `truncated`, as a line."""
    return f"{counts['truncated']:,} of {counts['answers']:,} answers were cut off at max_tokens"


def wrong_ends_line(counts: Mapping[str, int]) -> str:
    """How many of `records` teach a `wrong` end of sequence, as a line."""
    line = f"{counts['wrong']} of {counts['records']} records teach an end of sequence after an answer that was cut off"
    return f"{line}; drop attempts that are `truncated`, or give the record ends=False"


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """Metrics logged by a method, on a line."""
    shown = ((name, f"{value:.3g}" if isinstance(value, float) else value) for name, value in metrics.items())
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown)
