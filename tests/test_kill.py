"""Killed at any moment and run again, a run ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

MAIN = Path(__file__).with_name("scripted_main.py")
WIDTH = 4  # requests in flight at once, see `NarrowEngine`


def start(*words: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(MAIN), *map(str, words)], stdout=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(said.splitlines()[-1])


def calls(folder: Path) -> int:
    return len((folder / "calls.log").read_bytes())


@pytest.mark.parametrize(("method", "kills"), [("rest-em", 10), ("star", 4), ("lmsi", 4)])
def test_killed_at_random_moments_a_run_ends_like_an_undisturbed_one(tmp_path: Path, method: str, kills: int) -> None:
    undisturbed, delay = tmp_path / "undisturbed", 0.004
    process = start("once", method, undisturbed, delay)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    begun = time.monotonic()
    expected = outcome(process)
    took = time.monotonic() - begun
    assert expected["promoted"] == [True, False]
    assert calls(undisturbed) == expected["calls"] == expected["samples"]
    assert expected["journal"] == expected["ledger"]

    moments, done, tries = random.Random(method), 0, 0
    while done < kills:
        tries += 1
        folder, killed = tmp_path / f"disturbed{tries}", 0
        while True:
            process = start("once", method, folder, delay)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if done == kills:
                break
            time.sleep(moments.uniform(0.01, took / 5))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed, done = killed + 1, done + 1
        found = outcome(process)
        assert {**found, "calls": 0} == {**expected, "calls": 0}
        assert 0 <= calls(folder) - expected["calls"] <= killed * WIDTH

    again = outcome(start("once", method, folder, delay))
    assert {**again, "calls": 0} == {**expected, "calls": 0}
    assert again["calls"] == 0


@pytest.mark.parametrize(("method", "samples"), [("rest-em", 8), ("star", 2), ("lmsi", 2)])
def test_killed_at_each_commit_a_run_ends_like_an_undisturbed_one(tmp_path: Path, method: str, samples: int) -> None:
    swept = outcome(start("sweep", method, tmp_path, samples))
    assert swept["wrong"] == []
    assert {"gate", "learn", "rename", "round", "sample", "test"} <= set(swept["kinds"])
    assert swept["undisturbed"]["promoted"] == [True, False]


@pytest.mark.parametrize("method", ["self", "critique-in-the-loop"])
def test_killed_while_an_annotator_teaches_a_run_ends_like_an_undisturbed_one(tmp_path: Path, method: str) -> None:
    swept = outcome(start("sweep", method, tmp_path, 2))
    assert swept["wrong"] == []
    assert {"gate", "learn", "rename", "round", "sample", "test"} <= set(swept["kinds"])
    undisturbed = swept["undisturbed"]
    assert undisturbed["journal"] == undisturbed["ledger"]
    assert 0 < undisturbed["calls"] < undisturbed["samples"]  # the annotator's texts are no calls of the engine
