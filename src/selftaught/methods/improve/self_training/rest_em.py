"""ReST-EM: self-training as expectation-maximization."""

from selftaught import Baseline, Claim, Policy, Preset, Run, Task, keep_right, recipe, sft

CLAIM = Claim(
    "Self-training on the model's own verified solutions beats the model it began with.",
    baselines=("greedy",),
    options={"rounds": 1, "samples": 4, "per_problem": 4},
    ablations={"two rounds": {"rounds": 2}, "one solution per problem": {"per_problem": 1}},
)


RFT = Preset(
    paper="2308.01825",
    options={"rounds": 1, "samples": 100, "top_k": 0},
    differs="Sample the base model once, many times a problem, and fine-tune it on several right solutions of each."
    " Differs from the paper (Yuan et al., Scaling Relationship on Learning Mathematical Reasoning): solutions are"
    " capped per problem, where the paper keeps one of each list of equations; no SFT on reference solutions comes"
    " first, and none are mixed in.",
    claim=Claim(
        "Fine-tuning once on several right samples of each problem beats the model it began with, and fine-tuning on"
        " one of them.",
        baselines=("greedy", Baseline("one solution per problem", options={"per_problem": 1})),
        options={"samples": 8},
        ablations={"4 samples": {"samples": 4}},
    ),
)
"""Rejection-sampling fine-tuning."""


@recipe(paper="2312.06585", needs=("verifier",), claim=CLAIM, presets={"rft": RFT})
def rest_em(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 3,
    samples: int = 32,
    temperature: float = 0.7,
    top_k: int = 40,
    per_problem: int = 10,
) -> Policy:
    """Sample solutions, keep the right ones, fine-tune the base model on them, and repeat.

    Source: Singh et al., Beyond Human Data: Scaling Self-Training for Problem-Solving with Language
    Models, 2312.06585, Algorithm 1. The E-step samples from the current policy and keeps what the
    verifier calls RIGHT (binary reward); the M-step fine-tunes the base model, not the last policy.

    Differs from the paper: problems are asked zero-shot through the model's chat template, where the
    paper prompts a pretrained model with 2 or 3 examples.

    Costs `rounds * samples` answers a problem, and one fine-tuning a round.

    Args:
        rounds: iterations of E-step and M-step.
        samples: solutions sampled per problem in each E-step.
        temperature: sampling temperature.
        top_k: sample among the k most probable tokens; 0 for all.
        per_problem: most solutions kept per problem, so that easy problems do not dominate.
    """
    policy = base
    for _ in run.rounds(rounds):
        tried = run.attempt(policy, task.train, samples=samples, temperature=temperature, top_k=top_k)
        policy = run.learn(base, sft(), keep_right(tried, per_problem=per_problem))
        run.measure(policy)
    return run.champion
