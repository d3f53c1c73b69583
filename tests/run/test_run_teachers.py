"""Models that teach: from a folder or behind an endpoint, beside an engine that samples weights; and their lineage."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.control import Gate
from selftaught.engines import EngineConfig, ScriptedEngine
from selftaught.engines.scripted import scripted_learner
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig, sft
from selftaught.lineage import trace
from selftaught.lineage.text import tree_lines
from selftaught.method import find
from selftaught.models.remote import remote_policy
from selftaught.records import Demo, as_prompt
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.testing import make_run, make_task
from selftaught.testing.endpoint import SECRET, Endpoint, Got, Reply, completion
from selftaught.testing.sums import base_policy
from talking_world import talk

PROMOTING = Settings(training=TrainConfig(epochs=1), gate=Gate(always=True))


class WeightsEngine(ScriptedEngine):
    """Samples policies whose weights are here, as the local engine does."""

    capabilities = replace(ScriptedEngine.capabilities, endpoints=False)


def opened(folder: Path, **more: Any) -> Run:
    place = base_policy(folder)
    task = make_task(train=8, dev=4, test=2)
    how = {"engine": WeightsEngine(talk), "settings": PROMOTING, **more}
    return Run(folder / "run", model=place, task=task, learner=scripted_learner, **how)


def teaches(got: Got) -> Reply:
    """The right critique, the right solution; four tokens each."""
    messages = got.body["messages"]
    a, b = map(int, re.findall(r"(\d+) \+ (\d+)", messages[0]["content"])[0])
    right = f"Answer: {a + b}" in messages[1]["content"] if len(messages) > 1 else False
    critique = "no mistakes" if right else f"step 1: {a + b}"
    said = critique if messages[-1]["content"].startswith("Check") else f"{a}+{b}={a + b}\nAnswer: {a + b}"
    return completion(said, prompt=10, tokens=4)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    made = Endpoint()
    made.script = teaches
    monkeypatch.setenv("OPENAI_BASE_URL", made.url)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    made.close()


def learned(run: Run, teacher: str) -> str:
    """The version of the policy that SFT on a teacher's corpus makes."""
    return find("corpus-sft")(run, run.base, run.task, annotated=8, drafts=2, teacher=teacher).version


def test_what_a_teacher_from_a_folder_taught_has_a_lineage_without_gaps(tmp_path: Path) -> None:
    place = base_policy(tmp_path / "elsewhere")
    hello = [Demo(as_prompt("hello"), "hello")]
    teacher = scripted_learner(place, sft(), hello, TrainConfig(), seed=0, folder=tmp_path / "elsewhere")
    with make_run(tmp_path, script=talk, task=make_task(train=8, dev=4), settings=PROMOTING) as run:
        taught = learned(run, str(teacher.path))
    found = trace(run.folder, taught)
    assert found.gaps == {}
    node = found.nodes[teacher.version]
    assert (node.role, node.note) == ("teacher", f"the teacher {teacher.path.name}")
    assert {link.how for link in found.links if link.target == node.id} == {"by"}
    assert any(f"the teacher {teacher.path.name}" in line for line in tree_lines(found, width=0))


@pytest.mark.parametrize("named", ["openai:tiny", "address"])
def test_a_model_behind_an_endpoint_teaches_one_whose_weights_are_here(
    server: Endpoint, tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = server.url if named == "address" else named
    environment = "http://127.0.0.1:9" if named == "address" else server.url  # the address that is given counts
    monkeypatch.setenv("OPENAI_BASE_URL", environment)
    prices = EngineConfig(prompt_price=1e6, completion_price=1e6)  # a dollar a token
    with opened(tmp_path, endpoint=prices) as run:
        taught = learned(run, teacher)
        samples = [p for _, _, p, _ in run.journal.effects("sample")]
        counts, notes = run.request_counts, run.notes
    assert os.environ["OPENAI_BASE_URL"] == environment
    version = f"openai:tiny@{server.url.partition('://')[2]}"
    writers = {role: {p["policy"] for p in samples if p["role"] == role} for role in ("solve", "critique")}
    assert writers["critique"] == {version}
    assert "base-model" in writers["solve"]
    asked = sum(p["policy"] == version for p in samples)
    assert len(server.got) == asked > 8
    assert counts["answered"] == len(samples)
    assert f"${14 * asked:,.4f} spent at the endpoint, at the prices given" in notes
    assert all(SECRET not in json.dumps(p) for p in samples)
    found = trace(run.folder, taught)
    assert (found.gaps, found.nodes[version].note) == ({}, "the teacher openai:tiny")
    with opened(tmp_path, endpoint=prices) as again:
        assert learned(again, teacher) == taught
    assert len(server.got) == asked  # everything was kept


def test_what_was_spent_at_the_endpoint_before_counts_against_the_limit(server: Endpoint, tmp_path: Path) -> None:
    def limited(cost: float, folder: Path) -> Run:
        return opened(folder, endpoint=EngineConfig(completion_price=1e6, max_cost=cost))

    with limited(10_000.0, tmp_path) as run:
        drafts = run.attempt(run.base, run.task.train[:2], temperature=0.7)
        run.annotate(drafts, "critique", teacher="openai:tiny")
    with limited(9.0, tmp_path) as run, pytest.raises(BadInput, match="max_cost"):  # 8 are spent
        run.annotate(run.attempt(run.base, run.task.train[2:4]), "critique", teacher="openai:tiny")
    assert len(server.got) == 2


def test_a_teacher_that_cannot_be_reached_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    words = ["run", "corpus-sft", "--model", "underfit", "--task", "underfit:family=add,level=1"]
    words += ["--train", "2", "--dev", "2"]
    words += ["--test", "2", "--out", str(tmp_path / "run"), "--teacher", "http://127.0.0.1:9", "--quiet"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "http://127.0.0.1:9: it cannot be reached" in line


def test_a_teacher_at_another_endpoint_than_the_runs_own_model_is_refused(tmp_path: Path) -> None:
    own, teacher = remote_policy("small", "http://127.0.0.1:9/v1"), remote_policy("large", "http://127.0.0.1:8/v1")
    with Run(tmp_path / "run", model=own, task=make_task(train=8), engine=ScriptedEngine(talk)) as run:
        with pytest.raises(BadInput, match=r"the run's own model is at another endpoint, 127\.0\.0\.1:9/v1"):
            run.annotate(run.task.train[:1], "solve", teacher=teacher)
        assert run.annotate(run.task.train[:1], "solve", teacher=remote_policy("large", "http://127.0.0.1:9/v1"))
