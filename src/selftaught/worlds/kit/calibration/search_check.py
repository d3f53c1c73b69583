"""Check 14: beam search over steps with a trained process reward model, against the best of n whole answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from selftaught.learn.objectives import prm
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, ScoredSteps, Verdict
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.run.solver import SolverResult
from selftaught.tasks import Task
from selftaught.worlds.kit.calibration.figures import Figure, difference_of, mean_of
from selftaught.worlds.kit.calibration.lab import SAMPLING, Lab, NotApplicable

SAMPLES = 32  # answers of best-of-n, and candidates at each step of the beam
BEAMS = 4  # prefixes kept at each step
MAX_STEPS = 16
PRM_SAMPLES = 8  # answers per train problem that the reward model learns from
PRM_PROBLEMS = 3  # its train problems, as a multiple of those of a training


class Scored(NamedTuple):
    """An attempt with its score by the reward model."""

    attempt: Attempt
    score: float


@dataclass(frozen=True)
class BestOfN:
    """Best-of-N: of `SAMPLES` answers, the one that the reward model scores highest.

    Source: Lightman et al., 2305.20050 (unconfirmed); best-of-N weighted, of Snell et al., 2408.03314, sections 5.1
    and 5.2, chooses worse with a reward model that reads each step by itself.
    """

    judge: Policy
    id = "best-of-n-by-steps"

    @property
    def options(self) -> dict[str, Any]:
        """What its answers depend on."""
        return {"judge": self.judge.version, "samples": SAMPLES}

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        """Sample and choose."""
        return chosen(await scored(ask, await ask.sample(problem.prompt, SAMPLES), self.judge))


@dataclass(frozen=True)
class StepBeam:
    """Keep the `BEAMS` best prefixes by the reward model, and continue them by `SAMPLES` candidates for each step.

    Up to the last step it samples what `SAMPLES` whole answers take. The answer is chosen as best-of-N chooses.

    Source: beam search of Snell et al., 2408.03314, section 5.2. It differs in that equal prefixes count once, or they
    would fill the beam, and in that the highest score decides, not the sum of those that share an answer.
    """

    judge: Policy
    id = "step-beam"

    @property
    def options(self) -> dict[str, Any]:
        """What its answers depend on."""
        return {"judge": self.judge.version, "samples": SAMPLES, "beams": BEAMS}

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        """Search; the best ended answer, or the best prefix where none ended."""
        beams: list[Attempt | None] = [None]
        ended: list[Scored] = []
        ranked: list[Scored] = []
        for _ in range(MAX_STEPS):
            grown = await asyncio.gather(
                *(grow(ask, problem, prefix) for prefix in beams for _ in range(SAMPLES // len(beams)))
            )
            fresh = list({one.text: one for one in grown if not one.failed}.values())
            ranked = sorted([*ended, *await scored(ask, fresh, self.judge)], key=lambda one: -one.score)[:BEAMS]
            if not ranked:
                return grown[0]
            ended = [one for one in ranked if has_ended(ask, one.attempt)]
            beams = [one.attempt for one in ranked if one not in ended]
            if not beams:
                break
        return chosen(ended or ranked)


async def grow(ask: Ask, problem: Problem, prefix: Attempt | None) -> Attempt:
    """One more step after a prefix."""
    how: dict[str, Any] = {"stop": (ask.steps.end,)}
    return await (ask(problem.prompt, **how) if prefix is None else ask.continue_from(prefix, **how))


def has_ended(ask: Ask, attempt: Attempt) -> bool:
    """Whether an answer is complete: it ended by itself, was cut off, or its last step gives the answer."""
    steps = ask.steps.split(attempt.text)
    return not attempt.stop_text or bool(steps and ask.steps.finishes(steps[-1]))


async def score(ask: Ask, attempt: Attempt, judge: Policy) -> float:
    """The product of the probabilities that each step is right, as the reward model reads them; 0 unread."""
    scores = await ask.score(replace(attempt, text=attempt.text + attempt.stop_text), judge, at="steps")
    return math.prod(scores) if scores and not any(map(math.isnan, scores)) else 0.0


async def scored(ask: Ask, attempts: Sequence[Attempt], judge: Policy) -> list[Scored]:
    """Attempts with their scores."""
    scores = await asyncio.gather(*(score(ask, one, judge) for one in attempts))
    return [Scored(*pair) for pair in zip(attempts, scores, strict=True)]


def chosen(found: Sequence[Scored]) -> Attempt:
    """The first attempt of the highest score."""
    return max(found, key=lambda one: one.score).attempt


def step_search(lab: Lab) -> dict[str, Figure]:
    """Check 14."""
    if not lab.engine.capabilities.scores:
        raise NotApplicable(f"engine {lab.engine.name} reads no reward models")
    found: dict[str, Figure] = {}
    for name, spec in (("long", lab.plan.search_long), ("short", lab.plan.search_short)):
        if spec:
            found |= search_figures(name, *_search(lab, name, spec))
    if not found:
        raise NotApplicable("the world names no long and short problems (CalibrationPlan.search_long, search_short)")
    return found


def search_figures(name: str, beam: Sequence[SolverResult], chosen: Sequence[SolverResult]) -> dict[str, Figure]:
    """Beam search against best-of-n: accuracy, and sampled tokens as a ratio."""
    scores = [{one.attempt.problem.id: float(one.attempt.right) for one in some} for some in (beam, chosen)]
    tokens = [sum(one.tokens for one in some) for some in (beam, chosen)]
    return {
        f"{name}: beam - best-of-N": difference_of(*scores),
        f"{name}: best-of-N": mean_of(list(scores[1].values())),
        f"{name}: tokens of beam / best-of-N": Figure(tokens[0] / max(1, tokens[1])),
    }


def _search(lab: Lab, name: str, spec: str) -> tuple[list[SolverResult], list[SolverResult]]:
    task = lab.problems(spec, train=PRM_PROBLEMS * lab.sizes.train, test=lab.sizes.some)
    with lab.run(f"search-{name}", task) as run:
        judge = train_prm(run)
        solvers: Mapping[str, Any] = {"beam": StepBeam(judge), "best": BestOfN(judge)}
        solved = [run.solve(run.base, task.test, "test", solver=solver, **SAMPLING) for solver in solvers.values()]
    return solved[0], solved[1]


def train_prm(run: Run) -> Policy:
    """A process reward model trained on exact verdicts on the steps of the starting model's own answers.

    Steps are labeled up to the first that is wrong; the final one's label is whether the answer is right (Lightman et
    al., 2305.20050, section 2.6, whose solution score is the product over steps: unconfirmed).

    Raises:
        NotApplicable: the verifier gives no verdicts on steps.
    """
    tried = run.attempt(run.base, run.task.train, samples=PRM_SAMPLES, **SAMPLING)
    records = [record for one in tried if (record := scored_steps(run.task, one))]
    if not records:
        raise NotApplicable("the world's verifier gives no verdicts on steps")
    return run.learn(run.base, prm(), records)


def scored_steps(task: Task, attempt: Attempt) -> ScoredSteps | None:
    """The steps of an answer up to the first wrong one, with their labels.

    None without verdicts on steps, or for a failed or truncated answer.
    """
    verdicts = task.step_verdicts(attempt.problem, attempt.text)
    if verdicts is None or attempt.failed or attempt.truncated or not attempt.text:
        return None
    steps = task.steps.split(attempt.text)
    known = [one is Verdict.RIGHT for one in verdicts[: len(steps)]]
    known += [attempt.right] * (len(steps) - len(known))
    labels = known[: known.index(False) + 1] if False in known else known
    return ScoredSteps(attempt.problem.prompt, tuple(steps[: len(labels)]), tuple(map(float, labels)), (attempt.id,))
