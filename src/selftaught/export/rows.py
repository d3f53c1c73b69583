"""Rows of a run's data in the forms that other trainers read (TRL's), with the lineage of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

from selftaught.errors import BadInput
from selftaught.journal import JournalReader
from selftaught.lineage.folder import RunFolder
from selftaught.packed_numbers import packed_length
from selftaught.records import judged_text_hash
from selftaught.run.config import HELD_OUT_KEY

What = Literal["attempts", "sft", "pairs", "labels", "rankings", "steps"]
WHATS = get_args(What)
Row = dict[str, Any]
BESIDE = ("ends", "masked", "margin", "label_smoothing")
"""Of a record, beside what TRL's types hold."""


def export_rows(facts: RunFolder, what: What, *, policy: str = "", test: bool = False) -> Iterator[Row]:
    """The rows of one kind of a run's data, in TRL's dataset types.

    - "sft": `prompt`, `completion`, both as messages;
    - "pairs": `prompt`, `chosen`, `rejected`;
    - "labels": `prompt`, `completion`, `label` (unpaired preferences);
    - "rankings": `prompt`, `completions`, `scores`;
    - "steps": `prompt`, `completions` (the steps), `labels`, `scores` (stepwise supervision), as texts;
    - "attempts": every answer with its problem, split, role, round, text, verdict and score.

    All but attempts are what one policy was trained on, with the ids of the attempts that they were made of.
    What a record says beyond TRL's types is in columns of its own (`ends`, `masked`, `margin`, `label_smoothing`, where
    they are not as usual, and `weight`); demonstrations of a weight that is not above 0 are left out. References are in
    no row by themselves: a journal does not hold them.

    Args:
        policy: whose training records; by default the champion's.
        test: attempts at test problems, too.

    Raises:
        BadInput: the policy was not trained here, has no such records, or the run does not say what its test problems
            are.
    """
    if what == "attempts":
        return _attempts(facts, test=test)
    version = policy or facts.champion
    records = facts.records(version)
    kind, convert = _FORMS[what]
    if not any(record.get("kind") == kind for record in records):
        has = sorted({name for name, (own, _) in _FORMS.items() for r in records if r.get("kind") == own})
        trained = [name for name in facts.policies if facts.records(name)]
        fix = f"it has {', '.join(has)}" if has else f"choose another (--policy {' or '.join(trained[:4]) or '…'})"
        raise BadInput(f"policy {version} was trained on no {what}", where=str(facts.folder), fix=fix)
    return _record_rows(facts, version, kind, convert)


def _record_rows(
    facts: RunFolder, version: str, kind: str, convert: Callable[[Mapping[str, Any]], Row]
) -> Iterator[Row]:
    for number, record in enumerate(facts.records(version)):
        if record.get("kind") != kind or (kind == "demo" and not record.get("weight", 1.0) > 0):
            continue
        try:
            row = convert(record)
        except (KeyError, TypeError) as error:
            what = f"record {number} is damaged ({type(error).__name__}: {error})"
            raise BadInput(what, where=str(facts.published[version])) from None
        row |= {name: record[name] for name in BESIDE if name in record}
        yield row | {"weight": record.get("weight", 1.0), "attempts": record.get("attempts", []), "policy": version}


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _demo(one: Mapping[str, Any]) -> Row:
    return {"prompt": one["prompt"], "completion": _said(one["target"])}


def _pair(one: Mapping[str, Any]) -> Row:
    return {"prompt": one["prompt"], "chosen": _said(one["chosen"]), "rejected": _said(one["rejected"])}


def _label(one: Mapping[str, Any]) -> Row:
    return {"prompt": one["prompt"], "completion": _said(one["response"]), "label": one["good"]}


def _ranking(one: Mapping[str, Any]) -> Row:
    return {"prompt": one["prompt"], "completions": [_said(text) for text in one["responses"]], "scores": one["scores"]}


def _steps(one: Mapping[str, Any]) -> Row:
    labels = [score >= 0.5 for score in one["scores"]]
    asked = "\n\n".join(str(message["content"]) for message in one["prompt"])
    return {"prompt": asked, "completions": one["steps"], "labels": labels, "scores": one["scores"]}


_FORMS: dict[str, tuple[str, Callable[[Mapping[str, Any]], Row]]] = {
    "sft": ("demo", _demo), "pairs": ("pair", _pair), "labels": ("label", _label), "rankings": ("ranking", _ranking),
    "steps": ("scored_steps", _steps),
}  # fmt: skip


def _attempts(facts: RunFolder, *, test: bool) -> Iterator[Row]:
    held_out = facts.reader.meta_object(HELD_OUT_KEY)
    if not held_out and not test:
        what = "an earlier version made it, which did not keep which problems are of the test split"
        raise BadInput(what, where=str(facts.folder), fix="export all of them (--test)")
    return _attempt_rows(facts, held_out, test=test)


def _attempt_rows(facts: RunFolder, held_out: Mapping[str, str], *, test: bool) -> Iterator[Row]:
    verdicts = _verdicts(facts.reader)
    for key, number, sample in facts.reader.stream("sample"):
        split = held_out.get(sample["problem"], "train")
        if split == "test" and not test:
            continue
        text = facts.answer(sample) if not sample.get("refused") else ""
        judged = verdicts.get(key) or verdicts.get(judged_text_hash(sample["problem"], text))  # an episode, a text
        verdict, score, source = judged or ("unknown" if sample.get("refused") else "", None, "")
        yield {
            "id": key, "problem": sample["problem"], "question": facts.question(sample["problem"]), "split": split,
            "round": number, "role": sample["role"], "parent": sample.get("parent"), "policy": sample["policy"],
            "text": text, "verdict": verdict, "score": score, "verifier": source,
            "finish_reason": sample.get("finish", "error"), "tokens": packed_length(sample.get("tokens") or []),
            "temperature": (sample.get("sampling") or {}).get("temperature"),
        }  # fmt: skip


def _verdicts(reader: JournalReader) -> dict[str, tuple[str, float | None, str]]:
    """Hash of a judged text -> verdict, score, verifier."""
    found = (payload for _, _, payload in reader.stream("verify"))
    return {one[3]: (one[0], one[1], one[4] if len(one) > 4 else "") for one in found if len(one) > 3}
