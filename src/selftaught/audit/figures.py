"""The checks of gates and of the summary: measurements made again from the answers in the journal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from selftaught.audit.checks import found
from selftaught.audit.evidence import Answers, Evidence, Finding
from selftaught.control.gate import Gate
from selftaught.curate.vote import ballots
from selftaught.measure import Measurement, compare
from selftaught.measure.measurement import measure_attempts
from selftaught.records import Attempt
from selftaught.run.champions import BY_HAND
from selftaught.run.conclusion import CURVE_SAMPLES, VOTE_SAMPLING
from selftaught.samples import Sample


class Unclear(Exception):
    """Answers that do not say what was measured: why."""


def gates(on: Evidence) -> Finding:
    """The gate's decisions, made again from the answers to dev problems, and what the rounds say of them."""
    name = "gates"
    if on.task is None or on.altered:
        return Finding(name, None, on.no_task or on.altered)
    gate = Gate(**{k.partition(".")[2]: v for k, v in on.config.items() if k.startswith("gate.")})
    wrong: list[str] = []
    unclear: list[str] = []
    rows = [(number, row) for number, _, row, _ in on.reader.numbered("gate")]
    for number, row in rows:
        if "measured" in row or "members" in row or row["reason"] == BY_HAND:
            unclear.append(f"the decision on {row['policy']} rests on a solver, an ensemble or a hand")
            continue
        try:
            old, new = (_greedy(on, row[who], "dev", before=number) for who in ("champion", "policy"))
        except Unclear as e:
            unclear.append(str(e))
            continue
        now = gate.decide(compare(old, new))
        if (now.promoted, now.reason) != (row["promoted"], row["reason"]):
            wrong.append(f"round {row['round']}: {now.reason}; kept as: {row['reason']}")
    wrong += _rounds(on, [row for _, row in rows])
    made = f"{len(rows) - len(unclear)} of {len(rows)} decisions made again, all alike"
    return found(name, wrong, made, unmade=f"{made}; {unclear[0]}" if unclear else "")


def _rounds(on: Evidence, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Rounds whose accuracy on dev is not that of the answers, or that tell a decision which no gate made."""
    known = {(row["policy"], row["reason"]) for row in rows}
    plain = {row["policy"] for row in rows if "measured" not in row and "members" not in row}
    for number, _, row, _ in on.reader.numbered("round"):
        decided = row["reason"].startswith(("promoted", "not promoted"))
        if decided and (row["policy"], row["reason"]) not in known:
            yield f"no gate made the decision of round {row['round']}: {row['reason']}"
        if row["policy"] not in plain:
            continue
        try:
            now = _greedy(on, row["policy"], "dev", before=number).accuracy
        except Unclear:
            continue
        if abs(now - row["accuracy"]) > 1e-9:
            yield f"round {row['round']} says {row['accuracy']:.4f} on dev, its answers {now:.4f}"


def _greedy(on: Evidence, policy: str, split: str, *, before: float = math.inf) -> Measurement:
    """A policy's greedy answers to a split, measured; a problem without one was refused, and counts as not right.

    Raises:
        Unclear: there is none at all, or several to a problem.
    """
    groups = on.plain(policy, split, before=before, temperature=0.0)
    counts = [len(group) for group in groups.values()]
    if not any(counts):
        raise Unclear(f"the journal has no plain answers of {policy} to the {split} problems")
    if max(counts) > 1:
        raise Unclear(f"the journal has several greedy answers of {policy} to a {split} problem")
    filled: Answers = {problem: group or [_none(on, problem, policy)] for problem, group in groups.items()}
    return measure_attempts(policy, split, "greedy", filled, 0)


def _none(on: Evidence, problem: str, policy: str) -> Attempt:
    """The attempt that stands for an answer which a request did not get."""
    assert on.task is not None
    asked = on.task.find_problem(problem)
    return Attempt("", asked, asked.prompt, "", None, Sample("", (), (), "error", 0, policy))


# --- the summary ---


def summary(on: Evidence) -> Finding:
    """The summary's figures, from the answers to test problems."""
    name, told = "summary", on.summary
    if told is None:
        return Finding(name, None, "the run has not ended: there is no summary")
    if on.task is None or on.altered:
        return Finding(name, None, on.no_task or on.altered)
    wrong = [*_identity(on, told), *_refused(on, told)]
    try:
        before, after = _greedy(on, on.facts.base, "test"), _greedy(on, on.facts.champion, "test")
        paired = compare(before, after, seed=int(on.config.get("seed", 0)))
        wrong += _differ("problems", told["n_test"], before.n)
        for what, now in (("before", before), ("after", after)):
            wrong += _differ(what, told[what]["accuracy"], now.accuracy)
            wrong += _differ(f"interval {what}", told[what]["ci95"], list(now.ci95))
            wrong += _differ(f"unknown {what}", told["unknown_rate"][what], now.unknown_rate)
        wrong += _differ("difference", told["paired_difference"]["mean"], paired.difference)
        wrong += _differ("its interval", told["paired_difference"]["ci95"], list(paired.ci95))
        wrong += _differ("its p-value", told["paired_difference"]["p_value"], paired.p_value)
        wrong += _vote(on, told)
    except Unclear as e:
        return found(name, wrong, "", unmade=str(e))
    return found(
        name, wrong, "champion, rounds, accuracies, their difference, the vote, pass@k: as the journal has them"
    )


def _identity(on: Evidence, told: Mapping[str, Any]) -> Iterator[str]:
    """What ran on what, who became champion, and the rounds."""
    champion = on.facts.champion
    if told["champion"] != champion:
        yield f"champion {told['champion']}, the gates made it {champion}"
    if bool(told["promoted"]) != (champion != on.facts.base):
        yield f"promoted: {told['promoted']}"
    for key in ("method", "task"):
        if told[key] != on.config.get(key):
            yield f"{key}: {told[key]}, the run's is {on.config.get(key)}"
    rounds = {(row["round"], row["policy"]): row for _, _, row, _ in on.reader.effects("round")}
    for row in told["rounds"]:
        kept = rounds.get((row["number"], row["policy"]))
        if kept is None and row["number"]:
            yield f"the journal has no round {row['number']} with {row['policy']}"
        elif kept is not None:
            yield from _differ(f"round {row['number']}", row["accuracy"], kept["accuracy"])


def _refused(on: Evidence, told: Mapping[str, Any]) -> Iterator[str]:
    """Test problems without an answer, where no request failed; answers without a verdict."""
    refused = sum(told.get("requests", {}).get(name, 0) for name in ("failed", "refused"))
    for policy in dict.fromkeys((on.facts.base, on.facts.champion)):
        groups = on.plain(policy, "test", temperature=0.0).values()
        if (gone := sum(not group for group in groups)) > refused:
            yield f"{gone} of {len(groups)} test problems have no answer of {policy}, {refused} requests got none"
        if bare := sum(not one.feedback for group in groups for one in group):
            yield f"{bare} answers of {policy} to test problems have no verdict"


def _vote(on: Evidence, told: Mapping[str, Any]) -> Iterator[str]:
    """The starting model's vote and pass@k, and the champion's.

    Of answers with equally many votes the first one wins, in an order that the journal does not keep: either may.
    """
    stated, count = told["majority_at_equal_tokens"], told["majority_at_equal_tokens"]["samples"]
    drawn = on.plain(on.facts.base, "test", **VOTE_SAMPLING)
    groups = {problem: some[:count] for problem, some in drawn.items()}
    if any(len(some) != count for some in groups.values()):
        yield from () if told.get("requests", {}).get("refused") else [f"the vote is not of {count} samples each"]
        return
    sampled = measure_attempts(on.facts.base, "test", "sampled", groups, 0)
    yield from _curve("pass@k before", told["sampled_before"]["pass_at"], sampled)
    if stated["accuracy"] is not None:
        low, high = (sum(_wins(group, best) for group in groups.values()) / len(groups) for best in (all, any))
        if not low - 1e-4 <= stated["accuracy"] <= high + 1e-4:
            yield f"vote: {stated['accuracy']}, the samples {low:.4f} to {high:.4f}"
    if on.facts.champion == on.facts.base:
        return
    curve = on.plain(on.facts.champion, "test", **VOTE_SAMPLING)
    if all(len(some) == CURVE_SAMPLES for some in curve.values()):
        now = measure_attempts(on.facts.champion, "test", "sampled", curve, 0)
        yield from _curve("pass@k after", told["sampled_after"]["pass_at"], now)


def _wins(group: list[Attempt], agree: Any) -> bool:
    """Whether a right answer wins the vote: in all orders of the answers, or in any."""
    some = ballots(group)
    most = max(map(len, some), default=0)
    return bool(most) and agree(one.right for ballot in some if len(ballot) == most for one in ballot)


def _curve(what: str, stated: Mapping[str, float], now: Measurement) -> list[str]:
    return _differ(what, list(stated.values()), [now.pass_at.get(int(k), -1.0) for k in stated])


def _differ(what: str, stated: Any, now: Any) -> list[str]:
    """A line if a stated figure, or one of a list, is not what it is now, as far as it is rounded."""
    pairs = list(zip(stated, now, strict=True)) if isinstance(stated, list) else [(stated, now)]
    if all(math.isclose(a, b, rel_tol=6e-3 if "p-value" in what else 0, abs_tol=6e-5) for a, b in pairs):
        return []
    return [f"{what}: {stated}, the answers say {now}"]
