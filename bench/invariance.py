"""What it costs that no answer depends on what is sampled beside it (`--deterministic`): groups of answers, in turns.

Rollouts as of online reinforcement learning: `--samples` answers to each of `--problems` problems, at temperature 1, to
their natural end or `--longest` tokens, by the same weights: `deterministic`, in plain float32, and as sampling is by
default here. Every repeat asks other problems; a ratio is the median of the repeats' own. `changed` is the share of
answers that are not the same to the last bit of their log-probabilities if the first tenth of them is asked for again.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import machine, show
from bench.sampling import chosen, problem
from selftaught import load_task
from selftaught.console import Console
from selftaught.engines import EngineConfig, Request, Sample, Sampling, create_engine
from selftaught.engines.base import Engine
from selftaught.machine.threads import releasing_threads
from selftaught.models import Policy

SIDES = {
    "deterministic": EngineConfig(deterministic=True),
    "float32": EngineConfig(dtype="float32"),
    "default": EngineConfig(),
}


def answers(engine: Engine, policy: Policy, asked: Sequence[Request]) -> list[Sample]:
    """All of them, asked for at once."""

    async def all_of() -> list[Sample]:
        return await asyncio.gather(*(engine.sample(policy, request) for request in asked))

    with releasing_threads():
        return asyncio.run(all_of())


def measure(
    policy: Policy, prompts: Sequence[Any], problems: int, samples: int, longest: int, repeats: int
) -> dict[str, Any]:
    """The whole benchmark."""
    how = Sampling(max_tokens=longest, temperature=1.0)
    engines = {name: create_engine(policy, config) for name, config in SIDES.items()}
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    changed: dict[str, list[float]] = {name: [] for name in SIDES}
    for engine in engines.values():
        answers(engine, policy, [Request(prompts[-1], how)])
    with Console().meter("sampling", repeats * len(SIDES)) as meter:
        for repeat in range(repeats):
            own = prompts[repeat * problems : (repeat + 1) * problems]
            asked = [Request(prompt, how, seed) for prompt in own for seed in range(samples)]
            few = max(1, len(asked) // 10)
            for name in [*SIDES][repeat % len(SIDES) :] + [*SIDES][: repeat % len(SIDES)]:
                begun = time.perf_counter()
                found = answers(engines[name], policy, asked)
                rates[name].append(sum(len(one.token_ids) for one in found) / (time.perf_counter() - begun))
                again = answers(engines[name], policy, asked[:few])
                differs = sum(a.logprobs != b.logprobs for a, b in zip(found[:few], again, strict=True))
                changed[name].append(differs / few)
                meter.advance(1, name)
    for engine in engines.values():
        engine.close()
    return {
        name: {
            "tokens_per_second": [round(median(found)), round(min(found)), round(max(found))],
            "deterministic_costs": [round(1 - one, 3) for one in _spread(rates["deterministic"], found)],
            "changed": round(median(changed[name]), 4),
        }
        for name, found in rates.items()
    }  # fmt: skip


def _spread(mine: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return median(ratios), max(ratios), min(ratios)


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--longest", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    count = args.problems * args.repeats + 1
    with tempfile.TemporaryDirectory() as folder:
        if args.model == "tiny":
            with closing(load_task("tiny:level=4", train=count, dev=1, test=1)) as task:
                prompts = [one.prompt for one in task.train]
        else:
            prompts = [problem(number) for number in range(count)]
        policy = chosen(args.model, Path(folder))
        found = measure(policy, prompts, args.problems, args.samples, args.longest, args.repeats)
    show({"machine": machine(), "model": args.model, "sides": found}, args.json)


if __name__ == "__main__":
    main()
