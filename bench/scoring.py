"""Scoring by a trained value head, next to reading the same answers for their log-probabilities.

Both read prompts and answers once, in batches, on the local engine; the head needs no product with the output layer.
The ratio is reading to scoring: at 1 or above, a score costs no more than reading the same tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import machine, show
from selftaught import models
from selftaught.engines.local.engine import LocalEngine
from selftaught.learn import TrainConfig
from selftaught.learn.learner import train_policy
from selftaught.learn.objectives import orm
from selftaught.models import Policy
from selftaught.records import Label, Problem, Prompt
from selftaught.tasks import load_task

PER_PROBLEM = 8

Reading = tuple[Prompt, str]


def answers(problems: list[Problem], count: int) -> list[Reading]:
    """Written solutions, no two alike: answers of one problem differ in the number they end with."""
    texts = [(p, str(p.meta.get("solution") or p.reference)) for p in problems]
    return [(p.prompt, f"{text} {i}") for p, text in texts for i in range(PER_PROBLEM)][:count]


def reward_model(folder: Path, base: Policy, shown: list[Reading]) -> Policy:
    """The underfit model with a head, trained for one step: only its cost is measured."""
    labels = [Label(prompt, text, i % 2 == 0) for i, (prompt, text) in enumerate(shown[:8])]
    return train_policy(base, orm(), labels, TrainConfig(epochs=1, batch_size=8), seed=0, folder=folder)


def seconds(engine: LocalEngine, policy: Policy, asked: list[Reading], *, head: bool) -> float:
    """Seconds to score all answers at their end, or to read their log-probabilities."""

    async def one(prompt: Prompt, text: str) -> Any:
        return await (
            engine.scores(policy, prompt, text, (len(text),)) if head else engine.loglikelihood(policy, prompt, text)
        )

    async def every() -> list[Any]:
        return list(await asyncio.gather(*(one(*reading) for reading in asked)))

    started = time.perf_counter()
    found = asyncio.run(every())
    taken = time.perf_counter() - started
    if len(found) != len(asked):
        raise RuntimeError("the engine did not read all answers")
    return taken


def measure(count: int, repeats: int) -> dict[str, Any]:
    """The whole benchmark: both sides in turns, after one pass of each to warm up."""
    task = load_task("underfit", train=-(-count // PER_PROBLEM), dev=1, test=1)
    asked = answers(list(task.train), count)
    with tempfile.TemporaryDirectory(prefix="selftaught-bench-") as scratch:
        policy = reward_model(Path(scratch), models.resolve("underfit"), asked)
        engine = LocalEngine()
        try:
            runs = [
                {head: seconds(engine, policy, asked, head=head) for head in (True, False)} for _ in range(repeats + 1)
            ]
        finally:
            engine.close()
    timed = runs[1:]
    return {
        "ratios": {"reading_vs_scoring": round(median(one[False] / one[True] for one in timed), 2)},
        "answers_per_second": {
            "scored": round(median(count / one[True] for one in timed)),
            "read": round(median(count / one[False] for one in timed)),
        },
        "settings": {"answers": count, "per_problem": PER_PROBLEM, "repeats": repeats},
        "machine": machine(),
    }


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scoring", description=__doc__)
    parser.add_argument("--answers", type=int, default=1024, help="answers of each measurement (default 1024)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements, of which the median (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if args.answers < PER_PROBLEM or args.repeats < 1:
        parser.error(f"expected at least {PER_PROBLEM} answers and 1 repeat")
    show(measure(args.answers, args.repeats), args.json)


if __name__ == "__main__":
    main()
