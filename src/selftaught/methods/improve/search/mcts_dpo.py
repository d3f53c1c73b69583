"""MCTS-DPO: step-level preferences from tree search with the current policy, learned by DPO, round after round."""

from dataclasses import replace

from selftaught import Baseline, Claim, Policy, Run, Task, curate, recipe, search
from selftaught.learn.objectives import step_dpo

CLAIM = Claim(
    "Step-level preferences from the current policy's own search trees teach more than those of the frozen starting"
    " model's trees, and more than as many preferences between whole answers.",
    baselines=(
        "greedy",
        Baseline("offline: pairs from the frozen start", options={"online": False, "rounds": 2}),
        Baseline(
            "pairs of whole answers",
            method="online-dpo",
            options={"rounds": 2, "problems": 48, "temperature": 1.0, "lr_scale": 1 / 3, "max_pairs": 96},
        ),
    ),
    options={
        "rounds": 2,
        "problems": 48,
        "iterations": 8,
        "depth": 4,
        "max_step_tokens": 32,
        "max_pairs": 96,
        "lr_scale": 1 / 3,
    },
    ablations={"without self-evaluation": {"self_eval": False}, "without smoothing": {"visit_smoothing": False}},
)


@recipe(paper="2405.00451", needs=("verifier",), claim=CLAIM)
def mcts_dpo(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 8,
    problems: int = 64,
    iterations: int = 64,
    width: int = 2,
    depth: int = 3,
    max_step_tokens: int = 128,
    temperature: float = 1.0,
    self_eval: bool = True,
    visit_smoothing: bool = True,
    beta: float = 0.1,
    lr_scale: float = 0.05,
    online: bool = True,
    max_pairs: int = 256,
) -> Policy:
    """Run MCTS over reasoning steps, prefer steps of high Q to siblings of low Q, train by step-level DPO, repeat.

    Source: Xie et al., Monte Carlo Tree Search Boosts Reasoning via Iterative Preference Learning, 2405.00451,
    Algorithm 1; settings of the authors' scripts for arithmetic. One tree per problem (PUCT; the value is the outcome
    plus the model's own probability that the steps are right). At each depth of the most visited path, the step of the
    highest Q is preferred to that of the lowest, with labels smoothed by visit counts. Step-level DPO against the
    starting model.

    Differs from the paper: the model judges its steps without seeing the reference solution, which the authors' prompt
    holds, and that solution is no branch of the tree; a right answer earns 1 however it is reached (there 1.25 where it
    departs from the reference); as many iterations from every root (there four times as many from the first); one pass
    over each round's pairs; steps are the task's own, where the code splits sentences.

    Costs for each problem of a round up to `width^depth` steps and as many judgments, and one training a round.

    Args:
        rounds: how often to search, learn and measure; each round searches with the policy of the last.
        problems: training problems per round, one tree each; rounds take them in turn.
        iterations: search iterations from each root; most cost no tokens, as the tree is soon complete.
        width: steps sampled at each node.
        depth: branching depth in steps; the rest of an answer is sampled as one step.
        max_step_tokens: token limit of a step.
        temperature: of sampling.
        self_eval: add the model's own probability that a step is right to its value.
        visit_smoothing: smooth the label of a pair by the visit counts of its steps.
        beta: of DPO.
        lr_scale: multiplies the run's learning rate; 0.05 of the default 2e-5 is the paper's 1e-6.
        online: search with the current policy; otherwise with the starting model in every round.
        max_pairs: pairs learned per round, at most.
    """
    config = search.MCTSConfig(iterations, width, depth, max_step_tokens, temperature, self_eval=self_eval)
    objective, policy = step_dpo(beta, reference=base), base
    for number in run.rounds(rounds):
        some = curate.round_batch(task.train, problems, number)
        found = run.search(policy if online else base, some, solver=search.MCTSSolver(config))
        pairs = [pair for solution in found for pair in search.pairs_from(solution)]
        pairs = [pair if visit_smoothing else replace(pair, label_smoothing=0.0) for pair in pairs]
        policy = run.learn(policy, objective, pairs[:max_pairs], lr_scale=lr_scale, epochs=1)
        run.measure(policy)
    return run.champion
