"""`selftaught solve [METHOD] QUESTION`: the command."""

from __future__ import annotations

import argparse
import sys
import tempfile

from selftaught.cli.common import INSTRUCTION_HELP, METHOD_HELP, Call, add_model_options, add_quiet, request_report
from selftaught.cli.engine_options import at_least, engine_of
from selftaught.console import Console
from selftaught.engines import Sampling
from selftaught.engines.create import is_remote
from selftaught.errors import BadInput
from selftaught.records import Attempt, Problem, as_prompt, make_problem
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.run.solver import SolverResult
from selftaught.samples import well_formed
from selftaught.tasks import Task
from selftaught.tasks.rows import with_instruction
from selftaught.tasks.source import INSTRUCTION
from selftaught.tasks.thinking import without_thinking
from selftaught.terminal import print_json, print_text
from selftaught.worlds import world_models

DEFAULT_SOLVER = "self-consistency"  # without a method on the command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `solve`, besides the method's own."""
    parser.add_argument("method", metavar="[method]", help=f"{METHOD_HELP}; default {DEFAULT_SOLVER}")
    parser.add_argument("question", help="the question; - reads standard input")
    add_model_options(parser)
    parser.add_argument("--instruction", help=INSTRUCTION_HELP)
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of sampling (default %(default)s)")
    add_quiet(parser)


def execute(call: Call) -> int:
    """Answer one question, with the same prompt as in `run` and `eval`."""
    args = call.args
    problem = problem_of(args)
    settings = Settings(seed=args.seed, sampling=Sampling(max_tokens=args.max_tokens))
    solver, console = call.chosen.with_options(**call.options), Console(quiet=args.quiet)
    with tempfile.TemporaryDirectory(prefix="selftaught-") as scratch, Run(
        scratch, model=args.model, task=_bare_task(problem), engine=engine_of(args), settings=settings, console=console,
    ) as run:  # fmt: skip
        (result,) = run.solve(run.base, [problem], "the question", solver=solver, verify=False)
        requests = request_report(run, as_json=True)
    if result.attempt.failed:
        remote = is_remote(args.model)
        where, fix = (args.model, "fix it and ask again") if remote else ("question", "ask a shorter one")
        raise BadInput(result.attempt.feedback[0].text, where=where, fix=fix)
    note = _note(result.attempt)
    if args.json:
        print_json(_outcome(call, result, note) | requests)
    else:
        answer = without_thinking(result.attempt.text).strip() or result.attempt.text
        print_text(f"{answer}\n\n({result.tokens} tokens{f'; {note}' if note else ''})")
    return 0


def problem_of(args: argparse.Namespace) -> Problem:
    """The question with the instruction appended, in the form of a row of a file."""
    question = well_formed(_standard_input() if args.question == "-" else args.question)
    if not question.strip():
        raise BadInput("the question is empty", where="question", fix="ask something")
    usual = "" if args.model in world_models() else INSTRUCTION
    instruction = usual if args.instruction is None else args.instruction
    return make_problem(with_instruction(as_prompt(question), instruction), meta={"question": question})


def _outcome(call: Call, result: SolverResult, note: str) -> dict[str, object]:
    attempt = result.attempt
    outcome = {"method": call.chosen.id, "model": call.args.model, "text": attempt.text, "answer": attempt.answer}
    return outcome | {"confidence": attempt.score, "note": note, "tokens": result.tokens}


def _note(attempt: Attempt) -> str:
    """What the method reports of its answer, such as votes; otherwise why there is no final answer."""
    reported = attempt.judgments[-1].text if attempt.judgments else ""
    if reported or attempt.answer is not None:
        return reported
    why = ": it was cut off, see --max-tokens" if attempt.finish_reason == "length" else ""
    return f"no final answer can be read from it{why}"


def _standard_input() -> str:
    raw = getattr(sys.stdin, "buffer", None)
    return raw.read().decode("utf-8", "replace") if raw else sys.stdin.read()


def _bare_task(problem: Problem) -> Task:
    from selftaught.feedback.verifiers import Exact
    from selftaught.tasks import Kind

    return Task("question", [], [], [problem], verifier=Exact(), kind=Kind.MATH)
