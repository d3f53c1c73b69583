"""Lineage: whatever any method makes walks back to the starting model, and what is missing is told of."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from search_world import by_steps
from selftaught.cli.main import main
from selftaught.engines import ScriptedEngine
from selftaught.errors import BadInput
from selftaught.journal import JournalReader
from selftaught.learn import sft
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.lineage import Lineage, trace
from selftaught.lineage.folder import RunFolder
from selftaught.lineage.text import tree_lines
from selftaught.lineage.walk import attempts_of, walk
from selftaught.method import Method, find, methods
from selftaught.models.policy import load_policy
from selftaught.records import Attempt, Demo, Problem
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.testing import make_run, make_task, solve_sum
from selftaught.testing.checks import judge_two, task_for
from selftaught.testing.sums import solve_or_judge
from talking_world import talk

ALL = list(methods().values())
SHORT = {
    "rounds": 2, "samples": 3, "steps": 2, "turns": 2, "num_temperatures": 2, "probe": 2, "critiques": 1,
    "rollouts_per_critique": 1,
    "repairs": 2, "drafts": 2, "problems": 4, "iterations": 6,
}  # fmt: skip
SCRIPTS = {
    "mcts-dpo": by_steps(),
    "self": talk,
    "score": talk,
    "star-corrections": talk,
    "pair-sft": talk,
    "critique-in-the-loop": talk,
    "critic-supervision": talk,
    "evolve": talk,
    "sirlc": solve_or_judge,
    "evolve-sft": talk,
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("critique-in-the-loop", {"self_talk": True}), ("self-train-collapse", {"data": "replay"}),
    ("evolve-sft", {"then_dpo": True}),
]  # fmt: skip
TABLE = [*((method, {}) for method in ALL), *((find(name), options) for name, options in VARIANTS)]
ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e"


def play(method: Method, run: Run, more: dict[str, Any]) -> None:
    options = {o.name: SHORT[o.name] for o in method.options if o.name in SHORT and o.default > SHORT[o.name]} | more
    if method.shape == "solver":
        run.attempt(run.base, run.task.train, solver=method.with_options(**options))
        policy = run.learn(run.base, sft(), [Demo(p.prompt, "x", attempts=(a.id,)) for p, a in drawn(run)])
        run.attempt(policy, run.task.train, solver=method.with_options(**options))
    elif method.shape == "judge":
        policy = run.learn(run.base, sft(), [Demo(p.prompt, "x", attempts=(a.id,)) for p, a in drawn(run)])
        judge_two(method.with_options(**options), run, run.task.train[0], policy)
    else:
        method(run, run.base, run.task, **options)


def drawn(run: Run) -> list[tuple[Problem, Attempt]]:
    return [(a.problem, a) for a in run.attempt(run.base, run.task.train)]


def everything(run: Run) -> tuple[dict[str, dict[str, Any]], Iterator[str], list[str]]:
    """What the journal and the folder hold, looked up without the module under test: samples, other ids, policies."""
    samples = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
    trees = [(key, tree) for key, _, tree, _ in run.journal.effects("tree")]
    noted = {facts["policy"] for _, _, facts, _ in run.journal.effects("notes")}
    stored = [path.parent.name for path in run.folder.glob("policies/*/selftaught.json")]
    policies = [name for name in stored if name not in noted]
    lines = {name: (run.folder / "policies" / name / "records.jsonl").read_text("utf-8") for name in policies}
    records = [f"{name}:{i}" for name, text in lines.items() for i in range(len(text.splitlines()))]
    steps = [row["id"] for _, tree in trees for row in tree["nodes"][1:]]
    return samples, iter([*(key for key, _ in trees), *steps, *records, *policies]), policies


def assert_whole(found: Lineage, base: str) -> None:
    """All ways back end at the starting model or at the task's annotator, and there alone."""
    assert found.gaps == {}
    assert found.base == base
    ends = {id for id in found.nodes if not found.sources(id)}
    annotators = {id for id in ends if found.nodes[id].role == "annotator"}
    assert ends - annotators == {base} or (annotators and ends == annotators)
    assert {link.target for link in found.links} <= set(found.nodes)


@pytest.mark.parametrize(("method", "options"), TABLE, ids=lambda one: one.id if isinstance(one, Method) else str(one))
def test_whatever_a_method_makes_walks_back_to_the_starting_model(
    method: Method, options: dict[str, Any], tmp_path: Path
) -> None:
    script = SCRIPTS.get(method.preset_of or method.id, partial(solve_sum, least=0.6, most=0.7))  # some are right
    engine = ScriptedEngine(script)
    with make_run(tmp_path, engine=engine, task=task_for(method, train=4, dev=6)) as run:
        play(method, run, options)
        samples, others, policies = everything(run)
        noted = {facts["policy"]: facts for _, _, facts, _ in run.journal.effects("notes")}
        written = {key for key, *_ in run.journal.effects("reference_step")}
        trains = any(run.journal.count(kind) for kind in ("learn", "online", "tune"))
        made = {name: load_policy(run.folder / "policies" / name) for name in policies}
        with JournalReader(run.folder) as reader:
            facts = RunFolder(run.folder, reader)
            for id in [*samples, *others, *noted]:
                assert_whole(walk(facts, [id]), run.base.version)
            together = walk(facts, [*samples, *made, *noted])
        assert_whole(trace(run.folder), run.base.version)  # while the run is under way
    assert samples
    assert noted if noted and not trains else policies  # notes alone are enough where nothing is trained
    for name, told in noted.items():
        links = [(link.how, link.target) for link in together.sources(name)]
        assert links == [("notes for", told["base"]), *(("made of", id) for id in told["attempts"])]
        assert set(told["attempts"]) <= set(samples)
        assert told["attempts"]
    for key, sample in samples.items():
        assert sample["parent"] or sample["role"] == "solve", "what a critique, a judgement or a revision is of"
        node = together.nodes[key]
        assert (node.role, node.policy, node.text) == (sample["role"], sample["policy"], sample["text"])
        assert {(link.how, link.target) for link in together.sources(key)} == {
            ("by", sample["policy"]), *({("continues", sample["parent"])} if sample["parent"] else ()),
        }  # fmt: skip
    for name, policy in made.items():
        assert policy.base is not None
        assert [link.target for link in together.sources(name) if link.how == "trained from"] == [policy.base.version]
        stored = (policy.path / "records.jsonl").read_text("utf-8").splitlines()
        assert stored
        for i, line in enumerate(stored):
            behind = [link.target for link in together.sources(f"{name}:{i}")]
            assert behind == attempts_of(json.loads(line))
            assert behind
            assert set(behind) <= {*samples, *written}


def test_verdicts_are_those_of_the_run(tmp_path: Path) -> None:
    async def in_pieces(ask: Ask, problem: Problem) -> Attempt:
        return await ask.continue_from(await ask(problem.prompt, max_tokens=4), "\nso: ")

    with make_run(tmp_path) as run:
        tried = [*run.attempt(run.base, run.task.train), *run.attempt(run.base, run.task.train, solver=in_pieces)]
    for attempt in tried:
        node = trace(run.folder, attempt.id).nodes[attempt.id]
        assert (node.verdict, node.problem) == (attempt.verdict.value, attempt.problem.question)
    assert len({attempt.verdict for attempt in tried}) == 2


def test_online_each_step_leads_to_the_one_before(tmp_path: Path, tiny: Any) -> None:
    """Real weights: a policy trained online names what it learned from, step by step, and so do those in between."""
    from selftaught.console import Console
    from selftaught.engines import Sampling
    from selftaught.engines.local.engine import LocalEngine
    from selftaught.run.settings import Settings

    def odd(rollout: Any) -> float:
        return float(len(rollout.attempt.text) % 2)

    engine, base = LocalEngine(dtype="float32", device="cpu", max_batch_size=16), tiny("llama")
    settings, quiet = Settings(sampling=Sampling(max_tokens=4)), Console(quiet=True)
    with Run(
        tmp_path, model=base, task=make_task(train=2, dev=2), engine=engine, settings=settings, console=quiet
    ) as run:
        how: dict[str, Any] = {"batch_size": 2, "precision": "float32"}
        credit = CreditAssignment(reward=odd, outcome_key=odd)
        policy = run.learn_online(run.base, run.task.train, steps=3, samples=12, credit=credit, **how)
        live = [facts["live"] for _, _, facts, _ in run.journal.effects("online")]
        said = {key: payload["policy"] for key, _, payload, _ in run.journal.effects("sample")}
    found = trace(tmp_path, policy.version)
    assert_whole(found, base.version)
    learned = {link.target for link in found.sources(policy.version) if link.how == "learned"}
    assert {said[id] for id in learned} == set(live)
    back = [[(link.how, link.target) for link in found.sources(name) if link.how != "learned"] for name in live]
    first = ("trained from", base.version)
    assert back == [[first], [first, ("updated from", live[0])], [first, ("updated from", live[1])]]
    between = {link.target for link in found.sources(live[2]) if link.how == "learned"}
    assert between == {id for id in learned if said[id] == live[1]}


def test_weights_in_training_are_known_before_they_are_done(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.learn_online(run.base, run.task.train, steps=2, samples=16)
    change(run.folder, "DELETE FROM effects WHERE kind IN ('online', 'learn')")  # as a process killed sooner leaves it
    shutil.rmtree(run.folder / "policies")
    with JournalReader(run.folder) as reader:
        keys = reader.keys("sample")
    assert keys
    for key in keys:
        assert_whole(trace(run.folder, key), run.base.version)


# --- the command ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two rounds."""
    place = tmp_path_factory.mktemp("lineage")
    with make_run(place, task=make_task(train=8, dev=8)) as run:
        find("rest-em")(run, run.base, run.task, rounds=2, samples=4)
    return run.folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """It again, to be broken."""
    return shutil.copytree(folder, tmp_path / "copy")


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    capsys.readouterr()
    assert main(["lineage", *words]) == status
    out, err = capsys.readouterr()
    assert bool(err) == bool(status)
    return err if status else out


def champion(folder: Path) -> str:
    return trace(folder).start


def by_the_base(folder: Path) -> tuple[str, dict[str, Any]]:
    """An attempt of the starting model's, and what the journal says of it."""
    with JournalReader(folder) as reader:
        return next((key, sample) for key, _, sample, _ in reader.effects("sample") if sample["policy"] == "base-model")


def change(folder: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(folder / "journal.sqlite") as db:
        assert db.execute(statement, values).rowcount
    db.close()


def test_a_real_process_tells_of_a_real_run_and_leaves_no_trace(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    command = partial(subprocess.run, capture_output=True, text=True, check=True)
    run = command([sys.executable, "-m", "selftaught", "lineage", str(folder)]).stdout
    assert run.startswith("rest-em: ")
    assert run.count("trained policy ") == 2
    assert "; the champion" in run
    examples = [line.split()[1:] for line in run.splitlines() if line.startswith("  selftaught lineage ")]
    assert len(examples) == 2
    for words in examples:  # what it suggests can be asked
        assert "base policy base-model" in command([sys.executable, "-m", "selftaught", *words]).stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_counts_are_those_of_the_records(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, str(folder))
    for path in folder.glob("policies/*/records.jsonl"):
        count = len(path.read_text("utf-8").splitlines())
        assert f"   learned {count} demos\n   made of {count} solve by " in out


def test_json_is_the_whole_graph(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, str(folder), "--json"))
    found = trace(folder)
    assert told["start"] == found.start != told["base"] == "base-model"
    assert [node["id"] for node in told["nodes"]] == list(found.nodes)
    assert [(link["from"], link["to"], link["how"]) for link in told["links"]] == [
        (link.source, link.target, link.how) for link in found.links
    ]
    assert told["gaps"] == {}


def test_the_tree_shows_each_node_and_is_cut_where_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = champion(folder)
    whole = said(capsys, str(folder), first, "--width", "0")
    for node in trace(folder).nodes.values():
        name = node.id.replace(node.id.partition(":")[0], node.id[:10], 1)
        assert f"{node.role or node.kind} {name}" in whole.replace(" policy ", " ")
    short = said(capsys, str(folder), first, "--width", "2", "--depth", "1")
    assert len(short.splitlines()) == 1 + 1 + 2 + 1 + sum("--depth 2" in line for line in short.splitlines())
    assert "more (--width 0 shows all)" in short
    assert f"demo {first[:10]}:0" in said(capsys, str(folder), f"{first[:8]}:0")
    assert "--depth: got -1" in said(capsys, str(folder), first, "--depth", "-1", status=2)


def test_a_long_chain_is_shown_whole(tmp_path: Path) -> None:
    async def many(ask: Ask, problem: Problem) -> Attempt:
        said = await ask(problem.prompt, max_tokens=1)
        for _ in range(1200):
            said = await ask(problem.prompt, role="revise", parent=said, max_tokens=1)
        return said

    with make_run(tmp_path) as run:
        (last,) = run.attempt(run.base, run.task.train[:1], solver=many)
    lines = list(tree_lines(trace(run.folder, last.id)))
    assert sum("continues: " in line for line in lines) == 1200


def test_the_beginning_of_an_id_will_do_where_it_is_one_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with JournalReader(folder) as reader:
        keys = reader.keys("sample")
    assert trace(folder, keys[0][:12]).start == keys[0]
    first = next(a for a, b in itertools.pairwise(keys) if a[0] == b[0])[0]
    assert f"{first!r} is a prefix of " in (line := said(capsys, str(folder), first, status=2))
    assert "give a longer prefix: " in line
    assert line.count("\n") == 1
    assert "no such id: ''" in said(capsys, str(folder), "", status=2)


def test_what_is_called_nothing_is_one_line_with_the_nearest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with JournalReader(folder) as reader:
        key = reader.keys("sample")[0]
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    line = said(capsys, str(folder), wrong, status=2)
    assert line.count("\n") == 1
    assert f"no such id: {wrong!r}; did you mean {key!r}" in line
    last = champion(folder)
    assert f"policy {last} has no record 999; it has " in said(capsys, str(folder), f"{last}:999", status=2)
    assert "no such id" in said(capsys, str(folder), f"{last}:{'9' * 5000}", status=2)


def test_a_folder_without_a_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        line = said(capsys, str(place), status=2)
        assert line == f"selftaught: {place}: not a run folder (no journal.sqlite); give the folder of a run\n"
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "journal.sqlite").write_bytes(b"")
    assert "not a journal, it holds no run" in said(capsys, str(tmp_path), status=2)
    (tmp_path / "journal.sqlite").write_bytes(b"this is no database" * 100)
    assert "not a journal, or a damaged one" in said(capsys, str(tmp_path), status=2)


# --- what is missing ---


def test_broken_links_are_told_of(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = champion(copy)
    found = trace(copy, last)
    key = next(link.target for link in found.links if link.how == "made of")
    change(copy, "DELETE FROM effects WHERE key = ?", key)
    told = f"attempt {key} is not in this run"
    assert trace(copy, last).gaps == {key: told}
    assert f"incomplete: {told}" in said(capsys, str(copy), last, "--width", "0")
    assert f"incomplete: {told}" in said(capsys, str(copy))
    assert json.loads(said(capsys, str(copy), "--json"))["gaps"] == {key: told}


def test_lost_policies_and_records_are_told_of(copy: Path) -> None:
    with make_run(copy.parent) as run:  # a policy whose sampler was trained, and is lost
        policy = run.learn(run.base, sft(), [Demo(p.prompt, "x", attempts=(a.id,)) for p, a in drawn(run)])
        attempt = run.attempt(policy, run.task.train[:1])[0].id
        lost = run.learn(run.base, sft(), [Demo(p.prompt, "x") for p in run.task.train])
    place = run.folder / "policies" / policy.version
    lines = (place / "records.jsonl").read_text("utf-8").splitlines()
    assert "the record names no attempt" in trace(run.folder, lost.version).gaps.values()
    (place / "records.jsonl").write_text("\n".join(["{not json", *lines[2:]]))
    gaps = trace(run.folder, attempt).gaps
    assert gaps[policy.version].startswith(f"1 of its {len(lines)} records are not in this run")
    assert gaps[f"{policy.version}:0"] == "the record's line cannot be read"
    (place / "selftaught.json").write_text("{")
    assert "unreadable manifest" in trace(run.folder, attempt).gaps[policy.version]
    shutil.rmtree(place)
    found = trace(run.folder, attempt)
    assert "its folder is not in this run" in found.gaps[policy.version]
    assert [link.target for link in found.sources(policy.version)] == ["base-model"]  # the journal still knows
    change(run.folder, "DELETE FROM effects WHERE kind = 'learn'")
    assert trace(run.folder, attempt).gaps == {policy.version: f"policy {policy.version} is not in this run"}


def test_attempts_that_lead_in_a_circle_end_the_walk(copy: Path) -> None:
    key, sample = by_the_base(copy)
    change(
        copy,
        "UPDATE effects SET payload = ? WHERE key = ?",
        json.dumps(sample | {"parent": key, "prefix_chars": 3}),
        key,
    )
    found = trace(copy, key)
    assert [link.target for link in found.sources(key)] == ["base-model", key]
    assert len(list(tree_lines(found))) == 3


def test_names_in_the_journal_open_no_folder_elsewhere(copy: Path) -> None:
    outside = shutil.copytree(copy / "policies" / champion(copy), copy.parent / "outside")
    key, sample = by_the_base(copy)
    name = f"../../{outside.name}"
    change(copy, "UPDATE effects SET payload = ? WHERE key = ?", json.dumps(sample | {"policy": name}), key)
    assert trace(copy, key).gaps == {name: f"policy {name} is not in this run"}


def test_text_from_elsewhere_cannot_act_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = make_task(train=2, dev=2)
    with make_run(tmp_path, task=task, script=lambda *_: f"{ESCAPE}\r\n{'word ' * 5000}Answer: 1{ESCAPE}") as run:
        attempt = run.attempt(run.base, run.task.train, max_tokens=100_000)[0]
        demo = Demo(attempt.prompt, attempt.text, attempts=(attempt.id, f"gone{ESCAPE}"))
        policy = run.learn(run.base, sft(), [demo])
    for words in ([], [attempt.id], [policy.version], [f"{policy.version}:0"], [attempt.id, "--json"], ["--json"]):
        out = said(capsys, str(run.folder), *words)
        assert not set(out) & {*map(chr, range(10)), *map(chr, range(11, 32)), "\x7f", "\u202e"}
        assert "--json" in words or max(map(len, out.splitlines())) < 400
    assert "⟨U+001B⟩" in said(capsys, str(run.folder), attempt.id)
    (run.folder / "policies" / policy.version / "selftaught.json").write_text(json.dumps({"version": ESCAPE}))
    assert "\x1b" not in said(capsys, str(run.folder))


def test_a_folder_that_may_not_be_written_is_read(copy: Path) -> None:
    """Also by users who may do all: nothing is left that would have had to be written."""
    before = sorted(os.listdir(copy))
    assert_whole(trace(copy), "base-model")
    assert sorted(os.listdir(copy)) == before
    with pytest.raises(BadInput, match="no such id: 'zz'"):
        trace(copy, "zz")
