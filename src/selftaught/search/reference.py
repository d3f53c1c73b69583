"""A problem's written solution as a branch of its search tree."""

from __future__ import annotations

from collections.abc import Sequence

from selftaught.curate.pairs import written_solutions
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask
from selftaught.samples import Sample
from selftaught.tasks.steps import StepFormat

FINAL_MARK = "####"  # GSM8K's mark of the final answer


def solution_steps(problem: Problem, form: StepFormat) -> list[str]:
    """The steps of the written solution, the last of which gives the final answer in a form that the task reads.

    Raises:
        BadInput: the problem has no written solution.
    """
    steps = form.split(written_solutions([problem])[problem.id].strip())
    if form.finishes(steps[-1]):
        return steps
    steps = steps[:-1] if steps[-1].startswith(FINAL_MARK) else steps
    whole = [*steps[:-1], steps[-1] if steps[-1].endswith(form.end) else steps[-1] + form.end] if steps else []
    return [*whole, f"Answer: {problem.reference}"]


def next_reference_step(steps: Sequence[str], before: str, rest: bool) -> str:
    """The step of the solution that follows an answer so far; empty where the answer has left it, or is complete.

    Args:
        rest: whether to return all that follows as one step.
    """
    for i in range(len(steps)):
        if "".join(steps[:i]).strip() == before.strip():
            return "".join(steps[i:]) if rest else steps[i]
    return ""


async def reference_attempt(ask: Ask, problem: Problem, before: Attempt | None, text: str) -> Attempt:
    """The answer so far with a step of the solution after it, as if it had been sampled; journaled.

    Its log-probabilities are those of the sampled policy, read by the engine (prompt tokens).

    Raises:
        BadInput: the engine cannot score a given text (an endpoint).
    """
    prefix = before.text + before.stop_text if before else ""
    whole = await ask.loglikelihood(problem.prompt, prefix + text)
    given = len((await ask.loglikelihood(problem.prompt, prefix)).logprobs) if prefix else 0
    id = ask.log("reference_step", {"text": text, "parent": before.id if before else None})
    own = before and (before.token_ids or (before.text[before.prefix_chars :],))
    tokens = (*before.prefix_tokens, *own) if before and own else ()
    sample = Sample(text, (), tuple(whole.logprobs[given:]), finish_reason="unfinished", policy=ask.policy)
    return Attempt(
        id, problem, problem.prompt, prefix + text, ask.extract_answer(prefix + text), sample,
        parent=before.id if before else None, prefix_tokens=tokens, prefix_chars=len(prefix),
    )  # fmt: skip
