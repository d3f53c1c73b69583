"""Alarms: what a model that teaches itself is watched for, so that it does not go wrong unnoticed.

A model trained on its own text loses the tails first: its answers agree with each other, its surprise at its own
words falls, it repeats itself (Herel & Mikolov, Collapse of Self-trained Language Models, 2404.02305; Shumailov et
al. 2024, doi 10.1038/s41586-024-07566-y). A model trained on a flawed signal earns more of it while held-out
accuracy falls (Gao et al., Scaling Laws for Reward Model Overoptimization, 2210.10760).

An alarm is a line that begins with its name:

- "diversity", "entropy", "length": the policy narrows and is no better for it. One that learns narrows too: in a
  sound run of ReST-EM on sums, SmolLM2-135M went from 0.96 to 0.16 nats a token as its accuracy trebled. So these
  three are raised only where dev accuracy has not risen beyond chance.
- "repetition": what it says goes round in circles.
- "verdicts": equal answers to a problem are judged differently.
- "agreement": a method that uses no verdicts learns what its own samples disagree with.
- "harm": dev accuracy fell beyond chance; "divergence", that it fell while more was judged right in training.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from selftaught.curate import vote
from selftaught.feedback.equality import equality_key
from selftaught.measure import Comparison, sign_flip
from selftaught.records import Attempt, Verdict

FEW = 32
"""Attempts, or pairs of them, below which nothing is said of a share among them: 16 of 32 has an error of 0.09."""

GRAM = 4
"""Tokens of a run whose repetition counts; shorter ones repeat in any text."""

NARROW = 0.5
"""Distinct answers, of the first: with the same number of samples a matter of few percent between like policies."""

SURE = 0.5
"""Surprise, of the first. Learning one's own samples at temperature 0.7 sharpens by itself: a choice of 0.8 to 0.2
has 0.50 nats, then 0.37, 0.21, 0.09: a half is two rounds of that, learnt to perfection."""

LENGTHS = (0.5, 2.0)
"""Length, of the first. A change of format is more; a change of style is less."""

FRESH = 0.5
"""Runs of tokens met for the first time within an answer, of the first. Said twice over, an answer has a half."""

CLASH = 0.5
"""Contradictions, of those of verdicts that do not look at the answer. A judge that errs at random on one answer in
ten stays below it (2 x 0.1 x 0.9 of 2 x 0.5 x 0.5 = 0.36), one that errs on three in twenty does not (0.51)."""

LEVEL = 0.05
"""Greatest two-sided p-value at which dev accuracy has fallen: at most one sound look in 40 is called a fall."""

SELDOM = 0.01
"""Greatest one-sided p-value at which what is learnt disagrees with the vote: it is looked at in every learning."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """Signs of life of a policy, from attempts at problems.

    Attributes:
        attempts: how many they are taken from; those that gave no token are left out.
        distinct: distinct answers a problem, as a share of its attempts; None for single attempts.
        surprise: mean negative log-probability of a sampled token, in nats.
        length: mean tokens of an attempt.
        fresh: share of the runs of four tokens in an attempt that are met for the first time.
        reward: share of the attempts judged RIGHT; None where nobody judged.
        clash: pairs of equal answers to a problem, in different words, with opposite verdicts, as a share of those
            to be expected of verdicts that do not look at the answer: 0 for a sound verifier, about 1 for a coin;
            None where there are too few pairs to tell.
    """

    attempts: int
    distinct: float | None
    surprise: float
    length: float
    fresh: float
    reward: float | None
    clash: float | None


def vitals(groups: Mapping[str, Sequence[Attempt]]) -> Vitals | None:
    """The vitals of attempts by problem; None where there are none.

    Args:
        groups: problem id -> its attempts.
    """
    tried = [attempt for group in groups.values() for attempt in group if attempt.token_ids]
    if not tried:
        return None
    several = [group for group in groups.values() if len(group) > 1]
    judged = [attempt for attempt in tried if attempt.feedback]
    tokens = sum(len(attempt.logprobs) for attempt in tried)
    return Vitals(
        attempts=len(tried),
        distinct=fmean(_distinct(group) for group in several) if several else None,
        surprise=-sum(sum(attempt.logprobs) for attempt in tried) / max(1, tokens),
        length=fmean(len(attempt.token_ids) for attempt in tried),
        fresh=fmean(_fresh(attempt.token_ids) for attempt in tried),
        reward=fmean(attempt.right for attempt in judged) if judged else None,
        clash=_clash(judged),
    )


def narrowing(first: Vitals, now: Vitals) -> tuple[str, ...]:
    """In what a policy has narrowed, against the first under the same sampling: cause for alarm unless it is better.

    Args:
        first: of the policy that this sampling was first of; of the starting model, as a rule.
        now: of the policy that is looked at.
    """
    found = []
    if min(first.attempts, now.attempts) < FEW:
        return ()
    if first.distinct and now.distinct is not None and now.distinct < NARROW * first.distinct:
        found.append(f"diversity: distinct answers fell from {first.distinct:.0%} to {now.distinct:.0%} of the samples")
    if now.surprise < SURE * first.surprise:
        found.append(f"entropy: surprise fell from {first.surprise:.3f} to {now.surprise:.3f} nats a token")
    if not LENGTHS[0] <= now.length / first.length <= LENGTHS[1]:
        found.append(f"length: answers went from {first.length:.0f} to {now.length:.0f} tokens")
    return tuple(f"{line}, and dev accuracy is no better for it" for line in found)


def disorder(first: Vitals, now: Vitals) -> tuple[str, ...]:
    """What is cause for alarm however good a policy has become. Arguments are as for `narrowing`."""
    found = []
    if min(first.attempts, now.attempts) >= FEW and now.fresh < FRESH * first.fresh:
        found.append(f"repetition: {1 - now.fresh:.0%} of what it says repeats, {1 - first.fresh:.0%} at first")
    if now.clash is not None and now.clash >= CLASH:
        found.append(
            f"verdicts: equal answers to a problem are judged differently, {now.clash:.0%} as often as if verdicts did"
            " not look at the answer"
        )
    return tuple(found)


def harm(comparison: Comparison, rewards: tuple[Mapping[str, float], Mapping[str, float]] | None) -> tuple[str, ...]:
    """Whether a policy is worse on dev than the starting model, beyond chance; with what the training signal said.

    Args:
        comparison: the starting model (old) with the policy (new) on dev.
        rewards: share of the attempts judged RIGHT by training problem: of the first sampling, and of the last one
            under the same settings; None where nobody judged.
    """
    if comparison.difference >= 0 or comparison.p_value > LEVEL:
        return ()
    fell = f"dev accuracy fell by {-comparison.difference:.3f} (p={comparison.p_value:.2g})"
    if rewards is None:
        return (f"harm: {fell}",)
    first, now = rewards
    rise = [now[problem] - first[problem] for problem in first if problem in now]
    before, after = fmean(first.values()), fmean(now.values())
    if rise and sum(rise) > 0 and sign_flip(rise, one_sided=True) <= LEVEL:
        rose = f"while the share judged right in training rose from {before:.0%} to {after:.0%}"
        return (f"divergence: {fell} {rose}: what is judged right in training is not what is right on dev",)
    return (f"harm: {fell}, and {after:.0%} of the last sampling was judged right in training",)


def dissent(groups: Mapping[str, Sequence[Attempt]], learnt: frozenset[str]) -> tuple[str, ...]:
    """Whether what is learnt gives the answer of the vote less often than the samples at large do.

    Agreement is the signal of a method without verdicts (self-consistency, 2203.11171; LMSI, 2210.11610). What is
    picked regardless of it agrees as often as the samples do; what is elected by it always does.

    Args:
        groups: problem id -> the attempts at it.
        learnt: ids of the attempts that are learnt from.
    """
    kept, all_ = [], []
    for group in groups.values():
        won, mine = vote(group), [attempt for attempt in group if attempt.id in learnt]
        if won is not None and mine and len(group) > 2:
            kept.append(fmean(attempt in won.voters for attempt in mine))
            all_.append(won.share)
    lack = [share - agreed for share, agreed in zip(all_, kept, strict=True)]
    if not lack or sum(lack) <= 0 or sign_flip(lack, one_sided=True) > SELDOM:
        return ()
    return (
        f"agreement: {fmean(kept):.0%} of what is learnt gives the answer most of the samples agree on,"
        f" {fmean(all_):.0%} of the samples do: it is not their vote that is learnt",
    )


def _distinct(group: Sequence[Attempt]) -> float:
    return len({a.answer and equality_key(a.answer) for a in group}) / len(group)


def _fresh(tokens: Sequence[int]) -> float:
    grams = [tuple(tokens[i : i + GRAM]) for i in range(len(tokens) - GRAM + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def _clash(judged: Sequence[Attempt]) -> float | None:
    """See `Vitals.clash`. A pair of like answers with verdicts of rate p clashes by chance in 2 p (1 - p)."""
    counts: dict[tuple[str, str], Counter[Verdict]] = defaultdict(Counter)
    texts = {(a.problem.id, a.text): a for a in judged}  # the same text has the same verdict: it proves nothing
    for attempt in texts.values():
        if attempt.answer is not None and attempt.verdict is not Verdict.UNKNOWN:
            counts[attempt.problem.id, equality_key(attempt.answer)][attempt.verdict] += 1
    shared = [count for count in counts.values() if count.total() > 1]
    pairs = sum(count.total() * (count.total() - 1) / 2 for count in shared)
    opposed = sum(count[Verdict.RIGHT] * count[Verdict.WRONG] for count in shared)
    rate = sum(c[Verdict.RIGHT] for c in shared) / max(1, sum(c.total() for c in shared))
    expected = 2 * rate * (1 - rate) * pairs
    return opposed / expected if expected >= FEW / 4 else None
