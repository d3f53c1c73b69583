"""A run of a method on the scripted engine, to be disturbed: prints what it came to, as JSON.

    python -m bench.chaos.child METHOD FOLDER

`FOLDER/run` is the run's, and `FOLDER/calls.log` gets a byte for each answer that the engine begins.
"""

from __future__ import annotations

import json
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from selftaught.cli.main import INTERRUPTED, TERMINATED, Terminated
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.machine.disk import disk_full_error
from selftaught.method import find
from selftaught.run.conclusion import conclude, write
from selftaught.run.settings import Settings
from selftaught.testing import NarrowEngine
from selftaught.testing.checks import play, task_for
from selftaught.testing.sums import make_run, solve_or_judge

WIDTH = 4  # answers in progress at once
ANSWER_SECONDS, TRAINING_SECONDS = 0.01, 0.1


def whole_run(method_id: str, folder: Path) -> dict[str, Any]:
    """Play a method from start to end."""
    method = find(method_id)
    task = task_for(method, train=4, dev=6, test=2)
    settings, script = Settings(training=TrainConfig(epochs=1)), partial(solve_or_judge, least=0.6, most=0.7)
    engine = NarrowEngine(script, delay=ANSWER_SECONDS, width=WIDTH, log=folder / "calls.log")
    with make_run(folder, task=task, engine=engine, settings=settings, delay=TRAINING_SECONDS) as run:
        play(method, run)
        if method.shape == "recipe":
            write(run, conclude(run), command="chaos")
        return {"digest": run.journal.digest(), "samples": run.journal.count("sample")}


def main() -> int:
    """Play it; exit status as of `selftaught run`."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        found = whole_run(sys.argv[1], Path(sys.argv[2]))
    except KeyboardInterrupt as stop:
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    except BadInput as error:
        return _refuse(error)
    except OSError as error:
        if (full := disk_full_error(error, error.filename or "")) is None:
            raise
        return _refuse(full)
    print(json.dumps(found), flush=True)
    return 0


def _terminate(*_: object) -> None:
    raise Terminated


def _refuse(error: BadInput) -> int:
    print(f"selftaught: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
