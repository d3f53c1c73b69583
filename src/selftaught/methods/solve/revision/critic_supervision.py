"""A critic at test time: answers are criticised and revised, side by side or one after the other."""

import asyncio
from dataclasses import replace
from functools import cache

from selftaught import models
from selftaught.check.claim import Claim
from selftaught.curate import vote
from selftaught.errors import BadInput, nearest
from selftaught.method import solver
from selftaught.models import Policy
from selftaught.records import Attempt, Feedback, Problem, Verdict
from selftaught.refine import critique_and_revise
from selftaught.run.ask import Ask

FORMS = ("parallel", "sequential")

CLAIM = Claim(
    "Voting among answers that were each criticised and revised beats a plain sample, and at equal tokens a vote of"
    " plain samples.",
    baselines=("sample", "majority"),
    ablations={"one after the other": {"form": "sequential"}},
)


@solver(paper="2411.16579", claim=CLAIM)
async def critic_supervision(
    ask: Ask, problem: Problem, *, samples: int = 8, form: str = "parallel", critic: str = "", temperature: float = 0.7
) -> Attempt:
    """Have answers criticised and revised: several side by side and then a vote, or one again and again.

    Source: Xi et al., Enhancing LLM Reasoning via Critique Models with Test-Time and Training-Time Supervision,
    2411.16579, section 4. In parallel, every sampled answer gets one critique and one revision, and the majority's
    answer wins; in sequence, one answer is criticised and revised until the critic is satisfied, and the last counts.

    Differs from the paper: an answer that the critic finds no mistakes in is left as it is. By default the policy that
    solves is its own critic; `critique-in-the-loop` trains one.

    Costs up to `3 * samples` answers in parallel, `1 + 2 * samples` in sequence.

    Args:
        samples: answers side by side, or most critiques of one.
        form: "parallel" or "sequential".
        critic: folder of the critic's policy (`runs/mine/policies/VERSION`); the policy that solves by default.
        temperature: of every sample.
    """
    if form not in FORMS:
        raise BadInput(f"unknown {form!r}", where="form", fix=nearest(form, FORMS))
    who = known(critic) if critic else None
    if form == "sequential":
        draft = await ask(problem.prompt, temperature=temperature)
        return await critique_and_revise(ask, draft, samples, who, temperature=temperature)
    drafts = await ask.many(problem.prompt, samples, temperature=temperature)
    mended = await asyncio.gather(
        *(critique_and_revise(ask, draft, 1, who, temperature=temperature) for draft in drafts)
    )
    won = vote(mended)
    if won is None:
        return mended[0]
    confidence = Feedback(Verdict.UNKNOWN, won.share, f"{len(won.voters)} of {samples} votes", by="vote")
    return replace(won.voters[0], feedback=(confidence,))


@cache
def known(critic: str) -> Policy:
    """The policy in a folder; looked up once."""
    return models.resolve(critic)
