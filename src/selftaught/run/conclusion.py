"""The end of a run: open the test split once, and write summary and report."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.curate import by_problem
from selftaught.errors import BadInput
from selftaught.journal import Usage
from selftaught.machine.disk import disk_full_error, write_atomically, write_error
from selftaught.measure import Comparison, Measurement, compare, measure_majority
from selftaught.models import Policy
from selftaught.records import Attempt, content_hash
from selftaught.run.champions import MAIN
from selftaught.run.run import Run
from selftaught.run.solver import SolverResult

if TYPE_CHECKING:
    from selftaught.report import Round

CURVE_SAMPLES = 4  # samples per problem for the champion's pass@k
VOTE_SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_k": 40}  # of self-consistency (2203.11171)


@dataclass(frozen=True)
class Conclusion:
    """What the test split showed.

    Attributes:
        before: the starting model, greedy.
        after: the champion, greedy: same problems, prompt, extraction and verifier.
        majority: the starting model's majority vote over `votes` samples per problem, with at least the tokens that
            the method spent (generated, judge and trained) plus those of the champion's test answers; None if there
            is nothing to vote on (see `no_vote`).
        votes: samples per problem in the vote.
        spent: tokens the method spent before the test split was opened.
        sampled_before: pass@k of the starting model, from the vote's samples.
        sampled_after: pass@k of the champion at the same temperature.
        paired: before against after.
        answers_before: the greedy attempts behind `before`, in test order.
        answers_after: those behind `after`.
        no_vote: why there is no vote; empty if there is one.
    """

    before: Measurement
    after: Measurement
    majority: Measurement | None
    votes: int
    spent: Usage
    sampled_before: Measurement
    sampled_after: Measurement
    paired: Comparison
    answers_before: list[SolverResult]
    answers_after: list[SolverResult]
    no_vote: str = ""


def conclude(run: Run) -> Conclusion:
    """Measure the starting model, its majority vote at equal tokens, and the champion on the test split.

    Raises:
        BadInput: the task has no test problems, or the split was opened for another champion before.
    """
    test, base, champion = run.task.test, run.base, run.champion
    if not test:
        raise BadInput("the task has no test problems", where=run.task.name, fix="ask for some (--test 300)")
    spent = _open(run, champion)
    before_answers = run.solve(base, test, "test", temperature=0.0)
    before = run.measurement_of(base, "test", "greedy", before_answers)
    after_answers = run.solve(champion, test, "test", temperature=0.0)
    after = run.measurement_of(champion, "test", "greedy", after_answers)
    votes, drawn = _votes(run, spent.spent + after.tokens)
    sampled = run.measurement_of(base, "test", "sampled", drawn)
    groups = by_problem(one.attempt for one in drawn)
    no_vote = _no_vote([one.attempt for one in drawn])
    curve = run.solve(champion, test, "test", samples=CURVE_SAMPLES, **VOTE_SAMPLING)
    return Conclusion(
        before=before,
        after=after,
        majority=None if no_vote else measure_majority(base.version, "test", groups, sampled.tokens),
        votes=votes,
        spent=spent,
        sampled_before=sampled,
        sampled_after=run.measurement_of(champion, "test", "sampled", curve),
        paired=compare(before, after, seed=run.settings.seed),
        answers_before=before_answers,
        answers_after=after_answers,
        no_vote=no_vote,
    )


def _open(run: Run, champion: Policy) -> Usage:
    """Journal that the test split is opened for `champion`, once; returns the tokens spent before."""
    key = content_hash("test")
    if (found := run.journal.get(key)) is None:
        left = run.journal.usage().spent - run.ledger.usage.spent
        facts: dict[str, Any] = {"champion": champion.version, "spent": asdict(run.ledger.usage), "left": left}
        facts["configuration"] = content_hash(dict(run.config))
        found = (facts, Usage())
        run.journal.put(key, "test", found[0])
    opened = found[0]
    if opened["champion"] != champion.version:
        raise BadInput(
            f"the test split was opened for policy {opened['champion']} before, not {champion.version}",
            where=str(run.folder),
            fix="use a new run folder: the test split is opened once, for one champion",
        )
    if opened["left"] > 0:
        run.add_note(f"{opened['left']:,} tokens were spent here by earlier code of the method; no figure counts them")
    return Usage(**opened["spent"])


def _votes(run: Run, tokens: int) -> tuple[int, list[SolverResult]]:
    """Sample the starting model on test until `tokens` are used; returns the samples per problem and the results."""
    test, drawn, count, used = run.task.test, [], 0, 0
    while not count or used < tokens:
        more = math.ceil((tokens - used) * count / used) if count else 1
        wave = run.solve(run.base, test, "test", samples=more, first=count, **VOTE_SAMPLING)
        drawn += wave
        count += more
        used += (paid := sum(one.tokens for one in wave))
        if not paid:  # every request is refused
            break
    return count, drawn


def _no_vote(samples: Sequence[Attempt]) -> str:
    """Why a majority vote over these samples would mean nothing; empty if it means something.

    A vote needs the final answer extracted from each text. Where a verifier accepts texts without one, a vote is lost
    however good the model is.
    """
    right = [one for one in samples if one.right]
    if not any(one.answer is not None for one in samples):
        return "no sample has a final answer to vote on"
    if 2 * sum(one.answer is not None for one in right) < len(right):
        return "most of the samples that are right have no final answer to vote on"
    return ""


def summary(run: Run, found: Conclusion) -> dict[str, Any]:
    """The outcome as plain data: accuracies in 0..1 with 95 % intervals, tokens, seconds, MB."""
    from selftaught.report.collect import rounds_of

    def figure(m: Measurement | Round) -> dict[str, Any]:
        return {"accuracy": round(m.accuracy, 4), "ci95": [round(x, 4) for x in m.ci95]}

    usage, seconds = run.ledger.usage, run.seconds()
    own = max(0.0, 1 - (seconds["engine"] + seconds["learn"]) / max(1e-9, seconds["total"]))
    paired = found.paired
    return {
        "method": run.config.get("method"),
        "model": run.model,
        "task": run.task.name,
        "n_test": found.before.n,
        "before": figure(found.before),
        "after": figure(found.after),
        "majority_at_equal_tokens": {
            **(figure(found.majority) if found.majority else {"accuracy": None, "ci95": None, "why": found.no_vote}),
            "samples": found.votes,
            "tokens": found.sampled_before.tokens,
        },
        "paired_difference": {
            "mean": round(paired.difference, 4),
            "ci95": [round(x, 4) for x in paired.ci95],
            "p_value": float(f"{paired.p_value:.3g}"),
        },
        "sampled_after": {"pass_at": _rounded(found.sampled_after.pass_at)},
        "sampled_before": {"pass_at": _rounded(found.sampled_before.pass_at)},
        "unknown_rate": {"before": round(found.before.unknown_rate, 4), "after": round(found.after.unknown_rate, 4)},
        "rounds": [
            {"number": r.number, "policy": r.policy, "records": r.records, "n_dev": r.samples, "promoted": r.promoted}
            | {"alarms": list(r.alarms), "metrics": r.metrics}
            | figure(r)
            for r in rounds_of(run)
        ],
        "champion": run.champion.version,
        "promoted": run.champion.version != run.base.version,
        **({"champion_notes": run.champion.notes.summary} if run.champion.notes else {}),
        **_others(run),
        "tokens": asdict(found.spent),
        "tokens_measuring_test": usage.spent - found.spent.spent,
        "requests": run.request_counts,
        "journal": {"effects": run.journal.last_effect, "chain": run.journal.last_link},
        "seconds": round(seconds["total"], 1),
        "overhead": round(own, 4),
        "peak_rss_mb": round(seconds["peak_rss_mb"]),
    }


def _others(run: Run) -> dict[str, Any]:
    """The champions of other learners than the main one, and the ensembles; empty where there are none."""
    champions = {name: policy.version for name, policy in run.champions.items() if name != MAIN}
    ensembles = {name: [one.version for one in members] for name, members in run.ensembles.items()}
    found = {"champions": champions, "ensembles": ensembles}
    return {name: rows for name, rows in found.items() if rows}


def _rounded(curve: Any) -> dict[str, float]:
    return {str(k): round(v, 4) for k, v in curve.items()}


def write(run: Run, found: Conclusion, *, command: str = "") -> dict[str, Any]:
    """Write `summary.json`, `report.html` and the `champion` link into the run's folder; returns the summary.

    Champions of other learners are linked as `champions/NAME`.

    The cost figures of an existing summary are kept: opening a finished run again is not part of its cost.

    Raises:
        BadInput: the disk is full, or a file cannot be written.
    """
    from selftaught.report import render_page
    from selftaught.report.collect import report_data

    outcome = summary(run, found) | _cost_before(run, run.folder / "summary.json")
    write_atomically(run.folder / "summary.json", _bytes(json.dumps(outcome, indent=1) + "\n"))
    write_atomically(run.folder / "report.html", _bytes(render_page(report_data(run, found, outcome, command))))
    if run.champion.notes or not run.champion.remote:
        _link(run.folder / "champion", run.champion.path, run.folder)
    for name, policy in run.champions.items():
        if name != MAIN and not policy.remote:
            (run.folder / "champions").mkdir(exist_ok=True)
            _link(run.folder / "champions" / name, policy.path, run.folder)
    return outcome


def _cost_before(run: Run, path: Path) -> dict[str, Any]:
    """The cost figures of an existing summary of the same champion; a damaged summary is rewritten."""
    if not path.is_file():
        return {}
    try:
        old = json.loads(path.read_text("utf-8"))
        same = old["champion"] == run.champion.version
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        run.console.print(f"  warning: {path} cannot be read and is rewritten")
        return {}
    return {k: old[k] for k in ("seconds", "overhead", "peak_rss_mb") if same and k in old}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _link(link: Path, target: Path, run: Path) -> None:
    """Point a link at a folder, atomically: within the run, which may be moved, by the way from the link to it."""
    draft = link.with_name(link.name + ".draft")
    try:
        if link.is_dir() and not link.is_symlink():
            raise BadInput("a folder is in the place of the link to the champion", where=str(link), fix="move it away")
        draft.unlink(missing_ok=True)
        inside = target.resolve().is_relative_to(run.resolve())
        draft.symlink_to(os.path.relpath(target, link.parent) if inside else target.resolve())
        os.replace(draft, link)
    except OSError as error:
        raise disk_full_error(error, link) or write_error(error, link) from None
