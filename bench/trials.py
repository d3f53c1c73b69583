"""What precision costs in sampling, and what was tried to sample faster and did not enter the engine.

Sides, all of them the local engine: `float32`, `bfloat16`, `int8` (bfloat16 with weights of 8 bits, each output and
each row of the input with a scale of its own), `compiled` (bfloat16, with its norms and rotations by torch.compile).

- Tokens per second of 1, 16 and 128 answers to one prompt, the sides in turns.
- The gap of the log-probabilities that a side gives its own samples to those of `transformers` in float32 for the same
  tokens: its mean size and the greatest; the mean of the difference estimates the divergence between what is sampled
  and what the model says, in nats a token.
- Right answers of 300 short sums, greedily, less those in float32: the difference with its 95 % interval, paired.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from bench.report import machine, show
from bench.sampling import chosen, problem, story
from selftaught.engines import Request, Sample, Sampling
from selftaught.engines.local import llama as fused
from selftaught.engines.local.engine import LocalEngine
from selftaught.engines.local.linear import Linear
from selftaught.machine.threads import releasing_threads
from selftaught.measure import paired_bootstrap
from selftaught.models import ChatTokenizer, Policy
from selftaught.models.load import load_model
from selftaught.records import as_prompt


class EightBits(Linear):
    """The product of a weight rounded to 8 bits, by PyTorch's kernel for them."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        weight = weight.float()
        scale = weight.abs().amax(1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(weight), dtype=torch.long)
        rounded = torch.quantize_per_channel(weight, scale, zeros, 0, torch.qint8)
        self._packed, self._bias = torch.ops.quantized.linear_prepack(rounded, None), bias
        # The kernel has one scale for all rows, from their greatest: with this row it is the same in any company.
        self._ends = torch.zeros(1, weight.shape[1])
        self._ends[0, :2] = torch.tensor([-1.0, 1.0])

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        rows = x.reshape(-1, x.shape[-1]).float()
        most = rows.abs().amax(-1, keepdim=True).clamp_(min=1e-30)
        product = torch.ops.quantized.linear_dynamic(torch.cat([rows / most, self._ends]), self._packed)[:-1]
        found = product.mul_(most).to(x.dtype).view(*x.shape[:-1], -1)
        return found if self._bias is None else found + self._bias


@contextmanager
def eight_bits() -> Iterator[None]:
    """Decoders loaded here have weights of 8 bits."""
    with patch.object(fused, "PackedProduct", EightBits), patch.object(fused, "Product", EightBits):
        yield


@contextmanager
def compiled() -> Iterator[None]:
    """What is computed here between products is compiled."""
    normed, rotated = (torch.compile(f, dynamic=True) for f in (fused.rms_norm, fused.apply_rope))
    with patch.object(fused, "normed", normed), patch.object(fused, "rotated", rotated):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    """Nothing is changed."""
    yield


SIDES: dict[str, tuple[str, Callable[[], Any]]] = {
    "float32": ("float32", as_it_is),
    "bfloat16": ("bfloat16", as_it_is),
    "int8": ("bfloat16", eight_bits),
    "compiled": ("bfloat16", compiled),
}


class Side:
    """One engine, always used within what is changed for it."""

    def __init__(self, policy: Policy, name: str) -> None:
        dtype, self._changed = SIDES[name]
        self._policy, self.engine = policy, LocalEngine(dtype=dtype)

    def sample(self, requests: Sequence[Request]) -> list[Sample]:
        async def all_of() -> list[Sample]:
            return await asyncio.gather(*(self.engine.sample(self._policy, request) for request in requests))

        with releasing_threads(), self._changed():
            return asyncio.run(all_of())


def rate(side: Side, number: int, n: int, tokens: int) -> float:
    """Tokens per second of `n` answers to one prompt."""
    asked = [Request(story(number), Sampling(max_tokens=tokens, temperature=1.0), seed) for seed in range(n)]
    started = time.perf_counter()
    samples = side.sample(asked)
    return sum(len(sample.token_ids) for sample in samples) / (time.perf_counter() - started)


def gap(side: Side, model: Any, tokenizer: ChatTokenizer, answers: int) -> dict[str, float]:
    """Of the log-probabilities of sampled tokens, to those of the model in float32, in nats."""
    asked = [Request(problem(i), Sampling(max_tokens=48, temperature=1.0), i) for i in range(answers)]
    apart: list[float] = []
    for request, sample in zip(asked, side.sample(asked), strict=True):
        before = tokenizer.encode_prompt(request.prompt)
        ids = torch.tensor([[*before, *sample.token_ids]])
        with torch.inference_mode():
            logp = model(ids).logits[0, len(before) - 1 : -1].float().log_softmax(-1)
        told = logp.gather(1, ids[0, len(before) :, None])[:, 0].tolist()
        apart += [a - b for a, b in zip(sample.logprobs, told, strict=True)]
    return {
        "mean_size": round(fmean(map(abs, apart)), 6), "greatest": round(max(map(abs, apart)), 5),
        "nats_per_token": round(fmean(apart), 6), "tokens": len(apart),
    }  # fmt: skip


def right(side: Side, sums: int) -> list[float]:
    """1 for each short sum whose greedy answer ends in the right number, else 0."""
    numbers = [(17 * i % 89 + 10, 31 * i % 83 + 10) for i in range(sums)]
    asked = [
        Request(as_prompt(f"What is {a} + {b}?"), Sampling(max_tokens=32, temperature=0.0), 0) for a, b in numbers
    ]  # fmt: skip
    said = [re.findall(r"\d+", sample.text)[-1:] for sample in side.sample(asked)]
    return [float(last == [str(a + b)]) for last, (a, b) in zip(said, numbers, strict=True)]


def measure(
    model: str, repeats: int, n: Sequence[int], tokens: int, answers: int, sums: int, folder: Path
) -> dict[str, Any]:
    """The whole benchmark; `folder` is for what is made on the way."""
    policy = chosen(model, folder)
    sides = {name: Side(policy, name) for name in SIDES}
    found: dict[str, dict[int, list[float]]] = {name: {count: [] for count in n} for name in sides}
    try:
        for side in sides.values():
            rate(side, 0, 2, 4)  # loading, and compiling, is not what is measured
        for repeat in range(1, repeats + 1):
            for count in n:
                for name, side in sides.items():
                    found[name][count].append(rate(side, 1000 * count + repeat, count, tokens))
        true, tokenizer = load_model(policy, torch.float32), ChatTokenizer(policy.weights)
        gaps = {name: gap(side, true, tokenizer, answers) for name, side in sides.items()}
        scores = {name: right(side, sums) for name, side in sides.items()}
    finally:
        for side in sides.values():
            side.engine.close()
    ratios = {
        f"{s}_vs_bfloat16_n{c}": [a / b for a, b in zip(v, found["bfloat16"][c], strict=True)]
        for s, by in found.items() if s != "bfloat16" for c, v in by.items()
    }  # fmt: skip
    return {
        "tokens_per_second": {f"{s}_n{c}": round(median(v), 1) for s, by in found.items() for c, v in by.items()},
        "ratios": {name: round(median(values), 3) for name, values in ratios.items()},
        "least_and_most": {name: [round(x(values), 3) for x in (min, max)] for name, values in ratios.items()},
        "logprob_gap": gaps,
        "right_share": {name: fmean(values) for name, values in scores.items()},
        "right_vs_float32": {name: _apart(scores["float32"], scores[name]) for name in scores if name != "float32"},
        "settings": {"model": model, "repeats": repeats, "tokens": tokens, "answers": answers, "sums": sums},
        "machine": machine(),
    }  # fmt: skip


def _apart(before: list[float], after: list[float]) -> list[float]:
    """The mean difference and its interval."""
    return [round(x, 4) for x in (fmean(after) - fmean(before), *paired_bootstrap(before, after))]


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.trials", description=__doc__)
    parser.add_argument(
        "--model", default="smollm2-135m", help="of the Llama family; default smollm2-135m; random: see bench.sampling"
    )
    parser.add_argument("--n", type=int, nargs="+", default=[1, 16, 128], help="answers to one prompt, each in turn")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each, of which the median (default 5)")
    parser.add_argument("--quick", action="store_true", help="a few small measurements, to see that it works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if min(args.repeats, *args.n) < 1:
        parser.error("expected at least 1 repeat and answer")
    sizes = (1, (1, 4), 8, 4, 8) if args.quick else (args.repeats, args.n, 48, 64, 300)
    with tempfile.TemporaryDirectory(prefix="selftaught-bench-") as folder:
        show(measure(args.model, *sizes, Path(folder)), args.json)


if __name__ == "__main__":
    main()
