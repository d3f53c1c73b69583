"""`selftaught check` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from check_world import engine, make_world, options

from selftaught.check.runner import check as really_check
from selftaught.cli import check as checking
from selftaught.cli.main import main

OWN = '''
from selftaught import solver
from selftaught.check.claim import Claim


@solver(claim=Claim("It beats a plain sample.", ("sample",)))
async def careful(ask, problem, *, word: str = "with care"):
    """Ask with care."""
    return await ask(f"{problem.question} {word}")


@solver()
async def modest(ask, problem):
    """Claim nothing."""
    return await ask(problem.prompt)
'''


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no method given"),
        (["rest-en"], "rest-em"),
        (["rest-em", "--all"], "cannot be combined"),
        (["rest-em", "--seeds", "1"], "must be ≥ 2, got 1"),
        (["rest-em", "--seeds", "x"], "seeds"),
        (["rest-em", "--jobs", "-1"], "--jobs"),
        (["rest-em", "--model", "smolm2-135m"], "smollm2-135m"),
        (["rest-em", "--abblate"], "--ablate"),
        (["own.py:modest"], "claim=Claim"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    assert main(["check", "--model", "underfit", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert not Path("runs").exists()


def test_a_users_own_method_from_its_file_to_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    world = make_world(tmp_path)
    monkeypatch.setattr(checking, "world_of", lambda model, task: world)
    with_engine = options(engine=engine())
    monkeypatch.setattr(checking, "check", lambda *a, **kw: really_check(*a, **{**kw, **with_engine}))
    assert main(["check", "own.py:careful", "--jobs", "1", "--json", "--seeds", "3", "--out", "found"]) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert data["contrasts"]["as_published"]["verdict"] == "reproduced"
    assert data["command"] == "selftaught check own.py:careful --seeds 3 --model tiny"
    assert json.loads(Path("found/careful.scripted.json").read_text()) == data
    assert main(["check", "own.py:careful", "--jobs", "1", "--seeds", "3", "--out", "found"]) == 0
    said = capsys.readouterr()
    assert "reproduced" in said.out
