"""Online DPO: preferences between answers sampled from the current policy, judged and learned round after round."""

from selftaught import Claim, Policy, Run, Task, curate, dpo, recipe, routines

CLAIM = Claim(
    "Preferring right answers to wrong ones among samples of the current policy beats the model it began with.",
    baselines=("greedy",),
    options={"rounds": 2, "problems": 48, "temperature": 1.0, "lr_scale": 1 / 3, "max_pairs": 96},
    ablations={"one round": {"rounds": 1}},
)


@recipe(paper="2402.04792", needs=("verifier",), claim=CLAIM)
def online_dpo(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 8,
    problems: int = 64,
    samples: int = 8,
    temperature: float = 0.9,
    beta: float = 0.1,
    lr_scale: float = 0.025,
    max_pairs: int = 256,
) -> Policy:
    """Sample answers, pair right ones with wrong ones, train by DPO, and sample from the trained policy again.

    Source: Guo et al., Direct Language Model Alignment from Online AI Feedback, 2402.04792, Algorithm 1, with DPO as
    the loss. Each pair comes from the policy that it trains; the reference of DPO is the starting model throughout.

    Differs from the paper: the verifier says which answer is right, where the paper asks an LLM which of two answers is
    better; several samples per problem instead of two, as pairs need one right and one wrong answer; a round of many
    pairs where the paper updates after each batch. Temperature, beta and learning rate are those we recall of the
    paper, unconfirmed.

    Costs `samples` answers to each problem of a round, and one training a round.

    Args:
        rounds: how often to sample, learn and measure.
        problems: training problems per round; rounds take them in turn.
        samples: answers per problem.
        temperature: of sampling.
        beta: of DPO.
        lr_scale: multiplies the run's learning rate; 0.025 of the default 2e-5 is 5e-7.
        max_pairs: pairs learned per round, at most.
    """
    objective, policy = dpo(beta, reference=base), base
    for number in run.rounds(rounds):
        some = curate.round_batch(task.train, problems, number)
        tried = run.attempt(policy, some, samples=samples, temperature=temperature)
        pairs = curate.pairs(routines.deduplicate(curate.finished(tried)), max_pairs=max_pairs)
        policy = run.learn(policy, objective, pairs, lr_scale=lr_scale, epochs=1)
        run.measure(policy)
    return run.champion
