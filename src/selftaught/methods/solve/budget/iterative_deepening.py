"""Iterative deepening sampling: insert a rethink trigger into the answer at geometrically growing token budgets."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from selftaught import Ask, Attempt, BadInput, Baseline, Claim, Problem, solver
from selftaught.curate import elect, with_confidence
from selftaught.feedback.equality import same_answer
from selftaught.measure.flips import flips
from selftaught.search import p_true

TRIGGER = "\nWait! Maybe I made some mistakes! I need to rethink from scratch.\n"

CLAIM = Claim(
    "At equal tokens, answers with a rethink trigger at geometrically growing intervals are right more often than a"
    " vote of plain samples, than the best of plain samples, and than answers with triggers at fixed intervals.",
    baselines=(
        "majority",
        "best-logprob",
        Baseline("fixed intervals", options={"growth_factor": 1.0, "samples": 1}, fit_with="samples"),
    ),
    options={"samples": 4},
    ablations={
        "trigger only where the budget cut the answer": {"recheck_finished": False},
        "best by its own judgment": {"aggregation": "p_true"},
    },
    extra_metrics=flips,
)


@solver(paper="2502.05449", claim=CLAIM, also=("id-sampling",))
async def iterative_deepening(
    ask: Ask,
    problem: Problem,
    *,
    initial_budget: int = 64,
    growth_factor: float = 2.0,
    max_chain_tokens: int = 448,
    samples: int = 8,
    temperature: float = 0.7,
    recheck_finished: bool = True,
    aggregation: Literal["vote", "p_true"] = "vote",
) -> Attempt:
    """Make the model rethink its answer at growing token budgets, in several chains, and combine their answers.

    Source: Chen, Koenig & Dilkina, Iterative Deepening Sampling as Efficient Test-Time Scaling, 2502.05449. An answer
    is sampled until the budget B_k is used up or it ends; a sentence that questions it is appended, and sampling
    continues with the budget B_k+1 = growth_factor * B_k, until the total budget is used up or the answer is final.
    Chains are combined by a vote or by best-of-N.

    Differs from the paper: a chain is final once it gives the same answer twice in a row (without `recheck_finished`:
    once it ends); best-of-N goes by the model's own judgment instead of a reward model; the budgets are set for short
    answers. The sentence is that of Marco-o1 (2411.14405), section 4.2; a task with its own phrases sends it as a turn.

    Costs up to `samples * max_chain_tokens` tokens. A chain that ends right is a trace to learn from: its text holds
    the triggers and what followed them.

    Args:
        initial_budget: tokens before the first trigger, B_0.
        growth_factor: ratio of each budget to the one before; 1 for fixed intervals.
        max_chain_tokens: token limit of a chain.
        samples: chains.
        temperature: of sampling.
        recheck_finished: append the trigger also to answers that ended by themselves.
        aggregation: how chains are combined: "vote", or "p_true" (the chain that the model itself gives the highest
            probability of being right).
    """
    budgets = token_budgets(initial_budget, growth_factor, max_chain_tokens)
    sampled = (deepen(ask, problem, budgets, temperature, recheck_finished) for _ in range(samples))
    chains = await asyncio.gather(*sampled)
    if aggregation == "p_true":
        return await highest_p_true(ask, chains)
    return elect(chains) or with_confidence(chains[0], 0.0, "vote")


async def deepen(
    ask: Ask, problem: Problem, budgets: Sequence[int], temperature: float, recheck_finished: bool
) -> Attempt:
    """Sample one chain; return the attempt that gave its last answer."""
    latest = answered = await ask(problem.prompt, max_tokens=budgets[0], temperature=temperature)
    confirmed = not recheck_finished
    for budget in budgets[1:]:
        ended = latest.finish_reason == "stop" and latest.answer is not None
        if latest.finish_reason == "error" or (ended and confirmed):
            break
        before = answered.answer
        how = {"role": "revise", "max_tokens": budget, "temperature": temperature}
        latest = await ask.inject(latest, "reflect", TRIGGER, **how)
        answered = answered if latest.answer is None else latest
        confirmed = not recheck_finished or same_answer(answered.answer, before)
    return answered


def token_budgets(initial_budget: int, growth_factor: float, max_chain_tokens: int) -> list[int]:
    """B_0, B_0 * growth_factor, B_0 * growth_factor^2, ..., the last one cut so that the sum is `max_chain_tokens`.

    Raises:
        BadInput: an argument is less than 1.
    """
    given = {"initial_budget": initial_budget, "growth_factor": growth_factor, "max_chain_tokens": max_chain_tokens}
    for name, value in given.items():
        if value < 1:
            raise BadInput(f"{name} must be at least 1, got {value}", where="iterative-deepening")
    budgets: list[int] = []
    while sum(budgets) < max_chain_tokens:
        budgets.append(min(round(initial_budget * growth_factor ** len(budgets)), max_chain_tokens - sum(budgets)))
    return budgets


async def highest_p_true(ask: Ask, chains: Sequence[Attempt]) -> Attempt:
    """Best-of-N by the model's own judgment; ties go to the first."""
    scores = await asyncio.gather(*(p_true(ask, chain) for chain in chains))
    best = max(range(len(chains)), key=lambda i: (chains[i].answer is not None, scores[i] or 0.0))
    return with_confidence(chains[best], scores[best], "p_true")
