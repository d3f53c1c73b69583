"""Iterative deepening sampling: insert a rethink trigger into the answer at geometrically growing token budgets."""

import asyncio
from collections.abc import Sequence
from typing import Literal, NamedTuple

from selftaught import Ask, Attempt, BadInput, Baseline, Beats, Claim, Ordered, Precondition, Problem, solver
from selftaught.curate import elect, with_confidence
from selftaught.feedback.equality import same_answer
from selftaught.measure.chains import CHAINS, chain_metrics, chain_record, chains_cut, net_mended
from selftaught.search import highest_p_true

TRIGGER = "\nWait! Maybe I made some mistakes! I need to rethink from scratch.\n"
NUM_BUDGETS = 3  # of a chain without a limit of its own

CLAIM = Claim(
    "Chains with a rethink trigger at geometrically growing intervals give right answers more often than plain samples,"
    " combined alike: by a vote, and as the best of N by the model's own judgment.",
    legs=(
        Beats(Baseline("vote", method="self-consistency", options={"samples": 8, "top_k": 0})),
        Ordered(
            (
                Baseline("best of the chains", options={"aggregation": "p_true"}),
                Baseline("best of N", method="best-of-n", options={"samples": 8, "self_eval": True}),
            )
        ),
    ),
    preconditions=(
        Precondition("the first budget cuts answers (share of chains)", chains_cut, at_least=0.3),
        Precondition("doubts mend more answers than they break (net share)", net_mended, at_least=0.0),
    ),
    options={"samples": 8},
    ablations={
        "fixed intervals": {"growth_factor": 1.0},
        "trigger only where the budget cut the answer": {"recheck_finished": False},
    },
    extra_metrics=chain_metrics,
)


@solver(paper="2502.05449", claim=CLAIM, also=("id-sampling",))
async def iterative_deepening(
    ask: Ask,
    problem: Problem,
    *,
    initial_budget: int = 0,
    growth_factor: float = 2.0,
    max_chain_tokens: int = 0,
    samples: int = 8,
    temperature: float = 0.7,
    recheck_finished: bool = True,
    aggregation: Literal["vote", "p_true"] = "vote",
) -> Attempt:
    """Make the model rethink its answer at growing token budgets, in several chains, and combine their answers.

    Source: Chen, Koenig & Dilkina, Iterative Deepening Sampling as Efficient Test-Time Scaling, 2502.05449. An answer
    is sampled until the budget B_k is used up or it ends; a sentence that questions it is put into its reasoning, and
    sampling continues with the budget B_k+1 = growth_factor * B_k, until the total budget is used up or the answer is
    final. Chains are combined by a vote or by best-of-N.

    Differs from the paper: B_0 is half the length of the model's own answer, so that it cuts answers of any model and
    task; a chain is final once it gives the same answer twice in a row (without `recheck_finished`: once it ends);
    best-of-N goes by the model's own judgment instead of a reward model. The sentence is that of Marco-o1 (2411.14405),
    section 4.2. Where the task's model has words of its own for it, they follow the last whole step, and a step that
    the budget cut is sampled anew; a model that knows such a request only as a turn gets it as a turn.

    Costs up to `samples * max_chain_tokens` tokens, and a greedy answer where `initial_budget` is 0. A chain that ends
    right is a trace to learn from: its text holds the triggers and what followed them.

    Args:
        initial_budget: tokens before the first trigger, B_0; 0 for half the length of a greedy answer.
        growth_factor: ratio of each budget to the one before; 1 for fixed intervals.
        max_chain_tokens: token limit of a chain; 0 for the sum of the first three budgets of ratio 2, 7 B_0.
        samples: chains.
        temperature: of sampling.
        recheck_finished: put the trigger also into answers that ended by themselves.
        aggregation: how chains are combined: "vote", or "p_true" (the chain that the model itself gives the highest
            probability of being right).
    """
    first = initial_budget or half_length(await ask(problem.prompt, temperature=0.0))
    budgets = token_budgets(first, growth_factor, max_chain_tokens or first * (2**NUM_BUDGETS - 1))
    sampled = (deepen(ask, problem, budgets, temperature, recheck_finished) for _ in range(samples))
    chains = await asyncio.gather(*sampled)
    ask.log(CHAINS, chain_record(budgets, [one.cut for one in chains], [one.triggers for one in chains]))
    answers = [one.answered for one in chains]
    if aggregation == "p_true":
        return await highest_p_true(ask, answers)
    return elect(answers) or with_confidence(answers[0], 0.0, "vote")


class Chain(NamedTuple):
    """A chain: the attempt that gave its last answer, whether its first budget cut it, and its number of triggers."""

    answered: Attempt
    cut: bool
    triggers: int


async def deepen(
    ask: Ask, problem: Problem, budgets: Sequence[int], temperature: float, recheck_finished: bool
) -> Chain:
    """Sample one chain."""
    latest = answered = await ask(problem.prompt, max_tokens=budgets[0], temperature=temperature)
    cut, triggers, confirmed = latest.truncated, 0, not recheck_finished
    for budget in budgets[1:]:
        ended = latest.finish_reason == "stop" and latest.answer is not None
        if latest.finish_reason == "error" or (ended and confirmed):
            break
        before = answered.answer
        how = {"role": "revise", "max_tokens": budget, "temperature": temperature}
        latest = await ask.inject(latest, "reflect", TRIGGER, **how)
        triggers += 1
        answered = answered if latest.answer is None else latest
        confirmed = not recheck_finished or same_answer(answered.answer, before)
    return Chain(answered, cut, triggers)


def half_length(answer: Attempt) -> int:
    """Half the tokens of an answer, at least 1; of a quarter of its characters where tokens are not reported."""
    return max(1, (answer.num_tokens or len(answer.text) // 4) // 2)


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
