"""What the commands of the command line do."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from selftaught.cli.engine_options import add_engine_options, at_least, engine_of
from selftaught.console import Console
from selftaught.control import Budget
from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.measure import clustered_bootstrap
from selftaught.method import Method
from selftaught.models.remote import PREFIX, remote_policy, require_trainable
from selftaught.records import Attempt, Problem, as_json, as_prompt, content_hash, make_problem, well_formed
from selftaught.run.config import check_references, own_version
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.run.solver import SolverResult
from selftaught.tasks import Task, load_task
from selftaught.tasks.rows import with_instruction
from selftaught.tasks.source import INSTRUCTION
from selftaught.tasks.thinking import without_thinking
from selftaught.terminal import print_json, print_table, print_text, print_wrapped
from selftaught.worlds import synthetic_worlds

SPLITS = ("train", "dev", "test")
DEFAULT_SOLVER = "self-consistency"  # of `solve` without a method
METHOD = "a method's id, or file.py:function; with --help, shows the method's own options too"
INSTRUCTION_HELP = "appended to every question (default asks for steps and 'Answer:')"


def add_run(parser: argparse.ArgumentParser) -> None:
    """The options of `run`, beside the method's own."""
    parser.add_argument("method", help=METHOD)
    _add_model(parser)
    _add_task(parser, train=128, dev=128, test=300)
    parser.add_argument("--out", type=Path, help="run folder; the same command resumes (default runs/METHOD-TASK)")
    parser.add_argument(
        "--tokens", type=at_least(0), help="stop before a call once so many are spent (default no limit)"
    )
    usual = TrainConfig()
    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs", type=at_least(1), default=usual.epochs, help="passes over the records (default %(default)s)"
    )
    training.add_argument(
        "--learning-rate", type=float, default=usual.learning_rate, help="peak of AdamW's (default %(default)s)"
    )
    training.add_argument(
        "--batch-size", type=at_least(1), default=usual.batch_size, help="records a step (default %(default)s)"
    )
    training.add_argument("--lora-rank", type=at_least(0), default=0, help="of a LoRA adapter (default 0: all weights)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and the expected cost, and stop"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_solve(parser: argparse.ArgumentParser) -> None:
    """The options of `solve`, beside the method's own."""
    parser.add_argument("method", metavar="[method]", help=f"{METHOD}; default {DEFAULT_SOLVER}")
    parser.add_argument("question", help="the question; - reads standard input")
    _add_model(parser)
    parser.add_argument("--instruction", help=INSTRUCTION_HELP)
    parser.add_argument("--seed", type=at_least(0), default=0, help="of sampling (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_eval(parser: argparse.ArgumentParser) -> None:
    """The options of `eval`, beside those of the solver."""
    parser.add_argument("--solver", help="a test-time method to measure the model under")
    _add_model(parser)
    _add_task(parser, train=0, dev=0, test=300)
    parser.add_argument("--split", choices=SPLITS, default="test", help="which problems (default test)")
    parser.add_argument(
        "--attempts", type=at_least(1), default=1, help="per problem; more than 1 gives pass@k (default 1)"
    )
    parser.add_argument(
        "--heat", type=float, default=0.0, metavar="T", help="temperature of the attempts (default 0, greedy)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the journal (default runs/eval-HASH); the same command resumes"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _add_model(parser: argparse.ArgumentParser) -> None:
    model = "smollm2-135m, tiny, a folder, a .gguf file, a Hugging Face id, or openai:NAME (default %(default)s); "
    model += "options of its chat template may follow, as in NAME:enable_thinking=false"
    parser.add_argument("--model", default="smollm2-135m", help=model)
    parser.add_argument("--max-tokens", type=at_least(1), default=256, help="most tokens of an answer (default 256)")
    threads = "CPU threads to compute with (default: one per core)"
    parser.add_argument("--threads", type=int, metavar="N", help=threads)
    add_engine_options(parser)


def _add_task(parser: argparse.ArgumentParser, **sizes: int) -> None:
    task = "a reasoning-gym dataset (chain_sum:max_terms=2), a .jsonl file or folder, hf:ID, or file.py:function"
    parser.add_argument("--task", required=True, help=task)
    for split, size in sizes.items():
        parser.add_argument(f"--{split}", type=at_least(0), default=size, help=f"{split} problems (default {size})")
    parser.add_argument("--instruction", help=INSTRUCTION_HELP)
    verifier = "exact, math, or file.py:function of your own (default: what suits the answers)"
    parser.add_argument("--verifier", help=verifier)
    parser.add_argument(
        "--question-field", default="", metavar="NAME", help="field of the question, if not a usual one"
    )
    parser.add_argument("--answer-field", default="", metavar="NAME", help="field of the reference answer")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of problems, sampling and training (default 0)")


def _task(args: argparse.Namespace) -> Task:
    sizes = {split: getattr(args, split) for split in SPLITS}
    return load_task(
        args.task, **sizes, seed=args.seed, verifier=args.verifier, instruction=args.instruction,
        question_field=args.question_field, answer_field=args.answer_field,
    )  # fmt: skip


def run(args: argparse.Namespace, method: Method | None, options: dict[str, Any], *, command: str) -> int:
    """Teach a model, then open the test split and write summary and report."""
    assert method is not None
    settings = Settings(
        seed=args.seed,
        sampling=Sampling(max_tokens=args.max_tokens),
        training=TrainConfig(
            epochs=args.epochs, learning_rate=args.learning_rate, batch_size=args.batch_size, lora_rank=args.lora_rank
        ),
        budget=Budget(args.tokens),
    )
    task = _task(args)
    for split in SPLITS:
        _some(task, split)
    check_references(task, method)
    expected = _rehearsed(args, method, options, task, settings)
    if args.dry_run:
        plan = {"method": method.id, "model": args.model, "task": task.name, "options": options}
        plan |= {"settings": as_json(settings), "problems": {split: len(task.split(split)) for split in SPLITS}}
        _show(plan | {"expected": expected}, args.json)
        return 0
    return _teach(args, method, options, task, settings, command)


def _rehearsed(
    args: argparse.Namespace, method: Method, options: dict[str, Any], task: Task, settings: Settings
) -> dict[str, Any]:
    """What the method will cost, where it matters before it starts: a model that cannot learn is refused unpaid for."""
    from selftaught.run.dry_run import dry_run

    remote = args.model.startswith(PREFIX)
    if not (args.dry_run or remote):
        return {}
    expected = dry_run(method, options, task, settings)
    if remote and expected["learnings"]:
        require_trainable(remote_policy(args.model.removeprefix(PREFIX)))
    return expected


def _teach(
    args: argparse.Namespace, method: Method, options: dict[str, Any], task: Task, settings: Settings, command: str
) -> int:
    from selftaught.run.conclusion import conclude, write

    folder = args.out or Path("runs") / f"{method.id}-{_slug(task.name)}"
    console = Console(quiet=args.quiet)
    with Run(folder, model=args.model, task=task, engine=engine_of(args), settings=settings, console=console) as door:
        console.print(f"{method.id} on {task.name} with {args.model}, in {folder}")
        method(door, door.base, task, **options)
        outcome = write(door, conclude(door), command=command)
        _say_notes(door)
        console.print(f"  {door.cost_line()}")
        overhead, peak = f"{outcome['overhead']:.1%}", f"{outcome['peak_rss_mb']:,} MB"
        console.print(f"  framework overhead {overhead} of the time, peak memory {peak}")
        silent = door.no_answer_reason
        outcome |= _account(door, args.json)
    if args.json:
        print_json(outcome)
    else:
        _verdict(outcome, folder)
    return _answered(silent, args.model)


def _some(task: Task, split: str) -> None:
    if not task.split(split):
        raise BadInput(f"{task.name} has no {split} problems", where=f"--{split}", fix=f"ask for some (--{split} 128)")


def _say_notes(door: Run) -> None:
    for note in (one for one in door.notes if one not in door.printed_notes):
        door.console.print(f"  note: {note}")


def _account(door: Run, as_json: bool) -> dict[str, Any]:
    """What became of the requests: all of it as JSON, elsewhere where there is more to say than how many there were."""
    counts = door.request_counts
    if as_json:
        return {"requests": counts, "notes": door.notes}
    return {"requests": counts} if any(n for name, n in counts.items() if name != "answered") else {}


def _answered(silent: str, model: str) -> int:
    """0, where the model answered anything at all."""
    if silent:
        raise BadInput(silent, where=model, fix="mend it and run the same command again")
    return 0


def _verdict(outcome: dict[str, Any], folder: Path) -> None:
    vote = outcome["majority_at_equal_tokens"]
    rows = {"before": outcome["before"], "after": outcome["after"], f"before, vote of {vote['samples']}": vote}
    print_wrapped(f"\n{outcome['n_test']} test problems, opened once:")
    print_table(
        (
            (name, f"{row['accuracy']:.3f}", f"{row['ci95'][0]:.3f} to {row['ci95'][1]:.3f}")
            for name, row in rows.items()
            if row["accuracy"] is not None
        ),
        columns=("", "accuracy", "95 % interval"),
    )
    if vote["accuracy"] is None:
        print_wrapped(f"no majority vote: {vote['why']}")
    paired = outcome["paired_difference"]
    low, high = paired["ci95"]
    print_wrapped(f"paired difference {paired['mean']:+.3f} [{low:+.3f}, {high:+.3f}], p = {paired['p_value']:.2g}")
    for row in outcome["rounds"]:
        for alarm in row["alarms"]:
            print_wrapped(f"alarm in round {row['number']}: {alarm}")
    if not outcome["promoted"]:
        print_wrapped("no policy passed the gate: the starting model remains the champion")
    print_wrapped(f"report {folder / 'report.html'}")
    if (folder / "champion").exists():
        print_wrapped(f"weights {folder / 'champion'}")


def solve(args: argparse.Namespace, method: Method | None, options: dict[str, Any], *, command: str) -> int:
    """Answer one question, asked in the words that `run` and `eval` ask in."""
    del command
    assert method is not None
    problem = _problem(args)
    settings = Settings(seed=args.seed, sampling=Sampling(max_tokens=args.max_tokens))
    console = Console(quiet=args.quiet)
    with tempfile.TemporaryDirectory(prefix="selftaught-") as scratch, Run(
        scratch, model=args.model, task=_bare_task(problem), engine=engine_of(args), settings=settings, console=console,
    ) as door:  # fmt: skip
        tried = door.solve(door.base, [problem], "the question", solver=method.with_options(**options), verify=False)[0]
        account = _account(door, as_json=True)
    attempt = tried.attempt
    if attempt.finish_reason == "error":
        remote = args.model.startswith(PREFIX)
        where, fix = (args.model, "mend what it says and ask again") if remote else ("question", "ask a shorter one")
        raise BadInput(attempt.feedback[0].text, where=where, fix=fix)
    note = _how_found(attempt)
    outcome = {"method": method.id, "model": args.model, "text": attempt.text, "answer": attempt.answer}
    outcome |= {"confidence": attempt.feedback[-1].score if attempt.feedback else None}
    if args.json:
        print_json(outcome | {"note": note, "tokens": tried.tokens} | account)
    else:
        said = without_thinking(attempt.text).strip() or attempt.text
        print_text(f"{said}\n\n({tried.tokens} tokens{f'; {note}' if note else ''})")
    return 0


def _problem(args: argparse.Namespace) -> Problem:
    """The question of `solve` with the instruction behind it, as a row of a file would be asked."""
    question = well_formed(_standard_input() if args.question == "-" else args.question)
    if not question.strip():
        raise BadInput("the question is empty", where="question", fix="ask something")
    usual = "" if args.model in synthetic_worlds() else INSTRUCTION
    instruction = usual if args.instruction is None else args.instruction
    return make_problem(with_instruction(as_prompt(question), instruction), meta={"question": question})


def _how_found(attempt: Attempt) -> str:
    """What the method says of its answer, such as its votes; else whether there is one at all."""
    said = attempt.feedback[-1].text if attempt.feedback else ""
    if said or attempt.answer is not None:
        return said
    return "no final answer can be read from it" + (
        ": it was cut off, see --max-tokens" if attempt.finish_reason == "length" else ""
    )


def _standard_input() -> str:
    raw = getattr(sys.stdin, "buffer", None)
    return raw.read().decode("utf-8", "replace") if raw else sys.stdin.read()


def _bare_task(problem: Problem) -> Task:
    from selftaught.feedback.verifiers import Exact
    from selftaught.tasks import Kind

    return Task("question", [], [], [problem], verifier=Exact(), kind=Kind.MATH)


def eval(args: argparse.Namespace, method: Method | None, options: dict[str, Any], *, command: str) -> int:
    """Measure a model on a split."""
    del command
    task = _task(args)
    _some(task, args.split)
    problems = task.split(args.split)
    if task.verifier.needs_reference:
        task.require(reference=True, splits=[args.split])
    settings = Settings(seed=args.seed, sampling=Sampling(max_tokens=args.max_tokens, temperature=args.heat))
    console = Console(quiet=args.quiet)
    settled = content_hash(args.model, task.fingerprint, args.max_tokens, args.heat, args.seed, own_version())
    folder = args.out or Path("runs") / f"eval-{settled}"
    with Run(folder, model=args.model, task=task, engine=engine_of(args), settings=settings, console=console) as door:
        solver = method.with_options(**options) if method else None
        solved = door.solve(door.base, problems, args.split, solver=solver, samples=args.attempts)
        found = door.measurement_of(door.base, args.split, method.id if method else "policy", solved)
        _say_notes(door)
        outcome = found.to_json() | {"model": args.model, "task": task.name} | _mean_score(solved)
        outcome |= _account(door, args.json)
        silent = door.no_answer_reason
    del outcome["scores"]
    _show(outcome, args.json)
    return _answered(silent, args.model)


def _mean_score(solved: Sequence[SolverResult]) -> dict[str, Any]:
    """The mean of the scores that were given, with its interval, where the verifier gives more than right and wrong."""
    scores: dict[str, list[float]] = {}
    for one in solved:
        if one.attempt.feedback and (score := one.attempt.feedback[-1].score) is not None:
            scores.setdefault(one.attempt.problem.id, []).append(score)
    if not any(0 < score < 1 for given in scores.values() for score in given):
        return {}
    interval = clustered_bootstrap(list(scores.values()))
    mean = fmean(fmean(given) for given in scores.values())
    return {"mean_score": round(mean, 4), "mean_score_ci95": [round(interval.low, 4), round(interval.high, 4)]}


def _show(outcome: dict[str, Any], as_json: bool) -> None:
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


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() else "-" for c in name).strip("-")
    return kept[:60].rstrip("-")
