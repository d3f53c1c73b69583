"""Run seeds in parallel processes, each with its share of the cores.

A small model keeps no more than one core busy, as most of its time goes into starting operations. So several processes
play the seeds to their end, and a check then finds in the runs' folders all that it asks for. What a process could not
finish, the check does itself, and says itself what is wrong.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from typing import NamedTuple

from selftaught.console import Console
from selftaught.engines.create import EngineConfig, is_remote
from selftaught.errors import BadInput
from selftaught.machine.device import pick_device
from selftaught.machine.processes import end_with_parent
from selftaught.machine.threads import num_cores, set_num_threads, use_passive_wait
from selftaught.models import resolve
from selftaught.worlds.own import world_of
from selftaught.worlds.world import World

SMALL_MODEL_BYTES = 2**26  # bytes of weights up to which a model leaves cores idle
BYTES_PER_PROCESS = 3 * 2**30  # bytes of memory that a process is to have


class Place(NamedTuple):
    """A world as the command line names it, for another process: see `world_of`."""

    model: str
    task: str = ""
    quick: bool = False

    @property
    def world(self) -> World:
        """The world."""
        found = world_of(self.model, self.task)
        return found.quickly() if self.quick else found


class SeedPool:
    """Processes that run seeds.

    Args:
        jobs: number of processes.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        share = max(1, num_cores() // jobs)
        self._processes = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_begin, initargs=(share,))

    def run_seeds(
        self, play: Callable[[int], None], seeds: Sequence[int], console: Console, what: str = "seed"
    ) -> None:
        """Run seeds; those that fail are left to the caller.

        Args:
            play: runs a seed to its end; picklable.
            what: name of what has these numbers.
        """
        console.print(f"{len(seeds)} {what}s, {self.jobs} at a time")
        begun = time.monotonic()
        waiting: dict[Future[None], int] = {self._processes.submit(play, seed): seed for seed in seeds}
        for number, done in enumerate(as_completed(waiting), 1):
            how = "finished" if done.exception() is None else "failed in its process and is resumed here"
            left = (time.monotonic() - begun) * (len(seeds) / number - 1) / 60
            estimate = f", about {math.ceil(left)} min left" if left else ""
            console.print(f"  {what} {waiting[done] + 1} {how}, {number} of {len(seeds)}{estimate}")

    def close(self, *, cancel: bool = False) -> None:
        """Stop the processes; `cancel` drops queued seeds."""
        self._processes.shutdown(wait=True, cancel_futures=cancel)


@contextmanager
def seed_pool(jobs: int, seeds: int, where: World, engine: EngineConfig) -> Iterator[SeedPool | None]:
    """Yield a pool, or None if the seeds should run one after another.

    Args:
        jobs: seeds in parallel; 0 uses as many as cores and memory allow for a small model, else 1.
        seeds: the most that a look adds.

    Raises:
        BadInput: several seeds at a time on an engine that does not run in the process.
    """
    if engine.engine != "local" or is_remote(where.model):
        if jobs > 1:
            raise BadInput("only the local engine runs several seeds at a time", where="--jobs", fix="use --jobs 1")
        jobs = 1
    jobs = min(jobs or max_parallel_seeds(where), seeds)
    if jobs < 2:
        yield None
        return
    processes, finished = SeedPool(jobs), False
    try:
        yield processes
        finished = True
    finally:
        processes.close(cancel=not finished)


def max_parallel_seeds(where: World) -> int:
    """Return how many seeds of this world can run in parallel on this machine."""
    if pick_device("auto") != "cpu":
        return 1
    weights = resolve(where.model, lambda _: None).weights
    if sum(file.stat().st_size for file in weights.glob("*.safetensors")) > SMALL_MODEL_BYTES:
        return 1
    return max(1, min(num_cores(), _free() // BYTES_PER_PROCESS))


def _free() -> int:
    """Bytes of available memory; enough for two processes where unknown."""
    with suppress(ValueError, OSError, AttributeError), open("/proc/meminfo", encoding="utf-8") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return 2 * BYTES_PER_PROCESS


# --- in the process ---


def _begin(threads: int) -> None:
    """Before torch is there: how many threads it computes with, and that they leave the processors to the others."""
    end_with_parent()
    set_num_threads(threads)
    use_passive_wait()


def play_seed(method: str, where: Place, ablate: bool, engine: EngineConfig, say: bool, seed: int) -> None:
    """Play a seed of a check to its end.

    Args:
        method: anything `method.find` takes.
        say: whether to report progress.
    """
    from selftaught.check.runner import run_seed
    from selftaught.method import find

    console = Console(quiet=not say, lines=True)
    run_seed(find(method), where.world, seed, ablate=ablate, engine=engine, console=console)
