"""Pair-SFT: fine-tune on right answers placed after wrong answers to the same problem."""

from selftaught import Claim, Demo, Policy, Run, Task, recipe, refine, sft
from selftaught.curate import right_and_wrong
from selftaught.measure.flips import correction_metrics
from selftaught.routines.self_correction import correction_rates, second_answer_accuracy

CLAIM = Claim(
    "Fine-tuning on right answers placed after wrong answers to the same problem makes second answers right more often"
    " than they are in the model it began with.",
    baselines=("greedy",),
    metric=second_answer_accuracy,
    vote_baseline=True,
    options={"samples": 4},
    ablations={"two samples": {"samples": 2}},
    extra_metrics=correction_rates,
)


@recipe(paper="2211.00053", needs=("verifier",), claim=CLAIM)
def pair_sft(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 1,
    samples: int = 8,
) -> Policy:
    """Sample answers, place a right one after a wrong one as its correction, and fine-tune the base model on that.

    Source: Welleck et al., Generating Sequences by Learning to Self-Correct, 2211.00053, without feedback, as in the
    Pair-SFT baseline of Kumar et al. (SCoRe), 2409.12917. Both answers are sampled independently from the base model.
    The prompt to learn is the problem, the wrong answer, and the instruction that there may be a mistake.

    Differs from the paper: one model answers and corrects, where the paper trains a corrector beside a frozen
    generator; pairs are drawn from one sampling and not weighted by improvement or similarity, and the corrector's own
    outputs are not added to the pool. Promotion depends on the second answer.

    Costs `rounds * samples` answers a problem, and one fine-tuning a round.

    Args:
        rounds: repetitions, each with new samples of the base model; the gate keeps the best policy.
        samples: answers per problem and round.
    """
    policy = base
    for _ in run.rounds(rounds):
        groups = right_and_wrong(run.attempt(base, task.train, samples=samples, temperature=1.0))
        demos = [
            Demo(refine.self_correction_prompt(task.turn, wrong), right.text, attempts=(right.id, wrong.id))
            for group in groups
            for right, wrong in group
        ]
        policy = run.learn(base, sft(), demos) if demos else policy
        run.measure(policy, solver=refine.two_turns, gated=True, metrics=correction_metrics)
    return run.champion
