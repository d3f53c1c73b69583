"""What leaves a run: rows for other trainers, and the champion as a model folder with a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from selftaught.cli.main import main
from selftaught.engines import Sampling
from selftaught.export.rows import export_rows
from selftaught.journal import JournalReader
from selftaught.learn import TrainConfig, sft
from selftaught.lineage.folder import RunFolder
from selftaught.method import find
from selftaught.models.load import load_model
from selftaught.models.policy import load_policy
from selftaught.records import Demo, Message
from selftaught.run.conclusion import conclude, write
from selftaught.run.config import HELD_OUT_KEY
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import load_task
from selftaught.testing import make_run
from selftaught.worlds.world import LAST

PROMPT = (Message("user", "paths 2: 7 1) *4 2) +4"),)
SAID = "1) B 7 *4 28\n2) B 28 +4 32\nAnswer: 32"
SETTINGS = Settings(sampling=Sampling(max_tokens=48), training=TrainConfig(epochs=4, learning_rate=1e-3), gate=LAST)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, whose last policy is the champion."""
    folder = tmp_path_factory.mktemp("export") / "run"
    task = load_task("tiny:level=2", train=16, dev=8, test=8)
    with task, Run(folder, model="tiny", task=task, settings=SETTINGS) as run:
        find("rest-em")(run, run.base, task, rounds=1, samples=4)
        write(run, conclude(run))
    return folder


def exported(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["export", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(["export", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def last_policy(folder: Path) -> str:
    with JournalReader(folder) as reader:
        return list(RunFolder(folder, reader).trainings)[-1]


# --- data ---


def test_what_a_policy_was_trained_on_is_trls_prompts_and_completions(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, to = last_policy(trained), tmp_path / "sft.jsonl"
    found = exported(capsys, str(trained), "--what", "sft", "--to", str(to), "--policy", policy[:6])
    rows = [json.loads(line) for line in to.read_text().splitlines()]
    assert found["rows"] == len(rows) > 4
    for row in rows:
        assert [one["role"] for one in row["prompt"]] == ["user"]
        (said,) = row["completion"]
        assert said["role"] == "assistant"
        assert row["policy"] == policy
        assert len(row["attempts"]) == 1
    with JournalReader(trained) as reader:
        known = {key: payload for key, _, payload in reader.stream("sample")}
    assert {known[row["attempts"][0]]["text"] for row in rows} == {row["completion"][0]["content"] for row in rows}


def test_parquet_reads_as_a_data_set(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import load_dataset

    to = tmp_path / "deep" / "sft.parquet"
    found = exported(capsys, str(trained), "--what", "sft", "--to", str(to), "--policy", last_policy(trained))
    read: Any = load_dataset("parquet", data_files=str(to), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(read) == found["rows"]
    assert read[0]["completion"][0]["role"] == "assistant"


def test_attempts_leave_the_test_split_at_home(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(capsys, str(trained), "--what", "attempts", "--to", str(tmp_path / "some.jsonl"))
    exported(capsys, str(trained), "--what", "attempts", "--to", str(tmp_path / "all.jsonl"), "--test")
    some, every = ([json.loads(line) for line in (tmp_path / name).open()] for name in ("some.jsonl", "all.jsonl"))
    assert {row["split"] for row in some} == {"train", "dev"}
    assert {row["split"] for row in every} == {"train", "dev", "test"}
    assert len([row for row in some if row["split"] == "train"]) == 16 * 4
    assert {row["verdict"] for row in some} == {"right", "wrong"}
    with load_task("tiny:level=2", train=16, dev=8, test=8) as task:
        asked = {problem.id: problem for problem in task.train}
        for row in (one for one in some if one["split"] == "train"):
            assert task.verify(asked[row["problem"]], row["text"]).verdict == row["verdict"]
    assert "reference" not in every[0]


def test_a_run_that_does_not_know_its_splits_says_so(trained: Path, tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.attempt(run.base, run.task.train, samples=1)
        run.journal.set_meta(HELD_OUT_KEY, "{}")
    with JournalReader(tmp_path / "run") as reader:
        facts = RunFolder(tmp_path / "run", reader)
        with pytest.raises(Exception, match="which problems are of the test split"):
            export_rows(facts, "attempts")
        assert len(list(export_rows(facts, "attempts", test=True))) == 12


def test_episodes_and_refused_requests_have_their_verdicts(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train[:2], samples=1)
        run.journal.put("episode", "verify", ["right", 0.75, "won", tried[0].id, "game/1"])
        refused = {"problem": "p", "role": "solve", "policy": "v", "refused": "too long"}
        run.journal.put("refused", "sample", refused)
    with JournalReader(tmp_path / "run") as reader:
        rows = {row["id"]: row for row in export_rows(RunFolder(tmp_path / "run", reader), "attempts")}
    assert (rows[tried[0].id]["score"], rows[tried[0].id]["verifier"]) == (0.75, "game/1")
    assert rows["refused"]["verdict"] == "unknown"


def test_pairs_and_their_like_have_the_columns_of_trl(tmp_path: Path) -> None:
    records = [
        {
            "kind": "pair",
            "prompt": [{"role": "user", "content": "?"}],
            "chosen": "a",
            "rejected": "b",
            "attempts": ["x"],
        },
        {"kind": "demo", "prompt": [], "target": "a", "weight": -1.0},
        {"kind": "demo", "prompt": [], "target": "b", "ends": False, "masked": [[0, 1]]},
        {"kind": "label", "prompt": [], "response": "a", "good": True},
        {"kind": "ranking", "prompt": [], "responses": ["a", "b"], "scores": [1.0, 0.5]},
        {
            "kind": "scored_steps",
            "prompt": [{"role": "user", "content": "?"}],
            "steps": ["1)", "2)"],
            "scores": [0.9, 0.2],
        },
        {"kind": "label", "prompt": []},
    ]
    with make_run(tmp_path) as run:
        folder = run.learn(run.base, sft(), [Demo(PROMPT, SAID)]).path
        (folder / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
        version = folder.name
    with JournalReader(tmp_path / "run") as reader:
        facts = RunFolder(tmp_path / "run", reader)
        (pair,) = export_rows(facts, "pairs", policy=version)
        assert (pair["chosen"], pair["rejected"]) == ([said("a")], [said("b")])
        assert (pair["attempts"], pair["policy"]) == (["x"], version)
        (ranking,) = export_rows(facts, "rankings", policy=version)
        assert (ranking["completions"], ranking["scores"]) == ([[said("a")], [said("b")]], [1.0, 0.5])
        (steps,) = export_rows(facts, "steps", policy=version)
        assert (steps["prompt"], steps["completions"], steps["labels"]) == ("?", ["1)", "2)"], [True, False])
        (demo,) = export_rows(facts, "sft", policy=version)  # none of a negative weight
        assert (demo["completion"], demo["ends"], demo["masked"]) == ([said("b")], False, [[0, 1]])
        labels = export_rows(facts, "labels", policy=version)
        assert next(labels)["label"] is True
        with pytest.raises(Exception, match="record 6 is damaged"):
            next(labels)


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


# --- the champion ---


def test_the_champion_is_a_folder_of_its_own(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy, to = last_policy(trained), tmp_path / "mine"
    found = exported(capsys, str(trained), "--champion", str(to), "--policy", policy)
    assert found["policy"] == policy
    assert not any(path.is_symlink() for path in to.iterdir())
    assert not {"records.jsonl", "selftaught.json", "content.memo"} & {path.name for path in to.iterdir()}
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    exported(capsys, str(trained), "--champion", ".", "--policy", policy)
    assert {path.name for path in here.iterdir()} == {path.name for path in to.iterdir()}
    own: Any = AutoModelForCausalLM.from_pretrained(trained / "policies" / policy)
    copied: Any = AutoModelForCausalLM.from_pretrained(to)
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), copied.parameters(), strict=True))
    tokenizer: Any = AutoTokenizer.from_pretrained(to)
    assert tokenizer.chat_template


def test_its_card_has_the_proof(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub import ModelCard

    summary = json.loads((trained / "summary.json").read_text())
    assert summary["champion"] == last_policy(trained)
    exported(capsys, str(trained), "--champion", str(tmp_path / "mine"))
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    data: Any = card.data
    assert data.library_name == "transformers"
    assert set(data.tags) == {"selftaught", "rest-em"}
    text = str(card)
    for name in ("before", "after"):
        low, high = summary[name]["ci95"]
        assert f"| {name} | {summary[name]['accuracy']:.1%} | {low:.1%} to {high:.1%} |" in text
    assert "majority vote of" in text
    assert summary["journal"]["chain"] in text


@pytest.mark.parametrize("dtype", ["keep", "float16"])
def test_weights_have_the_number_format_that_is_asked_for(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    exported(
        capsys, str(trained), "--champion", str(tmp_path / "m"), "--policy", last_policy(trained), "--dtype", dtype
    )
    stored = {one.dtype for one in load_file(tmp_path / "m" / "model.safetensors").values()}
    own = {one.dtype for one in load_file(next((trained / "policies").glob("*/model.safetensors"))).values()}
    assert stored == (own if dtype == "keep" else {torch.float16})


def test_an_adapter_is_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM

    settings = Settings(training=TrainConfig(lora_rank=2, learning_rate=0.01, epochs=2))
    task = load_task("tiny:level=2", train=4, dev=2, test=2)
    with task, Run(tmp_path / "run", model="tiny", task=task, settings=settings) as run:
        policy = run.learn(run.base, sft(), [Demo(PROMPT, SAID)])
        assert policy.adapter
    exported(capsys, str(tmp_path / "run"), "--champion", str(tmp_path / "whole"), "--policy", policy.version)
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    wanted = load_model(load_policy(policy.path), torch.bfloat16).float()
    assert all(torch.equal(a, b) for a, b in zip(wanted.parameters(), merged.parameters(), strict=True))
    exported(capsys, str(tmp_path / "run"), "--champion", str(tmp_path / "a"), "--policy", policy.version, "--adapter")
    assert (tmp_path / "a" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "a" / "model.safetensors").exists()


# --- one line ---


def test_bad_input_is_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, policy, there = str(trained), last_policy(trained), tmp_path / "there.jsonl"
    there.write_text("mine")
    cases = {
        "nothing to export": [run],
        "--what and --to belong together": [run, "--what", "sft"],
        "it exists": [run, "--what", "sft", "--to", str(there), "--policy", policy],
        "cannot write .csv": [run, "--what", "sft", "--to", str(tmp_path / "a.csv"), "--policy", policy],
        "was trained on no pairs": [run, "--what", "pairs", "--to", str(tmp_path / "a.jsonl"), "--policy", policy],
        "no policies begin with 'zz'": [run, "--what", "sft", "--to", str(tmp_path / "a.jsonl"), "--policy", "zz"],
        "it needs the folder of the model": [run, "--what", "sft", "--to", str(tmp_path / "b.jsonl"), "--push", "a/b"],
        "choose a new folder": [run, "--champion", str(tmp_path), "--policy", policy],
        "not a run folder": [str(tmp_path), "--what", "sft", "--to", str(tmp_path / "a.jsonl")],
    }
    for what, words in cases.items():
        assert what in refused(capsys, *words)
    assert there.read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


def test_a_champion_that_is_the_starting_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with make_run(tmp_path) as run:
        run.attempt(run.base, run.task.train, samples=1)
    assert "no policy was promoted" in refused(capsys, str(tmp_path / "run"), "--champion", str(tmp_path / "out"))
