"""Sampling: tokens per second of the local engine and of transformers' `generate`, in turns.

`n` answers to one prompt at temperature 1, all as long as `--tokens`; both sides have the same weights, precision
and threads. Every repeat asks a prompt of its own, since the local engine keeps the prompts it has read, and the
two sides take turns in going first. A ratio above 1 means that the local engine is faster.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.report import machine, show
from selftaught.engines import Request, Sampling
from selftaught.engines.local import LocalEngine, pick_device, pick_dtype
from selftaught.models import ChatTokenizer, Policy, resolve
from selftaught.models.load import load_model
from selftaught.records import Prompt, as_prompt

QUESTION = "Write a long story, as long as you can, about a lighthouse keeper and storm number {number}."
Side = Callable[[Prompt, int, int], int]  # (prompt, answers, tokens) -> tokens sampled


def local_side(policy: Policy, dtype: str) -> tuple[Side, Callable[[], None]]:
    """The local engine, and how to stop it."""
    engine = LocalEngine(dtype=dtype)

    async def sample(prompt: Prompt, n: int, tokens: int) -> int:
        requests = (Request(prompt, Sampling(max_tokens=tokens), seed) for seed in range(n))
        found = await asyncio.gather(*(engine.sample(policy, request) for request in requests))
        return sum(len(one.token_ids) for one in found)

    return lambda prompt, n, tokens: asyncio.run(sample(prompt, n, tokens)), engine.close


def generate_side(policy: Policy, dtype: str) -> Side:
    """`generate` of transformers on the same weights."""
    import torch

    device = pick_device("auto")
    model = load_model(policy, pick_dtype(dtype, device)).to(device).eval()
    tokenizer = ChatTokenizer(policy.weights)
    plain = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": tokenizer.eos_id}

    def sample(prompt: Prompt, n: int, tokens: int) -> int:
        ids = torch.tensor([tokenizer.encode_prompt(prompt)], device=device)
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), num_return_sequences=n,
                max_new_tokens=tokens, min_new_tokens=tokens, **plain,
            )  # fmt: skip
        return n * (out.shape[1] - ids.shape[1])

    return sample


def rates(sides: dict[str, Side], n: int, tokens: int, repeats: int) -> dict[str, list[float]]:
    """Tokens per second of each side in each repeat."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        prompt = as_prompt(QUESTION.format(number=1000 * n + repeat))
        order = list(sides) if repeat % 2 == 0 else list(reversed(sides))
        for name in order:
            started = time.perf_counter()
            count = sides[name](prompt, n, tokens)
            found[name].append(count / (time.perf_counter() - started))
    return found


def measure(model: str, sizes: list[int], tokens: int, repeats: int, dtype: str) -> dict[str, Any]:
    """The whole benchmark."""
    policy = resolve(model, print)
    local, stop = local_side(policy, dtype)
    sides = {"local": local, "generate": generate_side(policy, dtype)}
    try:
        for side in sides.values():  # loading and first calls are not what is measured
            side(as_prompt(QUESTION.format(number=0)), max(sizes), 2)
        found = {n: rates(sides, n, tokens, repeats) for n in sizes}
    finally:
        stop()
    pairs = {n: [a / b for a, b in zip(f["local"], f["generate"], strict=True)] for n, f in found.items()}
    return {
        "ratios": {f"local_vs_generate_n{n}": round(median(each), 3) for n, each in pairs.items()},
        "tokens_per_second": {f"{s}_n{n}": round(median(f[s]), 1) for n, f in found.items() for s in sides},
        "settings": {"model": model, "tokens": tokens, "repeats": repeats, "dtype": _precision(dtype)},
        "machine": machine() | _torch(),
    }


def _precision(dtype: str) -> str:
    return str(pick_dtype(dtype, pick_device("auto"))).removeprefix("torch.")


def _torch() -> dict[str, Any]:
    import torch

    device = pick_device("auto")
    return {"threads": torch.get_num_threads(), "device": torch.cuda.get_device_name() if device == "cuda" else device}


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sampling", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="default smollm2-135m")
    parser.add_argument("--n", type=int, nargs="+", default=[1, 16, 64], help="answers at once (default 1 16 64)")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each answer (default 48)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each, of which the median (default 5)")
    parser.add_argument("--dtype", default="auto", help="of both sides (default auto, as the local engine chooses)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    show(measure(args.model, args.n, args.tokens, args.repeats, args.dtype), args.json)


if __name__ == "__main__":
    main()
