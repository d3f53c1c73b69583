"""What is disturbed: a run of a method on one of three engines, as a process, in a folder."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.child import WIDTH
from selftaught.journal import JournalReader
from selftaught.method import Method, methods
from selftaught.testing.checks import short
from selftaught.testing.endpoint import SECRET, Endpoint, Got, Reply, Script, completion, error, sums

ROOT = Path(__file__).resolve().parent.parent.parent
OWN_CODE = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
ENGINES = ("scripted", "endpoint", "tiny")
ON_TINY = (
    "rest-em", "star", "lmsi", "b-star", "self", "critique-in-the-loop", "mcts-dpo", "preferences", "grpo", "score",
)  # fmt: skip
QUESTIONS = 24  # of an evaluation at an endpoint
VERIFIER = "def check(problem, text):\n    return text == f'Answer: {problem.reference}'\n"  # runs in workers
PRICE, TOKENS = 1000.0, 20  # dollars per million tokens that the endpoint writes, and those of an answer

Row = tuple[str, str]


@dataclass(frozen=True)
class Disturbed:
    """A method on an engine.

    Attributes:
        method: an id; for an endpoint the solver of an evaluation, or empty for plain answers.
        engine: one of `ENGINES`.
    """

    method: str
    engine: str

    def __str__(self) -> str:
        return f"{self.method or 'plain answers'} ({self.engine})"


def all_runs(engines: tuple[str, ...] = ENGINES) -> list[Disturbed]:
    """Every method on the scripted engine, solvers at an endpoint, and some that train on the tiny model."""
    known = methods().values()
    solvers = [one.id for one in known if one.shape == "solver" and not {*one.needs} - {"verifier"} and _asks(one)]
    of_engine = {
        "scripted": [one.id for one in known],
        "endpoint": ["", *solvers],
        "tiny": list(ON_TINY),
    }
    return [Disturbed(method, engine) for engine in engines for method in of_engine[engine]]


def _asks(method: Method) -> bool:
    """Whether a solver works where only text comes back."""
    return method.id in ("self-consistency", "self-refine", "critic-supervision")


@dataclass
class Place:
    """A run's folder, with what serves it, and its command.

    Attributes:
        what: is run.
        folder: holds all of it.
        seed: of what the endpoint does.
        server: the endpoint, if there is one.
        cap: dollars that it may take; 0: no limit.
        cost: width times the number of processes that ended without a chance to wait for what was in progress.
    """

    what: Disturbed
    folder: Path
    seed: int = 0
    server: Endpoint | None = None
    cap: float = 0.0
    cost: int = 0
    away: threading.Event = field(default_factory=threading.Event)
    lying: threading.Event = field(default_factory=threading.Event)
    honest: Counter[str] = field(default_factory=Counter)
    moved: int = 0

    @property
    def run_folder(self) -> Path:
        """The folder with the journal."""
        return self.base / ("run" if self.what.engine == "scripted" else "out")

    @property
    def base(self) -> Path:
        """The folder that may be moved."""
        return self.folder / f"place-{self.moved}"

    def command(self) -> list[str]:
        """The command line of the run."""
        if self.what.engine == "scripted":
            return [sys.executable, "-m", "bench.chaos.child", self.what.method, str(self.base)]
        words = [sys.executable, "-m", "selftaught"]
        if self.what.engine == "endpoint":
            data = self.folder / "sums.jsonl"
            if not data.is_file():
                rows = ({"question": f"What is {i} + {i + 1}?", "answer": str(2 * i + 1)} for i in range(QUESTIONS))
                data.write_text("".join(json.dumps(row) + "\n" for row in rows))
                (self.folder / "verifier.py").write_text(VERIFIER)
            words += ["eval", "--task", str(data), "--model", "openai:tiny", "--test", str(QUESTIONS)]
            words += ["--verifier", f"{self.folder / 'verifier.py'}:check", "--max-batch-size", str(WIDTH)]
            words += ["--max-tokens", "32", "--completion-price", str(PRICE)]
            words += ["--solver", self.what.method] if self.what.method else []
            words += ["--max-cost", str(self.cap)] if self.cap else []
        else:
            words += ["run", self.what.method, "--model", "tiny", "--task", "tiny:level=2", "--deterministic"]
            words += ["--train", "8", "--dev", "6", "--test", "4", "--max-tokens", "48", "--threads", "1"]
        return [*words, *_short_options(self.what.method), "--out", str(self.run_folder), "--json", "--quiet"]

    def start(self, *, wrapped: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
        """Start the run, or go on with it.

        Args:
            wrapped: words before the command.
        """
        own = {**OWN_CODE, "OMP_NUM_THREADS": "1"}
        if self.server:
            own |= {"OPENAI_BASE_URL": self.server.url, "OPENAI_API_KEY": SECRET, "NO_PROXY": "127.0.0.1"}
        if paths := environment.pop("first_path", ""):
            own["PYTHONPATH"] = os.pathsep.join([paths, own["PYTHONPATH"]])
        self.base.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [*wrapped, *self.command()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
            env={**os.environ, **own, **environment},
        )  # fmt: skip

    def rows(self) -> dict[str, Row]:
        """What the journal holds: key -> kind and payload; empty before there is one."""
        path = self.run_folder / "journal.sqlite"
        if not path.is_file():
            return {}
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as reader:
            try:
                found = reader.execute("SELECT key, kind, payload FROM effects").fetchall()
            except sqlite3.DatabaseError:  # not a table yet, or damaged
                return {}
        return {key: (kind, payload) for key, kind, payload in found}

    def digest(self) -> str:
        """Hash of all that the journal holds, but for times."""
        with JournalReader(self.run_folder) as reader:
            return reader.digest()

    def begun(self) -> int:
        """Answers that were begun, or asked for and honestly given."""
        if self.server:
            return self.honest.total()
        log = self.base / "calls.log"
        return log.stat().st_size if log.is_file() else 0

    def bill(self) -> float:
        """Dollars that the endpoint takes for what it has given."""
        return self.honest.total() * TOKENS * PRICE / 1e6


def _short_options(method: str) -> list[str]:
    if not method:
        return []
    chosen = short(methods()[method])
    return [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@contextmanager
def opened(what: Disturbed, folder: Path, seed: int) -> Iterator[Place]:
    """A place to run in, with an endpoint if it needs one."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(what, folder, seed)
    if what.engine != "endpoint":
        yield place
        return
    place.server = Endpoint()
    place.server.script = _script(place)
    try:
        yield place
    finally:
        place.server.close()


def _script(place: Place) -> Script:
    luck = random.Random(place.seed)

    def answer(got: Got) -> Reply:
        if place.away.is_set():
            return luck.choice([error(503, "away"), Reply(cut=True), error(429, "slow down")])
        if place.lying.is_set() and luck.random() < 0.5:
            return luck.choice(LIES)
        place.honest[json.dumps(got.body["messages"], sort_keys=True) + str(got.body.get("seed"))] += 1
        text = sums(got).body["choices"][0]["message"]["content"]
        return completion(text, prompt=0, tokens=TOKENS, delay=0.02)

    return answer


LIES = (
    Reply(body=b'{"choices": ['),
    Reply(body=b"<html>Bad gateway</html>"),
    Reply(body={}),
    Reply(body={"choices": []}),
    Reply(body={"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]}),
    Reply(body=b'{"choices": [{"message": {"content": "half a pair \\ud800"}, "finish_reason": "stop"}]}'),
    completion("Answer: 1", tokens=2**63),
    completion("Answer: 1", tokens=-5),
    Reply(502, b"\x00\xff\xfe"),
)
"""Replies that no honest endpoint gives; what they cost is unknown, so they are not billed."""
