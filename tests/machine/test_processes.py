"""Processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from selftaught.machine.processes import end_with_parent

def play(file):
    Path(file).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        pool.submit(play, FILE).result()
"""


def test_a_worker_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    told, program = tmp_path / "pid", tmp_path / "program.py"
    program.write_text(PROGRAM.replace("FILE", repr(str(told))), "utf-8")
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
