"""A sample of `make chaos`, and what it finds where something does not hold."""

from __future__ import annotations

import argparse
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench.chaos import __main__ as main_module
from bench.chaos.__main__ import arguments, outcome, planned, played
from bench.chaos.child import WIDTH
from bench.chaos.faults import FAULTS, Fault, Strike
from bench.chaos.rounds import play_round, undisturbed
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
        log.write("." * (4 * WIDTH + 1))


def pays_more(place: Place) -> None:
    place.cap = place.cap or 0.1
    place.honest["never asked"] += 10


def adds_a_row(place: Place) -> None:
    row = "NULL, 'x', kind, round, payload, 0, 0, 0, 0, at, chain"
    changing(f"INSERT INTO effects SELECT {row} FROM effects LIMIT 1")(place)


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
        (begins_more, r"answers were begun twice, at most \d+ were in progress"),
        (adds_a_row, "it came to .*, undisturbed to "),
        (spoil, "undisturbed it ended with 2"),
    ],
    ids=["a row is lost", "a row is changed", "answers begin twice", "a row is added", "it does not go on"],
)
def test_what_is_planted_is_found(tmp_path: Path, heal: Callable[[Place], None], wrong: str) -> None:
    found = play_round(REST_EM, 1, tmp_path / "round", [killed(lambda _: None), killed(heal)])
    assert any(re.search(wrong, one) for one in found.wrong), found
    assert (tmp_path / "round").is_dir()  # kept, to be looked at


def test_a_wrong_status_is_found(tmp_path: Path) -> None:
    found = play_round(REST_EM, 1, tmp_path / "round", [Fault("aborted", (), late)])
    assert any("aborted: it ended with -9" in one for one in found.wrong), found


def test_a_traceback_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed(REST_EM, tmp_path)
    monkeypatch.setattr(Place, "command", lambda _: [sys.executable, "-c", "raise ValueError"])
    found = play_round(REST_EM, 1, tmp_path / "round", [Fault("nothing", (), lambda _: None)])
    assert any("nothing: a traceback" in one for one in found.wrong), found
    assert any("undisturbed it ended with a traceback" in one for one in found.wrong), found


def test_payment_beyond_the_limit_is_found(tmp_path: Path) -> None:
    paid = Fault("paid", (-signal.SIGKILL,), lambda on: on.process.kill(), heal=pays_more, costs=("endpoint",))
    found = play_round(Disturbed("", "endpoint"), 1, tmp_path / "round", [paid])
    assert any("the endpoint was paid $" in one for one in found.wrong), found


def test_a_round_that_cannot_be_played_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "play_round", lambda *_: 1 / 0)
    rounds = list(played(options("--rounds", "3", "--engines", "scripted"), SEED, tmp_path))
    assert ["ZeroDivisionError" in one.wrong[0] for one in rounds] == [True] * 3


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
