"""Self-Refine: draft, criticize and revise with one model in every role."""

from selftaught import Ask, Attempt, Claim, Message, Problem, solver
from selftaught.refine.turns import REVISE, finds_no_error

CRITIQUE = (
    "Check the answer above step by step. Say exactly what is wrong and how to mend it."
    " If nothing is wrong, write only: no mistakes."
)

CLAIM = Claim(
    "Revising a draft by one's own critique beats a plain sample, and at equal tokens a vote of plain samples.",
    baselines=("sample", "majority"),
    ablations={"one turn": {"turns": 1}},
)


@solver(paper="2303.17651", claim=CLAIM)
async def self_refine(
    ask: Ask,
    problem: Problem,
    *,
    turns: int = 4,
    temperature: float = 0.7,
) -> Attempt:
    """Draft, criticize the draft and revise it, until the model finds no more mistakes.

    Source: Madaan et al., Self-Refine: Iterative Refinement with Self-Feedback, 2303.17651, Algorithm 1.
    Each turn sees the whole history (x, y0, fb0, ..., yt, fbt), as in equation 4; the last draft is the answer.

    Differs from the paper: feedback and refinement prompts are zero-shot and the same for every task, where the
    paper writes few-shot prompts for each of its tasks.

    Costs up to `1 + 2 * turns` answers, each reading all that came before it.

    Args:
        turns: rounds of feedback and revision, at most.
        temperature: of every sample.
    """
    draft = await ask(problem.prompt, temperature=temperature)
    history = (*problem.prompt, Message("assistant", draft.text))
    for _ in range(turns):
        request = ask.with_turn(history, "critique", CRITIQUE)
        critique = await ask(request, role="critique", parent=draft, temperature=temperature)
        if finds_no_error(critique):
            break
        history = ask.with_turn((*request, Message("assistant", critique.text)), "revise", REVISE)
        draft = await ask(history, role="revise", parent=critique, temperature=temperature)
        history = (*history, Message("assistant", draft.text))
    return draft
