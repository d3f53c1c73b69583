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

MIN_ATTEMPTS = 32
"""Attempts, or pairs of them, below which nothing is said of a share among them: 16 of 32 has an error of 0.09."""

NGRAM = 4
"""Tokens of a run whose repetition counts; shorter ones repeat in any text."""

DIVERSITY_THRESHOLD = 0.5
"""Distinct answers, of the first: with the same number of samples a matter of few percent between like policies."""

ENTROPY_THRESHOLD = 0.5
"""Surprise, of the first. Learning one's own samples at temperature 0.7 sharpens by itself: a choice of 0.8 to 0.2
has 0.50 nats, then 0.37, 0.21, 0.09: a half is two rounds of that, learnt to perfection."""

LENGTH_RANGE = (0.5, 2.0)
"""Length, of the first. A change of format is more; a change of style is less."""

REPETITION_THRESHOLD = 0.5
"""Runs of tokens met for the first time within an answer, of the first. Said twice over, an answer has a half."""

INCONSISTENCY_THRESHOLD = 0.5
"""Contradictions, of those of verdicts that do not look at the answer. A judge that errs at random on one answer in
ten stays below it (2 x 0.1 x 0.9 of 2 x 0.5 x 0.5 = 0.36), one that errs on three in twenty does not (0.51)."""

REGRESSION_P_THRESHOLD = 0.05
"""Greatest two-sided p-value at which dev accuracy has fallen: at most one sound look in 40 is called a fall."""

DISAGREEMENT_P_THRESHOLD = 0.01
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
    distinct_answers: float | None
    nll: float
    length: float
    distinct_4: float
    reward: float | None
    verdict_inconsistency: float | None


def compute_vitals(groups: Mapping[str, Sequence[Attempt]]) -> Vitals | None:
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
        distinct_answers=fmean(_distinct(group) for group in several) if several else None,
        nll=-sum(sum(attempt.logprobs) for attempt in tried) / max(1, tokens),
        length=fmean(len(attempt.token_ids) for attempt in tried),
        distinct_4=fmean(_distinct_ngrams(attempt.token_ids) for attempt in tried),
        reward=fmean(attempt.right for attempt in judged) if judged else None,
        verdict_inconsistency=_inconsistency(judged),
    )


def diversity_collapse(first: Vitals, now: Vitals) -> tuple[str, ...]:
    """In what a policy has narrowed, against the first under the same sampling: cause for alarm unless it is better.

    Args:
        first: of the policy that this sampling was first of; of the starting model, as a rule.
        now: of the policy that is looked at.
    """
    found = []
    if min(first.attempts, now.attempts) < MIN_ATTEMPTS:
        return ()
    if (
        first.distinct_answers
        and now.distinct_answers is not None
        and now.distinct_answers < DIVERSITY_THRESHOLD * first.distinct_answers
    ):
        found.append(
            f"diversity: distinct answers fell from {first.distinct_answers:.0%} to {now.distinct_answers:.0%} of"
            " the samples"
        )
    if now.nll < ENTROPY_THRESHOLD * first.nll:
        found.append(f"entropy: surprise fell from {first.nll:.3f} to {now.nll:.3f} nats a token")
    if not LENGTH_RANGE[0] <= now.length / first.length <= LENGTH_RANGE[1]:
        found.append(f"length: answers went from {first.length:.0f} to {now.length:.0f} tokens")
    return tuple(f"{line}, and dev accuracy is no better for it" for line in found)


def degeneration(first: Vitals, now: Vitals) -> tuple[str, ...]:
    """What is cause for alarm however good a policy has become. Arguments are as for `narrowing`."""
    found = []
    if min(first.attempts, now.attempts) >= MIN_ATTEMPTS and now.distinct_4 < REPETITION_THRESHOLD * first.distinct_4:
        found.append(
            f"repetition: {1 - now.distinct_4:.0%} of what it says repeats, {1 - first.distinct_4:.0%} at first"
        )
    if now.verdict_inconsistency is not None and now.verdict_inconsistency >= INCONSISTENCY_THRESHOLD:
        found.append(
            "verdicts: equal answers to a problem get different verdicts,"
            f" {now.verdict_inconsistency:.0%} as often as if verdicts ignored the answer"
        )
    return tuple(found)


def dev_regression(
    comparison: Comparison, rewards: tuple[Mapping[str, float], Mapping[str, float]] | None
) -> tuple[str, ...]:
    """Whether a policy is worse on dev than the starting model, beyond chance; with what the training signal said.

    Args:
        comparison: the starting model (old) with the policy (new) on dev.
        rewards: share of the attempts judged RIGHT by training problem: of the first sampling, and of the last one
            under the same settings; None where nobody judged.
    """
    if comparison.difference >= 0 or comparison.p_value > REGRESSION_P_THRESHOLD:
        return ()
    fell = f"dev accuracy fell by {-comparison.difference:.3f} (p={comparison.p_value:.2g})"
    if rewards is None:
        return (f"regression: {fell}",)
    first, now = rewards
    rise = [now[problem] - first[problem] for problem in first if problem in now]
    before, after = fmean(first.values()), fmean(now.values())
    if rise and sum(rise) > 0 and sign_flip(rise, one_sided=True) <= REGRESSION_P_THRESHOLD:
        rose = f"while the share judged right in training rose from {before:.0%} to {after:.0%}"
        return (f"overoptimization: {fell} {rose}: what is judged right in training is not what is right on dev",)
    return (f"regression: {fell}, and {after:.0%} of the last sampling was judged right in training",)


def vote_disagreement(groups: Mapping[str, Sequence[Attempt]], trained_on: frozenset[str]) -> tuple[str, ...]:
    """Whether what is learnt gives the answer of the vote less often than the samples at large do.

    Agreement is the signal of a method without verdicts (self-consistency, 2203.11171; LMSI, 2210.11610). What is
    picked regardless of it agrees as often as the samples do; what is elected by it always does.

    Args:
        groups: problem id -> the attempts at it.
        learnt: ids of the attempts that are learnt from.
    """
    kept, all_ = [], []
    for group in groups.values():
        won, mine = vote(group), [attempt for attempt in group if attempt.id in trained_on]
        if won is not None and mine and len(group) > 2:
            kept.append(fmean(attempt in won.voters for attempt in mine))
            all_.append(won.share)
    lack = [share - agreed for share, agreed in zip(all_, kept, strict=True)]
    if not lack or sum(lack) <= 0 or sign_flip(lack, one_sided=True) > DISAGREEMENT_P_THRESHOLD:
        return ()
    return (
        f"agreement: {fmean(kept):.0%} of what is learnt gives the answer most of the samples agree on,"
        f" {fmean(all_):.0%} of the samples do: it is not their vote that is learnt",
    )


def _distinct(group: Sequence[Attempt]) -> float:
    return len({a.answer and equality_key(a.answer) for a in group}) / len(group)


def _distinct_ngrams(tokens: Sequence[int]) -> float:
    grams = [tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def _inconsistency(judged: Sequence[Attempt]) -> float | None:
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
    return opposed / expected if expected >= MIN_ATTEMPTS / 4 else None
