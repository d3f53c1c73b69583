"""Language models that teach themselves.

import selftaught as st

task = st.load_task("chain_sum:min_terms=2,max_terms=2,min_digits=2,max_digits=2")
with st.Run("runs/mine", model="smollm2-135m", task=task) as run:
    better = st.find_method("rest-em")(run, run.base, task, rounds=2, samples=8)
    print(st.conclude(run).paired)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selftaught.check.claim import Baseline, Claim, SystemResult
    from selftaught.curate import (
        AnswerPool,
        Decontaminator,
        Piece,
        Vote,
        by_problem,
        decontaminate,
        demo_of_pieces,
        elect,
        finished,
        keep,
        keep_right,
        right_and_wrong,
        turn_demos,
        unsolved,
        vote,
    )
    from selftaught.engines import Sampling
    from selftaught.errors import BadInput
    from selftaught.learn import TrainConfig, mix_replay, sft
    from selftaught.learn.objectives import dpo, grpo, reinforce
    from selftaught.lineage import trace
    from selftaught.measure import Measurement, StudyReport, compare
    from selftaught.method import Method, Preset, recipe, solver, study
    from selftaught.method import find as find_method
    from selftaught.models import Demonstration, Notes, Policy, resolve
    from selftaught.records import (
        Attempt,
        Demo,
        Feedback,
        Label,
        Message,
        Pair,
        Problem,
        Ranking,
        Record,
        Solution,
        Verdict,
        make_problem,
    )
    from selftaught.run.ask import Ask
    from selftaught.run.conclusion import conclude
    from selftaught.run.run import Run
    from selftaught.run.settings import Settings
    from selftaught.run.solver import Judge, Solver
    from selftaught.tasks import Task, load_task

__all__ = [
    "AnswerPool",
    "Ask",
    "Attempt",
    "BadInput",
    "Baseline",
    "Claim",
    "Decontaminator",
    "Demo",
    "Demonstration",
    "Feedback",
    "Judge",
    "Label",
    "Measurement",
    "Message",
    "Method",
    "Notes",
    "Pair",
    "Piece",
    "Policy",
    "Preset",
    "Problem",
    "Ranking",
    "Record",
    "Run",
    "Sampling",
    "Settings",
    "Solution",
    "Solver",
    "StudyReport",
    "SystemResult",
    "Task",
    "TrainConfig",
    "Verdict",
    "Vote",
    "by_problem",
    "compare",
    "conclude",
    "decontaminate",
    "demo_of_pieces",
    "dpo",
    "elect",
    "find_method",
    "finished",
    "grpo",
    "keep",
    "keep_right",
    "load_task",
    "make_problem",
    "mix_replay",
    "recipe",
    "reinforce",
    "resolve",
    "right_and_wrong",
    "sft",
    "solver",
    "study",
    "trace",
    "turn_demos",
    "unsolved",
    "vote",
]

# Where each name lives (`attribute:name` where they differ); loaded on first use, so that `import selftaught` is fast.
_HOMES = {
    "check.claim": "Baseline Claim SystemResult",
    "curate": (
        "AnswerPool Decontaminator Piece Vote by_problem decontaminate demo_of_pieces elect finished keep keep_right"
        " right_and_wrong turn_demos unsolved vote"
    ),
    "engines": "Sampling",
    "errors": "BadInput",
    "learn": "TrainConfig mix_replay sft",
    "learn.objectives": "dpo grpo reinforce",
    "lineage": "trace",
    "measure": "Measurement StudyReport compare",
    "method": "find:find_method Method Preset recipe solver study",
    "models": "Demonstration Notes Policy resolve",
    "records": "Attempt Demo Feedback Label Message Pair Problem Ranking Record Solution Verdict make_problem",
    "run.ask": "Ask",
    "run.conclusion": "conclude",
    "run.run": "Run",
    "run.settings": "Settings",
    "run.solver": "Judge Solver",
    "tasks": "Task load_task",
}
_SPECS = [(home, spec) for home, specs in _HOMES.items() for spec in specs.split()]
_WHERE = {spec.rpartition(":")[2]: (home, spec.partition(":")[0]) for home, spec in _SPECS}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'selftaught' has no attribute {name!r}")
    home, attribute = _WHERE[name]
    return getattr(import_module(f"selftaught.{home}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
