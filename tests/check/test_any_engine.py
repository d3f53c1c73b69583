"""A check on a model behind an endpoint: solvers are checked, methods that train are refused unpaid."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from check_world import task_of

from selftaught.cli.main import main
from selftaught.testing.endpoint import SECRET, Endpoint
from selftaught.worlds import world as worlds

OWN = '''
from selftaught import solver
from selftaught.check.claim import Claim


@solver(claim=Claim("It beats a plain sample.", ("sample",)))
async def careful(ask, problem, *, word: str = "with care"):
    """Ask with care."""
    return await ask(f"{problem.question} {word}")
'''


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Endpoint]:
    """An endpoint, a small world for its models, and a method in an otherwise empty working folder."""
    made = Endpoint()
    monkeypatch.setenv("OPENAI_BASE_URL", made.url)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(worlds, "SMOLLM2", replace(worlds.SMOLLM2, task=task_of))
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    yield made
    made.close()


def test_a_solver_is_checked_on_an_endpoint_and_resumes(server: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", "own.py:careful", "--model", "openai:tiny", "--seeds", "2", "--json", "--quiet"]
    command += ["--completion-price", "1"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["world"], result["score"]) == ("openai-tiny", 1.0)
    assert result["command"] == ("selftaught check own.py:careful --seeds 2 --model openai:tiny --completion-price 1.0")
    assert result["versions"]["model"].startswith("openai:tiny@")
    assert Path("results/careful.openai-tiny.json").is_file()
    asked = len(server.got)
    assert {got.body["model"] for got in server.got} == {"tiny"}
    assert main(command) == 0
    assert len(server.got) == asked  # everything was kept


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rest-em"], "rest-em trains policies, and engine openai cannot sample them"),
        (["own.py:careful", "--jobs", "2"], "--jobs: only the local engine runs several seeds at a time"),
        (["own.py:careful", "--engine", "vllm"], "openai:tiny is behind an endpoint"),
        (["own.py:careful", "--max-cost", "1"], "max_cost: "),
        (["own.py:careful", "--model", "openai:"], "it names no model"),
    ],
)
def test_what_an_endpoint_cannot_do_is_one_line_before_anything_is_paid(
    server: Endpoint, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--model", "openai:tiny", "--seeds", "2", "--quiet", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert server.all == []


def problems_of_my_own(folder: Path, test: int) -> Path:
    path = folder / "my.jsonl"
    rows = [{"question": f"What is {a} + 1?", "answer": str(a + 1)} for a in range(10, 10 + test)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_claim_is_checked_on_an_address_and_a_task_of_one_s_own(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.url
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")  # the address that is given counts
    problems_of_my_own(tmp_path, 12)
    words = ["check", "own.py:careful", "--model", address, "--task", "my.jsonl", "--quick", "--json", "--quiet"]
    assert main(words) == 0
    assert os.environ["OPENAI_BASE_URL"] == "http://127.0.0.1:9"
    result = json.loads(capsys.readouterr().out)
    assert result["world"] == "openai-tiny-my.jsonl"
    assert result["problems"] == 12
    assert result["command"].startswith(f"selftaught check own.py:careful --model {address} --task my.jsonl --quick")
    assert set(result["contrasts"]) <= {"as_published", "equal_compute"}
    published = result["contrasts"]["as_published"]
    assert (published["verdict"], published["effect"]) == ("inconclusive", 0)  # both solve every problem
    assert Path("results/quick/careful.openai-tiny-my.jsonl.json").is_file()
    asked = {got.question for got in server.got}
    assert any("What is 10 + 1?" in question for question in asked)


def test_a_task_without_test_problems_is_one_line(
    server: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    words = ["check", "own.py:careful", "--model", server.url, "--task", "empty.jsonl", "--quiet"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "empty.jsonl" in line
    assert server.got == []
