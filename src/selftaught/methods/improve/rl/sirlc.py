"""SIRLC: reinforcement learning on the model's own judgment of its answers, without labels."""

from selftaught import (
    Ask,
    Attempt,
    Baseline,
    Claim,
    Feedback,
    Policy,
    Run,
    Task,
    Verdict,
    curate,
    find_method,
    grpo,
    judge_reward,
    recipe,
    refine,
)
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.measure.judged import judge_figures

CLAIM = Claim(
    "Where the model judges answers better than it gives them, reinforcement learning on its own judgment alone beats"
    " the model it began with, and learning its majority's answers.",
    baselines=("greedy", Baseline("SFT on the majority's answers (LMSI)", method="lmsi", options={"samples": 8})),
    options={"rounds": 2, "steps": 8, "samples": 8, "lr_scale": 0.5},
    ablations={"judged by the policy in training": {"frozen_judge": False}, "without KL penalty": {"kl_coef": 0.0}},
)


@recipe(paper="2305.14483", claim=CLAIM)
def sirlc(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 2,
    steps: int = 20,
    samples: int = 8,
    judge: str = "",
    frozen_judge: bool = True,
    kl_coef: float = 0.01,
    lr_scale: float = 0.25,
) -> Policy:
    """Answer train problems as a student, grade the answers as a teacher by prompt, and maximize the grade.

    Source: Pang et al., Language Model Self-improvement by Reinforcement Learning Contemplation, 2305.14483, section 4:
    one model is student and teacher; asked whether an answer is right, yes is a reward of 1 and no of 0; a KL penalty
    keeps the student near the initial model.

    Differs from the paper: GRPO with a KL term in the loss, where the paper uses PPO with a value model; the teacher's
    question is that of `refine.judge_answer`. Grades of 1 to 10 for the quality of text are left to another judge
    (`judge`, such as rubric). The paper's number of steps and its KL coefficient are unconfirmed; ours are small.

    Costs per round `steps * batch * samples` answers, each judged and learned once, and an answer to each dev problem,
    judged too. The grade on dev is logged beside the accuracy: a grade that rises alone is reward hacking. Verdicts
    are not used.

    Args:
        rounds: trainings in sequence, each measured on dev.
        steps: rollout and update steps per round.
        samples: rollouts per problem and step.
        judge: judge of single answers whose score is the reward, by id or file.py:function; empty asks whether the
            answer is right.
        frozen_judge: judge with the starting model; otherwise with the policy in training.
        kl_coef: weight of the KL penalty to the starting model (beta).
        lr_scale: multiplies the run's learning rate.
    """
    grade = find_method(judge) if judge else says_right
    reward = judge_reward(grade, base if frozen_judge else None, temperature=0.0)
    policy = base
    for number in run.rounds(rounds):
        policy = run.learn_online(
            policy,
            curate.round_batch(task.train, steps * run.settings.training.batch_size, number),
            credit=CreditAssignment(reward=reward),
            objective=grpo(kl_coef, reference=base),
            steps=steps,
            samples=samples,
            lr_scale=lr_scale,
        )
        answers = run.attempt(policy, task.dev, temperature=0.0)
        graded = run.judge(base if frozen_judge else policy, answers, grade, temperature=0.0)
        figures = judge_figures(graded)
        if "mean_score" in figures:
            low, high = figures["mean_score_ci95"]
            run.log_metrics("grade on dev", {"mean": figures["mean_score"], "low": low, "high": high})
        run.measure(policy)
    return run.champion


async def says_right(ask: Ask, attempt: Attempt) -> Feedback:
    """Ask in one word whether an answer is right: a score of 1 or 0, unknown where the reply says neither."""
    reply = await refine.judge_answer(ask, attempt)
    said = refine.parse_verdict(reply)
    verdict = Verdict.UNKNOWN if said is None else Verdict.RIGHT if said else Verdict.WRONG
    return Feedback(verdict, text=reply.text)
