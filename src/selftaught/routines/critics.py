"""Train a critic on an annotator's lessons, and measure it before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import harmonic_mean
from typing import TYPE_CHECKING

from selftaught.learn import sft
from selftaught.models import Policy
from selftaught.records import Attempt
from selftaught.refine.turns import criticize, error_step, finds_no_error, revise
from selftaught.routines.annotations import ExpertData
from selftaught.routines.critiques import critique_demos

if TYPE_CHECKING:
    from selftaught.run.run import Run


@dataclass(frozen=True, slots=True)
class CriticScores:
    """How good a critic is on drafts with known verdicts.

    Attributes:
        f1: harmonic mean of the share of wrong drafts whose first wrong step it names, and the share of right drafts in
            which it finds no mistake (ProcessBench, 2412.06559, section 3); 0 without drafts of either kind. Where the
            step is not known, any step counts.
        mended: share of the wrong drafts that a revision by its critique makes right; those in which it finds no
            mistake are not revised.
        wrong: number of wrong drafts.
    """

    f1: float
    mended: float
    wrong: int


@dataclass(frozen=True, slots=True)
class TrainedCritic:
    """A critic, and how it compares with the untrained model.

    Attributes:
        policy: writes critiques.
        metrics: numbers to log: `lessons`, of which `pointing` at a mistake; `f1` and `mended` (see `CriticScores`)
            with `untrained_` before the starting model's and `_gain` behind the differences; `probes` wrong drafts.
    """

    policy: Policy
    metrics: Mapping[str, float | int | str]


def train_measured_critic(
    run: Run, base: Policy, reviser: Policy, expert: ExpertData, *, temperature: float = 0.7
) -> TrainedCritic:
    """Fine-tune a critic on an annotator's critiques; measure it and the untrained model on the same drafts.

    Args:
        base: what is trained; it is the critic itself where there are no lessons.
        reviser: revises for both critics.
        expert: the lessons, and the drafts of other problems on which critics are measured.
        temperature: of revisions; critiques are greedy.
    """
    lessons, probes = expert.lessons, expert.probes
    policy = run.learn(base, sft(), critique_demos(lessons)) if lessons else base
    metrics: dict[str, float | int | str] = {"policy": policy.version, "lessons": len(lessons)}
    metrics["pointing"] = sum(not finds_no_error(one.critique) for one in lessons)
    if probes:
        before, after = (
            measure_critic(run, critic, reviser, probes, expert.error_steps, temperature=temperature)
            for critic in (base, policy)
        )
        metrics |= {"probes": after.wrong, "f1": after.f1, "untrained_f1": before.f1, "f1_gain": after.f1 - before.f1}
        metrics |= {"mended": after.mended, "untrained_mended": before.mended}
        metrics["mended_gain"] = after.mended - before.mended
    return TrainedCritic(policy, metrics)


def measure_critic(
    run: Run, critic: Policy, reviser: Policy, drafts: Sequence[Attempt], error_steps: Mapping[str, int], *,
    temperature: float = 0.7,
) -> CriticScores:  # fmt: skip
    """Have a critic judge drafts greedily, and a reviser mend the wrong ones by its critiques.

    Args:
        drafts: judged attempts.
        error_steps: draft id -> its first wrong step, from 1, where it is known.
        temperature: of revisions.
    """
    critiques = run.attempt(critic, drafts, solver=criticize, temperature=0.0)
    pairs = list(zip(drafts, critiques, strict=True))
    wrong = [(draft, said) for draft, said in pairs if not (draft.right or draft.failed)]
    cleared = [finds_no_error(said) for draft, said in pairs if draft.right]
    located = [_located(said, error_steps.get(draft.id)) for draft, said in wrong]
    pointing = [said for _, said in wrong if not (said.failed or finds_no_error(said))]
    mended = sum(one.right for one in run.attempt(reviser, pointing, solver=revise, temperature=temperature))
    shares = [sum(some) / len(some) if some else 0.0 for some in (cleared, located)]
    return CriticScores(harmonic_mean(shares), mended / max(1, len(wrong)), len(wrong))


def _located(critique: Attempt, step: int | None) -> bool:
    said = None if critique.failed else error_step(critique)
    return said is not None and (step is None or said == step)
