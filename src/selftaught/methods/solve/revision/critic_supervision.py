"""Critic supervision at test time: criticize and revise answers, in parallel with a vote or sequentially."""

import asyncio
from functools import cache
from typing import Literal

from selftaught import Ask, Attempt, Claim, Policy, Problem, resolve, solver
from selftaught.curate import elect
from selftaught.refine import critique_and_revise

CLAIM = Claim(
    "Voting among answers that were each criticized and revised beats a plain sample, and at equal tokens a vote of"
    " plain samples.",
    baselines=("sample", "majority"),
    ablations={"one after the other": {"mode": "sequential"}},
)


@solver(paper="2411.16579", claim=CLAIM)
async def critic_supervision(
    ask: Ask,
    problem: Problem,
    *,
    samples: int = 8,
    mode: Literal["parallel", "sequential"] = "parallel",
    critic: str = "",
    temperature: float = 0.7,
) -> Attempt:
    """Criticize and revise sampled answers: several in parallel, then vote, or one repeatedly.

    Source: Xi et al., Enhancing LLM Reasoning via Critique Models with Test-Time and Training-Time Supervision,
    2411.16579, section 4. In parallel, every sampled answer gets one critique and one revision, and the majority's
    answer wins. In sequence, one answer is criticized and revised until the critic finds no mistakes; the last counts.

    Differs from the paper: an answer in which the critic finds no mistakes is left unchanged. By default the policy
    that solves is its own critic; `critique-in-the-loop` trains one.

    Costs up to `3 * samples` answers in parallel, `1 + 2 * samples` in sequence.

    Args:
        samples: answers in parallel, or the maximum number of critiques in sequence.
        mode: "parallel" (many answers, one critique each, then a vote) or "sequential" (one answer, many critiques).
        critic: folder of the critic's policy (`runs/mine/policies/VERSION`); by default the policy that solves.
        temperature: of every sample.
    """
    who = load_critic(critic) if critic else None
    if mode == "sequential":
        draft = await ask(problem.prompt, temperature=temperature)
        return await critique_and_revise(ask, draft, samples, who, temperature=temperature)
    drafts = await ask.sample(problem.prompt, samples, temperature=temperature)
    revised = await asyncio.gather(*(critique_and_revise(ask, a, 1, who, temperature=temperature) for a in drafts))
    return elect(revised) or revised[0]


@cache
def load_critic(folder: str) -> Policy:
    """The policy in a folder, resolved once."""
    return resolve(folder, where="--critic")
