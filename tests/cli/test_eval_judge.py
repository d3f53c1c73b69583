"""`eval --judge`: figures of a judge beside those of the verifier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selftaught.cli.main import main

EVAL = ["eval", "--model", "underfit", "--task", "underfit:family=chain|add,level=1", "--test", "12", "--quiet"]


def test_it_reports_score_and_agreement_as_json_and_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*EVAL, "--out", str(tmp_path / "run"), "--max-tokens", "64"]
    assert main([*words, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([*words, "--judge", "rubric", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    judge = found.pop("judge")
    assert {k: v for k, v in found.items() if k != "requests"} == {k: v for k, v in plain.items() if k != "requests"}
    assert (judge["name"], judge["model"]) == ("rubric", "underfit")
    assert 0 <= judge["agreement_ci95"][0] <= judge["agreement"] <= 1
    assert 0 <= judge["mean_score"] <= 1
    assert main([*words, "--judge", "rubric", "--judge-model", "underfit"]) == 0
    assert f"mean_score {judge['mean_score']:.4g}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--judge", "star"], "--judge: star is a recipe, eval needs a judge of single answers; use rubric"),
        (["--judge", "pairwise"], "--judge: pairwise compares answers"),
        (["--judge", "rubrik"], "did you mean 'rubric'?"),
        (["--judge-model", "underfit"], "--judge-model: nothing judges; name a judge"),
        (["--judge", "rubric", "--judge-model", "openai:x"], "--judge-model: the engine of --model cannot serve it"),
        (["--judge", "rubric", "--judge-model", "zzz"], "--judge-model: unknown model 'zzz'"),
        (["--solver", "best-of-n", "--reward-model", "zzz"], "--reward-model: unknown model 'zzz'"),
        (["--solver", "rubric"], "rubric is a judge, not a solver"),
    ],
)
def test_wrong_uses_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*EVAL, *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
