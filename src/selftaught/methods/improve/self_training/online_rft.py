"""Online RFT: rejection-sampling fine-tuning on samples of the current policy."""

from selftaught import Baseline, Claim, Policy, Run, Task, recipe, routines, sft
from selftaught.control import balance
from selftaught.learn import round_schedule

CLAIM = Claim(
    "Rejection-sampling fine-tuning on fresh samples of the current policy each round beats fine-tuning once on samples"
    " of the base model at equal tokens, and the model it began with.",
    baselines=(
        "greedy",
        Baseline(
            "offline RFT",
            method="rest-em",
            # 16 samples cost what 2 * 8 do
            options={"rounds": 1, "samples": 16, "temperature": 1.0, "top_k": 0, "per_problem": 8},
        ),
    ),
    options={"rounds": 2, "samples": 8, "target": 4, "selected": 4, "steps": 64},
    ablations={"with a prompted process reward": {"step_reward": "model"}},
)


@recipe(paper="2402.03300", needs=("verifier",), claim=CLAIM)
def online_rft(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 9,
    samples: int = 64,
    temperature: float = 1.0,
    target: int = 8,
    selected: int = 6,
    threshold: float = 0.5,
    step_reward: routines.StepReward = "none",
    step_solutions: int = 8,
    step_rollouts: int = 8,
    steps: int = 500,
) -> Policy:
    """Sample from the current policy, keep the right answers, and keep training that policy on them.

    Source: Shao et al., DeepSeekMath, 2402.03300, appendix A.1 (Online RFT), in the settings of Zeng et al., B-STaR,
    2412.17256, which compares with it: one temperature and one reward threshold throughout, and one learning-rate
    schedule and optimizer over all rounds.

    Differs from the paper: answers are selected as in `b-star`, evenly over problems, so that easy ones do not
    dominate. A `step_reward` adds the process reward of `b-star` to the outcome. Zero-shot prompts through the model's
    chat template; no SFT on reference solutions first. With adapters each round has a fresh optimizer.

    Costs `rounds * samples` answers a problem and `steps` optimizer steps a round; with a trained process reward, what
    it costs in `b-star`.

    Args:
        rounds: rounds of sampling, training and measuring.
        samples: answers per problem and round.
        temperature: sampling temperature.
        target: n* in the paper, right answers wanted per problem, for the balance score that is logged.
        selected: answers per problem to select, on average, a reference solution included.
        threshold: reward above which an answer is trained on; without a process reward, 0.5 keeps the right ones.
        step_reward: who judges steps: a "trained" process reward model, the starting "model", prompted, the task's
            "exact" verdicts, or "none".
        step_solutions: solutions per problem whose steps are labeled to train the process reward model.
        step_rollouts: continuations of each step that label it.
        steps: optimizer steps per round, for which the selected answers are cycled through.
    """
    judge = routines.step_judge(run, base, task, step_reward, step_solutions, step_rollouts)
    shuffled, policy = sorted(task.train, key=lambda problem: problem.id), base
    for number in run.rounds(rounds):
        tried = run.attempt(policy, shuffled, samples=samples, temperature=temperature)
        groups = balance.group_by_problem(routines.score_attempts(run, judge, task, tried, step_reward))
        run.log_metrics("balance", routines.balance_metrics(groups, threshold, target, selected))
        demos = routines.selected_demos(balance.select(groups, threshold, selected, reference=True))
        how = round_schedule(run.settings.training, number, rounds)
        # the lowest rate is 2e-7 of 4.12e-6 in the authors' script
        policy = run.learn(policy, sft(), demos, steps=steps, min_lr_ratio=0.05, **how)
        run.measure(policy)
    return run.champion
