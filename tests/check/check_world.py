"""A scripted world for checks: methods that help, harm and do nothing, on the sums of `scripted_world`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selftaught.check.claim import Claim
from selftaught.engines import Request, ScriptedEngine
from selftaught.feedback.verifiers import Exact
from selftaught.learn import TrainConfig
from selftaught.method import solver
from selftaught.models import Policy
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task
from selftaught.testing import sums
from selftaught.testing.sums import base_policy, depth, draw
from selftaught.worlds.world import World

TRAIN, DEV, TEST = 10, 30, 40
SKILL = (0.4, 0.75, 0.95)  # share of right answers, by how often the policy was trained


def task_of(seed: int) -> Task:
    """Other sums on every seed."""
    at = 10_000 * seed
    splits = sums(TRAIN, at), sums(DEV, at + 1000), sums(TEST, at + 2000)
    return Task(f"sums of seed {seed}", *splits, verifier=Exact(), kind=Kind.NUMBER)


def add(policy: Policy, request: Request) -> str:
    """Add the two numbers, rightly as often as the training allows: always when asked with care, never carelessly."""
    text = request.prompt[-1].content
    first = request.prompt[0].content.split()
    right = int(first[2]) + int(first[4].rstrip("?"))
    luck = draw(text, policy.version, request.seed if request.sampling.temperature else 0)
    skill = 0.9 if "with care" in text else 0.1 if "carelessly" in text else SKILL[min(depth(policy), 2)]
    return f"Answer: {right}" if luck < skill else f"Answer: {right + 1 + int(luck * 97)}"


def make_world(folder: Path) -> World:
    """The world of these sums."""
    settings = Settings(training=TrainConfig(epochs=1))
    return World("scripted", base_policy(folder), task_of, settings, TRAIN, DEV, TEST)


def engine() -> ScriptedEngine:
    """An engine that adds."""
    return ScriptedEngine(add)


CLAIM = Claim("It is better than asking plainly.", ("sample", "majority"), min_effect=0.1)


@solver(paper="2303.17651", claim=CLAIM)
async def helper(ask: Ask, problem: Problem, *, word: str = "with care") -> Attempt:
    """Ask with care."""
    return await ask(f"{problem.question} {word}", temperature=0.7)


@solver(paper="2303.17651", claim=CLAIM)
async def harmer(ask: Ask, problem: Problem, *, word: str = "carelessly") -> Attempt:
    """Ask carelessly."""
    return await ask(f"{problem.question} {word}", temperature=0.7)


@solver(paper="2303.17651", claim=CLAIM)
async def idler(ask: Ask, problem: Problem, *, temperature: float = 0.7) -> Attempt:
    """Ask plainly, under another wording."""
    return await ask(f"{problem.question} please", temperature=temperature)


def options(**more: Any) -> dict[str, Any]:
    """What `check` is called with beside method and world."""
    from selftaught.console import Console
    from selftaught.engines.scripted import scripted_learner

    return {"learner": scripted_learner, "console": Console(quiet=True), **more}
