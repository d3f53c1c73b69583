"""Multi-turn GRPO: reinforcement learning in an environment, with credit by turn."""

from typing import Literal

from selftaught import (
    Baseline,
    Claim,
    Policy,
    Run,
    Task,
    credit_by_episode,
    credit_by_turn,
    curate,
    grpo,
    recipe,
    refine,
)

CLAIM = Claim(
    "Reinforcement learning on the rewards of an environment makes episodes succeed more often than with the starting"
    " model, and with each turn credited with its own return more often than with one advantage per episode.",
    baselines=(
        "greedy",
        Baseline("one advantage for the whole episode", options={"credit": "episode"}),
    ),
    vote_baseline=False,
    options={"rounds": 2, "steps": 4, "samples": 4, "lr_scale": 0.5},
    ablations={"without discount": {"discount": 1.0}},
)


@recipe(paper="2505.11821", needs=("verifier", "env"), claim=CLAIM)
def multi_turn_grpo(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 2,
    steps: int = 20,
    samples: int = 8,
    credit: Literal["turn", "episode"] = "turn",
    discount: float = 0.9,
    kl_coef: float = 0.0,
    lr_scale: float = 0.25,
) -> Policy:
    """Train a policy by GRPO on whole episodes in the task's environment, crediting each turn with what came of it.

    Source: Zeng et al., Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Credit Assignment, 2505.11821
    (MT-GRPO); episodes as trajectories of state, action and reward are those of RAGEN (Wang et al., 2504.20073). Each
    step plays `samples` episodes of each of a batch of problems with the current weights. A turn's advantage is its
    return to go, standardized over the problem's episodes at that turn. Observations are part of prompts and bear no
    loss.

    Differs from the paper: it adds the standardized reward of a turn and that of the outcome, for two turns; here the
    discounted rewards from the turn on are added before they are standardized, for any number of turns. Problems whose
    episodes all earn the same rewards are skipped, as are episodes in which the environment failed. Every turn is a
    row of its own behind its whole history. No critic, no filter of StarPO-S. Rounds, steps and batch are far smaller.

    Costs per round `steps * batch * samples` episodes of up to `max_turns` answers, each learned once.

    Args:
        rounds: trainings in sequence, each measured at its end.
        steps: rollout and update steps per round.
        samples: episodes per problem and step.
        credit: what a turn's advantage is made of: its own return to "turn", or that of the whole "episode".
        discount: of a reward that comes one turn later, 0..1; below 1 success in fewer turns is worth more.
        kl_coef: weight of the KL penalty to the starting model.
        lr_scale: multiplies the run's learning rate.
    """
    policy = base
    for number in run.rounds(rounds):
        policy = run.learn_online(
            policy,
            curate.round_batch(task.train, steps * run.settings.training.batch_size, number),
            solver=refine.play,
            credit=credit_by_turn(discount) if credit == "turn" else credit_by_episode(),
            objective=grpo(kl_coef, reference=base),
            steps=steps,
            samples=samples,
            lr_scale=lr_scale,
        )
        run.measure(policy, solver=refine.play, gated=True)
    return run.champion
