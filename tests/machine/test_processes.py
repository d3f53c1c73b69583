"""Processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import os, time
from pathlib import Path

def play(number):
    Path(FILE).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    POOL
"""
BARE = """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    from selftaught.machine.processes import end_with_parent
    ProcessPoolExecutor(1, get_context("spawn"), end_with_parent).submit(play, 0).result()
"""
SEEDS = """
    from selftaught.check.parallel import SeedPool
    from selftaught.console import Console
    SeedPool(1).run_seeds(play, range(1), Console(quiet=True))
"""


@pytest.mark.parametrize("pool", [BARE, SEEDS], ids=["bare", "seeds"])
def test_a_worker_ends_with_a_parent_that_is_killed(tmp_path: Path, pool: str) -> None:
    told, program = tmp_path / "pid", tmp_path / "program.py"
    program.write_text(PROGRAM.replace("FILE", repr(str(told))).replace("    POOL", pool), "utf-8")
    parent = subprocess.Popen([sys.executable, str(program)])
    assert _within(30, lambda: told.exists() and bool(told.read_text()))
    worker = int(told.read_text())
    assert _runs(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _within(10, lambda: not _runs(worker))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # one that nobody has waited for is still listed
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return False
