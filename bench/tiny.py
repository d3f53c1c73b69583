"""The tiny world: how fast its model is sampled and trained by as many processes as there are cores.

A check plays one seed in each process, with one thread, so that is how both are measured: all processes sample at once,
then all train at once, and their tokens are added up. Sampling is of 8 answers to each problem of the world's task, to
their natural end, by an engine with its own defaults; training is fine-tuning on written solutions with the
world's settings, from records to a policy on disk. The bound is 2 (sampling) or 6 (training) operations per parameter
and token, at the speed measured for large float32 products in the same processes, in the same seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.report import machine, show
from selftaught.console import Console
from selftaught.engines import Request
from selftaught.engines.local.engine import LocalEngine
from selftaught.learn import sft
from selftaught.learn.learner import train_policy
from selftaught.machine.threads import num_cores, set_num_threads, use_passive_wait
from selftaught.models import resolve
from selftaught.models.policy import read_manifest
from selftaught.records import Demo
from selftaught.worlds.tiny.world import WORLD

PROBLEMS, SAMPLES = 384, 8
SIDE = 1024  # of the matrices whose product is timed
OPERATIONS = {"sampling": 2, "training": 6}


class Rate(NamedTuple):
    """What one process did in its seconds."""

    tokens: int
    seconds: float
    bound: float  # tokens per second


class Worker:
    """One process's model and problems."""

    def __init__(self, number: int, problems: int) -> None:
        self.policy, self.seed = resolve(WORLD.model), number
        self.engine = LocalEngine()
        whole = WORLD.load(number)
        self.task = whole.with_splits(train=whole.train[:problems], dev=(), test=())
        self.parameters = (self.policy.weights / "model.safetensors").stat().st_size // 2  # bfloat16

    def sampling(self) -> int:
        """Sample; the number of tokens."""
        return asyncio.run(self._sample())

    async def _sample(self) -> int:
        self.seed += 1_000_000
        seeds = range(self.seed, self.seed + SAMPLES)
        asked = [Request(p.prompt, WORLD.settings.sampling, seed) for p in self.task.train for seed in seeds]
        samples = await asyncio.gather(*(self.engine.sample(self.policy, request) for request in asked))
        return sum(len(sample.token_ids) for sample in samples)

    def training(self) -> int:
        """Train; the number of tokens."""
        self.seed += 1
        demos = [Demo(p.prompt, str(p.meta["solution"])) for p in self.task.train]
        with tempfile.TemporaryDirectory() as folder:
            policy = train_policy(
                self.policy, sft(), demos, WORLD.settings.training, seed=self.seed, folder=Path(folder)
            )
            manifest = read_manifest(policy.path) or {}
            return int(manifest["tokens"])


_WORKER: list[Worker] = []


def _begin(number: int, problems: int) -> None:
    set_num_threads(1)
    use_passive_wait()
    _WORKER.append(Worker(number, problems))


def _work(kind: str) -> Rate:
    worker = _WORKER[0]
    bound = _product_rate() / (OPERATIONS[kind] * worker.parameters)
    job: Callable[[], int] = getattr(worker, kind)
    started = time.perf_counter()
    tokens = job()
    return Rate(tokens, time.perf_counter() - started, bound)


def _product_rate() -> float:
    """Operations per second of a large product of matrices."""
    import torch

    one, other = (torch.randn(SIDE, SIDE) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        torch.mm(one, other)
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best


def measure(repeats: int, problems: int, console: Console) -> dict[str, Any]:
    """The whole benchmark, its parts in turns."""
    jobs = num_cores()
    pools = [ProcessPoolExecutor(1, get_context("spawn"), _begin, (n, problems)) for n in range(jobs)]
    found: dict[str, list[list[Rate]]] = {kind: [] for kind in OPERATIONS}
    with console.meter(f"sampling and training in {jobs} processes", (repeats + 1) * len(found)) as meter:
        for repeat in range(repeats + 1):
            for kind, rates in found.items():
                done = [one.result() for one in [pool.submit(_work, kind) for pool in pools]]
                if repeat:  # loading is not what is measured
                    rates.append(done)
                meter.advance()
    for pool in pools:
        pool.shutdown()
    return {
        "tokens_per_second": {kind: round(median(map(_total, rates))) for kind, rates in found.items()},
        "least_and_most": {kind: [round(f(map(_total, r))) for f in (min, max)] for kind, r in found.items()},
        "bound_tokens_per_second": {kind: round(median(map(_bound, rates))) for kind, rates in found.items()},
        "share_of_bound": {
            kind: round(median(_total(done) / _bound(done) for done in rates), 3) for kind, rates in found.items()
        },
        "settings": {"processes": jobs, "problems": problems, "samples": SAMPLES, "repeats": repeats},
        "machine": machine(),
    }


def _total(done: list[Rate]) -> float:
    """Tokens per second of all processes together."""
    return sum(one.tokens / one.seconds for one in done)


def _bound(done: list[Rate]) -> float:
    return sum(one.bound for one in done)


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tiny", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each, of which the median (default 5)")
    parser.add_argument("--quick", action="store_true", help="one small measurement, to see that it works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    size = (1, 16) if args.quick else (args.repeats, PROBLEMS)
    show(measure(*size, Console()), args.json)


if __name__ == "__main__":
    main()
