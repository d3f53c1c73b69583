"""STaR: bootstrapping reasoning with reasoning."""

from selftaught import (
    Ask,
    Attempt,
    Baseline,
    Beats,
    Claim,
    Policy,
    Precondition,
    Problem,
    Run,
    Task,
    keep_right,
    recipe,
    routines,
    sft,
    unsolved,
)  # fmt: skip
from selftaught.check.readings import logged
from selftaught.curate import by_problem

HINT = "{question}\n\nHint: the correct answer is {answer}. Write the steps that lead to it, as if you did not know it."

CLAIM = Claim(
    "Learning one's own rationales that reach the right answer beats the model it began with, and rationalizing failed"
    " problems from the answer solves more of the problems that the start could not solve than leaving them out.",
    baselines=("greedy",),
    legs=(
        Beats(
            Baseline("without rationalization", options={"rationalization": False}),
            metric=routines.accuracy_on_unsolved,
        ),
    ),
    preconditions=(
        Precondition(
            "hints solve failed problems (share of all)", logged("rationales", "rationalized", at=0), at_least=0.05
        ),
    ),
    options={"steps": 16},
    ablations={"one round": {"rounds": 1}},
    champion="last",
)


@recipe(paper="2203.14465", needs=("verifier", "reference"), claim=CLAIM)
def star(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 3,
    samples: int = 1,
    temperature: float = 0.0,
    rationalization: bool = True,
    steps: int = 40,
    step_growth: float = 1.2,
) -> Policy:
    """Keep rationales that reach the right answer, add rationales written from hints, and fine-tune the base model.

    Source: Zelikman et al., STaR: Bootstrapping Reasoning With Reasoning, 2203.14465, Algorithm 1.
    Problems the policy fails are sampled again with the answer as a hint; a hinted rationale that reaches
    the answer is trained on under the prompt without the hint (rationalization, section 3.2). Every round
    trains the base model afresh (line 7). The first round trains for 40 optimizer steps and each further one for 20 %
    more, however many rationales there are (the authors' code, github.com/ezelikman/STaR, `iteration_train.py`).

    Differs from the paper: zero-shot through the chat template instead of few-shot rationales; a step is a batch of the
    run's size (there 8 packed sequences); the learning rate follows the run's schedule in each round.

    Costs up to `2 * samples` answers a problem and round, and `steps * step_growth^(round - 1)` optimizer steps.

    Args:
        rounds: outer iterations.
        samples: rationales per problem; the first right one is kept.
        temperature: sampling temperature; 0 (greedy) suits one sample.
        rationalization: sample failed problems again with the answer as a hint.
        steps: optimizer steps of the first round, for which the rationales are cycled through; 0 for the run's epochs.
        step_growth: ratio of each round's steps to those of the round before.
    """
    policy = base
    for number in run.rounds(rounds):
        tried = run.attempt(policy, task.train, samples=samples, temperature=temperature)
        hinted = []
        if rationalization:
            hinted = run.attempt(policy, unsolved(tried), solver=rationalize, samples=samples, temperature=temperature)
        run.log_metrics("rationales", {"direct": solved(tried, task), "rationalized": solved(hinted, task)})
        kept = keep_right(tried + hinted, per_problem=1)
        policy = run.learn(base, sft(), kept, steps=int(steps * step_growth ** (number - 1)))
        run.measure(policy)
    return run.champion


async def rationalize(ask: Ask, problem: Problem) -> Attempt:
    """Attempt a problem with the reference answer as a hint."""
    return await ask(ask.with_turn(problem.prompt, "rationalize", HINT, answer=problem.reference))


def solved(attempts: list[Attempt], task: Task) -> float:
    """Share of the train problems with a right attempt."""
    return len(by_problem(a for a in attempts if a.right)) / max(1, len(task.train))
