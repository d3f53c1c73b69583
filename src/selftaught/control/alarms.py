"""Alarms: signs that self-training is degrading the model.

A model trained on its own text loses the tails first: its answers become alike, the negative log-likelihood of its
samples falls, it repeats itself (Herel & Mikolov, Collapse of Self-trained Language Models, 2404.02305; Shumailov et
al. 2024, doi 10.1038/s41586-024-07566-y). A model trained on a flawed signal earns more of it while held-out accuracy
falls (Gao et al., Scaling Laws for Reward Model Overoptimization, 2210.10760).

Each alarm is a line that starts with its name:

- "diversity", "entropy", "length": the policy narrows without improving. A policy that learns narrows too: in a
  sound run of ReST-EM on sums, SmolLM2-135M went from 0.96 to 0.16 nats a token as its accuracy trebled. So these
  three are raised only where dev accuracy has not risen beyond chance.
- "repetition": samples repeat themselves.
- "verdicts": equal answers to a problem get different verdicts.
- "agreement": a method without verdicts trains on answers that its own samples vote against.
- "regression": dev accuracy fell beyond chance; "overoptimization": it fell while training reward rose.
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

NAMES = (
    "diversity", "entropy", "length", "repetition", "verdicts", "agreement", "regression", "overoptimization",
)  # fmt: skip
"""Names of the alarms."""

MIN_ATTEMPTS = 32
"""Fewest attempts (or pairs) from which a share is estimated: 16 of 32 has a standard error of 0.09."""

NGRAM = 4
"""Length of the n-grams counted for repetition; shorter ones repeat in any text."""

DIVERSITY_THRESHOLD = 0.5
"""Least ratio of distinct answers to the first sampling; similar policies differ by a few percent."""

ENTROPY_THRESHOLD = 0.5
"""Least ratio of the negative log-likelihood to the first sampling. Training on one's own samples at temperature 0.7
sharpens by itself: a choice of 0.8 to 0.2 has 0.50 nats, then 0.37, 0.21, 0.09. A half is two such rounds, learned
perfectly."""

LENGTH_RANGE = (0.5, 2.0)
"""Range of the ratio of length to the first sampling. A change of format exceeds it; a change of style does not."""

REPETITION_THRESHOLD = 0.5
"""Least ratio of distinct 4-grams to the first sampling. An answer written twice has a half."""

INCONSISTENCY_THRESHOLD = 0.5
"""Greatest ratio of contradictory verdicts to those of a judge that ignores the answer. A judge that errs at random on
one answer in ten stays below it (2 x 0.1 x 0.9 of 2 x 0.5 x 0.5 = 0.36), one that errs on three in twenty does not
(0.51)."""

REGRESSION_P_THRESHOLD = 0.05
"""Greatest two-sided p-value that counts as a fall of dev accuracy: at most one false alarm in 40 rounds."""

DISAGREEMENT_P_THRESHOLD = 0.01
"""Greatest one-sided p-value that counts as disagreement with the vote; tested at every training."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """Health statistics of a policy, computed from attempts.

    Attributes:
        attempts: number of attempts used; those without tokens are left out.
        distinct_answers: distinct answers per problem as a share of its attempts; None for single attempts.
        nll: mean negative log-likelihood of a sampled token, in nats.
        length: mean tokens per attempt.
        distinct_4: share of the 4-grams of an attempt that are distinct.
        reward: share of attempts judged RIGHT; None without verdicts.
        verdict_inconsistency: pairs of equal answers to a problem, in different texts, with opposite verdicts,
            as a share of those expected of verdicts that ignore the answer: 0 for a sound verifier, about 1 for a coin;
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
    """Compute the vitals of attempts; None where there are none.

    Args:
        groups: problem id -> its attempts.
    """
    tried = [attempt for group in groups.values() for attempt in group if attempt.token_ids]
    if not tried:
        return None
    several = [group for group in groups.values() if len(group) > 1]
    judged = [attempt for attempt in tried if attempt.task_feedback]
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
    """Return alarms on diversity, entropy and length relative to the first sampling with the same settings.

    Args:
        first: vitals of the first sampling, usually the starting model's.
        now: vitals of the current policy.
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
        found.append(f"entropy: NLL fell from {first.nll:.3f} to {now.nll:.3f} nats per token")
    if not LENGTH_RANGE[0] <= now.length / first.length <= LENGTH_RANGE[1]:
        found.append(f"length: answers changed from {first.length:.0f} to {now.length:.0f} tokens")
    return tuple(f"{line} without a gain in dev accuracy" for line in found)


def degeneration(first: Vitals, now: Vitals) -> tuple[str, ...]:
    """Return alarms that count even if the policy improved. Arguments as for `diversity_collapse`."""
    found = []
    if min(first.attempts, now.attempts) >= MIN_ATTEMPTS and now.distinct_4 < REPETITION_THRESHOLD * first.distinct_4:
        found.append(
            f"repetition: {1 - now.distinct_4:.0%} of 4-grams are repeated, {1 - first.distinct_4:.0%} at first"
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
    """Return an alarm if a policy is significantly worse on dev than the starting model.

    Args:
        comparison: of the starting model (old) and the policy (new) on dev.
        rewards: share of attempts judged RIGHT per training problem, in the first and the latest sampling with the
            same settings; None without verdicts.
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
        return (f"overoptimization: {fell} {rose}: the training reward does not measure dev accuracy",)
    return (f"regression: {fell}, and {after:.0%} of the last sampling was judged right in training",)


def vote_disagreement(groups: Mapping[str, Sequence[Attempt]], trained_on: frozenset[str]) -> tuple[str, ...]:
    """Return an alarm if the training data agrees with the majority vote less often than all samples do.

    Agreement is the training signal of methods without verdicts (self-consistency, 2203.11171; LMSI, 2210.11610). Data
    selected independently of it agrees as often as the samples do; data selected by it always agrees.

    Args:
        groups: problem id -> the attempts at it.
        trained_on: ids of the attempts trained on.
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
        f"agreement: {fmean(kept):.0%} of the training data agrees with the majority vote,"
        f" {fmean(all_):.0%} of all samples do: the data does not follow the vote",
    )


def _distinct(group: Sequence[Attempt]) -> float:
    return len({a.answer and equality_key(a.answer) for a in group}) / len(group)


def _distinct_ngrams(tokens: Sequence[int]) -> float:
    grams = [tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def _inconsistency(judged: Sequence[Attempt]) -> float | None:
    """See `Vitals.verdict_inconsistency`. Pairs of like answers, right at a rate p, differ by chance in 2 p (1 - p)."""
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
