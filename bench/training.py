"""Training: tokens a second, peak memory and loss of fine-tuning, next to TRL on the same texts, model and batch.

Each figure is of a process of its own, so that its peak resident memory is the training's. TRL runs in float32 and in
bfloat16, without gradient checkpointing, and is compared in whichever is faster. Tokens are those of prompts and
answers without padding, for both; in preferences a prompt counts with each of its two answers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import machine, show

NAMES = ("Mia", "Omar", "Lena", "Kofi", "Ana", "Ravi", "Noor", "Tom")
THINGS = ("apples", "stickers", "marbles", "cards", "shells", "pencils", "stamps", "buttons")


def stories(count: int) -> list[tuple[str, str, str]]:
    """Word problems after the manner of GSM8K: question, right answer, and one that goes wrong in its second step."""
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


# --- one training, in a process of its own ---


def ours(what: str, dtype: str, plan: dict[str, Any]) -> dict[str, Any]:
    """A training by selftaught's own trainer."""
    import accelerate  # noqa: F401 - TRL's trainer has imported it too when its clock starts

    from selftaught import models
    from selftaught.learn import Training, sft
    from selftaught.learn.learner import rows_of, trainable_model
    from selftaught.learn.objectives import dpo
    from selftaught.learn.trainer import train
    from selftaught.models.chat import ChatTokenizer
    from selftaught.records import Demo, Pair, as_prompt

    base = models.resolve(plan["model"], lambda _: None)
    texts = stories(plan["examples"])
    records: list[Any] = [Demo(as_prompt(q), right) for q, right, _ in texts]
    if what == "dpo":
        records = [Pair(as_prompt(q), right, wrong) for q, right, wrong in texts]
    settings = Training(
        epochs=1, batch=plan["batch"], learning_rate=2e-5, precision=dtype, schedule="linear", warmup=0.0,
        lora_rank=16 if what == "lora" else 0, micro_tokens=plan["micro_tokens"],
    )  # fmt: skip
    objective = dpo() if what == "dpo" else sft()
    groups = rows_of(objective, records, ChatTokenizer(base.weights), base)
    model = trainable_model(base, settings, 0)
    with tempfile.TemporaryDirectory(prefix="selftaught-bench-") as scratch:
        started, used = time.perf_counter(), time.process_time()
        done = train(model, groups, objective, settings, seed=0, checkpoint=Path(scratch))
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return {"seconds": seconds, "cpu_seconds": cpu, "tokens": done.tokens, "losses": done.losses}


def theirs(what: str, dtype: str, plan: dict[str, Any]) -> dict[str, Any]:
    """The same by TRL's trainer."""
    import torch
    import trl  # pyright: ignore[reportMissingImports]
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plan["path"])
    model = AutoModelForCausalLM.from_pretrained(plan["path"], dtype=torch.float32)
    asked = lambda q: [{"role": "user", "content": q}]  # noqa: E731
    said = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    texts = stories(plan["examples"])
    rows = [{"prompt": asked(q), "completion": said(right)} for q, right, _ in texts]
    if what == "dpo":
        rows = [{"prompt": asked(q), "chosen": said(right), "rejected": said(wrong)} for q, right, wrong in texts]
    usual = {
        "use_cpu": True, "bf16": dtype == "bf16", "report_to": [], "disable_tqdm": True, "save_strategy": "no",
        "per_device_train_batch_size": plan["batch"], "num_train_epochs": 1, "learning_rate": 2e-5,
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
    """Do one job and print what it came to."""
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


# --- all of them, and what they come to ---


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


def measure(plan: dict[str, Any], trl_python: str | None) -> dict[str, Any]:
    """The whole benchmark."""
    from selftaught import models

    base = models.resolve(plan["model"], lambda _: None)
    plan = plan | {"path": str(base.path)}
    parameters = sum(_numel(file) for file in base.path.glob("*.safetensors"))
    kinds = [(what, dtype) for what in ("sft", "dpo", "lora") for dtype in ("bf16", "float32")]
    mine = {kind: measured(sys.executable, who="ours", what=kind[0], dtype=kind[1], plan=plan) for kind in kinds}
    peer = {
        kind: measured(trl_python, who="trl", what=kind[0], dtype=kind[1], plan=plan)
        for kind in kinds if trl_python and kind[0] != "lora"
    }  # fmt: skip
    for (what, dtype), found in peer.items():
        found["tokens"] = mine[what, dtype]["tokens"]
    speed = {dtype: gflops(dtype) for dtype in ("bf16", "float32")}
    bound = {dtype: value * 1e9 / (6 * parameters) for dtype, value in speed.items()}
    best = _best(mine, "sft")
    return {
        "ratios": {
            "sft_vs_trl": _ratio(mine, peer, "sft"), "dpo_vs_trl": _ratio(mine, peer, "dpo"),
            "memory_vs_trl": _memory(mine, peer, "sft"),
        },
        "more": {
            "dpo_memory_vs_trl": _memory(mine, peer, "dpo"),
            "lora_sft_peak_gb": round(_best(mine, "lora")["peak_gb"], 2),
            "sft_cpu_vs_trl": _ratio(mine, peer, "sft", "cpu_seconds"),
            "dpo_cpu_vs_trl": _ratio(mine, peer, "dpo", "cpu_seconds"),
            "share_of_bound": round(best["tokens"] / best["seconds"] / max(bound.values()), 3),
        },
        "tokens_per_second": {f"{who} {what} {dtype}": round(f["tokens"] / f["seconds"], 1)
                              for who, all_ in (("ours", mine), ("trl", peer)) for (what, dtype), f in all_.items()},
        "peak_gb": {f"{who} {what} {dtype}": round(f["peak_gb"], 2)
                    for who, all_ in (("ours", mine), ("trl", peer)) for (what, dtype), f in all_.items()},
        "losses": {f"{who} {what} {dtype}": [round(x, 4) for x in f["losses"]]
                   for who, all_ in (("ours", mine), ("trl", peer)) for (what, dtype), f in all_.items()},
        "bound_tokens_per_second": {dtype: round(value, 1) for dtype, value in bound.items()},
        "settings": plan,
        "machine": machine(),
    }  # fmt: skip


def _numel(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:  # pyright: ignore[reportCallIssue]
        return sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118


def _best(found: dict[Any, dict[str, Any]], what: str) -> dict[str, Any]:
    """The faster of the two number formats."""
    return min((f for (kind, _), f in found.items() if kind == what), key=lambda f: f["seconds"])


def _ratio(mine: Any, peer: Any, what: str, of: str = "seconds") -> float | None:
    """How many times faster than the peer, each in its better format."""
    return round(_best(peer, what)[of] / _best(mine, what)[of], 2) if peer else None


def _memory(mine: Any, peer: Any, what: str) -> float | None:
    """Peak memory, as a share of the peer's."""
    return round(_best(mine, what)["peak_gb"] / _best(peer, what)["peak_gb"], 3) if peer else None


def with_trl(python: str) -> str | None:
    """`python` if TRL is installed there."""
    done = subprocess.run([python, "-c", "import trl"], capture_output=True, check=False)
    return None if done.returncode else python


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m", help="starting model (default %(default)s)")
    parser.add_argument("--examples", type=int, default=64, help="examples, one epoch of them (default 64)")
    parser.add_argument("--batch", type=int, default=8, help="examples in a step (default 8)")
    parser.add_argument("--micro-tokens", type=int, default=512, help="ours: most tokens in a pass (default 512)")
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter that has TRL (default this one)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(json.loads(args.child))
        return
    if args.examples < 1 or args.batch < 1 or args.micro_tokens < 1:
        parser.error("expected at least 1 example, batch and token")
    plan = {name: getattr(args, name) for name in ("model", "examples", "batch", "micro_tokens")}
    show(measure(plan, with_trl(args.trl_python)), args.json)


if __name__ == "__main__":
    main()
