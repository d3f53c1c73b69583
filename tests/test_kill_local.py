"""The same on the local engine: interrupted and killed while it samples, trains and measures, a run ends well."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main

VERIFIER = "def check(problem, text):\n    return len(text) % 3 != 0\n"
OPTIONS = (
    "--train 16 --dev 12 --test 6 --rounds 1 --samples 8 --per-problem 4 --max-tokens 48 --max-batch-size 8 --epochs 2"
    " --batch-size 1 --dtype float32 --quiet --json"
)


def rows(folder: Path) -> dict[str, tuple[Any, ...]]:
    """The samples in the journal by key, with the time they were paid at."""
    if not (folder / "journal.sqlite").is_file():
        return {}
    reader = sqlite3.connect(f"file:{folder / 'journal.sqlite'}?mode=ro", uri=True, timeout=10)
    try:
        found = reader.execute("SELECT key, payload, at FROM effects WHERE kind = 'sample'").fetchall()
    except sqlite3.OperationalError:  # not a table yet
        return {}
    finally:
        reader.close()
    return {key: (payload, at) for key, payload, at in found}


def by_policy(folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for payload, _ in rows(folder).values():
        name = json.loads(payload)["policy"]
        counts[name] = counts.get(name, 0) + 1
    return counts


ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait for each other are slow beside other tests


def stopped(
    command: list[str], how: signal.Signals, when: Callable[[], bool], *, after: float = 0.0
) -> subprocess.CompletedProcess[str]:
    """Run `command` and signal it so many seconds after `when` is true."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ALONE) as process:
        try:
            deadline = time.monotonic() + 120
            while not when():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(after)
            process.send_signal(how)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_interrupted_and_killed_at_every_stage_nothing_paid_is_paid_again(
    tmp_path: Path, tiny: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(VERIFIER)
    lines = [json.dumps({"question": f"Say something of {i}.", "answer": str(i)}) for i in range(34)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "selftaught", "run", "rest-em", "--task", str(tmp_path / "data.jsonl")]
    command += ["--model", str(tiny("llama").path), "--verifier", f"{tmp_path / 'own.py'}:check", "--out", str(out)]
    command += ["--instruction", "", *OPTIONS.split()]

    done = stopped(command, signal.SIGINT, lambda: len(rows(out)) >= 20)
    assert done.returncode == 130
    assert done.stderr == "selftaught: interrupted; the same command resumes\n"
    assert done.stdout == ""
    sampled = rows(out)
    assert 20 <= len(sampled) < 16 * 8

    done = stopped(command, signal.SIGKILL, lambda: len(rows(out)) == 16 * 8, after=0.5)
    assert done.returncode == -signal.SIGKILL
    assert not list((out / "policies").glob("*/selftaught.json"))  # it was training
    trained = rows(out)
    assert len(trained) == 16 * 8
    assert sampled.items() <= trained.items()

    done = stopped(command, signal.SIGKILL, lambda: len(by_policy(out)) > 1)
    assert done.returncode == -signal.SIGKILL
    measured = rows(out)
    assert trained.items() <= measured.items()
    assert len(measured) > 16 * 8

    assert main(command[3:]) == 0  # from here on in this process, as nothing is to be killed any more
    assert measured.items() <= rows(out).items()
    outcome = json.loads(capsys.readouterr().out)
    assert outcome == json.loads((out / "summary.json").read_text("utf-8")) | {"notes": outcome["notes"]}
    assert outcome["tokens"]["trained"] > 0
    assert not list((out / "policies").glob("*.work"))

    before, begun = rows(out), time.monotonic()
    assert main(command[3:]) == 0
    assert json.loads(capsys.readouterr().out) == outcome
    assert rows(out) == before
    assert time.monotonic() - begun < 30
