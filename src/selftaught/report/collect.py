"""Collect the data of a run's report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from selftaught.journal import Usage
from selftaught.models import Notes
from selftaught.report.data import Curve, Example, ReportData, Round
from selftaught.report.trees import TreeView, trees_of
from selftaught.run.rounds import round_key, round_payload

if TYPE_CHECKING:
    from selftaught.run.conclusion import Conclusion
    from selftaught.run.run import Run
    from selftaught.run.solver import SolverResult

MAX_EXAMPLES = 20
PACKAGES = ("selftaught", "torch", "transformers", "accelerate", "peft", "reasoning-gym", "math-verify")


def report_data(run: Run, found: Conclusion, summary: dict[str, Any], command: str) -> ReportData:
    """The report of `run`, from its history and conclusion."""
    return ReportData(
        title=run.folder.name,
        command=command,
        method=str(summary["method"] or ""),
        model=run.model,
        task=run.task.name,
        summary=summary,
        rounds=rounds_of(run),
        pass_at_before=dict(found.sampled_before.pass_at),
        pass_at_after=dict(found.sampled_after.pass_at),
        champions=_champions(run),
        examples=_examples(run, found.answers_before, found.answers_after),
        config=run.config,
        versions=package_versions(),
        notes=tuple(run.notes),
        curves=training_curves(run),
        trees=_trees(run),
        champion_notes=_champion_notes(run.champion.notes),
    )


def rounds_of(run: Run) -> tuple[Round, ...]:
    """The completed rounds; before them the starting model as round 0, if it was measured."""
    start = run.measurements.get(run.base.version)
    zero = [] if start is None else [round_payload(0, {"policy": run.base.version, "measurement": start}, Usage())]
    seconds = run.journal.seconds_until("round")
    return tuple(
        Round(
            number=row["round"],
            policy=row["policy"],
            records=row["records"],
            accuracy=row["accuracy"],
            ci95=(row["ci95"][0], row["ci95"][1]),
            samples=row["n"],
            pass_at={int(k): v for k, v in row["pass_at"].items()},
            promoted=row["promoted"],
            reason=row["reason"] if row["round"] else "the starting model",
            alarms=tuple(row.get("alarms", ())),
            metrics=row.get("metrics", {}),
            tokens=row["tokens"],
            seconds=seconds.get(round_key(row), 0.0),
        )
        for row in (*zero, *run.history)
    )


def training_curves(run: Run) -> tuple[Curve, ...]:
    """The curve of each training, as journaled."""

    def name(number: int, policy: str) -> str:
        return f"round {number}" if number else policy[:8]

    found = [
        Curve(name(number, payload["policy"]), _points(payload["curves"].get("loss", ())))
        for _, number, payload, _ in run.journal.effects("learn") if "curves" in payload
    ]  # fmt: skip
    online: dict[str, list[dict[str, Any]]] = {}
    for _, number, facts, _ in run.journal.effects("online"):
        online.setdefault(name(number, facts["policy"]), []).append(facts)
    for title, facts in online.items():
        loss, right = ([(f["step"], f[key]) for f in facts if f.get(key) is not None] for key in ("loss", "right"))
        if loss or right:  # learners that train no weights have neither
            found.append(Curve(f"{title}, online", _points(loss), _points(right)))
    return tuple(found)


def _points(pairs: Any) -> tuple[tuple[float, float], ...]:
    return tuple((float(step), float(value)) for step, value in pairs)


def _trees(run: Run) -> tuple[TreeView, ...]:
    questions = {problem.id: problem.question for problem in run.task.train}
    records = ((number, payload) for _, number, payload, _ in run.journal.effects("tree"))
    return trees_of(records, lambda problem: questions.get(problem, problem))


def _champions(run: Run) -> tuple[str, ...]:
    lines = [f"{run.base.version}: the starting model, {run.model}"]
    for gate in run.gate_decisions:
        learner = f"{gate['learner']}: " if "learner" in gate else ""
        members = f" of {', '.join(gate['members'])}" if "members" in gate else ""
        lines.append(f"{learner}{gate['policy']}{members} (round {gate['round']}): {gate['reason']}")
    return tuple(lines)


def _champion_notes(notes: Notes | None) -> tuple[tuple[str, str], ...]:
    """The champion's notes in the order in which its model reads them: a role, and a text."""
    if notes is None:
        return ()
    shown = [
        turn for one in notes.demonstrations
        for turn in (*((m.role, m.content) for m in one.prompt), ("assistant", one.answer))
    ]  # fmt: skip
    return (*([("system", notes.instructions)] if notes.instructions else []), *shown)


def _examples(run: Run, before: list[SolverResult], after: list[SolverResult]) -> tuple[Example, ...]:
    """The first test problems, in the split's (random) order, so not selected."""
    return tuple(
        Example(
            question=old.attempt.problem.question,
            reference=str(problem.reference),
            before=old.attempt.text,
            before_verdict=old.attempt.verdict.value,
            after=new.attempt.text,
            after_verdict=new.attempt.verdict.value,
        )
        for problem, old, new in list(zip(run.task.test, before, after, strict=True))[:MAX_EXAMPLES]
    )


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
