"""MCTS-DPO: step-level preferences from tree search with the current policy, learned by DPO, round after round."""

from dataclasses import replace

from selftaught import Baseline, Beats, Claim, Policy, Precondition, Preset, Run, Task, curate, recipe, routines, search
from selftaught.check.readings import logged
from selftaught.learn import round_schedule
from selftaught.learn.objectives import step_dpo

SCALE = {"rounds": 8, "problems": 64, "max_pairs": 96, "lr_scale": 1.0}
SEARCH = {**SCALE, "iterations": 32, "depth": 4, "max_step_tokens": 32}
OFFLINE = Baseline("offline: trees of the frozen start", options={"online": False})
MOVED = logged("divergence", "kl")
HAS_MOVED = Precondition("the policy has moved from the start (KL, nats per response)", MOVED, at_least=0.1)

CLAIM = Claim(
    "Step-level preferences from the current policy's own search trees teach more than as many from the frozen starting"
    " model's trees, than as many between whole answers, and at equal compute than fine-tuning on right answers.",
    legs=(
        Beats(OFFLINE),
        Beats(
            Baseline(
                "pairs of whole answers", method="online-dpo", options={**SCALE, "temperature": 1.0}, fit_with="rounds"
            )
        ),
        Beats(Baseline("rest-em", method="rest-em", contrasts=("equal compute",))),
        Beats("greedy"),
    ),
    preconditions=(
        HAS_MOVED,
        Precondition("so has the one that learns offline (KL)", MOVED, at_least=0.1, of=OFFLINE),
    ),
    options=SEARCH,
    train=512,
    ablations={
        "without self-evaluation": {"self_eval": False},
        "without smoothing": {"visit_smoothing": False},
        "all trees": {"correct_trees": False},
    },
)
HINTED = Preset(
    paper="2405.00451",
    options={"reference_branch": True, "hinted": True},
    needs=("verifier", "reference"),
    differs="""The written solution guides the search. It is a branch of each tree, and the model sees it when it judges
        its steps; a right answer that departs from it earns 1.25 (the authors' setting for arithmetic).""",
    claim=Claim(
        "Search that the written solution guides teaches more than search without it.",
        baselines=(Baseline("without the written solution", method="mcts-dpo", options=SEARCH), "greedy"),
        preconditions=(HAS_MOVED,),
        options=SEARCH,
        train=512,
    ),
)


@recipe(paper="2405.00451", needs=("verifier",), claim=CLAIM, presets={"mcts-dpo-hinted": HINTED})
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
    correct_trees: bool = True,
    reference_branch: bool = False,
    hinted: bool = False,
    visit_smoothing: bool = True,
    beta: float = 0.1,
    lr_scale: float = 0.05,
    online: bool = True,
    max_pairs: int = 256,
) -> Policy:
    """Run MCTS over reasoning steps, prefer steps of high Q to siblings of low Q, train by step-level DPO, repeat.

    Source: Xie et al., Monte Carlo Tree Search Boosts Reasoning via Iterative Preference Learning, 2405.00451,
    Algorithm 1, and the authors' code for arithmetic (github.com/YuxiXie/MCTS-DPO, `mcts_mathqa.sh`). One tree per
    problem (PUCT; the value is the outcome plus the model's own probability that the steps are right). At each root of
    the search, the step of the highest Q is preferred to that of the lowest, with labels smoothed by visit counts. A
    tree is learned only if its final answer is right; trees weigh alike, whatever their number of pairs. Step-level DPO
    against the starting model, with one learning-rate schedule and one optimizer over all rounds.

    Differs from the paper: unless the preset `mcts-dpo-hinted` is used, the model judges its steps without the written
    solution, which is no branch of the tree. An iteration always descends to the end of an answer (there at most
    `depth` steps below the root), steps are the task's own (there as long as the written solution divided by `depth`
    has it), and a round's trees are learned in steps of the run's batch size (there 64 trees a step and device). AdamW
    decays no weights (there 0.05) and has its usual betas (there 0.9, 0.95).

    Costs for each problem of a round up to `width^depth` steps and as many judgments, one answer for the KL divergence
    from the start, which each round reports, and one training a round.

    Args:
        rounds: how often to search, learn and measure; each round searches with the policy of the last.
        problems: training problems per round, one tree each; rounds take them in turn.
        iterations: search iterations from each root, four times as many from the first; most cost no tokens, as the
            tree is soon complete.
        width: steps sampled at each node.
        depth: branching depth in steps; the rest of an answer is sampled as one step.
        max_step_tokens: token limit of a step.
        temperature: of sampling.
        self_eval: add the model's own probability that a step is right to its value.
        correct_trees: learn a tree only if its final answer is right.
        reference_branch: make the problem's written solution a branch of its tree.
        hinted: show the model the written solution when it judges its steps.
        visit_smoothing: smooth the label of a pair by the visit counts of its steps.
        beta: of DPO.
        lr_scale: multiplies the run's learning rate; 0.05 of the default 2e-5 is the paper's 1e-6.
        online: search with the current policy; otherwise with the starting model in every round.
        max_pairs: pairs learned per round, at most.
    """
    config = search.MCTSConfig(
        iterations, width, depth, max_step_tokens, temperature, self_eval=self_eval, reference_branch=reference_branch,
        hinted=hinted,
    )  # fmt: skip
    objective, policy = step_dpo(beta, reference=base, group_by_prompt=True), base
    for number in run.rounds(rounds):
        some = curate.round_batch(task.train, problems, number)
        found = run.search(policy if online else base, some, solver=search.MCTSSolver(config))
        kept = [one for one in found if one.attempt.right or not correct_trees]
        pairs = [pair for solution in kept for pair in search.pairs_from(solution)][:max_pairs]
        pairs = [pair if visit_smoothing else replace(pair, label_smoothing=0.0) for pair in pairs]
        schedule = round_schedule(run.settings.training, number, rounds)
        policy = run.learn(policy, objective, pairs, lr_scale=lr_scale, epochs=1, **schedule)
        run.log_metrics("trees", {"searched": len(found), "learned": len(kept), "pairs": len(pairs)})
        run.log_metrics("divergence", routines.kl_from(run, policy, base, some))
        run.measure(policy)
    return run.champion
