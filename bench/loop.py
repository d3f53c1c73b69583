"""The loop: what `Run` costs beside the engine, next to plain `sqlite3` inserts and selects of the same samples.

The engine is scripted and answers at once, so that all the time is the framework's: keys, batching, journal, answer
extraction, verification, ledger. Ratios are to a loop that commits (reads) the journal's own text of the samples, one
row each, with the same settings of SQLite; above 1 is slower (larger) than it. The content is what a sample says: its
text and four bytes a token; a row of the journal also holds log-probabilities, settings, cost, and the verdict's row.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import machine, show
from selftaught.console import Console
from selftaught.engines import Request
from selftaught.engines.scripted import ScriptedEngine
from selftaught.feedback.verifiers import Exact
from selftaught.models import Policy
from selftaught.packed_numbers import packed_length
from selftaught.records import Problem, make_problem
from selftaught.run.run import Run
from selftaught.tasks import Kind, Task

PER_PROBLEM = 8
TIMED = ("run", "replay", "insert", "select")
STORED = ("journal", "plain", "content")
TOKEN_BYTES = 4  # of a token id
ANSWER = "First I add the tens, then the ones, and then I put the two sums together. Answer: {value}"


def script(policy: Policy, request: Request) -> str:
    """An answer that differs from sample to sample, right about half the time."""
    del policy
    a, b = (int(word) for word in request.prompt[-1].content.split() if word.isdigit())
    return ANSWER.format(value=a + b + request.seed % 2)


def problems(count: int) -> list[Problem]:
    """Sums, no two alike."""
    return [make_problem(f"What is {i} + {i + 7} ?", str(2 * i + 7)) for i in range(count)]


def through_run(folder: Path, asked: list[Problem]) -> float:
    """Seconds for the samples of one pass through a run: made at first, replayed when the folder has them."""
    policy = Policy("scripted", folder)
    task = Task("sums", asked, (), (), verifier=Exact(), kind=Kind.NUMBER)
    with Run(folder, model=policy, task=task, engine=ScriptedEngine(script), console=Console(quiet=True)) as run:
        started = time.perf_counter()
        tried = run.attempt(policy, task.train, samples=PER_PROBLEM)
        seconds = time.perf_counter() - started
    if len(tried) != len(asked) * PER_PROBLEM or not any(one.right for one in tried):
        raise RuntimeError("the run did not do what is measured")
    return seconds


def plain(path: Path, rows: list[tuple[str, str]]) -> tuple[float, float]:
    """Seconds to commit each row to a table, and to read each back by its key."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("CREATE TABLE samples (key TEXT PRIMARY KEY, payload TEXT NOT NULL) WITHOUT ROWID")
    started = time.perf_counter()
    for row in rows:
        db.execute("INSERT INTO samples VALUES (?, ?)", row)
    written = time.perf_counter() - started
    started = time.perf_counter()
    for key, _ in rows:
        db.execute("SELECT payload FROM samples WHERE key = ?", (key,)).fetchone()
    read = time.perf_counter() - started
    db.close()
    return written, read


def samples(folder: Path) -> list[tuple[str, str]]:
    """The keys and payloads of the samples in a run's journal."""
    db = sqlite3.connect(folder / "journal.sqlite")
    rows = db.execute("SELECT key, payload FROM effects WHERE kind = 'sample'").fetchall()
    db.close()
    return rows


def content(rows: list[tuple[str, str]]) -> int:
    """Bytes of the samples' texts and token ids alone."""
    kept = [json.loads(payload) for _, payload in rows]
    return sum(len(one["text"].encode()) + TOKEN_BYTES * packed_length(one["tokens"]) for one in kept)


def once(count: int) -> dict[str, float]:
    """Seconds and bytes of each side, in fresh folders."""
    asked = problems(count // PER_PROBLEM)
    with tempfile.TemporaryDirectory(prefix="selftaught-bench-") as scratch:
        folder, path = Path(scratch) / "run", Path(scratch) / "plain.sqlite"
        found = {"run": through_run(folder, asked), "replay": through_run(folder, asked)}
        rows = samples(folder)
        found["insert"], found["select"] = plain(path, rows)
        found["content"] = content(rows)
        found["journal"], found["plain"] = (folder / "journal.sqlite").stat().st_size, path.stat().st_size
    return found


def measure(count: int, repeats: int) -> dict[str, Any]:
    """The whole benchmark."""
    count -= count % PER_PROBLEM
    every = [once(count) for _ in range(repeats)]

    def middle(figure: Callable[[dict[str, float]], float], digits: int) -> float:
        return round(median(figure(one) for one in every), digits)

    return {
        "ratios": {
            "run_vs_insert": middle(lambda f: f["run"] / f["insert"], 2),
            "replay_vs_select": middle(lambda f: f["replay"] / f["select"], 2),
            "journal_vs_plain_bytes": middle(lambda f: f["journal"] / f["plain"], 2),
            "journal_vs_content_bytes": middle(lambda f: f["journal"] / f["content"], 2),
        },
        "samples_per_second": {
            k: middle(lambda f, k=k: count / f[k], 0) for k in ("run", "replay", "insert", "select")
        },
        "bytes_per_sample": {k: middle(lambda f, k=k: f[k] / count, 1) for k in STORED},
        "settings": {"samples": count, "per_problem": PER_PROBLEM, "repeats": repeats},
        "machine": machine(),
    }


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.loop", description=__doc__)
    parser.add_argument("--samples", type=int, default=4096, help="samples of each measurement (default 4096)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements, of which the median (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if args.samples < PER_PROBLEM or args.repeats < 1:
        parser.error(f"expected at least {PER_PROBLEM} samples and 1 repeat")
    show(measure(args.samples, args.repeats), args.json)


if __name__ == "__main__":
    main()
