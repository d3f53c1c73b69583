"""Seeds of a check side by side, each in a process of its own with its share of the cores.

A small model keeps no more than one core busy, as most of its time goes into starting operations. So several processes
play the seeds to their end, and the check then finds in the runs' folders all that it asks for. What a process could
not finish, the check does itself, and says itself what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING

from selftaught.console import Console
from selftaught.machine.device import pick_device
from selftaught.machine.threads import num_cores, set_num_threads, use_passive_wait
from selftaught.models import resolve
from selftaught.worlds.world import World, find_world

if TYPE_CHECKING:
    from selftaught.check.cached_engine import SampleCache

SMALL_MODEL_BYTES = 2**26  # bytes of weights up to which a model leaves cores idle
BYTES_PER_PROCESS = 3 * 2**30  # bytes of memory that a process is to have


class SeedPool:
    """Processes that play seeds; each always the same ones, since methods begin with the same answers.

    Args:
        jobs: how many.
        say: whether they show their progress.
    """

    def __init__(self, jobs: int, *, say: bool) -> None:
        share = max(1, num_cores() // jobs)
        self.jobs, self._say = jobs, say
        self._processes = [
            ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=(share,)) for _ in range(jobs)
        ]

    def run_seeds(self, method: str, where: str, seeds: int, *, ablate: bool, console: Console) -> None:
        """Play all seeds of a check, as far as that can be done.

        Args:
            method: as `method.find` takes it.
            where: name of the world.
        """
        console.say(f"{seeds} seeds, {self.jobs} at a time")
        waiting: dict[Future[None], int] = {
            self._processes[seed % self.jobs].submit(_play, method, where, seed, ablate, self._say): seed
            for seed in range(seeds)
        }
        for number, done in enumerate(as_completed(waiting), 1):
            how = "is played" if done.exception() is None else "did not end in its process, and is gone on with here"
            console.say(f"  seed {waiting[done] + 1} {how}, {number} of {seeds}")

    def close(self, *, cancel: bool = False) -> None:
        """End the processes; `cancel` drops the seeds that wait."""
        for process in self._processes:
            process.shutdown(wait=True, cancel_futures=cancel)


@contextmanager
def seed_pool(jobs: int, seeds: int, where: World, *, say: bool) -> Iterator[SeedPool | None]:
    """Processes for a check; None where it is to play its seeds itself.

    Args:
        jobs: seeds at a time; 0 for as many as this machine has cores and memory for if the model is small, else 1.
    """
    jobs = min(jobs or max_parallel_seeds(where), seeds)
    if jobs < 2:
        yield None
        return
    processes, finished = SeedPool(jobs, say=say), False
    try:
        yield processes
        finished = True
    finally:
        processes.close(cancel=not finished)


def max_parallel_seeds(where: World) -> int:
    """How many seeds of this world may be played at a time on this machine."""
    if pick_device("auto") != "cpu":
        return 1
    weights = resolve(where.model, lambda _: None).weights
    if sum(file.stat().st_size for file in weights.glob("*.safetensors")) > SMALL_MODEL_BYTES:
        return 1
    return max(1, min(num_cores(), _free() // BYTES_PER_PROCESS))


def _free() -> int:
    """Bytes of memory to be had, where the system tells; else enough for two processes."""
    with suppress(ValueError, OSError, AttributeError), open("/proc/meminfo", encoding="utf-8") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return 2 * BYTES_PER_PROCESS


# --- in the process ---


def _begin(threads: int) -> None:
    """Before torch is there: how many threads it computes with, and that they leave the processors to the others."""
    set_num_threads(threads)
    use_passive_wait()


@cache
def _cache(where: str, seed: int) -> SampleCache:
    """What the starting model said on a seed so far, to one method after the other."""
    del where, seed
    return {}


def _play(method: str, where: str, seed: int, ablate: bool, say: bool) -> None:
    from selftaught.check.runner import run_seed
    from selftaught.method import find

    console = Console(quiet=not say, lines=True)
    run_seed(find(method), find_world(where), seed, ablate=ablate, console=console, cache=_cache(where, seed))
