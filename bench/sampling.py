"""Sampling: the local engine, transformers' `generate` and vLLM side by side, in turns, on the same weights.

Workloads, all at temperature 1:

- `n1`, `n16`, ...: that many answers to one prompt, all as long as `--tokens`;
- `problems`: 8 answers to each of 64 word problems, to their natural end or `--longest` tokens;
- `tree`: 16 problems, 4 levels deep, each node 4 children of 32 tokens;
- `dialogue`: draft, critique and revision of 64 problems.

The problems are made up, or the user's: `--data FILE`, JSON lines with a `question`, as GSM8K has them. A ratio above 1
means that the local engine is faster. An engine that is not installed is given as null. `generate` is called once for
all that is asked at the same time. Every repeat asks prompts of its own, since engines keep what they have read, and
the sides take turns in going first; a ratio is the median of the repeats' own, between the least and the greatest of
them. The bound is the time that the products of the model's weights would take at the speed measured for a product of
its own largest layer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from bench.report import lines_of, machine, show
from selftaught.engines import EngineConfig, Request, Sampling, create_engine
from selftaught.engines.vllm.environment import check_installed
from selftaught.machine.device import pick_device, pick_dtype
from selftaught.machine.threads import releasing_threads
from selftaught.models import ChatTokenizer, Policy, resolve
from selftaught.models.load import load_model
from selftaught.records import Message, Prompt, as_prompt
from selftaught.worlds.underfit.build import BuildConfig, make_model
from selftaught.worlds.underfit.tokenizer import make_tokenizer

STORY = "Write a long story, as long as you can, about a lighthouse keeper and storm number {number}."
SUM = (
    "{name} has {a} apples and buys {b} more on each of {c} days, then gives half of them away. How many are left?"
    " Think step by step."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers asked for together: `count` of them to `prompt`, going on from the tokens `given`."""

    prompt: Prompt
    given: tuple[int, ...]
    count: int
    tokens: int
    to_end: bool = True  # whether an end of sequence ends it


class Side(Protocol):
    """One engine: samples all that is asked at once, and says which tokens came."""

    def sample(self, asked: Sequence[Asked]) -> list[list[list[int]]]: ...

    def close(self) -> None: ...


class Local:
    """The local engine."""

    def __init__(self, policy: Policy, dtype: str, rows: int) -> None:
        self._policy = policy
        self._engine = create_engine(policy, EngineConfig(dtype=dtype, max_batch_size=rows))
        self._seed = 0

    def sample(self, asked: Sequence[Asked]) -> list[list[list[int]]]:
        async def one(ask: Asked, seed: int) -> list[int]:
            request = Request(ask.prompt, Sampling(max_tokens=ask.tokens), seed, prefix_tokens=ask.given)
            return list((await self._engine.sample(self._policy, request)).token_ids)

        async def all_of() -> list[list[list[int]]]:
            groups = [asyncio.gather(*(one(ask, self._seed + i) for i in range(ask.count))) for ask in asked]
            return [await group for group in groups]

        self._seed += 10_000
        return asyncio.run(all_of())

    def close(self) -> None:
        self._engine.close()


class Generate:
    """`generate` of transformers."""

    def __init__(self, policy: Policy, dtype: str, rows: int) -> None:
        device = pick_device("auto")
        self._model = load_model(policy, pick_dtype(dtype, device)).to(device).eval()
        self._tokenizer = ChatTokenizer(policy.weights)
        self._eos = sorted(self._tokenizer.eos_ids)
        self._rows = rows

    def sample(self, asked: Sequence[Asked]) -> list[list[list[int]]]:
        """As many groups at once as `rows` answers make."""
        found: list[list[list[int]]] = []
        while len(found) < len(asked):
            part = list(asked[len(found) : len(found) + max(1, self._rows // asked[len(found)].count)])
            found += self._batch(part)
        return found

    def _batch(self, asked: list[Asked]) -> list[list[list[int]]]:
        import torch

        rows = [whole(self._tokenizer, a) for a in asked]
        longest, pad = max(map(len, rows)), self._eos[0]
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=self._model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=ids.device)
        first = asked[0]
        with torch.inference_mode():
            out = self._model.generate(
                ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                num_return_sequences=first.count, max_new_tokens=first.tokens,
                min_new_tokens=0 if first.to_end else first.tokens, eos_token_id=self._eos, pad_token_id=pad,
            )[:, longest:].tolist()  # fmt: skip
        ended = [self._ended(row) for row in out]
        return [ended[i : i + first.count] for i in range(0, len(ended), first.count)]

    def _ended(self, row: list[int]) -> list[int]:
        end = next((i for i, token in enumerate(row) if token in self._eos), len(row))
        return row[: end + 1]

    def close(self) -> None:
        del self._model


class Vllm:
    """vLLM's offline engine, in processes of its own. On a CPU uncompiled, and with the local engine's memory."""

    def __init__(self, policy: Policy, dtype: str, rows: int) -> None:
        check_installed()
        from vllm import LLM  # pyright: ignore[reportMissingImports]

        name, self._tokenizer = _precision(dtype), ChatTokenizer(policy.weights)
        cpu = pick_device("auto") == "cpu"
        how: dict[str, Any] = {"kv_cache_memory_bytes": 2 * 2**30} if cpu else {}
        how |= {"max_num_seqs": rows, "max_model_len": -1, "enforce_eager": cpu, "generation_config": "vllm"}
        self._llm = LLM(str(policy.path), dtype=name, **how)

    def sample(self, asked: Sequence[Asked]) -> list[list[list[int]]]:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        prompts = [{"prompt_token_ids": whole(self._tokenizer, a)} for a in asked]
        how = [
            SamplingParams(n=a.count, temperature=1.0, max_tokens=a.tokens, min_tokens=0 if a.to_end else a.tokens)
            for a in asked
        ]
        found = self._llm.generate(prompts, how, use_tqdm=False)
        return [[list(one.token_ids) for one in request.outputs] for request in found]

    def close(self) -> None:
        del self._llm


KINDS: dict[str, Callable[[Policy, str, int], Side]] = {"local": Local, "generate": Generate, "vllm": Vllm}


def whole(tokenizer: ChatTokenizer, asked: Asked) -> list[int]:
    """All tokens that an answer goes on from."""
    return [*tokenizer.encode_prompt(asked.prompt), *asked.given]


def story(number: int) -> Prompt:
    return as_prompt(STORY.format(number=number))


def problem(number: int) -> Prompt:
    name = ("Ada", "Ben", "Cleo", "Dan")[number % 4]
    return as_prompt(SUM.format(name=name, a=number + 3, b=number % 7 + 2, c=number % 5 + 2))


def questions(file: str) -> Callable[[int], Prompt]:
    """Those of the user's file, from the first again after the last."""
    asked = [question for (question,) in lines_of(file, "question")]
    return lambda number: as_prompt(asked[number % len(asked)])


def many(side: Side, repeat: int, size: Size, n: int) -> int:
    """`n` answers to one prompt."""
    return count(side.sample([Asked(story(1000 * n + repeat), (), n, size.tokens, to_end=False)]))


def problems(side: Side, repeat: int, size: Size) -> int:
    """8 answers to each problem, to their natural end."""
    numbers = range(repeat * size.problems, (repeat + 1) * size.problems)
    return count(side.sample([Asked(size.ask(10_000 + i), (), 8, size.longest) for i in numbers]))


def tree(side: Side, repeat: int, size: Size) -> int:
    """A tree: at each level the first child of every node goes on, with 4 children of 32 tokens."""
    nodes = [Asked(size.ask(20_000 + repeat * size.roots + i), (), 4, 32, to_end=False) for i in range(size.roots)]
    total = 0
    for _ in range(size.depth):
        found = side.sample(nodes)
        total += count(found)
        nodes = [replace(a, given=a.given + tuple(f[0])) for a, f in zip(nodes, found, strict=True)]
    return total


def dialogue(side: Side, repeat: int, size: Size) -> int:
    """Draft, critique, revision."""
    talks = [Asked(size.ask(30_000 + repeat * size.problems + i), (), 1, size.tokens) for i in range(size.problems)]
    total = 0
    for turn in ("Is that right? Say what is wrong with it.", "Now give a better answer.", ""):
        found = side.sample(talks)
        total += count(found)
        further = size.turn(turn)
        talks = [replace(a, given=a.given + tuple(f[0]) + further) for a, f in zip(talks, found, strict=True)]
    return total


def turns(tokenizer: ChatTokenizer) -> Callable[[str], tuple[int, ...]]:
    """How this model's template goes on after an answer: what lies behind the answer in a longer talk."""

    def turn(text: str) -> tuple[int, ...]:
        talk = (*as_prompt("Hello."), Message("assistant", "ANSWER"), Message("user", text))
        return tuple(tokenizer.encode(tokenizer.render(talk).split("ANSWER")[1]))

    return turn


def count(found: list[list[list[int]]]) -> int:
    return sum(len(answer) for answers in found for answer in answers)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked."""

    n: tuple[int, ...]
    tokens: int
    problems: int = 64
    longest: int = 192
    roots: int = 16
    depth: int = 4
    ask: Callable[[int], Prompt] = problem
    turn: Callable[[str], tuple[int, ...]] = lambda _: ()  # the tokens that a further turn adds


Workload = Callable[[Side, int, Size], int]


def workloads(size: Size) -> dict[str, Workload]:
    each = {f"n{n}": lambda s, r, z, n=n: many(s, r, z, n) for n in size.n}
    return each | {"problems": problems, "tree": tree, "dialogue": dialogue}


def rates(sides: dict[str, Side], work: Workload, size: Size, repeats: int) -> dict[str, list[float]]:
    """Tokens per second of each side in each repeat."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        order = list(sides) if repeat % 2 == 0 else list(reversed(sides))
        for name in order:
            with releasing_threads():
                started = time.perf_counter()
                made = work(sides[name], repeat + 1, size)
                found[name].append(made / (time.perf_counter() - started))
    return found


def first_token(side: Side, repeats: int) -> float:
    """Median milliseconds to one token of a prompt not seen before."""
    taken = []
    for repeat in range(repeats):
        asked = [Asked(story(77_000 + repeat), (), 1, 1, to_end=False)]
        started = time.perf_counter()
        side.sample(asked)
        taken.append((time.perf_counter() - started) * 1000)
    return round(median(taken), 1)


def bound(policy: Policy, dtype: str, rows: int) -> float:
    """Tokens per second at which `rows` rows would go through the model's weights, at the speed of plain products."""
    import torch
    import torch.nn.functional as F

    from selftaught.models.load import read_config

    config, device = read_config(policy.weights), pick_device("auto")
    width, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim") or width // config["num_attention_heads"]
    attention = width * head * 2 * (config["num_attention_heads"] + config.get("num_key_value_heads", 0))
    weights = config["num_hidden_layers"] * (attention + 3 * width * inner) + width * vocab
    x = torch.randn(rows, width, device=device, dtype=pick_dtype(dtype, device))
    weight = torch.randn(2 * inner, width, device=device, dtype=x.dtype)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(30):
            started = time.perf_counter()
            F.linear(x, weight)
            if device == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
    return rows * weight.numel() / best / weights


def chosen(model: str, folder: Path) -> Policy:
    """What `--model` names; "random" is made in `folder`: a Llama of 1.5 million parameters that reads characters."""
    if model != "random":
        return resolve(model, print)
    made = make_model(BuildConfig(layers=7, hidden=384))
    made.config.max_position_embeddings = 2048
    made.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return resolve(folder, print)


def measure(
    model: str, size: Size, repeats: int, dtype: str, folder: Path, *, kinds: Sequence[str] = (),
    only: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The whole benchmark, or some sides and workloads; `folder` is for what is made on the way."""
    policy, rows = chosen(model, folder), max(*size.n, 64)
    size = replace(size, turn=turns(ChatTokenizer(policy.weights)))
    sides: dict[str, Side] = {}
    peaks: dict[str, float | None] = dict.fromkeys(KINDS)
    found: dict[str, dict[str, list[float]]] = {}
    try:
        for name, kind in KINDS.items():
            if (not kinds or name in kinds) and (name in ("local", "generate") or find_spec(name)):
                before = _reset_peak()
                sides[name] = kind(policy, dtype, rows)
                many(sides[name], 0, Size(size.n, 4), max(size.n))  # loading is not what is measured
                peaks[name] = round(_peak() - before, 2)
        waits = {name: first_token(sides[name], repeats) if name in sides else None for name in KINDS}
        for name, work in workloads(size).items():
            if not only or name in only:
                found[name] = rates(sides, work, size, repeats)
    finally:
        for side in sides.values():
            side.close()
    limit, most = bound(policy, dtype, max(size.n)), f"n{max(size.n)}"
    share = {f"share_reached_{most}": round(median(found[most]["local"]) / limit, 3)} if most in found else {}
    return {
        "ratios": {f"local_vs_{o}_{w}": _ratio(f, o) for w, f in found.items() for o in KINDS if o != "local"},
        "least_and_most": {
            f"local_vs_{o}_{w}": [round(x(_ratios(f, o)), 3) for x in (min, max)]
            for w, f in found.items()
            for o in f
            if o != "local"
        },
        "tokens_per_second": {
            f"{s}_{w}": round(median(f[s]), 1) if s in f else None for w, f in found.items() for s in KINDS
        },
        "first_token_ms": waits,
        "memory_gib_added": peaks,
        "bound": {"tokens_per_second": round(limit, 1), **share},
        "settings": {
            "model": model,
            "tokens": size.tokens,
            "longest": size.longest,
            "repeats": repeats,
            "dtype": _precision(dtype),
        },
        "machine": machine() | _torch(),
    }


def _ratio(found: dict[str, list[float]], other: str) -> float | None:
    return round(median(_ratios(found, other)), 3) if other in found else None


def _ratios(found: dict[str, list[float]], other: str) -> list[float]:
    """Of each repeat."""
    return [a / b for a, b in zip(found["local"], found[other], strict=True)]


def _peak() -> float:
    """GiB of memory held at most, since `_reset_peak` where the system can (Linux); processes started count, too."""
    try:
        return sum(_status(pid, "VmHWM") for pid in ("self", *_below(os.getpid()))) / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _below(pid: int) -> list[str]:
    """The processes that a process started, and those that they did."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if _status(process.name, "PPid") == pid:
                found += [process.name, *_below(int(process.name))]
    return found


def _status(pid: str, name: str) -> int:
    """A number of what Linux tells of a process."""
    lines = Path("/proc", pid, "status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def _reset_peak() -> float:
    """Count from now on; GiB held now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _precision(dtype: str) -> str:
    return str(pick_dtype(dtype, pick_device("auto"))).removeprefix("torch.")


def _torch() -> dict[str, Any]:
    import torch

    device = pick_device("auto")
    return {"threads": torch.get_num_threads(), "device": torch.cuda.get_device_name() if device == "cuda" else device}


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sampling", description=__doc__)
    parser.add_argument(
        "--model", default="smollm2-135m", help="default smollm2-135m; random: 1.5 million random parameters"
    )
    parser.add_argument("--n", type=int, nargs="+", default=[1, 16, 64, 128], help="answers to one prompt")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each answer (default 48)")
    parser.add_argument("--longest", type=int, default=192, help="most tokens of an answer in `problems` (default 192)")
    parser.add_argument("--data", metavar="FILE", help="JSON lines with a question each (else they are made up)")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", default=[], help="only these: n1, problems, ...")
    parser.add_argument("--sides", nargs="+", choices=KINDS, default=[], help="beside the local engine, only these")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each, of which the median (default 5)")
    parser.add_argument("--dtype", default="auto", help="of all sides (default auto, as the local engine chooses)")
    parser.add_argument("--quick", action="store_true", help="a few small measurements, to see that it works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    ask = questions(args.data) if args.data else problem
    size = Size(tuple(args.n), args.tokens, longest=args.longest, ask=ask)
    unknown = set(args.workloads) - set(workloads(size))
    if unknown:
        parser.error(f"unknown workloads {', '.join(sorted(unknown))}; known: {', '.join(workloads(size))}")
    repeats = args.repeats
    if args.quick:
        size, repeats = Size((1, 8), 8, problems=4, longest=16, roots=2, depth=2), 1
    with tempfile.TemporaryDirectory() as folder:
        kinds = args.sides and ["local", *args.sides]
        found = measure(args.model, size, repeats, args.dtype, Path(folder), kinds=kinds, only=args.workloads)
        found["settings"]["data"] = Path(args.data).name if args.data else ""
        show(found, args.json)


if __name__ == "__main__":
    main()
