"""A run folder read for lineage: policies, whole answers, verdicts, and ids that are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.journal import Journal, JournalReader
from selftaught.lineage.folder import RunFolder
from selftaught.models.policy import MANIFEST
from selftaught.records import judged_text_hash
from selftaught.run.config import QUESTIONS_KEY


def sample(text: str, parent: str = "", **more: Any) -> dict[str, Any]:
    return {"problem": "p1", "text": text, **({"parent": parent, "prefix_chars": 1} if parent else {}), **more}


SAMPLES = {
    "a1": sample("The sum"),
    "a2": sample(" is 4", "a1"),
    "a3": sample(" or 5", "a2"),
    "cut": sample("12 caf\ufffd", stop_text=""),
    "cut2": sample("é", "cut"),  # a character was cut in the middle
    "forced": sample(" so 7", "a1", injected=" Wait,"),
    "stopped": sample("Step 1", stop_text="\n"),
    "next": sample("Step 2", "stopped"),
    "loop1": sample("x", "loop2"),
    "loop2": sample("y", "loop1"),
    "orphan": sample("z", "gone"),
    "refused": sample("", refused="content filter"),
}


def policy(folder: Path, version: str, lines: str | None = None, manifest: str | None = None) -> None:
    place = folder / "policies" / version
    place.mkdir(parents=True)
    (place / MANIFEST).write_text(manifest or json.dumps({"version": version}), "utf-8")
    if lines is not None:
        (place / "records.jsonl").write_text(lines, "utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    journal = Journal(tmp_path)
    journal.set_meta("config", json.dumps({"model": "base", "method": "star"}))
    journal.set_meta(QUESTIONS_KEY, json.dumps({"p1": "1 + 3?"}))
    for key, payload in SAMPLES.items():
        journal.put(key, "sample", payload)
    journal.put("v", "verify", ["right", 1.0, "", judged_text_hash("p1", "The sum is 4"), "exact"])
    journal.put("old", "verify", ["wrong", 0.0, ""])  # as an earlier version wrote it
    journal.put("learn0", "learn", {"policy": "base"})  # nothing was learned
    journal.put("learn1", "learn", {"policy": "trained-1"})
    journal.put("learn2", "learn", {"policy": "trained-2"})
    for number, promoted in ((1, True), (2, False)):
        journal.put(f"gate{number}", "gate", {"policy": f"trained-{number}", "promoted": promoted})
    nodes = [{}, {"id": "a1", "q": 0.5, "visits": 3, "prior": 0.25}]
    journal.put("0123456789abcdef", "tree", {"nodes": nodes})
    journal.close()
    policy(tmp_path, "trained-1", '{"kind": "demo"}\n[1]\nno json\n\n{"kind": "pair"}\n')
    policy(tmp_path, "stray", manifest="[]")
    with JournalReader(tmp_path) as reader:
        yield RunFolder(tmp_path, reader)


def test_policies_stand_in_order_of_creation_and_the_last_promoted_is_the_champion(run: RunFolder) -> None:
    assert run.policies == ["base", "trained-1", "trained-2", "stray"]
    assert list(run.trainings) == ["trained-1", "trained-2"]
    assert run.champion == "trained-1"
    assert sorted(run.published) == ["stray", "trained-1"]


def test_a_manifest_is_read_or_what_is_wrong_with_it_is_told(run: RunFolder) -> None:
    assert run.manifest("trained-1") == ({"version": "trained-1"}, "")
    assert run.manifest("trained-2") == ({}, "its folder is not in this run (policies/trained-2)")
    assert run.manifest("stray") == ({}, "unreadable manifest (it names no version)")


def test_a_record_keeps_its_number_where_lines_before_it_are_damaged(run: RunFolder) -> None:
    assert run.records("trained-1") == [{"kind": "demo"}, {}, {}, {"kind": "pair"}]
    assert run.records("trained-2") == run.records("stray") == []


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("a1", "The sum"),
        ("a2", "The sum is 4"),
        ("a3", "The sum is 4 or 5"),
        ("cut2", "12 café"),
        ("forced", "The sum Wait, so 7"),
        ("next", "Step 1\nStep 2"),
        ("orphan", "z"),
        ("loop1", "xyx"),
    ],
)
def test_an_answer_is_all_of_its_parts(run: RunFolder, key: str, answer: str) -> None:
    assert run.answer(SAMPLES[key]) == answer


def test_the_verdict_of_a_sample_is_that_on_its_whole_answer(run: RunFolder) -> None:
    verdicts = {key: run.verdict(SAMPLES[key]) for key in ("a1", "a2", "refused")}
    assert verdicts == {"a1": "", "a2": "right", "refused": "unknown"}
    assert run.question("p1") == "1 + 3?"
    assert run.question("p9") == "p9"


def test_a_step_of_a_tree_has_its_statistics(run: RunFolder) -> None:
    assert run.steps == {"a1": "step of tree 0123456789: Q 0.50, visits 3, prior 0.25"}


@pytest.mark.parametrize(
    ("word", "id"),
    [
        ("base", "base"),
        ("b", "base"),
        ("trained-1", "trained-1"),
        ("trained-1:3", "trained-1:3"),
        ("0123", "0123456789abcdef"),
        ("cut", "cut"),  # whole, though it is also a prefix
        ("or", "orphan"),
    ],
)
def test_an_id_or_its_unique_prefix_is_resolved(run: RunFolder, word: str, id: str) -> None:
    assert run.resolve_id(word) == id


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trained", "'trained' is a prefix of 2 ids; give a longer prefix: trained-1, trained-2"),
        ("trained-1:4", "policy trained-1 has no record 4; it has 4, from 0"),
        ("trained-2:0", "policy trained-2 has no record 0; it has none"),
        ("cutt", "no such id: 'cutt'; did you mean 'cut' or 'cut2'?"),
        ("traind-1", "no such id: 'traind-1'; did you mean 'trained-1' or 'trained-2'?"),
        ("base:0", "no such id: 'base:0'; did you mean 'base'?"),
        ("", "no such id: ''; known: "),
    ],
)
def test_any_other_word_is_one_line(run: RunFolder, word: str, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        run.resolve_id(word)
    assert str(refused.value).startswith(f"{run.folder}: {message}")
