"""Self-Refine: draft, criticise, revise, with one model in every role."""

from selftaught.check.claim import Claim
from selftaught.method import solver
from selftaught.records import Attempt, Message, Problem
from selftaught.run.ask import Ask

CRITIQUE = (
    "Check the answer above step by step. Say exactly what is wrong and how to mend it."
    " If nothing is wrong, write only: no mistakes."
)
REVISE = "Now answer the question again, mending what the feedback says. Keep the form the question asks for."

CLAIM = Claim(
    "Revising a draft by one's own critique beats a plain sample, and at equal tokens a vote of plain samples.",
    baselines=("sample", "majority"),
    ablations={"one turn": {"turns": 1}},
)


@solver(paper="2303.17651", claim=CLAIM)
async def self_refine(ask: Ask, problem: Problem, *, turns: int = 4, temperature: float = 0.7) -> Attempt:
    """Draft, criticise the draft, revise it, until the critic is satisfied.

    Source: Madaan et al., Self-Refine: Iterative Refinement with Self-Feedback, 2303.17651, Algorithm 1.
    Each turn sees the whole history (x, y0, fb0, ..., yt, fbt), as in equation 4; the last draft counts.

    Differs from the paper: the feedback and refinement prompts are zero-shot, for any task, where the
    paper writes few-shot prompts for each of its tasks.

    Costs up to `1 + 2 * turns` answers, each reading all before it.

    Args:
        turns: most rounds of feedback and revision.
        temperature: of every sample.
    """
    draft = await ask(problem.prompt, temperature=temperature)
    history = (*problem.prompt, Message("assistant", draft.text))
    for _ in range(turns):
        request = ask.with_turn(history, "critique", CRITIQUE)
        note = await ask(request, role="critique", parent=draft, temperature=temperature)
        if satisfied(note):
            break
        history = ask.with_turn((*request, Message("assistant", note.text)), "revise", REVISE)
        draft = await ask(history, role="revise", parent=note, temperature=temperature)
        history = (*history, Message("assistant", draft.text))
    return draft


def satisfied(note: Attempt) -> bool:
    """Whether the critic found nothing to mend."""
    return "no mistakes" in note.text.lower()
