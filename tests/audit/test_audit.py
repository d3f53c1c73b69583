"""Audits: honest runs pass, and each planted fraud is found, also by a forger who links the journal's rows anew."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playing_world import rooms_task, walker
from selftaught import Demo, keep, sft
from selftaught.audit import Finding, audit
from selftaught.engines.scripted import scripted_learner
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact, right_or_wrong
from selftaught.journal import Journal, JournalReader, Usage
from selftaught.journal.chain import relink
from selftaught.method import find
from selftaught.models import Policy
from selftaught.models.cache import hash_files
from selftaught.models.policy import load_policy, publish, read_manifest
from selftaught.records import as_json, content_hash
from selftaught.run.conclusion import conclude, write
from selftaught.tasks import Task, load_task
from selftaught.testing import make_run, make_task


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose champion was promoted twice."""
    folder = tmp_path_factory.mktemp("honest")
    with make_run(folder, learner=learner) as run:
        find("rest-em")(run, run.base, run.task, rounds=2, samples=4)
        write(run, conclude(run))
    return folder / "run"


def learner(base: Policy, objective: Any, records: Any, settings: Any, *, folder: Path, **how: Any) -> Policy:
    """The scripted learner, whose policies have a file besides."""
    made = scripted_learner(base, objective, records, settings, folder=folder / "drafts", **how)
    (made.path / "config.json").write_text(json.dumps({"made": made.version}))
    manifest = {k: v for k, v in read_manifest(made.path).items() if k not in ("files", "content")}
    publish(made.path, folder / made.version, manifest)
    shutil.rmtree(folder / "drafts")
    return load_policy(folder / made.version)


@pytest.fixture
def copy(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "run", symlinks=True))


class ByHash(Exact):
    """Calls half of all texts right."""

    def decide(self, problem: Any, answer: Any, reference: str | None) -> Any:
        """By a hash of the text."""
        return right_or_wrong(int(content_hash(answer.text), 16) % 2 == 0, self.version)


def differs(folder: Path, task: Task | None = None) -> set[str]:
    """The checks that find a difference."""
    return {one.name for one in audit(folder, task or make_task()) if one.holds is False}


def details(found: list[Finding]) -> dict[str, str]:
    return {one.name: one.detail for one in found}


def test_an_honest_run_passes(honest: Path) -> None:
    found = audit(honest, make_task())
    assert [one for one in found if not one.holds] == []
    said = details(found)
    assert "decisions made again" in said["gates"]
    assert not said["gates"].startswith("0 ")
    assert "accuracies, their difference, the vote" in said["summary"]


@pytest.mark.parametrize("method", ["rest-em", "star", "lmsi", "preferences", "online-dpo", "critique-in-the-loop"])
@pytest.mark.parametrize("seed", range(7))
def test_no_honest_run_is_accused(method: str, seed: int, tmp_path: Path) -> None:
    from selftaught.run.settings import Settings

    with make_run(tmp_path, settings=Settings(seed=seed)) as run:
        find(method)(run, run.base, run.task, rounds=2)
        write(run, conclude(run))
    assert differs(tmp_path / "run") == set()


def test_a_run_that_was_resumed_is_not_accused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        find("rest-em")(run, run.base, run.task, rounds=1, samples=4)
    for _ in range(2):
        with make_run(tmp_path) as run:
            find("rest-em")(run, run.base, run.task, rounds=1, samples=4)
            write(run, conclude(run))
    assert differs(tmp_path / "run") == set()


def test_a_run_in_progress_is_not_accused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        find("rest-em")(run, run.base, run.task, rounds=1, samples=4)
        found = audit(tmp_path / "run", make_task())
    assert [one for one in found if one.holds is False] == []
    assert details(found)["summary"] == "the run has not ended: there is no summary"


def test_a_run_that_trains_nothing_is_not_accused(tmp_path: Path) -> None:
    """The vote takes fewer samples than the champion's pass@k, and the champion is the start."""
    with make_run(tmp_path) as run:
        write(run, conclude(run))
    assert differs(tmp_path / "run") == set()


def test_a_champion_set_by_hand_is_not_accused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.champion = run.learn(run.base, sft(), [Demo(run.task.train[0].prompt, "Answer: 1")])
        write(run, conclude(run))
    found = audit(tmp_path / "run", make_task())
    assert [one for one in found if one.holds is False] == []
    assert details(found)["gates"].endswith("rests on a solver, an ensemble or a hand")


def test_several_learners_are_not_accused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        for _ in run.rounds(2):
            for name in ("a", "b"):
                tried = run.attempt(run.champions[name], run.task.train, samples=2)
                made = run.learn(run.champions[name], sft(), keep(tried))
                run.measure(made, champion=name)
        write(run, conclude(run))
    assert differs(tmp_path / "run") == set()


def test_episodes_are_not_recomputed(tmp_path: Path) -> None:
    with make_run(tmp_path, task=rooms_task(), script=walker) as run:
        run.measure(run.base)
        write(run, conclude(run))
    found = audit(tmp_path / "run", rooms_task())
    assert [one for one in found if one.holds is False] == []
    assert "episodes" in details(found)["summary"]


def test_a_templated_task_is_told_not_accused(tmp_path: Path) -> None:
    task = load_task("leg_counting", train=48, dev=24, test=48)
    with make_run(tmp_path, task=task) as run:
        run.measure(run.base)
    found = {one.name: one for one in audit(tmp_path / "run", task)}
    assert found["splits"].holds
    assert "resemble one" in found["splits"].detail


def test_a_run_of_a_tiny_model_by_online_learning_is_not_accused(tiny: Any, tmp_path: Path) -> None:
    from selftaught import Run
    from selftaught.console import Console

    task = make_task(train=4, dev=2, test=2).judged_by(ByHash())
    with Run(tmp_path / "run", model=tiny(), task=task, console=Console(quiet=True)) as run:
        made = run.learn_online(run.base, run.task.train, steps=1, batch_size=4, samples=8, max_tokens=8)
        assert made.version != run.base.version
        run.measure(made)
        write(run, conclude(run))
    assert differs(tmp_path / "run", task) == set()


def test_a_task_that_is_code_runs_only_if_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(f"def rows():\n    open({str(tmp_path / 'ran')!r}, 'w').close()\n    return []\n")
    with make_run(tmp_path) as run:
        asked = {"spec": f"{tmp_path / 'mine.py'}:rows", "train": 1, "dev": 1, "test": 1}
        run.journal.set_meta("task_request", json.dumps(asked))
    assert "--trust" in details(audit(tmp_path / "run"))["task"]
    assert not (tmp_path / "ran").exists()
    audit(tmp_path / "run", trust=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("verifier", [["mine.py:judge"], "mine.py:judge=0.5,exact", "exact,http://127.0.0.1:9/x.py:1"])
def test_a_verifier_of_the_users_is_used_only_if_it_is_trusted(tmp_path: Path, verifier: Any) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    with make_run(tmp_path) as run:
        asked = {"spec": str(tmp_path / "rows.jsonl"), "train": 1, "dev": 0, "test": 0, "verifier": verifier}
        run.journal.set_meta("task_request", json.dumps(asked))
    assert "--trust" in details(audit(tmp_path / "run"))["task"]


@pytest.mark.parametrize("asked", [{"unheard": 1}, {"spec": "chain_sum", "train": "78"}, {"spec": 5}])
def test_a_request_of_another_version_is_told(asked: dict[str, Any], copy: Path) -> None:
    db = sqlite3.connect(copy / "journal.sqlite", isolation_level=None)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('task_request', ?)", (json.dumps(asked),))
    db.close()
    found = {one.name: one for one in audit(copy)}
    assert found["task"].holds is None


def test_an_interrupt_behind_a_commit_does_not_break_the_chain(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.put("a", "sample", {})
    commit = journal._commit

    def interrupted(*args: Any) -> None:
        commit(*args)
        raise KeyboardInterrupt

    journal._commit = interrupted
    with pytest.raises(KeyboardInterrupt):
        journal.put("b", "sample", {})
    journal._commit = commit
    journal.put("c", "sample", {}, Usage(1.0, True))  # pyright: ignore[reportArgumentType]
    assert journal.broken_links() == []
    journal.close()


# --- frauds ---


class Forger:
    """Changes a run's journal and files."""

    def __init__(self, folder: Path, *, links: bool) -> None:
        self.folder, self.links = folder, links
        self.db = sqlite3.connect(folder / "journal.sqlite", isolation_level=None)

    def done(self) -> None:
        """Link the rows anew, if this forger does, also in the summary, and close."""
        if self.links:
            last = relink(self.db)
            self.summary(journal={"effects": self.one("SELECT MAX(id) FROM effects"), "chain": last})
        self.db.close()

    def one(self, query: str, *values: Any) -> Any:
        return self.db.execute(query, values).fetchone()[0]

    def test_samples(self, right: bool) -> list[tuple[str, dict[str, Any]]]:
        """Greedy samples of test problems, and the keys of their verdicts."""
        test = {p.id: p for p in make_task().test}
        rows = self.db.execute("SELECT key, payload FROM effects WHERE kind = 'sample' ORDER BY id DESC").fetchall()
        found = [(key, json.loads(text)) for key, text in rows]
        greedy = [(k, p) for k, p in found if p["problem"] in test and p["sampling"]["temperature"] == 0]
        return [(k, p) for k, p in greedy if (self.verdict(test[p["problem"]], p["text"]) == "right") is right]

    def verdict(self, problem: Any, text: str) -> str:
        return json.loads(self.one("SELECT payload FROM effects WHERE key = ?", verdict_key(problem, text)))[0]

    def payload(self, kind: str, change: Callable[[Any], Any], where: str = "") -> None:
        """Change the payload of the last effect of a kind."""
        query = f"SELECT id, payload FROM effects WHERE kind = ? {where} ORDER BY id DESC LIMIT 1"
        number, text = self.db.execute(query, (kind,)).fetchone()
        self.db.execute("UPDATE effects SET payload = ? WHERE id = ?", (json.dumps(change(json.loads(text))), number))

    def summary(self, **changes: Any) -> None:
        path = self.folder / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def policies(self) -> list[Path]:
        return sorted(path for path in (self.folder / "policies").iterdir() if path.is_dir())


def verdict_key(problem: Any, text: str) -> str:
    return content_hash("verify", make_task().verifier.version, problem.id, problem.reference, text)


def edited_verdict(forger: Forger) -> None:
    """A wrong answer to a test problem is called right."""
    _, payload = forger.test_samples(right=False)[0]
    problem = next(p for p in make_task().test if p.id == payload["problem"])
    row = json.loads(forger.one("SELECT payload FROM effects WHERE key = ?", verdict_key(problem, payload["text"])))
    new = json.dumps(["right", 1.0, *row[2:]])
    forger.db.execute("UPDATE effects SET payload = ? WHERE key = ?", (new, verdict_key(problem, payload["text"])))


def edited_answer(forger: Forger) -> None:
    """A wrong answer to a test problem becomes the right one, with its verdict; the summary stays."""
    key, payload = forger.test_samples(right=False)[0]
    problem = next(p for p in make_task().test if p.id == payload["problem"])
    text = f"Answer: {problem.reference}"
    forger.db.execute("UPDATE effects SET payload = ? WHERE key = ?", (json.dumps(payload | {"text": text}), key))
    old = forger.one("SELECT payload FROM effects WHERE key = ?", verdict_key(problem, payload["text"]))
    row = json.dumps(["right", 1.0, *json.loads(old)[2:]])
    forger.db.execute(
        "INSERT INTO effects SELECT NULL, ?, kind, round, ?, prompt, generated, judge, trained, at, '' FROM effects"
        " WHERE key = ?", (verdict_key(problem, text), row, verdict_key(problem, payload["text"])),
    )  # fmt: skip


def dropped_answers(forger: Forger) -> None:
    """The wrong greedy answers to test problems are dropped."""
    for key, _ in forger.test_samples(right=False):
        forger.db.execute("DELETE FROM effects WHERE key = ?", (key,))


def raised_accuracy(forger: Forger) -> None:
    """The summary states a higher accuracy."""
    after = json.loads((forger.folder / "summary.json").read_text())["after"]
    forger.summary(after=after | {"accuracy": after["accuracy"] + 0.05})


def narrowed_interval(forger: Forger) -> None:
    """The summary states a narrower interval of the difference."""
    paired = json.loads((forger.folder / "summary.json").read_text())["paired_difference"]
    forger.summary(paired_difference=paired | {"ci95": [paired["mean"] - 0.001, paired["mean"] + 0.001]})


def lowered_vote(forger: Forger) -> None:
    """The summary states that the vote of the start does worse."""
    vote = json.loads((forger.folder / "summary.json").read_text())["majority_at_equal_tokens"]
    forger.summary(majority_at_equal_tokens=vote | {"accuracy": 0.1})


def lowered_tokens(forger: Forger) -> None:
    """The summary states fewer tokens."""
    stated = json.loads((forger.folder / "summary.json").read_text())["tokens"]
    forger.summary(tokens=stated | {"generated": stated["generated"] // 2})


def other_champion(forger: Forger) -> None:
    """The summary names another policy as champion."""
    forger.summary(champion=forger.policies()[0].name + "0")


def flipped_gate(forger: Forger) -> None:
    """The last decision of the gate is turned round."""
    forger.payload("gate", lambda row: row | {"promoted": not row["promoted"]})


def reworded_gate(forger: Forger) -> None:
    """A decision's p-value is another one."""
    forger.payload("gate", lambda row: row | {"reason": row["reason"].replace("p=", "p=0.00", 1)})


def dropped_gate(forger: Forger) -> None:
    """The last decision of the gate is dropped."""
    forger.db.execute("DELETE FROM effects WHERE id = (SELECT MAX(id) FROM effects WHERE kind = 'gate')")


def raised_round(forger: Forger) -> None:
    """A round states a higher accuracy on dev."""
    forger.payload("round", lambda row: row | {"accuracy": (row["accuracy"] + 1.0) / 2 - 0.01})


def opened_twice(forger: Forger) -> None:
    """The test split was opened a second time, for another policy."""
    other = json.dumps({"champion": "another", "spent": {}, "left": 0})
    forger.db.execute(
        "INSERT INTO effects SELECT NULL, 'again', kind, round, ?, 0, 0, 0, 0, at, '' FROM effects WHERE kind = 'test'",
        (other,),
    )


def peeked(forger: Forger) -> None:
    """Test problems were tried before the split was opened."""
    last = forger.one("SELECT MAX(id) FROM effects") + 1
    forger.db.execute("UPDATE effects SET id = ? WHERE kind = 'test'", (last,))


def cheaper_samples(forger: Forger) -> None:
    """Samples count fewer tokens than they have."""
    forger.db.execute("UPDATE effects SET generated = generated - 1 WHERE kind = 'sample' AND generated > 2")


def cheaper_training(forger: Forger) -> None:
    """Training counts fewer tokens than the run's summary."""
    forger.db.execute("UPDATE effects SET trained = trained / 2 WHERE kind = 'learn'")


def other_weights(forger: Forger) -> None:
    """A policy's files are changed."""
    policy = forger.policies()[-1]
    names = json.loads((policy / "selftaught.json").read_text())["files"]
    with (policy / names[0]).open("ab") as file:
        file.write(b" ")


def swapped_policy(forger: Forger) -> None:
    """A policy's folder is that of another one, with its manifest."""
    first, second = forger.policies()[:2]
    shutil.rmtree(first)
    shutil.copytree(second, first)


def forged_manifest(forger: Forger) -> None:
    """A policy's files are changed, and its manifest with them."""
    policy = forger.policies()[-1]
    manifest = json.loads((policy / "selftaught.json").read_text())
    with (policy / manifest["files"][0]).open("ab") as file:
        file.write(b" ")
    manifest["content"] = hash_files([policy / name for name in manifest["files"]])
    (policy / "selftaught.json").write_text(json.dumps(manifest))


def learned_test(forger: Forger) -> None:
    """A policy was trained on an attempt at a test problem."""
    key, _ = forger.test_samples(right=True)[0]
    file = forger.policies()[-1] / "records.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["attempts"] = [key]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def dropped_records(forger: Forger) -> None:
    """A policy's records are fewer than it was trained on."""
    file = forger.policies()[-1] / "records.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))


def other_question(forger: Forger) -> None:
    """The journal keeps another question for a problem."""
    asked = json.loads(forger.one("SELECT value FROM meta WHERE name = 'questions'"))
    asked[next(iter(asked))] = "How many?"
    forger.db.execute("UPDATE meta SET value = ? WHERE name = 'questions'", (json.dumps(asked),))


def called_failed(forger: Forger) -> None:
    """A wrong answer is called right, by a verifier that says it has failed."""
    _, payload = forger.test_samples(right=False)[0]
    problem = next(p for p in make_task().test if p.id == payload["problem"])
    new = json.dumps(["right", 1.0, "timeout: no result", "x", "exact"])
    forger.db.execute("UPDATE effects SET payload = ? WHERE key = ?", (new, verdict_key(problem, payload["text"])))


def dropped_verdicts(forger: Forger) -> None:
    """Right answers to test problems lose their verdicts."""
    for _, payload in forger.test_samples(right=True):
        problem = next(p for p in make_task().test if p.id == payload["problem"])
        forger.db.execute("DELETE FROM effects WHERE key = ?", (verdict_key(problem, payload["text"]),))


def fewer_tokens(forger: Forger) -> None:
    """Samples say that they have one token, and count one."""
    rows = forger.db.execute("SELECT id, payload FROM effects WHERE kind = 'sample'").fetchall()
    for number, text in rows:
        new = json.dumps({**json.loads(text), "num_tokens": 1})
        forger.db.execute("UPDATE effects SET payload = ?, generated = 1 WHERE id = ?", (new, number))


def unknown_policy(forger: Forger) -> None:
    """The journal does not say how the last policy was trained."""
    forger.db.execute("DELETE FROM effects WHERE id = (SELECT MAX(id) FROM effects WHERE kind = 'learn')")


def added_file(forger: Forger) -> None:
    """A policy has a file more."""
    (forger.policies()[-1] / "adapter_model.safetensors").write_bytes(b"x")


def lowered_p_value(forger: Forger) -> None:
    """The summary states a smaller p-value."""
    paired = json.loads((forger.folder / "summary.json").read_text())["paired_difference"]
    forger.summary(paired_difference=paired | {"p_value": 1e-9})


def better_round(forger: Forger) -> None:
    """The summary states a better round."""
    rounds = json.loads((forger.folder / "summary.json").read_text())["rounds"]
    rounds[-1]["accuracy"] = 0.999
    forger.summary(rounds=rounds)


def asked_test(forger: Forger) -> None:
    """A record has the prompt of a test problem, and names no attempt."""
    file = forger.policies()[-1] / "records.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0] |= {"prompt": as_json(make_task().test[0].prompt), "attempts": []}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def never_opened(forger: Forger) -> None:
    """The opening of the test split is dropped, and the summary."""
    forger.db.execute("DELETE FROM effects WHERE kind = 'test'")


def other_configuration(forger: Forger) -> None:
    """The configuration names another learning rate."""
    text = forger.one("SELECT value FROM meta WHERE name = 'config'")
    changed = json.dumps(json.loads(text) | {"training.learning_rate": 1e-6})
    forger.db.execute("UPDATE meta SET value = ? WHERE name = 'config'", (changed,))


def moved_rows(forger: Forger) -> None:
    """Two effects have changed places."""
    forger.db.execute("UPDATE effects SET id = -1 WHERE id = 2")
    forger.db.execute("UPDATE effects SET id = 2 WHERE id = 3")
    forger.db.execute("UPDATE effects SET id = 3 WHERE id = -1")


FRAUDS: dict[Callable[[Forger], None], str] = {
    edited_verdict: "verdicts", edited_answer: "summary", dropped_answers: "summary", raised_accuracy: "summary",
    narrowed_interval: "summary", lowered_vote: "summary", lowered_tokens: "tokens", other_champion: "summary",
    flipped_gate: "gates", reworded_gate: "gates", dropped_gate: "gates", raised_round: "gates",
    opened_twice: "test split", peeked: "test split", cheaper_samples: "tokens", cheaper_training: "tokens",
    other_weights: "policies", swapped_policy: "policies", forged_manifest: "policies",
    learned_test: "training records", dropped_records: "training records", other_question: "task",
    called_failed: "verdicts", dropped_verdicts: "summary", fewer_tokens: "tokens", unknown_policy: "policies",
    added_file: "policies", lowered_p_value: "summary", better_round: "summary", asked_test: "training records",
    never_opened: "test split", other_configuration: "task",
}  # fmt: skip
"""Each fraud, and the check that finds it even where the rows of the journal are linked anew."""
FILES_ALONE = {
    raised_accuracy, narrowed_interval, lowered_vote, lowered_tokens, other_champion, other_weights, swapped_policy,
    forged_manifest, learned_test, dropped_records, other_question, added_file, lowered_p_value, better_round,
    asked_test, other_configuration,
}  # fmt: skip


@pytest.mark.parametrize("fraud", FRAUDS, ids=lambda fraud: fraud.__name__)
@pytest.mark.parametrize("links", [False, True], ids=["plain", "linked anew"])
def test_a_fraud_is_found(fraud: Callable[[Forger], None], links: bool, copy: Path) -> None:
    forger = Forger(copy, links=links)
    fraud(forger)
    forger.done()
    found = differs(copy)
    if links:
        assert FRAUDS[fraud] in found
    else:
        assert found & {FRAUDS[fraud], "journal rows"}
        assert ("journal rows" in found) is (fraud not in FILES_ALONE)


def test_moved_rows_break_the_chain(copy: Path) -> None:
    forger = Forger(copy, links=False)
    moved_rows(forger)
    forger.done()
    assert differs(copy) == {"journal rows"}


def test_swapped_references_are_found(honest: Path) -> None:
    task = make_task()
    test = [replace(p, reference=str(int(p.reference) + 1)) if i == 0 else p for i, p in enumerate(task.test)]
    assert "task" in differs(honest, task.with_splits(task.train, task.dev, test))


def test_a_leaked_test_problem_is_found(honest: Path) -> None:
    task = make_task()
    assert "splits" in differs(honest, task.with_splits((*task.train, task.test[0]), task.dev, task.test))


# --- the command ---


def test_the_command(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from selftaught.cli.main import main

    assert main(["audit", str(copy), "--json"]) == 3
    said = {one["name"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert said["verdicts"]["holds"] is None
    assert "not started by a command line" in said["verdicts"]["detail"]
    forger = Forger(copy, links=False)
    cheaper_samples(forger)
    forger.done()
    assert main(["audit", str(copy)]) == 1
    said = capsys.readouterr().out
    assert "DIFFERS" in said
    assert "could not be made" in said
    assert main(["audit", str(copy / "policies")]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_what_a_check_cannot_read_is_told(copy: Path) -> None:
    (copy / "summary.json").write_text("{}")
    found = {one.name: one for one in audit(copy, make_task())}
    assert found["summary"].holds is None
    assert "cannot be made" in found["summary"].detail
    assert found["verdicts"].holds
    (copy / "summary.json").write_text("{")
    with pytest.raises(BadInput, match=r"summary\.json"):
        audit(copy, make_task())


def test_a_journal_of_an_earlier_version_is_linked_when_it_goes_on(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        find("rest-em")(run, run.base, run.task, rounds=1, samples=4)
        write(run, conclude(run))
    db = sqlite3.connect(tmp_path / "run" / "journal.sqlite", isolation_level=None)
    db.execute("ALTER TABLE effects DROP COLUMN chain")
    db.close()
    with JournalReader(tmp_path / "run") as reader:
        assert reader.broken_links() is None
    with make_run(tmp_path) as run:
        find("rest-em")(run, run.base, run.task, rounds=1, samples=4)
    assert details(audit(tmp_path / "run", make_task()))["journal rows"].endswith("as they were written")
