"""Iterative deepening sampling: doubts put into the answer at geometrically growing intervals."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from selftaught.check.claim import Baseline, Claim
from selftaught.curate import Vote, vote
from selftaught.errors import BadInput, nearest
from selftaught.feedback.equality import same_answer
from selftaught.measure.flips import flips
from selftaught.method import solver
from selftaught.records import Attempt, Feedback, Problem, Verdict
from selftaught.run.ask import Ask
from selftaught.search.p_true import p_true

TRIGGER = "\nWait! Maybe I made some mistakes! I need to rethink from scratch.\n"
PICKS = ("vote", "judge")

CLAIM = Claim(
    "At equal tokens, answers doubted at geometrically growing intervals are right more often than a vote of plain"
    " samples, than the best of plain samples, and than answers doubted at fixed intervals.",
    baselines=(
        "majority",
        "best-logprob",
        Baseline("fixed intervals", options={"growth": 1.0, "samples": 1}, match_tokens_with="samples"),
    ),
    options={"samples": 4},
    ablations={
        "only answers that were cut are doubted": {"doubt": False},
        "best by its own judgement": {"pick": "judge"},
    },
    extra_metrics=flips,
)


@solver(paper="2502.05449", claim=CLAIM)
async def iterative_deepening(
    ask: Ask, problem: Problem, *, first: int = 64, growth: float = 2.0, budget: int = 448, samples: int = 8,
    temperature: float = 0.7, doubt: bool = True, pick: str = "vote",
) -> Attempt:  # fmt: skip
    """Doubt the answer at growing intervals, go on behind each doubt, and combine such chains.

    Source: Chen, Koenig & Dilkina, Iterative Deepening Sampling as Efficient Test-Time Scaling, 2502.05449. An
    answer is sampled until the budget B_k is used up or it ends; a sentence that casts doubt on it is put behind, and
    sampling goes on with the budget B_k+1 = growth * B_k, until the budgets together are used up or the answer is
    final. Chains are combined by a vote, or by best-of-N.

    Differs from the paper: a chain counts as final once it ends on the same answer twice in a row (`doubt=False`: once
    it ends); best-of-N goes by the model's own judgement in place of a reward model; the budgets are set for short
    answers. The sentence is that of Marco-o1 (2411.14405), section 4.2; a task with words of its own says it as a turn.

    Costs up to `samples * budget` tokens. A chain that comes out right is a trace to learn from: its text holds the
    doubts and what followed them.

    Args:
        first: tokens before the first doubt, B_0.
        growth: ratio of one interval to the one before; 1 is fixed intervals.
        budget: most tokens of a chain.
        samples: chains.
        temperature: of sampling.
        doubt: whether answers that have ended are doubted too.
        pick: how chains are combined: "vote", or "judge" (the one that the model itself believes in most).
    """
    if pick not in PICKS:
        raise BadInput(f"unknown {pick!r}", where="pick", fix=nearest(pick, PICKS))
    spans = intervals(first, growth, budget)
    chains = await asyncio.gather(*(deepen(ask, problem, spans, temperature, doubt) for _ in range(samples)))
    if pick == "judge":
        return await most_believed(ask, chains)
    won = vote(chains) or Vote("", 0.0, (chains[0],))
    return scored(won.voters[0], won.share, "vote")


async def deepen(ask: Ask, problem: Problem, spans: Sequence[int], temperature: float, doubt: bool) -> Attempt:
    """One chain: the attempt that gave its last answer."""
    said = stands = await ask(problem.prompt, max_tokens=spans[0], temperature=temperature)
    twice = not doubt
    for span in spans[1:]:
        if said.finish_reason == "error" or (said.finish_reason == "stop" and said.answer is not None and twice):
            break
        before = stands.answer
        how = {"role": "revise", "max_tokens": span, "temperature": temperature}
        said = await ask.interject(said, "reflect", TRIGGER, **how)
        stands = stands if said.answer is None else said
        twice = not doubt or same_answer(stands.answer, before)
    return stands


def intervals(first: int, growth: float, budget: int) -> list[int]:
    """B_0, growth * B_0, growth^2 * B_0, ..., the last one cut so that together they are `budget`.

    Raises:
        BadInput: no tokens at all, or intervals that shrink.
    """
    if first < 1 or budget < 1 or growth < 1:
        raise BadInput(
            f"first={first}, growth={growth}, budget={budget}", where="intervals", fix="use 1 or more of each"
        )
    spans: list[int] = []
    while sum(spans) < budget:
        spans.append(min(round(first * growth ** len(spans)), budget - sum(spans)))
    return spans


async def most_believed(ask: Ask, chains: Sequence[Attempt]) -> Attempt:
    """Best-of-N by the model's own judgement; of equals the first."""
    beliefs = await asyncio.gather(*(p_true(ask, chain) for chain in chains))
    best = max(range(len(chains)), key=lambda i: (chains[i].answer is not None, beliefs[i] or 0.0))
    return scored(chains[best], beliefs[best], "belief")


def scored(attempt: Attempt, score: float | None, by: str) -> Attempt:
    """The attempt with the confidence that it was chosen with."""
    return replace(attempt, feedback=(Feedback(Verdict.UNKNOWN, score, by=by),))
