"""GRPO: online reinforcement learning on verified answers, each compared with others to the same problem."""

from typing import Literal

from selftaught import Baseline, Claim, Policy, Run, Task, curate, recipe
from selftaught.learn import objectives

CLAIM = Claim(
    "Online reinforcement learning with the verifier as reward beats the model it began with, and self-training on"
    " verified samples (ReST-EM) at equal tokens.",
    baselines=("greedy", Baseline("ReST-EM", method="rest-em", options={"samples": 4, "per_problem": 4})),
    options={"rounds": 3, "steps": 12, "batch_size": 16, "samples": 8, "kl_coef": 0.0, "lr_scale": 0.2},
    ablations={
        "with the KL penalty": {"kl_coef": 0.04},
        "Dr. GRPO": {"advantage": "group_mean", "loss_aggregation": "seq-mean-token-sum-norm"},
    },
)


@recipe(paper="2402.03300", needs=("verifier",), claim=CLAIM)
def grpo(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 4,
    steps: int = 25,
    batch_size: int = 16,
    samples: int = 16,
    temperature: float = 1.0,
    advantage: Literal["group_std", "group_mean", "leave_one_out"] = "group_std",
    loss_aggregation: Literal["seq-mean-token-mean", "token-mean", "seq-mean-token-sum-norm"] = "seq-mean-token-mean",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_coef: float = 0.04,
    reference: Literal["start", "round", "average"] = "start",
    reference_decay: float = 0.99,
    max_gen_batches: int = 1,
    epochs: int = 1,
    lr_scale: float = 0.05,
) -> Policy:
    """Sample a group of answers per problem, reinforce each by how its reward differs from the group's, and repeat.

    Source: Shao et al., DeepSeekMath, 2402.03300, section 4.1 with outcome supervision: an answer earns 1 if the
    verifier calls it right, else 0; its advantage is standardized within its group; clipped probability ratios, and a
    KL penalty to a reference in the loss (equation 3). Other settings give published variants: Dr. GRPO (2503.20783)
    is `advantage="group_mean"`, `loss_aggregation="seq-mean-token-sum-norm"`, `kl_coef=0`; of DAPO (2503.14476),
    `loss_aggregation="token-mean"`, `clip_high=0.28`, `kl_coef=0`, `max_gen_batches=10`.

    Differs from the paper: the verifier is the reward, where the paper trains a reward model; 16 samples per problem
    instead of 64, and far fewer steps. Problems whose samples are all right or all wrong are skipped, as their
    advantages are zero; answers that the verifier cannot judge are left out. Learning rate (1e-6), KL coefficient and
    batch (16 problems) are recalled from section 4.2, the clip range is the usual one: unconfirmed.

    Costs per round `steps * batch_size * samples` answers; those of problems with mixed results are each learned
    `epochs` times.

    Args:
        rounds: trainings in sequence; the policy is measured after each, and the next continues from it.
        steps: rollout and update steps per round.
        batch_size: problems per step.
        samples: answers per problem and step.
        temperature: of sampling; at others than 1, tokens are weighted by importance.
        advantage: how a group's rewards become advantages: standardized, centered, or against the others' mean.
        loss_aggregation: average the loss over the tokens of each answer and then over answers, over all tokens, or
            divide each answer's sum by the token limit of sampling.
        clip_low: the probability ratio is clipped below 1 - clip_low.
        clip_high: the probability ratio is clipped above 1 + clip_high.
        kl_coef: weight of the KL penalty to the reference.
        reference: the starting model, the policy at the start of each round (the paper's iterative variant), or a
            moving average of the policy since then.
        reference_decay: share of itself that the moving average keeps after each step.
        max_gen_batches: batches of problems sampled per step, at most, until a whole batch has mixed results; 1 skips
            the others (above 1: DAPO's dynamic sampling).
        epochs: updates on each step's answers.
        lr_scale: multiplies the run's learning rate; 0.05 of the default 2e-5 is the paper's 1e-6.
    """
    objective = objectives.grpo(
        kl_coef, advantage=advantage, loss_aggregation=loss_aggregation, clip_low=clip_low, clip_high=clip_high,
        kl_importance_weighted=False, reference=base if reference == "start" else None,  # None: where a round starts
        max_tokens=run.settings.sampling.max_tokens if loss_aggregation == "seq-mean-token-sum-norm" else 0,
    )  # fmt: skip
    policy, keep = base, not run.settings.training.lora_rank
    for number in run.rounds(rounds):
        some = curate.round_batch(task.train, steps * batch_size, number)
        policy = run.learn_online(
            policy, some, objective=objective, steps=steps, samples=samples, temperature=temperature,
            batch_size=batch_size, epochs=epochs, lr_scale=lr_scale, keep_optimizer_state=keep,
            max_gen_batches=max_gen_batches, reference_decay=reference_decay if reference == "average" else 1.0,
        )  # fmt: skip
        run.measure(policy)
    return run.champion
