"""Trace an attempt, record, tree or policy back to the starting model, link by link."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from selftaught.journal import JournalReader
from selftaught.lineage.folder import RECORDS, RunFolder
from selftaught.lineage.graph import Lineage, LineageLink, LineageNode
from selftaught.models.notes import Notes
from selftaught.models.policy import ANNOTATOR

Visit = tuple[LineageNode, list[tuple[str, str]]]
"""A node, and (how, id) of each of its sources."""

TEXT_FIELDS = ("chosen", "target", "response", "steps", "responses")


def trace(folder: str | Path, id: str = "") -> Lineage:
    """Trace something in a run back to the starting model.

    The run may still be in progress; its journal is only read.

    Args:
        folder: the run folder.
        id: of an attempt (a critique, a revision, a step of a search tree, ...), a tree, a policy, or a record
            (`VERSION:NUMBER`); or a unique prefix of one. By default the champion's.

    Returns:
        The graph. Anything missing from the folder is listed in `Lineage.gaps`; a teacher and the task's annotator
        have no further sources.

    Raises:
        BadInput: the folder holds no run, or the id is unknown or ambiguous.
    """
    with JournalReader(Path(folder)) as reader:
        facts = RunFolder(Path(folder), reader)
        return walk(facts, [facts.resolve_id(id) if id else facts.champion])


def walk(facts: RunFolder, starts: Iterable[str]) -> Lineage:
    """Trace several ids at once; the first is the start."""
    waiting = [(start, "") for start in reversed(list(starts))]
    start, nodes, links = waiting[-1][0], dict[str, LineageNode](), list[LineageLink]()
    while waiting:
        id, how = waiting.pop()
        if id in nodes:
            continue
        nodes[id], onward = _step(facts, id) or _missing(id, how)
        links += [LineageLink(id, target, how) for how, target in onward]
        waiting += [(target, how) for how, target in reversed(onward)]
    return Lineage(start, facts.base, nodes, tuple(links))


def _missing(id: str, how: str) -> Visit:
    kind = "policy" if how in ("by", "read by", "trained from", "updated from", "notes for") else "attempt"
    return LineageNode(id, kind, gap=f"{kind} {id} is not in this run"), []


def _step(facts: RunFolder, id: str) -> Visit | None:
    """Look up an id; None if the run has nothing of that name."""
    if id == facts.base:
        return LineageNode(id, "policy", "base", note="the starting model"), []
    if id == facts.weights:
        return LineageNode(id, "policy", "base", note="the weights of the starting model"), []
    if id.startswith(ANNOTATOR):
        return LineageNode(id, "policy", "annotator", note="the task's annotator, which is no model"), []
    if id in facts.noted:
        return _noted(facts, id)
    if id in facts.trainings or id in facts.published:
        return _policy(facts, id)
    if id in facts.live:
        return _live(facts, id)
    if id in facts.tuned:
        return _tuned(facts, id)
    version, colon, number = id.rpartition(":")
    if colon and number.isdecimal() and version in facts.published:
        return _record(facts, id, version, int(number))
    if id in facts.teachers:
        number, told = facts.teachers[id]
        return LineageNode(id, "policy", "teacher", round=number, note=f"the teacher {told['name']}"), []
    found = facts.reader.entry(id)
    if found is None or found[0] not in EFFECTS:
        return None
    kind, number, payload = found
    return EFFECTS[kind](facts, id, number, payload)


def _policy(facts: RunFolder, version: str) -> Visit:
    """A trained policy: its starting policy, and its training records, or attempts if trained online."""
    number, told = facts.trainings.get(version, (0, {}))
    manifest, gap = facts.manifest(version)
    base = (manifest.get("base") or {}).get("version") or told.get("base", "")
    learned = [f"{version}:{i}" for i in range(len(facts.records(version)))]
    count = manifest.get("records", told.get("records", 0))
    if not learned and version in facts.updates:
        learned = list(dict.fromkeys(id for step in sorted(facts.updates[version].items()) for id in step[1]))
        note = f"{manifest.get('objective', '')}, {count} records online"
    else:
        note = f"{manifest.get('objective', '')}, {count} record{'' if count == 1 else 's'}"
        if not gap and len(learned) != count:
            gap = f"{count - len(learned)} of its {count} records are not in this run (policies/{version}/{RECORDS})"
    if not base:
        gap = gap or "the policy it was trained from is unknown"
    onward = [("trained from", base)] if base else []
    node = LineageNode(version, "policy", "trained", round=number, note=note.removeprefix(", "), gap=gap)
    return node, onward + [("learned", id) for id in learned]


def _tuned(facts: RunFolder, version: str) -> Visit:
    """A policy that lived for one answer: its starting policy, and the attempts that it learned from."""
    number, told = facts.tuned[version]
    note = f"{told['objective']}, {told['steps']} steps for one answer; its weights are deleted"
    node = LineageNode(version, "policy", "tuned", problem=facts.question(told["problem"]), round=number, note=note)
    return node, [("trained from", told["base"]), *(("learned", id) for id in told["attempts"])]


def _noted(facts: RunFolder, version: str) -> Visit:
    """A policy with notes: its weights, and the attempts that the notes were made from."""
    number, told = facts.noted[version]
    problems = f"; also made from {len(told['problems'])} problems" if told["problems"] else ""
    note = Notes.from_json(told["notes"]).summary + problems
    node = LineageNode(version, "policy", "noted", round=number, note=note)
    return node, [("notes for", told["base"]), *(("made of", id) for id in told["attempts"])]


def _live(facts: RunFolder, name: str) -> Visit:
    """A policy in training: its starting policy, the previous step, and the step's training data."""
    number, told = facts.live[name]
    training, step = told["policy"], told["step"]
    node = LineageNode(name, "policy", "live", round=number, note=f"in training to be {training}, step {step}")
    onward = [("trained from", told["base"])]
    if step > 1:
        learned = facts.updates.get(training, {}).get(step - 1, [])
        onward += [("learned", id) for id in learned]
        onward += [("updated from", facts.live_names.get((training, step - 1), f"step {step - 1} of {training}"))]
    return node, onward


def _record(facts: RunFolder, id: str, version: str, number: int) -> Visit | None:
    """One record that a policy learned, and the attempts it is made of."""
    records = facts.records(version)
    if number >= len(records):
        return None
    row = records[number]
    made_of = attempts_of(row)
    role = row.get("kind", "record").replace("_", " ")
    inside = row.get("attempt") or next(iter(row.get("samples") or ()), None) or {}
    asked = [message["content"] for message in row.get("prompt") or inside.get("prompt") or ()]
    said = next((row[name] for name in TEXT_FIELDS if name in row), inside.get("text", ""))
    text = said if isinstance(said, str) else "\n".join(map(str, said))
    over = f"over: {row['rejected']}" if "rejected" in row else ""
    gap = "" if made_of else "the record names no attempt" if row else "the record's line cannot be read"
    node = LineageNode(id, "record", role, version, asked[0] if asked else "", text=text, note=over, gap=gap)
    return node, [("made of", attempt) for attempt in made_of]


def attempts_of(row: Mapping[str, Any]) -> list[str]:
    """The attempts that a stored record names."""
    if "attempts" in row:
        return list(dict.fromkeys(row["attempts"]))
    inside = [row["attempt"]] if "attempt" in row else row.get("samples", ())
    return list(dict.fromkeys(attempt["id"] for attempt in inside))


def _attempt(facts: RunFolder, id: str, number: int, sample: Mapping[str, Any]) -> Visit:
    """A sample: who wrote it, and the attempt it continues."""
    question = facts.question(sample["problem"])
    judged = facts.judgments.get(id, [])
    notes = [f"refused: {sample['refused']}" if sample.get("refused") else "", facts.steps.get(id, "")]
    notes += judged
    node = LineageNode(
        id, "attempt", sample["role"], sample["policy"], question, facts.verdict(sample, id), sample["text"], number,
        "; ".join(note for note in notes if note),
    )  # fmt: skip
    parent = [("continues", sample["parent"])] if sample["parent"] else []
    posed = [("answers a problem from", one) for one in facts.posed.get(sample["problem"], ()) if one != id]
    return node, [("by", sample["policy"]), *parent, *posed]


def _tree(facts: RunFolder, id: str, number: int, tree: Mapping[str, Any]) -> Visit:
    """A search tree: who grew it, and the attempts that are its steps."""
    question = facts.question(tree["problem"])
    steps = dict.fromkeys(row["id"] for row in tree["nodes"] if row["id"])
    note = f"{len(tree['nodes']) - 1} steps, {len(tree['pairs'])} pairs"
    node = LineageNode(id, "tree", "", tree["policy"], question, round=number, note=note)
    return node, [("by", tree["policy"]), *(("step", step) for step in steps)]


def _reference_step(facts: RunFolder, id: str, number: int, step: Mapping[str, Any]) -> Visit:
    """A step of a problem's written solution in a search tree, which a policy read and did not sample."""
    question = facts.question(step["problem"])
    node = LineageNode(id, "attempt", "written", "", question, text=step["text"], round=number, note="written solution")
    return node, [("read by", step["policy"]), *([("continues", step["parent"])] if step["parent"] else [])]


EFFECTS: dict[str, Callable[[RunFolder, str, int, Mapping[str, Any]], Visit]] = {
    "sample": _attempt,
    "tree": _tree,
    "reference_step": _reference_step,
}
