"""Finished seeds: read instead of played again, copied beside the results, taken over from there."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from check_world import CLAIM, engine, helper, make_world, options
from test_runner import claiming, refuse

from selftaught.check import changed, kept, runner
from selftaught.check.claim import Alarm, Claim, Precondition, Statistic, SystemResult
from selftaught.check.results import Result
from selftaught.check.runner import check
from selftaught.console import Console
from selftaught.engines import ScriptedEngine
from selftaught.errors import BadInput
from selftaught.records import Verdict


def lengths(found: SystemResult) -> dict[str, list[tuple[int, bool]]]:
    return {one.attempt.problem.id: [(len(one.attempt.text), one.attempt.right)] for one in found.answers}


def mean_length(pairs: list[Any]) -> float:
    assert len(set(pairs)) <= len(pairs)  # tuples, as they were
    return sum(length for length, _ in pairs) / len(pairs)


def errors(found: SystemResult) -> dict[str, float]:
    return {one.attempt.problem.id: 1.0 - one.attempt.right for one in found.answers}


WHOLE = Claim(
    "It has everything that a claim can have.",
    ("sample", "majority"),
    min_effect=0.1,
    legs=(Statistic("length", lengths, mean_length, at_least=1), Alarm("diversity")),
    preconditions=(Precondition("it answered", lambda found: float(len(found.answers)), at_least=1),),
    ablations={"plainly": {"word": "please"}},
    extra_metrics=lambda found: {"errors": sum(errors(found).values())},
)


def checked(folder: Path, runs: str = "runs", claim: Claim = WHOLE, **more: Any) -> Result:
    given = options(engine=engine(), ablate=True, seeds=3) | more
    return check(claiming(helper, claim), make_world(folder), folder=folder / runs, **given)


def never(*_: Any) -> Any:
    raise AssertionError("it was played again")


def test_a_finished_seed_is_read_and_not_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = checked(tmp_path)
    monkeypatch.setattr(runner, "run_all", never)
    assert checked(tmp_path, engine=ScriptedEngine(refuse)) == first


@pytest.mark.parametrize(
    "other",
    [
        replace(WHOLE, legs=(Statistic("length", lengths, max, at_least=1), Alarm("diversity"))),
        replace(WHOLE, metric=errors, direction="lower"),
        replace(WHOLE, preconditions=(Precondition("it answered", lambda found: 0.0, at_least=1),)),
        replace(WHOLE, ablations={"plainly": {"word": "kindly"}}),
    ],
)
def test_a_seed_of_another_claim_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Claim) -> None:
    checked(tmp_path)
    monkeypatch.setattr(runner, "run_all", never)
    with pytest.raises(AssertionError, match="played again"):
        checked(tmp_path, claim=other)


def test_a_seed_of_other_code_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked(tmp_path)
    monkeypatch.setattr(runner, "run_all", never)
    monkeypatch.setattr(kept, "parts_hash", lambda *_: "of the next version")
    with pytest.raises(AssertionError, match="played again"):
        checked(tmp_path)


def test_a_check_goes_on_from_seeds_that_were_finished_elsewhere(tmp_path: Path) -> None:
    """The runs' folder is gone, as on another machine: only the seeds that are new are sampled."""
    beside, more = tmp_path / "seeds", engine()
    checked(tmp_path, kept=beside)
    expected = checked(tmp_path, "whole", seeds=5)
    found = checked(tmp_path, "other", seeds=5, kept=beside, extend=True, engine=more)
    assert replace(found, seconds=0.0, ablation_seconds=0.0) == replace(expected, seconds=0.0, ablation_seconds=0.0)
    played = sorted(path.name for path in (tmp_path / "other").glob("helper*/seed-*") if (path / "method").is_dir())
    assert played == ["seed-3", "seed-4"]
    assert 0 < more.calls < engine_calls(tmp_path)
    assert sorted(path.name for path in beside.glob("helper.scripted/*")) == [f"{seed}.json.gz" for seed in range(5)]


def engine_calls(folder: Path) -> int:
    """Calls that all five seeds take."""
    used = engine()
    checked(folder, "counted", seeds=5, engine=used)
    return used.calls


def test_without_being_asked_nothing_is_taken_over(tmp_path: Path) -> None:
    beside, again = tmp_path / "seeds", engine()
    checked(tmp_path, kept=beside)
    checked(tmp_path, "other", kept=beside, engine=again)
    assert again.calls > 0


def test_seeds_of_the_same_check_stay_and_those_of_another_give_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = tmp_path / "seeds"
    for seeds in (4, 2):  # two are enough for this result, and the others were measured, too
        checked(tmp_path, kept=beside, seeds=seeds)
        assert len(list(beside.glob("*/*"))) == 4
    checked(tmp_path, kept=beside, seeds=2, ablate=False, extend=True, console=Console())
    assert "0 finished seeds taken" in (said := capsys.readouterr().err)
    assert "; 2 there are of other code, options, models or packages, and are left" in said
    assert sorted(path.name for path in beside.glob("*/*")) == ["0.json.gz", "1.json.gz"]


def test_a_check_that_does_not_end_leaves_the_seeds_beside_the_result(tmp_path: Path) -> None:
    beside = tmp_path / "seeds"
    checked(tmp_path, kept=beside)
    with pytest.raises(AssertionError, match="asked again"):
        checked(tmp_path, "other", kept=beside, ablate=False, engine=ScriptedEngine(refuse))
    assert len(list(beside.glob("*/*"))) == 3


@pytest.mark.parametrize("name", ["seed", "baselines", "legs"])
def test_a_change_of_what_measures_counts(name: str) -> None:
    assert name in kept.MEASURING
    assert all((Path(kept.__file__).with_name(f"{one}.py")).is_file() for one in kept.MEASURING)


def test_modules_beside_a_users_method_count(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("LIMIT = 1\n")
    (tmp_path / "others.py").write_text("LIMIT = 1\n")
    (tmp_path / "mine.py").write_text("import helpers\n")
    before = changed._read(tmp_path / "mine.py")
    assert before[1] == [tmp_path / "helpers.py"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:20] + b"\xff" * 20 + raw[40:],
        lambda raw: b"{}",
        lambda raw: gzip.compress(b"[]"),
        lambda raw: without(raw),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, spoil: Any) -> None:
    beside = tmp_path / "seeds"
    checked(tmp_path, kept=beside)
    path = beside / "helper.scripted" / "1.json.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BadInput, match=r"1\.json\.gz: it is not a finished seed of a check; remove it"):
        checked(tmp_path, "other", kept=beside, extend=True)


def without(raw: bytes) -> bytes:
    """Its problems are gone."""
    return gzip.compress(json.dumps({**json.loads(gzip.decompress(raw)), "problems": []}).encode())


@pytest.mark.parametrize(
    "what",
    [object(), [1, 2], {1: 2}, Verdict.RIGHT, (1, Verdict.RIGHT)],
    ids=["object", "list", "dict", "enum", "enum in a tuple"],
)
def test_observations_that_would_not_come_back_as_they_are_are_not_kept(tmp_path: Path, what: Any) -> None:
    def objects(found: SystemResult) -> Mapping[str, Sequence[Any]]:
        return {one.attempt.problem.id: [what] for one in found.answers}

    claim = replace(CLAIM, legs=(Statistic("count", objects, lambda all_of_them: float(len(all_of_them)), at_least=1),))
    first, again = (checked(tmp_path, claim=claim, kept=tmp_path / "seeds") for _ in range(2))
    assert not list(tmp_path.rglob("*.json.gz"))
    assert replace(again, seconds=0.0) == replace(first, seconds=0.0)
