"""MCTS-DPO: tree search over steps makes preferences, and DPO learns them, tree after tree."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice

from selftaught.check.claim import Baseline, Claim
from selftaught.curate import by_problem, finished
from selftaught.errors import BadInput, nearest
from selftaught.learn.objectives import dpo, step_dpo
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.records import Attempt, Pair, Problem, Verdict
from selftaught.run.run import Run
from selftaught.search import MCTSConfig, MCTSSolver, pairs_from
from selftaught.tasks import Task

LEVELS = ("step", "answer")

CLAIM = Claim(
    "Step-level preferences from the current policy's own search trees teach more than those of the frozen starting"
    " model's trees, and more than as many preferences between whole answers.",
    baselines=(
        "greedy",
        Baseline("offline: pairs from the frozen start", options={"online": False, "rounds": 2}),
        Baseline("pairs of whole answers", options={"level": "answer", "rounds": 2}),
    ),
    options={
        "rounds": 2, "trees": 48, "iterations": 8, "depth": 4, "step_tokens": 32, "most": 96, "pace": 1 / 3,
    },
    ablations={"without self-evaluation": {"self_evaluation": False}, "without smoothing": {"smoothing": False}},
)  # fmt: skip


@recipe(paper="2405.00451", needs=("verifier",), claim=CLAIM)
def mcts_dpo(
    run: Run, base: Policy, task: Task, *, rounds: int = 8, trees: int = 64, iterations: int = 64, width: int = 2,
    depth: int = 3, step_tokens: int = 128, temperature: float = 1.0, self_evaluation: bool = True,
    smoothing: bool = True, beta: float = 0.1, pace: float = 0.05, online: bool = True, level: str = "step",
    samples: int = 8, most: int = 256,
) -> Policy:  # fmt: skip
    """Search for answers step by step, prefer steps by their Q, learn by DPO, and search with what was learnt.

    Source: Xie et al., Monte Carlo Tree Search Boosts Reasoning via Iterative Preference Learning, 2405.00451,
    Algorithm 1; settings of the authors' scripts for arithmetic. A tree for each problem (PUCT; outcome plus the
    model's own belief in its steps), at each depth of the main line the step of the highest Q over that of the lowest,
    smoothed by their visits, and step-level DPO against the starting model.

    Differs from the paper: the model judges its steps without being shown the reference solution, which the authors'
    prompt holds, nor is that solution a branch of the tree; a right answer earns 1 however it is reached (there 1.25
    where it leaves the reference's way); as many iterations from every root (there four times as many from the first);
    one pass over each round's pairs; steps are the task's own, where the code splits sentences.

    Costs for each problem of a round up to `width^depth` steps and as many judgements, and one training a round.

    Args:
        rounds: batches of trees, each with the policy that the last one made.
        trees: training problems of a round, a tree for each; they take turns.
        iterations: of the search, from every root; most cost no tokens, as the tree is soon complete.
        width: steps sampled to follow a step.
        depth: steps told apart; the rest of an answer is one.
        step_tokens: most tokens of a step.
        temperature: of sampling.
        self_evaluation: whether the model's own belief in a step counts beside the outcome.
        smoothing: whether the label of a pair is smoothed by the visits of its steps.
        beta: of DPO.
        pace: learning rate, as a multiple of the run's: 0.05 of the usual 2e-5 is the paper's 1e-6.
        online: whether the current policy searches; otherwise the starting model does, in every round.
        level: "step", or "answer": pairs of right and wrong whole answers, without a search.
        samples: answers to a problem for pairs of whole answers.
        most: most pairs learnt in a round.
    """
    if level not in LEVELS:
        raise BadInput(f"unknown {level!r}", where="level", fix=nearest(level, LEVELS))
    growth = MCTSConfig(iterations, width, depth, step_tokens, temperature, self_eval=self_evaluation)
    objective = (step_dpo if level == "step" else dpo)(beta, reference=base)
    rate = pace * run.settings.training.learning_rate
    policy = base
    for number in run.rounds(rounds):
        problems = turn(task.train, trees, number)
        actor = policy if online else base
        if level == "step":
            found = run.search(actor, problems, solver=MCTSSolver(growth))
            pairs = [pair for one in found for pair in pairs_from(one)]
        else:
            pairs = answer_pairs(run.attempt(actor, problems, n=samples, temperature=temperature))
        pairs = [pair if smoothing else replace(pair, softness=0.0) for pair in pairs]
        policy = run.learn(policy, objective, pairs[:most], learning_rate=rate, epochs=1)
        run.measure(policy)
    return run.champion


def turn(problems: Sequence[Problem], count: int, number: int) -> list[Problem]:
    """The problems of round `number`, from 1: the next `count`, beginning anew after the last."""
    size = min(count, len(problems))
    return list(islice(cycle(problems), (number - 1) * size, number * size))


def answer_pairs(attempts: Sequence[Attempt]) -> list[Pair]:
    """Right answers over wrong ones to the same problem, each in one pair, the problems taking turns."""
    ranks: dict[int, list[Pair]] = {}
    for group in by_problem(finished(attempts)).values():
        right, wrong = ({a.text: a for a in group if a.verdict is v} for v in (Verdict.RIGHT, Verdict.WRONG))
        for rank, (good, bad) in enumerate(zip(right.values(), wrong.values(), strict=False)):
            pair = Pair(good.problem.prompt, good.text, bad.text, attempts=(good.id, bad.id))
            ranks.setdefault(rank, []).append(pair)
    return [pair for rank in sorted(ranks) for pair in ranks[rank]]
