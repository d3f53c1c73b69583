"""How much slower a command is beside other work: `python -m bench.busy`, on a machine that is quiet otherwise.

The same small `eval` in turns: alone, and beside processes that keep a core busy each. Threads that wait actively for
each other take the processor from the one that they wait for; see `selftaught.machine.threads`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from statistics import median
from typing import Any

from bench.report import machine, show

TASK = ("--task", "chain_sum:min_terms=2,max_terms=2,max_digits=2", "--test", "32")
WORDS = ("eval", *TASK, "--model", "smollm2-135m", "--max-tokens", "24", "--json", "--quiet")
SPINNING = (sys.executable, "-c", "while True: pass")
SETTINGS: dict[str, dict[str, str]] = {
    "selftaught": {},
    "GNU's default": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
}


def seconds(extra: dict[str, str], spinning: int) -> float:
    """Wall time of one `eval` in a folder of its own, beside so many processes."""
    with ExitStack() as stack:
        out = stack.enter_context(tempfile.TemporaryDirectory(prefix="selftaught-busy-"))
        for _ in range(spinning):
            stack.callback(_end, subprocess.Popen(SPINNING))
        started = time.monotonic()
        words = [sys.executable, "-m", "selftaught", *WORDS, "--out", out]
        subprocess.run(words, env=os.environ | extra, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def compare(rounds: int, spinning: int, names: list[str]) -> dict[str, Any]:
    """Median seconds of each setting, quiet and busy, taken in turns so that a drift of the machine hits all alike."""
    taken: dict[str, dict[str, list[float]]] = {name: {"quiet": [], "busy": []} for name in names}
    seconds({}, 0)  # the model and the machine's caches
    for _ in range(rounds):
        for name in names:
            for how, beside in (("quiet", 0), ("busy", spinning)):
                taken[name][how].append(seconds(SETTINGS[name], beside))
    found = {}
    for name, times in taken.items():
        quiet, busy = median(times["quiet"]), median(times["busy"])
        found[name] = {"quiet_s": round(quiet, 2), "busy_s": round(busy, 2), "ratio": round(busy / quiet, 2)}
        found[name] |= {f"{how}_all": sorted(round(one, 2) for one in took) for how, took in times.items()}
    return {"machine": machine(), "plan": {"rounds": rounds, "spinning": spinning}, **found}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spinning", type=int, default=1, help="processes beside it (default 1)")
    parser.add_argument("--spin", type=int, action="append", default=[], help="a further setting: so many turns")
    args = parser.parse_args()
    SETTINGS.update({f"spin {count}": {"GOMP_SPINCOUNT": str(count)} for count in args.spin})
    show(compare(args.rounds, args.spinning, list(SETTINGS)), args.json)


if __name__ == "__main__":
    main()
