"""Online RFT: rejection-sampling fine-tuning on samples of the current policy."""

from dataclasses import asdict

from selftaught import Baseline, Claim, Policy, Run, Task, recipe, routines, sft
from selftaught.control import balance

CLAIM = Claim(
    "Rejection-sampling fine-tuning on fresh samples of the current policy each round beats fine-tuning once on samples"
    " of the base model at equal tokens, and the model it began with.",
    baselines=(
        "greedy",
        Baseline(
            "offline RFT",
            method="rest-em",
            # 23 samples cost what 2 * 8 and the scores of their steps do
            options={"rounds": 1, "samples": 23, "temperature": 1.0, "top_k": 0, "per_problem": 8},
        ),
    ),
    options={"rounds": 2, "samples": 8, "target": 4, "epochs": 2},
    ablations={"no process reward": {"step_reward": "none"}},
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
    threshold: float = 0.5,
    step_reward: routines.StepReward = "model",
    epochs: int = 1,
) -> Policy:
    """Sample from the current policy, keep the right answers, and keep training that policy on them.

    Source: Shao et al., DeepSeekMath, 2402.03300, appendix A.1 (Online RFT), in the settings of Zeng et al., B-STaR,
    2412.17256, which compares with it: one temperature and one reward threshold throughout.

    Differs from the paper: answers are selected and ranked as in `b-star`, by outcome plus the worst step as the
    prompted starting model scores it, and capped so that easy problems do not dominate; `step_reward="none"` uses the
    outcome alone. Zero-shot prompts through the model's chat template; no SFT on reference solutions first. The
    optimizer state is kept between rounds (not with adapters).

    Costs `rounds * samples` answers a problem, step scores for each distinct answer, and one fine-tuning a round.

    Args:
        rounds: rounds of sampling, training and measuring.
        samples: answers per problem and round.
        temperature: sampling temperature.
        target: answers per problem to train on, on average.
        threshold: reward above which an answer is trained on; 0.5 keeps the right ones.
        step_reward: who judges steps: the starting "model", the task's "exact" verdicts, or "none".
        epochs: passes over each round's selected answers.
    """
    shuffled, policy = sorted(task.train, key=lambda problem: problem.id), base
    for _ in run.rounds(rounds):
        tried = run.attempt(policy, shuffled, samples=samples, temperature=temperature)
        groups = balance.group_by_problem(routines.score_attempts(run, base, task, tried, step_reward))
        run.log_metrics("balance", asdict(balance.dynamics(groups, threshold, target)))
        demos = routines.selected_demos(balance.select(groups, threshold, target))
        policy = run.learn(
            policy, sft(), demos, epochs=epochs, keep_optimizer_state=not run.settings.training.lora_rank
        )
        run.measure(policy)
    return run.champion
