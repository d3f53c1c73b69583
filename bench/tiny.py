"""The underfit world: how fast its model is sampled and trained, beside what the processor's products would allow.

Sampling is of 8 answers to each of 210 problems of the middle level, to their natural end, by an engine with its own
defaults; training is the building of the model from scratch in float32, its text included. The bound is 2 (sampling) or
6 (training) operations per parameter and token, at the speed measured for a large product of that dtype in the same
seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.report import machine, show
from selftaught.engines import Request, Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.machine.device import pick_device, pick_dtype
from selftaught.machine.threads import releasing_threads
from selftaught.models import resolve
from selftaught.worlds.underfit.abilities import MAX_REPLY_TOKENS, TEMPERATURE, AbilityTest
from selftaught.worlds.underfit.build import BuildConfig, make_model, train_curriculum
from selftaught.worlds.underfit.task import MIDDLE

if TYPE_CHECKING:
    import torch

PROBLEMS, SAMPLES = 210, 8
SIDE = 1024  # of the matrices whose product is timed


class Sampler:
    """Answers to the examination's problems."""

    def __init__(self, problems: int) -> None:
        self._engine, self._policy = LocalEngine(), resolve("underfit", print)
        self._prompts = [p.prompt for p in AbilityTest(self._engine, self._policy, problems=problems).problems(MIDDLE)]

    def __call__(self, repeat: int) -> float:
        """Tokens per second."""
        started = time.perf_counter()
        tokens = asyncio.run(self._sample(repeat))
        return tokens / (time.perf_counter() - started)

    async def _sample(self, repeat: int) -> int:
        sampling = Sampling(max_tokens=MAX_REPLY_TOKENS, temperature=TEMPERATURE)
        seeds = range(repeat * SAMPLES, (repeat + 1) * SAMPLES)
        asked = [Request(prompt, sampling, seed) for prompt in self._prompts for seed in seeds]
        samples = await asyncio.gather(*(self._engine.sample(self._policy, request) for request in asked))
        return sum(len(sample.token_ids) for sample in samples)

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()


class Trainer:
    """The model's first lesson."""

    def __init__(self, seconds: float) -> None:
        recipe = BuildConfig()
        self.model = make_model(recipe)
        self._steps: Iterator[tuple[list[Any], float]] = train_curriculum(self.model, recipe, 0)
        self._seconds = seconds
        next(self._steps)  # the first pool of text is written before it

    def __call__(self) -> float:
        """Tokens per second."""
        started, tokens = time.perf_counter(), 0
        while time.perf_counter() - started < self._seconds:
            tokens += sum(len(ids) for ids, _ in next(self._steps)[0])
        return tokens / (time.perf_counter() - started)


def product_rate(dtype: torch.dtype) -> float:
    """Operations per second of a product of matrices of that dtype."""
    import torch

    one, other = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        torch.mm(one, other)
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best


def measure(repeats: int, problems: int, seconds: float) -> dict[str, Any]:
    """The whole benchmark, its parts in turns."""
    import torch

    sampler, trainer = Sampler(problems), Trainer(seconds)
    parameters = sum(p.numel() for p in trainer.model.parameters())
    sampler(0)  # loading is not what is measured
    found: dict[str, list[float]] = {"sampling": [], "training": []}
    shares: dict[str, list[float]] = {"sampling": [], "training": []}
    bounds: dict[str, list[float]] = {"sampling": [], "training": []}
    dtypes = {"sampling": pick_dtype("auto", pick_device("auto")), "training": torch.float32}
    for repeat in range(repeats):
        for name, operations in (("sampling", 2), ("training", 6)):
            with releasing_threads():
                bounds[name].append(product_rate(dtypes[name]) / (operations * parameters))
            with releasing_threads():
                found[name].append(sampler(repeat + 1) if name == "sampling" else trainer())
            shares[name].append(found[name][-1] / bounds[name][-1])
    sampler.close()
    return {
        "tokens_per_second": {name: round(median(values)) for name, values in found.items()},
        "least_and_most": {name: [round(min(values)), round(max(values))] for name, values in found.items()},
        "bound_tokens_per_second": {name: round(median(values)) for name, values in bounds.items()},
        "share_of_bound": {name: round(median(values), 3) for name, values in shares.items()},
        "settings": {"parameters": parameters, "repeats": repeats, "dtype": {k: str(d)[6:] for k, d in dtypes.items()}},
        "machine": machine(),
    }


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tiny", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each, of which the median (default 5)")
    parser.add_argument("--quick", action="store_true", help="a few small measurements, to see that it works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    show(measure(1, 14, 1.0) if args.quick else measure(args.repeats, PROBLEMS, 8.0), args.json)


if __name__ == "__main__":
    main()
