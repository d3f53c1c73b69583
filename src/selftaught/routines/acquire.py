"""Acquire training data for one round: sample at a balanced temperature, and repair failures by a critic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.control.balance import ScoredAttempt, group_by_problem
from selftaught.control.tuning import BalanceTuner, SamplingConfig
from selftaught.curate import AnswerPool, by_problem
from selftaught.learn import sft
from selftaught.models import Policy
from selftaught.records import Attempt, Problem
from selftaught.routines.critiques import critique_demos
from selftaught.routines.repair import collect_critic_data, repair_failures

if TYPE_CHECKING:
    from selftaught.run.run import Run
    from selftaught.tasks import Task

Sample = Callable[[Policy, Sequence[Problem], float, int], Sequence[Attempt]]
"""`(policy, problems, temperature, n)`: judged attempts, `n` at each problem, those of one problem together."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """The attempts of one round.

    Attributes:
        sampled: the policy's own attempts at the train problems.
        repaired: revisions of the failed ones.
        config: temperature and number of samples, as chosen on the probe.
    """

    sampled: Sequence[Attempt]
    repaired: Sequence[Attempt]
    config: SamplingConfig

    @property
    def attempts(self) -> list[Attempt]:
        """All of them."""
        return [*self.sampled, *self.repaired]

    @property
    def metrics(self) -> dict[str, float]:
        """The chosen temperature and number of samples, and how many problems the samples solve."""
        solved = len(by_problem(a for a in self.sampled if a.right))
        return {"temperature": self.config.temperature, "samples": self.config.samples, "solved": solved}


def train_critic(run: Run, base: Policy, task: Task, *, drafts: int) -> Policy:
    """Train `base` on its own critiques that led to right revisions; `base` itself where there are none.

    Args:
        drafts: solutions per problem to critique.
    """
    examples = collect_critic_data(run, base, base, task, drafts=drafts, rollouts_per_critique=2)
    return run.learn(base, sft(), critique_demos(examples)) if examples else base


def acquire(
    run: Run,
    policy: Policy,
    task: Task,
    tuner: BalanceTuner,
    *,
    probe: int,
    near: SamplingConfig | None = None,
    critic: Policy | None = None,
    repairs: int = 0,
    sample: Sample | None = None,
) -> Acquired:
    """Choose temperature and samples on a probe, sample all train problems so, and repair failures.

    Args:
        policy: samples, and revises by the critiques.
        tuner: chooses temperature and number of samples.
        probe: train problems that the choice is made on.
        near: the last round's choice, to search near it.
        critic: writes the critiques; None repairs nothing.
        repairs: most repairs at one problem.
        sample: draws attempts; by default each problem's own prompt is asked.
    """

    def draw(problems: Sequence[Problem], temperature: float, n: int) -> list[ScoredAttempt]:
        if sample is not None:
            tried = sample(policy, problems, temperature, n)
        else:
            tried = run.attempt(policy, problems, samples=n, temperature=temperature)
        return [ScoredAttempt(one, float(one.right)) for one in tried]

    shuffled = sorted(task.train, key=lambda problem: problem.id)  # ids are hashes
    choice = tuner.choose(shuffled[:probe], draw, near)
    config = choice.config
    rest = group_by_problem(draw(shuffled[probe:], config.temperature, config.samples))
    sampled = [one.attempt for group in {**choice.groups, **rest}.values() for one in group]
    repaired = repair_failures(run, critic, policy, sampled, repairs, config.temperature) if critic else []
    return Acquired(sampled, repaired, config)


@dataclass(frozen=True, slots=True)
class AcquiredRound:
    """What one round of `acquire_rounds` leaves to learn from.

    Attributes:
        actor: the champion, which made the attempts.
        new: the attempts of this round.
        seen: those of all rounds so far.
    """

    actor: Policy
    new: AnswerPool
    seen: AnswerPool


def acquire_rounds(
    run: Run, base: Policy, task: Task, rounds: int, tuner: BalanceTuner, *, probe: int, repairs: int, drafts: int
) -> Iterator[AcquiredRound]:
    """Acquire with the champion in each round, near the last round's choice, and log what was acquired.

    Args:
        probe: train problems on which temperature and number of samples are chosen.
        repairs: most repairs of failures at one problem; 0 trains without a critic.
        drafts: solutions per problem that the critic's training set is made of.
    """
    critic = train_critic(run, base, task, drafts=drafts) if repairs else None
    seen, near = AnswerPool(), None
    for _ in run.rounds(rounds):
        actor, new = run.champion, AnswerPool()
        found = acquire(run, actor, task, tuner, probe=probe, near=near, critic=critic, repairs=repairs)
        near = found.config
        new.add(found.attempts)
        seen.add(found.attempts)
        run.log_metrics("acquired", found.metrics | {"solved so far": len(seen.right), "of": len(task.train)})
        yield AcquiredRound(actor, new, seen)
