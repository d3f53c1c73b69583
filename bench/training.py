"""Training: tokens a second, peak memory and loss of fine-tuning, next to TRL on the same texts, model and batch.

Each figure is of a process of its own, so that its peak resident memory is the training's. TRL runs in float32 and in
bfloat16, without gradient checkpointing, and is compared in the faster one. Tokens are those of prompts and
answers without padding, for both; in preferences a prompt counts with each of its two answers. The texts are generated,
all of about one length, or given: `--data FILE`, JSON lines with `question` and `answer`, as GSM8K has them.
The bound is that of 6 operations a parameter and token, at the best speed of a product of the model's shape, measured
in the same process before and after the training, as shared machines vary in speed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import lines_of, machine, show

NAMES = ("Mia", "Omar", "Lena", "Kofi", "Ana", "Ravi", "Noor", "Tom")
THINGS = ("apples", "stickers", "marbles", "cards", "shells", "pencils", "stamps", "buttons")


def stories(count: int) -> list[tuple[str, str, str]]:
    """Word problems like those of GSM8K: question, right answer, and an answer with a mistake in its second step."""
    found = []
    for i in range(count):
        pick = random.Random(i)
        name, friend = pick.sample(NAMES, 2)
        thing, start, days, each = pick.choice(THINGS), pick.randint(20, 90), pick.randint(3, 9), pick.randint(4, 12)
        given = pick.randint(2, 15)
        question = (
            f"{name} has {start} {thing}. Every day for {days} days {name} buys {each} more {thing} at the market. "
            f"After that {name} gives {given} {thing} to {friend}, who had none before. "
            f"How many {thing} does {name} have in the end, and how many more is that than {friend} has?"
        )
        answers = []
        for slip in (0, pick.choice((-10, -1, 1, 10))):
            bought, total = days * each, start + days * each + slip
            answers.append(
                f"{name} buys {each} {thing} a day for {days} days, which is {each} * {days} = {bought} {thing}. "
                f"Together with the {start} from the beginning that makes {start} + {bought} = {total} {thing}. "
                f"{name} gives away {given}, so {total} - {given} = {total - given} {thing} are left. "
                f"{friend} has {given}, which is {total - given} - {given} = {total - 2 * given} fewer.\n"
                f"#### {total - 2 * given}"
            )
        found.append((question, *answers))
    return found


def texts(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Question, answer and a worse answer: given ones, with the last number one too high in the worse, or generated."""
    if not plan["data"]:
        return stories(plan["examples"])
    rows = lines_of(plan["data"], "question", "answer")[: plan["examples"]]
    return [(question, answer, one_more(answer)) for question, answer in rows]


def one_more(answer: str) -> str:
    """Increase the last whole number of an answer by one."""
    number = re.findall(r"\d+", f"0 {answer}")[-1]
    return re.sub(rf"(?<!\d){number}(?!\d)", str(int(number) + 1), answer)


# --- one training, in a process of its own ---


def ours(what: str, dtype: str, plan: dict[str, Any]) -> dict[str, Any]:
    """A training by selftaught's own trainer."""
    import accelerate  # noqa: F401 - TRL's trainer has imported it too when its clock starts

    from selftaught import models
    from selftaught.learn import TrainConfig, sft
    from selftaught.learn.learner import encode_records, load_trainable
    from selftaught.learn.objectives import dpo
    from selftaught.learn.train import train
    from selftaught.models.chat import ChatTokenizer
    from selftaught.records import Demo, Pair, as_prompt

    base = models.resolve(plan["model"], lambda _: None)
    records: list[Any] = [Demo(as_prompt(q), right) for q, right, _ in texts(plan)]
    if what == "dpo":
        records = [Pair(as_prompt(q), right, wrong) for q, right, wrong in texts(plan)]
    config = TrainConfig(
        epochs=1, batch_size=plan["batch_size"], learning_rate=2e-5, schedule="linear", warmup_ratio=0.0,
        precision="bf16" if dtype == "bf16" else "float32",
        lora_rank=16 if what == "lora" else 0, max_tokens_per_pass=plan["max_tokens_per_pass"],
    )  # fmt: skip
    objective = dpo() if what == "dpo" else sft()
    groups = encode_records(objective, records, ChatTokenizer(base.weights), base)
    model = load_trainable(base, config, 0)
    with tempfile.TemporaryDirectory(prefix="selftaught-bench-") as scratch:
        before = gflops(dtype)
        started, used = time.perf_counter(), time.process_time()
        done = train(model, groups, objective, config, seed=0, checkpoint=Path(scratch))
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    speed = (before + gflops(dtype)) / 2
    return {"seconds": seconds, "cpu_seconds": cpu, "tokens": done.tokens, "losses": done.losses, "gflops": speed}


def theirs(what: str, dtype: str, plan: dict[str, Any]) -> dict[str, Any]:
    """The same training by TRL's trainer."""
    import torch
    import trl  # pyright: ignore[reportMissingImports]
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plan["path"])
    model = AutoModelForCausalLM.from_pretrained(plan["path"], dtype=torch.float32)
    asked = lambda q: [{"role": "user", "content": q}]  # noqa: E731
    said = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    rows = [{"prompt": asked(q), "completion": said(right)} for q, right, _ in texts(plan)]
    if what == "dpo":
        rows = [{"prompt": asked(q), "chosen": said(right), "rejected": said(wrong)} for q, right, wrong in texts(plan)]
    usual = {
        "use_cpu": True, "bf16": dtype == "bf16", "report_to": [], "disable_tqdm": True, "save_strategy": "no",
        "per_device_train_batch_size": plan["batch_size"], "num_train_epochs": 1, "learning_rate": 2e-5,
        "logging_steps": 1, "gradient_checkpointing": False,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="selftaught-bench-") as scratch:
        if what == "dpo":
            how = trl.DPOConfig(output_dir=scratch, **usual)
            trainer = trl.DPOTrainer(model, args=how, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        else:
            how = trl.SFTConfig(output_dir=scratch, completion_only_loss=True, **usual)
            trainer = trl.SFTTrainer(model, args=how, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        started, used = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": seconds, "cpu_seconds": cpu, "losses": losses}


def child(job: dict[str, Any]) -> None:
    """Do one job and print its figures as JSON."""
    found = (ours if job["who"] == "ours" else theirs)(job["what"], job["dtype"], job["plan"])
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("\n" + json.dumps(found))


def measured(python: str, **job: Any) -> dict[str, Any]:
    """A job's figures, from a process of its own."""
    command = [python, "-m", "bench.training", "--child", json.dumps(job)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), "src"]))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{job['who']}, {job['what']}, {job['dtype']}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


# --- all of them, and their figures ---


def gflops(dtype: str) -> float:
    """Arithmetic speed of products of the model's shape, in the better of many tries: GFLOP/s."""
    import torch

    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    x, weight, best = torch.ones(512, 576, dtype=kind), torch.ones(1536, 576, dtype=kind), float("inf")
    for _ in range(50):
        started = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.perf_counter() - started)
    return 2 * 512 * 576 * 1536 / best / 1e9


Found = dict[tuple[str, str], list[dict[str, Any]]]  # of each kind of training in each format, one of each repeat


def measure(
    plan: dict[str, Any], trl_python: str | None, kinds: Sequence[str], dtypes: Sequence[str], repeats: int
) -> dict[str, Any]:
    """The whole benchmark; ours and TRL's take turns."""
    from selftaught import models

    base = models.resolve(plan["model"], lambda _: None)
    plan = plan | {"path": str(base.path)}
    parameters = sum(_numel(file) for file in base.path.glob("*.safetensors"))
    mine: Found = defaultdict(list)
    peer: Found = defaultdict(list)
    pythons = {"ours": sys.executable} | ({"trl": trl_python} if trl_python else {})
    jobs = [
        (what, dtype, who) for what in kinds for dtype in dtypes for who in pythons if (what, who) != ("lora", "trl")
    ]
    for number, (what, dtype, who) in enumerate(jobs * repeats, 1):
        found = measured(pythons[who], who=who, what=what, dtype=dtype, plan=plan)
        print(f"{number} of {len(jobs) * repeats}: {who} {what} {dtype}, {found['seconds']:.0f} s", file=sys.stderr)
        if who == "ours":
            mine[what, dtype].append(found)
        else:
            peer[what, dtype].append(found | {"tokens": mine[what, dtype][0]["tokens"]})
    bounds = {one: [found["gflops"] * 1e9 / (6 * parameters) for found in mine.get(("sft", one), [])] for one in dtypes}
    bound = {dtype: median(found) for dtype, found in bounds.items() if found}
    of = {f"{who} {what} {dtype}": found for who, kinds in (("ours", mine), ("trl", peer))
          for (what, dtype), found in kinds.items()}  # fmt: skip
    speeds = {name: [one["tokens"] / one["seconds"] for one in found] for name, found in of.items()}
    return {
        "ratios": {
            "sft_vs_trl": _ratio(mine, peer, "sft"), "dpo_vs_trl": _ratio(mine, peer, "dpo"),
            "memory_vs_trl": _memory(mine, peer, "sft"),
        },
        "more": {
            "dpo_memory_vs_trl": _memory(mine, peer, "dpo"),
            "lora_sft_peak_gb": round(_best(mine, "lora", "peak_gb"), 2) if "lora" in kinds else None,
            "sft_cpu_vs_trl": _ratio(mine, peer, "sft", "cpu_seconds"),
            "dpo_cpu_vs_trl": _ratio(mine, peer, "dpo", "cpu_seconds"),
            "share_of_bound": _share(mine, parameters),
        },
        "tokens_per_second": {name: round(median(found), 1) for name, found in speeds.items()},
        "least_and_most": {name: [round(min(found), 1), round(max(found), 1)] for name, found in speeds.items()},
        "peak_gb": {name: round(median(one["peak_gb"] for one in found), 2) for name, found in of.items()},
        "losses": {name: [round(x, 4) for x in found[0]["losses"]] for name, found in of.items()},
        "bound_tokens_per_second": {dtype: round(value, 1) for dtype, value in bound.items()},
        "settings": plan | {"path": base.path.name, "data": Path(plan["data"]).name, "repeats": repeats},
        "machine": machine(),
    }  # fmt: skip


def _numel(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:  # pyright: ignore[reportCallIssue]
        return sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118


def _best(found: Found, what: str, of: str = "seconds") -> float:
    """The median of a figure, in the faster of the number formats."""
    fastest = min((f for (kind, _), f in found.items() if kind == what), key=lambda f: median(o["seconds"] for o in f))
    return median(one[of] for one in fastest)


def _ratio(mine: Found, peer: Found, what: str, of: str = "seconds") -> float | None:
    """How many times faster than the peer, each in its better format."""
    return round(_best(peer, what, of) / _best(mine, what, of), 2) if any(k == what for k, _ in peer) else None


def _memory(mine: Found, peer: Found, what: str) -> float | None:
    """Peak memory, as a share of the peer's."""
    if not any(kind == what for kind, _ in peer):
        return None
    return round(_best(mine, what, "peak_gb") / _best(peer, what, "peak_gb"), 3)


def _share(mine: Found, parameters: int) -> float | None:
    """Of the faster format's arithmetic bound, the share that SFT reaches: the median of the repeats' own."""
    runs = [found for (what, _), found in mine.items() if what == "sft"]
    fastest = min(runs, key=lambda found: median(one["seconds"] for one in found), default=[])
    shares = [one["tokens"] / one["seconds"] * 6 * parameters / one["gflops"] / 1e9 for one in fastest]
    return round(median(shares), 3) if shares else None


def with_trl(python: str) -> str | None:
    """`python` if TRL is installed there."""
    done = subprocess.run([python, "-c", "import trl"], capture_output=True, check=False)
    return None if done.returncode else python


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="starting model (default %(default)s)")
    parser.add_argument("--examples", type=int, default=64, help="examples, one epoch of them (default 64)")
    parser.add_argument("--batch-size", type=int, default=8, help="examples in a step (default 8)")
    parser.add_argument("--max-tokens-per-pass", type=int, default=512, metavar="N", help="ours (default 512)")
    parser.add_argument(
        "--data", default="", metavar="FILE", help="JSON lines with question and answer (else generated)"
    )
    parser.add_argument(
        "--dtypes", nargs="+", choices=("bf16", "float32"), default=["bf16", "float32"], help="only these"
    )
    parser.add_argument(
        "--only", nargs="+", choices=("sft", "dpo", "lora"), default=["sft", "dpo", "lora"], help="only these"
    )
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, of which the median (default 1)")
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter that has TRL (default this one)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(json.loads(args.child))
        return
    if min(args.examples, args.batch_size, args.max_tokens_per_pass, args.repeats) < 1:
        parser.error("expected at least 1 example, batch, token and repeat")
    if args.data:
        lines_of(args.data, "question", "answer")  # report what is wrong with it before anything is loaded
    plan = {name: getattr(args, name) for name in ("model", "data", "examples", "batch_size", "max_tokens_per_pass")}
    show(measure(plan, with_trl(args.trl_python), args.only, args.dtypes, args.repeats), args.json)


if __name__ == "__main__":
    main()
