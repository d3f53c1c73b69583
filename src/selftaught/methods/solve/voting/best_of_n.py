"""Best-of-N: sample many answers and return the one that a reward model scores highest."""

import asyncio
from functools import cache
from math import inf, isnan

from selftaught import Ask, Attempt, Claim, Policy, Problem, resolve, solver
from selftaught.check.claim import VOTE_AT_EQUAL_COMPUTE
from selftaught.curate import elect, with_confidence
from selftaught.search import highest_p_true

CLAIM = Claim(
    "Without a reward model, the most probable of many sampled answers is right more often than a sample, and at equal"
    " compute than a vote of samples.",
    baselines=("sample", VOTE_AT_EQUAL_COMPUTE),
    options={"samples": 8, "top_k": 40},
    ablations={"2 samples": {"samples": 2}},
)


@solver(paper="2110.14168", claim=CLAIM)
async def best_of_n(
    ask: Ask,
    problem: Problem,
    *,
    samples: int = 100,
    voters: int = 1,
    reward_model: str | Policy = "",
    self_eval: bool = False,
    temperature: float = 0.7,
    top_k: int = 0,
) -> Attempt:
    """Sample many answers and return the one that an outcome reward model scores highest.

    Source: Cobbe et al., Training Verifiers to Solve Math Word Problems, 2110.14168, section 4.2; a vote among the
    best answers, section 5.1. The reward of an answer is read at its end; `outcome-reward-model` trains such a model.
    The probability that a head gives the best answer, or the share of a vote, is returned as the attempt's confidence.

    Differs from the paper: `self_eval` asks the solving policy for the probability that an answer is right. Without it
    and without a reward model, a policy that has a value head scores its own answers, and any other
    policy's answers are ranked by mean log-probability, which is what the claim tests. Ties go to the first answer; an
    answer that the reward model cannot read is never better than another.

    Costs `samples` answers, and with a reward model reading each of them once, with `self_eval` a judgment of each.

    Args:
        samples: answers per problem.
        voters: how many of the best answers vote; 1 returns the best.
        reward_model: policy with a value head, or its folder; without one, the solving policy's own head scores, and
            without a head the mean log-probability chooses.
        self_eval: choose the answer that the solving policy itself gives the highest probability of being right.
        temperature: of sampling.
        top_k: sample from the k most probable tokens; 0 for no limit.
    """
    tried = await ask.sample(problem.prompt, samples, temperature=temperature, top_k=top_k)
    if self_eval:
        return await highest_p_true(ask, tried)
    scorer = load_policy(reward_model) if reward_model else None
    by_head = scorer is not None or ask.has_head
    if by_head:
        scores = list(await asyncio.gather(*(ask.score(attempt, scorer) for attempt in tried)))
    else:
        scores = [attempt.mean_logprob for attempt in tried]
    ranked = sorted(zip(scores, tried, strict=True), key=lambda one: inf if isnan(one[0]) else -one[0])
    if voters > 1 and (won := elect([attempt for _, attempt in ranked[:voters]])):
        return won
    score, best = ranked[0]
    return with_confidence(
        best, score if by_head and 0 <= score <= 1 else None, "reward", f"the best of {samples} answers"
    )


@cache
def load_policy(name: str | Policy) -> Policy:
    """The policy of a folder, resolved once."""
    return resolve(name, where="--reward-model")
