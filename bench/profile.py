"""Where the local engine's time goes: the shares of kinds of work in the steps that answer one prompt many times.

The shares are of the time inside torch's operations, as its profiler tells it; Python between them is not in it. A
step's length comes from runs without the profiler, whose own cost falls on small calls.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from torch.profiler import ProfilerActivity, profile

from bench.report import machine, show
from bench.sampling import Asked, Local, chosen, story
from selftaught.engines.local.batch import ContinuousBatch
from selftaught.machine.threads import releasing_threads

KINDS = {
    "products of weights": ("mkldnn::", "aten::addmm", "aten::mm"),
    "products in attention": ("aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product"),
    "moving data": (
        "aten::copy_", "aten::cat", "aten::index", "aten::roll", "aten::gather", "aten::fill_", "aten::zero_",
        "aten::arange",
    ),
}  # fmt: skip
VIEWS = (
    "aten::view", "aten::as_strided", "aten::reshape", "aten::transpose", "aten::slice", "aten::select", "aten::expand",
    "aten::empty", "aten::split", "aten::narrow", "aten::matmul", "aten::to", "aten::_to_copy", "aten::clone",
    "aten::contiguous", "aten::permute", "aten::unflatten", "aten::flatten", "aten::squeeze", "aten::unsqueeze",
    "aten::_unsafe_view", "aten::t", "aten::numpy_T", "aten::detach", "aten::alias",
)  # fmt: skip


def kind_of(name: str) -> str:
    """What an operation of torch is counted as."""
    for kind, names in KINDS.items():
        if name.startswith(names):
            return kind
    return "views and new tensors" if name in VIEWS else "softmax, norms and sums"


class Watch:
    """Times every step of a batch, or profiles them all."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.found: Counter[str] = Counter()
        self.profiling = False

    def around(self, step: Any) -> Any:
        """`step`, watched."""

        def watched(batch: ContinuousBatch) -> None:
            if self.profiling:
                with profile(activities=[ProfilerActivity.CPU]) as seen:
                    step(batch)
                for event in seen.key_averages():
                    self.found[kind_of(event.key)] += event.self_cpu_time_total
            else:
                started = time.perf_counter()
                step(batch)
                self.milliseconds.append((time.perf_counter() - started) * 1000)

        return watched


def measure(model: str, n: int, tokens: int, dtype: str, repeats: int, folder: Path) -> dict[str, Any]:
    """The whole benchmark; `folder` is for what is made on the way."""
    policy, watch = chosen(model, folder), Watch()
    side = Local(policy, dtype, n)
    speeds = []
    try:
        with patch.object(ContinuousBatch, "step", watch.around(ContinuousBatch.step)):
            side.sample([Asked(story(0), (), n, tokens)])  # loading is not what is measured
            watch.milliseconds.clear()
            for repeat in range(repeats):
                with releasing_threads():
                    started = time.perf_counter()
                    made = sum(map(len, side.sample([Asked(story(1 + repeat), (), n, tokens)])[0]))
                    speeds.append(made / (time.perf_counter() - started))
            watch.profiling = True
            side.sample([Asked(story(repeats + 1), (), n, tokens)])
    finally:
        side.close()
    whole = sum(watch.found.values())
    return {
        "tokens_per_second": {"median": round(median(speeds), 1), "most": round(max(speeds), 1)},
        "step_ms": {"median": round(median(watch.milliseconds), 2), "least": round(min(watch.milliseconds), 2)},
        "shares": {kind: round(value / whole, 3) for kind, value in watch.found.most_common()},
        "settings": {"model": model, "n": n, "tokens": tokens, "repeats": repeats, "dtype": dtype},
        "machine": machine(),
    }


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--model", default="random", help="default random: 1.5 million random parameters")
    parser.add_argument("--n", type=int, default=256, help="answers to one prompt (default 256)")
    parser.add_argument("--tokens", type=int, default=48, help="most tokens an answer (default 48)")
    parser.add_argument("--dtype", default="auto", help="number format (default: the faster one here)")
    parser.add_argument("--repeats", type=int, default=5, help="runs without the profiler (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if min(args.n, args.tokens - 1, args.repeats) < 1:
        parser.error("expected at least 1 answer and repeat, and 2 tokens: the first comes with the prompt")
    with tempfile.TemporaryDirectory(prefix="selftaught-bench-") as folder:
        show(measure(args.model, args.n, args.tokens, args.dtype, args.repeats, Path(folder)), args.json)


if __name__ == "__main__":
    main()
