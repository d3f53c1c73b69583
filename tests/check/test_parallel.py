"""Seeds side by side: real processes on the underfit world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selftaught.check import parallel
from selftaught.cli.main import main
from selftaught.engines.local.engine import LocalEngine
from selftaught.worlds.underfit.world import WORLD as UNDERFIT

OWN = '''
from selftaught import solver
from selftaught.check.claim import Claim


@solver(claim=Claim("It beats a plain sample.", ("sample",)))
async def careful(ask, problem, *, word: str = "with care"):
    """Ask with care."""
    return await ask(f"{problem.question} {word}")
'''


def test_seeds_are_played_side_by_side_and_the_check_finds_them_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def none(*_: Any) -> None:
        raise AssertionError("sampled in the check's own process")

    monkeypatch.setattr(LocalEngine, "sample", none)
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    found = []
    for jobs in ("2", "1"):  # the second resumes, and has nothing left to do
        words = ["check", "own.py:careful", "--model", "underfit", "--jobs", jobs]
        assert main([*words, "--seeds", "2", "--out", jobs]) == 0
        assert ("2 at a time" in capsys.readouterr().err) == (jobs == "2")
        found.append(json.loads(Path(jobs, "careful.underfit.json").read_text()))
    assert [result.pop("jobs") for result in found] == [2, 1]
    longest, both = (result.pop("seconds") for result in found)
    assert 0 < longest < both
    assert found[0] == found[1]


def test_what_a_process_could_not_play_the_check_plays_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        OWN.replace("return await ask(f", "raise OSError('no such tool')\n    return await ask(f")
    )
    assert main(["check", "own.py:careful", "--model", "underfit", "--jobs", "2", "--seeds", "2"]) == 2
    said = capsys.readouterr().err
    assert "seed 1 failed in its process and is resumed here" in said
    assert "own.py:9: solver careful raises OSError: no such tool; repair it" in said


def test_a_small_model_is_played_on_every_core_that_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "num_cores", lambda: 8)
    monkeypatch.setattr(parallel, "pick_device", lambda name: "cpu")
    for free, jobs in ((100 * parallel.BYTES_PER_PROCESS, 8), (3 * parallel.BYTES_PER_PROCESS + 1, 3), (1, 1)):
        monkeypatch.setattr(parallel, "_free", lambda free=free: free)
        assert parallel.max_parallel_seeds(UNDERFIT) == jobs
    monkeypatch.setattr(parallel, "SMALL_MODEL_BYTES", 1000)
    assert parallel.max_parallel_seeds(UNDERFIT) == 1
