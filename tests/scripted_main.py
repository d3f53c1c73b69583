"""Programs to be killed, run as processes of their own by `test_kill.py`.

scripted_main.py once METHOD FOLDER DELAY     one whole run; says "ready", then what it came to, as JSON
scripted_main.py sweep METHOD FOLDER SAMPLES  the run, killed before or after its k-th effect, for many k
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from selftaught.journal import Journal
from selftaught.learn import TrainConfig
from selftaught.method import find
from selftaught.report import ReportData, render_page
from selftaught.run.conclusion import conclude, write
from selftaught.run.settings import Settings
from selftaught.testing import NarrowEngine, SumAnnotator, make_run, make_task, solve_sum
from talking_world import talk

OPTIONS: dict[str, dict[str, Any]] = {
    "rest-em": {"rounds": 2, "samples": 4},
    "star": {"rounds": 2, "samples": 2, "temperature": 0.7},
    "lmsi": {"rounds": 2, "samples": 4},
    "self": {"rounds": 1, "samples": 2, "annotated": 2, "drafts": 3},
    "critique-in-the-loop": {"rounds": 1, "samples": 3, "repairs": 3, "drafts": 3, "probe": 1},
}
ANNOTATED = ("self", "critique-in-the-loop")  # they learn from an annotator, and talk about answers
KILLED = 77


def whole_run(method: str, folder: Path, delay: float = 0.0, *, small: bool = False) -> dict[str, Any]:
    """Learn, conclude and write; what came of it."""
    annotated = method in ANNOTATED
    engine = NarrowEngine(talk if annotated else solve_sum, delay=delay, log=folder / "calls.log")
    sizes = {"train": 5, "dev": 7, "test": 3} if small else {"train": 12, "dev": 8, "test": 8}
    task = make_task(**sizes, annotator=SumAnnotator() if annotated else None)
    settings = Settings(training=TrainConfig(epochs=1))
    with make_run(folder, task=task, engine=engine, delay=20 * delay, settings=settings) as run:
        if not small:
            print("ready", flush=True)
        find(method)(run, run.base, task, **OPTIONS[method])
        summary = write(run, conclude(run), command="scripted")
        return {
            "digest": run.journal.digest(),
            "summary": {k: v for k, v in summary.items() if k not in ("seconds", "overhead", "peak_rss_mb", "journal")},
            "calls": engine.calls,
            "samples": run.journal.count("sample"),
            "journal": vars_of(run.journal.usage()),
            "ledger": vars_of(run.ledger.usage),
            "promoted": [gate["promoted"] for gate in run.gate_decisions],
        }


def vars_of(usage: Any) -> dict[str, int]:
    """A `Usage` as plain data."""
    return {name: getattr(usage, name) for name in ("prompt", "generated", "judge", "trained")}


class Fuse:
    """Ends the process, as abruptly as SIGKILL would, before or after the k-th commit of anything to disk."""

    def __init__(self, at: int = 0, after: bool = False) -> None:
        self.at, self.after = at, after
        self.met: list[str] = []

    def _commit(self, what: str, commit: Any, *args: Any, **kw: Any) -> Any:
        self.met.append(what)
        if len(self.met) == self.at and not self.after:
            os._exit(KILLED)
        result = commit(*args, **kw)
        if len(self.met) == self.at:
            os._exit(KILLED)
        return result

    def install(self) -> None:
        """Put it on effects, and on the renames that publish policies, summary and report."""
        put, replace = Journal.put, os.replace
        Journal.put = lambda journal, key, kind, *rest, **more: self._commit(
            kind, put, journal, key, kind, *rest, **more
        )
        os.replace = lambda *names: self._commit("rename", replace, *names)


def in_child(work: Any) -> tuple[int, Any]:
    """Run `work` in a forked process; its exit status and what it returned."""
    read, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        outcome = json.dumps(work())
        with os.fdopen(write_end, "w") as stream:
            stream.write(outcome)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read) as stream:
        text = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, json.loads(text) if text else None


def sweep(method: str, folder: Path, samples: int) -> dict[str, Any]:
    """Kill at every commit that is not a sample or a verdict, and at so many of those; what differed afterwards."""
    place = folder / "swept"
    render_page(ReportData("", "", "", "", ""))  # imports what every child would have to import again

    def blown(fuse: Fuse) -> Any:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        fuse.install()
        return {**whole_run(method, place, small=True), "met": fuse.met}

    status, undisturbed = in_child(lambda: blown(Fuse()))
    assert status == 0, status
    met = undisturbed.pop("met")
    often = [k for k, what in enumerate(met, 1) if what in ("sample", "verify")]
    chosen = {k for k in range(1, len(met) + 1) if k not in often} | set(often[:: len(often) // samples])
    wrong = []
    for at in sorted(chosen):
        status, _ = in_child(lambda at=at: blown(Fuse(at, after=at % 2 == 0)))
        assert status == KILLED, (at, status)
        status, again = in_child(lambda: whole_run(method, place, small=True))
        if status or {**again, "calls": 0} != {**undisturbed, "calls": 0}:
            wrong.append([at, met[at - 1], status, again])
    return {"undisturbed": undisturbed, "kinds": sorted({met[at - 1] for at in chosen}), "wrong": wrong}


if __name__ == "__main__":
    what, name, where, number = sys.argv[1:]
    Path(where).mkdir(parents=True, exist_ok=True)
    out = whole_run(name, Path(where), float(number)) if what == "once" else sweep(name, Path(where), int(number))
    print(json.dumps(out), flush=True)
