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
    from selftaught.check.claim import (
        Alarm,
        Baseline,
        Beats,
        Claim,
        NoWorse,
        Ordered,
        Precondition,
        Statistic,
        SystemResult,
    )
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
        keep_judged,
        keep_right,
        pairs,
        right_and_wrong,
        turn_demos,
        unsolved,
        vote,
    )
    from selftaught.engines import Likelihood, Sampling
    from selftaught.errors import BadInput
    from selftaught.learn import TrainConfig, mix_replay, sft
    from selftaught.learn.objectives import dpo, grpo, orm, p_ik, prm, reinforce, reward_model, rpo
    from selftaught.learn.online.turn_credit import credit_by_episode, credit_by_turn
    from selftaught.lineage import trace
    from selftaught.measure import Measurement, StudyReport, compare
    from selftaught.method import Method, Preset, judge, recipe, solver, study
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
        RolloutGroup,
        Solution,
        Verdict,
        make_problem,
    )
    from selftaught.run.ask import Ask
    from selftaught.run.conclusion import conclude
    from selftaught.run.environment import Observation
    from selftaught.run.judge_reward import judge_reward
    from selftaught.run.likelihoods import Choice
    from selftaught.run.run import Run
    from selftaught.run.settings import Settings
    from selftaught.run.solver import GroupJudge, Judge, Solver
    from selftaught.tasks import Environment, Task, Turn, load_task, with_retries

__all__ = [
    "Alarm",
    "AnswerPool",
    "Ask",
    "Attempt",
    "BadInput",
    "Baseline",
    "Beats",
    "Choice",
    "Claim",
    "Decontaminator",
    "Demo",
    "Demonstration",
    "Environment",
    "Feedback",
    "GroupJudge",
    "Judge",
    "Label",
    "Likelihood",
    "Measurement",
    "Message",
    "Method",
    "NoWorse",
    "Notes",
    "Observation",
    "Ordered",
    "Pair",
    "Piece",
    "Policy",
    "Precondition",
    "Preset",
    "Problem",
    "Ranking",
    "Record",
    "RolloutGroup",
    "Run",
    "Sampling",
    "Settings",
    "Solution",
    "Solver",
    "Statistic",
    "StudyReport",
    "SystemResult",
    "Task",
    "TrainConfig",
    "Turn",
    "Verdict",
    "Vote",
    "by_problem",
    "compare",
    "conclude",
    "credit_by_episode",
    "credit_by_turn",
    "decontaminate",
    "demo_of_pieces",
    "dpo",
    "elect",
    "find_method",
    "finished",
    "grpo",
    "judge",
    "judge_reward",
    "keep",
    "keep_judged",
    "keep_right",
    "load_task",
    "make_problem",
    "mix_replay",
    "orm",
    "p_ik",
    "pairs",
    "prm",
    "recipe",
    "reinforce",
    "resolve",
    "reward_model",
    "right_and_wrong",
    "rpo",
    "sft",
    "solver",
    "study",
    "trace",
    "turn_demos",
    "unsolved",
    "vote",
    "with_retries",
]

# Where each name lives (`attribute:name` where they differ); loaded on first use, so that `import selftaught` is fast.
_HOMES = {
    "check.claim": "Alarm Baseline Beats Claim NoWorse Ordered Precondition Statistic SystemResult",
    "curate": (
        "AnswerPool Decontaminator Piece Vote by_problem decontaminate demo_of_pieces elect finished keep"
        " keep_judged keep_right pairs right_and_wrong turn_demos unsolved vote"
    ),
    "engines": "Likelihood Sampling",
    "errors": "BadInput",
    "learn": "TrainConfig mix_replay sft",
    "learn.objectives": "dpo grpo orm p_ik prm reinforce reward_model rpo",
    "learn.online.turn_credit": "credit_by_episode credit_by_turn",
    "lineage": "trace",
    "measure": "Measurement StudyReport compare",
    "method": "find:find_method judge Method Preset recipe solver study",
    "models": "Demonstration Notes Policy resolve",
    "records": (
        "Attempt Demo Feedback Label Message Pair Problem Ranking Record RolloutGroup Solution Verdict make_problem"
    ),
    "run.ask": "Ask",
    "run.conclusion": "conclude",
    "run.environment": "Observation",
    "run.run": "Run",
    "run.settings": "Settings",
    "run.judge_reward": "judge_reward",
    "run.likelihoods": "Choice",
    "run.solver": "GroupJudge Judge Solver",
    "tasks": "Environment Task Turn load_task with_retries",
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
