"""`selftaught eval --judge`: what a judge says of the answers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from selftaught.engines.create import is_remote
from selftaught.errors import BadInput
from selftaught.measure.judged import judge_figures
from selftaught.method import Method, find, methods
from selftaught.models import resolve
from selftaught.run.judgments import takes_groups
from selftaught.run.run import Run
from selftaught.run.solver import SolverResult


def judge_of(args: argparse.Namespace) -> Method | None:
    """The judge named on the command line.

    Raises:
        BadInput: it is no judge of single answers, or its model is not served by the engine of `--model`.
    """
    if not args.judge:
        if args.judge_model:
            raise BadInput("nothing judges", where="--judge-model", fix="name a judge (--judge rubric)")
        return None
    judge = find(args.judge)
    if judge.shape != "judge" or takes_groups(judge):
        what = "compares answers" if judge.shape == "judge" else f"is a {judge.shape}"
        known = ", ".join(m.id for m in methods().values() if m.shape == "judge" and not takes_groups(m))
        raise BadInput(f"{judge.id} {what}, eval needs a judge of single answers", where="--judge", fix=f"use {known}")
    if args.judge_model and is_remote(args.judge_model) != is_remote(args.model):
        fix = "use two models behind the endpoint, or two on this machine"
        raise BadInput("the engine of --model cannot serve it", where="--judge-model", fix=fix)
    return judge


def judge_outcome(run: Run, judge: Method, args: argparse.Namespace, results: Sequence[SolverResult]) -> dict[str, Any]:
    """What `judge` says of the answers: the figures of `judge_figures` under "judge"."""
    named = args.judge_model
    policy = resolve(named, run.console.print, where="--judge-model") if named else run.base
    judged = run.judge(policy, [one.attempt for one in results], judge)
    unread = [one.judgments[-1].text for one in judged if one.judgments and one.judgments[-1].score is None]
    if unread:
        run.add_note(
            f"{len(unread)} of {len(judged)} answers got no score from {judge.id}; the first reply: {unread[0]!r:.90}"
        )
    return {"judge": {"name": judge.id, "model": args.judge_model or args.model, **judge_figures(judged)}}
