"""What the commands share: their call, options of model and task, and how results are printed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

from selftaught.cli.engine_options import add_engine_options, at_least
from selftaught.errors import BadInput
from selftaught.method import Method
from selftaught.run.config import ACCEPTABLE
from selftaught.run.run import Run
from selftaught.tasks import Task, load_task
from selftaught.terminal import print_json, print_table

SPLITS = ("train", "dev", "test")
METHOD_HELP = "a method's id, or file.py:function; with --help, lists the method's own options too"
INSTRUCTION_HELP = "appended to every question (default asks for steps and 'Answer:')"


@dataclass(frozen=True)
class Call:
    """One call of a command.

    Attributes:
        args: the parsed command line.
        command_line: as typed, quoted for a shell.
        method: the method named on it, for commands that run one.
        options: the method's options.
    """

    args: argparse.Namespace
    command_line: str
    method: Method | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> Method:
        """The method, for commands that need one."""
        assert self.method is not None
        return self.method


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the model and of its engine."""
    model = "smollm2-135m, tiny, a folder, a .gguf file, a Hugging Face id, or openai:NAME (default %(default)s); "
    model += "options of its chat template may follow, as in NAME:enable_thinking=false"
    parser.add_argument("--model", default="smollm2-135m", help=model)
    limit = "maximum tokens per answer (default %(default)s)"
    parser.add_argument("--max-tokens", type=at_least(1), default=256, help=limit)
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one per core)")
    add_engine_options(parser)


def add_accept(parser: argparse.ArgumentParser) -> None:
    """Add `--accept`, for commands that resume."""
    accept = "go on although this has changed since the folder was made, which is recorded: " + ", ".join(ACCEPTABLE)
    parser.add_argument("--accept", action="append", default=[], choices=list(ACCEPTABLE), metavar="WHAT", help=accept)


def add_task_options(parser: argparse.ArgumentParser, **sizes: int) -> None:
    """Add the options of the task; `sizes` are the default numbers of problems of its splits."""
    task = "a reasoning-gym dataset (chain_sum:max_terms=2), a .jsonl file or folder, hf:ID, or file.py:function"
    parser.add_argument("--task", required=True, help=task)
    for split, size in sizes.items():
        help_ = f"number of {split} problems (default {size})"
        parser.add_argument(f"--{split}", type=at_least(0), default=size, help=help_)
    parser.add_argument("--instruction", help=INSTRUCTION_HELP)
    verifier = (
        "exact, math, tests (of code), file.py:function of your own, several of them with weights"
        " (a.py:f,b.py:g=0.5), or an http address (default: by the kind of the answers)"
    )
    parser.add_argument("--verifier", help=verifier)
    shown = "file.py:function that solvers may consult while they solve, such as visible unit tests (default: none)"
    parser.add_argument("--shown", metavar="VERIFIER", help=shown)
    question = "field of the question in a file or dataset (default: found by its usual names)"
    parser.add_argument("--question-field", default="", metavar="NAME", help=question)
    answer = "field of the reference answer (default: found by its usual names)"
    parser.add_argument("--answer-field", default="", metavar="NAME", help=answer)
    seed = "seed of problems, sampling and training (default %(default)s)"
    parser.add_argument("--seed", type=at_least(0), default=0, help=seed)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add the option that turns progress off."""
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def task_of(args: argparse.Namespace) -> Task:
    """The task of a command line."""
    return load_task(**task_request(args))


def task_request(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `load_task` that a command line gives."""
    sizes = {split: getattr(args, split) for split in SPLITS}
    return {
        "spec": args.task, **sizes, "seed": args.seed, "verifier": args.verifier, "instruction": args.instruction,
        "question_field": args.question_field, "answer_field": args.answer_field, "shown": args.shown,
    }  # fmt: skip


def require_split(task: Task, split: str) -> None:
    """Raise BadInput where a split has no problems."""
    if not task.split(split):
        raise BadInput(f"{task.name} has no {split} problems", where=f"--{split}", fix=f"ask for some (--{split} 128)")


def print_notes(run: Run) -> None:
    """Print the notes of a run that were not printed before."""
    for note in (one for one in run.notes if one not in run.printed_notes):
        run.console.print(f"  note: {note}")


def request_report(run: Run, as_json: bool) -> dict[str, Any]:
    """Counts of requests by outcome, with the notes as JSON; as text only where some had no plain answer."""
    counts = run.request_counts
    if as_json:
        return {"requests": counts, "notes": run.notes}
    return {"requests": counts} if any(n for name, n in counts.items() if name != "answered") else {}


def exit_status(no_answer_reason: str, model: str) -> int:
    """0 where the model answered anything at all.

    Raises:
        BadInput: no request got an answer.
    """
    if no_answer_reason:
        raise BadInput(no_answer_reason, where=model, fix="fix it and run the same command again")
    return 0


def print_outcome(outcome: dict[str, Any], as_json: bool) -> None:
    """Print a result as JSON, or as a table."""
    if as_json:
        print_json(outcome)
    else:
        print_table((name.replace("_", " "), _text(value)) for name, value in outcome.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items()) or "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
