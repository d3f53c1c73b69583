"""A sample of `make chaos`, and what it finds where something does not hold."""

from __future__ import annotations

import argparse
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench.chaos.__main__ import arguments, outcome, planned, played
from bench.chaos.faults import FAULTS, Fault, Strike
from bench.chaos.rounds import play_round
from bench.chaos.runs import Disturbed, Place, all_runs

from selftaught.method import methods

ROUNDS, SEED = 14, 20261130
REST_EM = Disturbed("rest-em", "scripted")


def options(*words: str) -> argparse.Namespace:
    return arguments().parse_args(list(words))


def test_disturbed_runs_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    args = options("--rounds", str(ROUNDS), "--engines", "scripted,endpoint")
    rounds = list(played(args, SEED, tmp_path))
    found = outcome(rounds, SEED, 0.0)
    assert found["failed"] == []
    assert found["rounds"] == ROUNDS
    assert sum(found["faults"].values()) > ROUNDS / 2


def test_every_method_is_disturbed_and_a_seed_names_the_rounds() -> None:
    plan = planned(500, 1, ("scripted", "endpoint", "tiny"))
    assert len(plan) == 500
    assert {one.method for one in plan if one.engine == "scripted"} == set(methods())
    assert set(plan) == set(all_runs())
    assert plan == planned(500, 1, ("scripted", "endpoint", "tiny"))
    assert plan != planned(500, 2, ("scripted", "endpoint", "tiny"))


# --- it finds what is planted ---


def late(on: Strike) -> None:
    """Kill it when it has something to lose."""
    while on.process.poll() is None and len(on.place.rows()) < 20:
        time.sleep(0.01)
    on.process.send_signal(signal.SIGKILL)


def killed(heal: Callable[[Place], None], **more: Any) -> Fault:
    return Fault("killed", (-signal.SIGKILL,), late, heal=heal, **{"costs": ("scripted",), **more})


def changing(statement: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        with closing(sqlite3.connect(place.run_folder / "journal.sqlite")) as journal, journal:
            journal.execute(statement)

    return change


def begins_more(place: Place) -> None:
    with (place.base / "calls.log").open("a") as log:
        log.write("." * 5)


def spoil(place: Place) -> None:
    (place.run_folder / "journal.sqlite").write_bytes(b"no journal")


FIRST = "WHERE id = (SELECT MIN(id) FROM effects WHERE kind = 'sample')"


@pytest.mark.parametrize(
    ("heal", "wrong"),
    [
        (changing(f"DELETE FROM effects {FIRST}"), r"1 of \d+ rows lost, 0 changed"),
        (
            changing(f"UPDATE effects SET payload = payload || ' ' {FIRST}"),
            r"0 of \d+ rows lost, 1 changed",
        ),
        (begins_more, r"answers were begun twice, at most \d were in progress"),
        (spoil, "undisturbed it ended with 2"),
    ],
    ids=["a row is lost", "a row is changed", "answers begin twice", "it does not go on"],
)
def test_what_is_planted_is_found(tmp_path: Path, heal: Callable[[Place], None], wrong: str) -> None:
    found = play_round(REST_EM, 1, tmp_path / "round", [killed(lambda _: None), killed(heal)])
    assert any(re.search(wrong, one) for one in found.wrong), found
    assert (tmp_path / "round").is_dir()  # kept, to be looked at


def test_a_wrong_status_and_a_traceback_are_found(tmp_path: Path) -> None:
    aborted = Fault("aborted", (), late)
    found = play_round(REST_EM, 1, tmp_path / "round", [aborted])
    assert any("aborted: it ended with -9" in one for one in found.wrong), found


def test_faults_are_named_once_and_the_clock_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({one.name for one in FAULTS}) == len(FAULTS)
    real = time.time
    monkeypatch.setenv("CHAOS_CLOCK", "1")
    try:
        import bench.chaos.clock.sitecustomize  # pyright: ignore[reportMissingImports]  # noqa: F401

        readings = [time.time() for _ in range(200)]
    finally:
        time.time = real
    assert any(later < sooner - 60 for sooner, later in pairwise(readings))
