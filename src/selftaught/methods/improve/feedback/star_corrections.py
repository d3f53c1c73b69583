"""STaR on corrections: fine-tune on one's own second answers that fixed a wrong first answer."""

from selftaught import Claim, Demo, Policy, Run, Task, Verdict, recipe, refine, sft
from selftaught.curate import finished, source_ids
from selftaught.measure.flips import correction_metrics
from selftaught.routines.self_correction import correction_rates, second_answer_accuracy

CLAIM = Claim(
    "Fine-tuning on one's own corrections that worked makes second answers right more often than they are in the model"
    " it began with.",
    baselines=("greedy",),
    metric=second_answer_accuracy,
    vote_baseline=True,
    options={"rounds": 2, "samples": 4},
    ablations={"one round": {"rounds": 1}},
    extra_metrics=correction_rates,
)


@recipe(paper="2203.14465", needs=("verifier",), claim=CLAIM)
def star_corrections(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 3,
    samples: int = 8,
) -> Policy:
    """Revise wrong first answers, keep the revisions that are right, fine-tune the base model on them, repeat.

    Source: Zelikman et al., STaR: Bootstrapping Reasoning With Reasoning, 2203.14465, Algorithm 1, applied to
    second answers as in the STaR baseline of Kumar et al. (SCoRe), 2409.12917. The policy answers, reads that there may
    be a mistake, and answers again; right second answers to wrong first ones are learned with the conversation before
    them as the prompt. Every round samples from the last policy and trains the base model.

    Differs from the paper: no rationalization from the reference answer. Promotion depends on the second answer.

    Costs `rounds * samples` answers a problem, as many revisions of the wrong ones, and one fine-tuning a round.

    Args:
        rounds: how often to sample, learn and measure.
        samples: first answers per problem and round.
    """
    policy = base
    for _ in run.rounds(rounds):
        tried = run.attempt(policy, task.train, samples=samples, temperature=1.0)
        wrong = [a for a in tried if a.verdict is Verdict.WRONG]
        revised = run.attempt(policy, wrong, solver=refine.second_attempt, temperature=1.0)
        demos = [Demo(a.prompt, a.text, attempts=source_ids(a)) for a in finished(revised) if a.right]
        policy = run.learn(base, sft(), demos) if demos else policy
        run.measure(policy, solver=refine.two_turns, gated=True, metrics=correction_metrics)
    return run.champion
