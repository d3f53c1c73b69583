"""SCoRe: reinforcement learning over two turns that teaches a model to correct its own first answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from selftaught import refine
from selftaught.check.claim import Baseline, Claim, SystemResult
from selftaught.curate import by_problem, finished
from selftaught.errors import BadInput, nearest
from selftaught.learn.objectives import reinforce, sft
from selftaught.learn.online.two_turn_credit import Shaping
from selftaught.measure.flips import correction_metrics, turn_verdicts
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Problem, Verdict, content_hash
from selftaught.run.ask import Ask
from selftaught.run.run import Run, Solved
from selftaught.tasks import Task

LEARNERS = ("reinforcement", "star", "pairs")
DRAFTS = 2  # first attempts of the starting model per problem, where they are mixed in


def answered_twice(outcome: SystemResult) -> list[Solved]:
    """A finished system's two answers to each test problem, greedily."""
    run = outcome.run
    return run.solve(outcome.policy, run.task.test, "test", solver=refine.two_turns, turns=True, temperature=0.0)


def second_right(outcome: SystemResult) -> dict[str, float]:
    """1 where the second answer is right, else 0."""
    return {one.attempt.problem.id: float(one.attempt.right) for one in answered_twice(outcome)}


CLAIM = Claim(
    "Reinforcement learning that first trains the second attempt alone, and then rewards progress between the two,"
    " makes second answers right more often than the model it began with, SFT on correction traces, and one stage of"
    " plain reinforcement learning over both turns.",
    baselines=(
        "greedy",
        Baseline("SFT on corrections that worked (STaR)", options={"learner": "star", "samples": 4}),
        Baseline("SFT on wrong and right answers (Pair-SFT)", options={"learner": "pairs", "samples": 4}),
        Baseline("one stage, no bonus", options={"pinned": 0, "alpha": 0.0, "offline": 0.0}),
    ),
    metric=second_right,
    vote_baseline=True,
    options={"rounds": 2, "pinned": 1, "steps": 4, "samples": 4, "pace": 0.5},
    ablations={
        "without stage I": {"pinned": 0},
        "without the bonus": {"alpha": 0.0},
        "on-policy attempts alone": {"offline": 0.0},
    },
    extra_metrics=lambda outcome: correction_metrics([turn_verdicts(one) for one in answered_twice(outcome)]),
)


@recipe(paper="2409.12917", needs=("verifier",), claim=CLAIM)
def score(
    run: Run, base: Policy, task: Task, *, rounds: int = 2, pinned: int = 1, steps: int = 20, samples: int = 8,
    alpha: float = 10.0, kl: float = 0.01, strong: float = 0.1, offline: float = 0.25, pace: float = 0.25,
    learner: str = "reinforcement",
) -> Policy:  # fmt: skip
    """Train the second attempt with the first held where it was; then both, with a bonus for progress between them.

    Source: Kumar et al., Training Language Models to Self-Correct via Reinforcement Learning, 2409.12917, sections 4.1
    and 4.2. The model answers, is told that there may be a mistake, and answers again. Stage I (equation 3) rewards
    r2 alone, with a strong KL to the starting model on the first attempt. Stage II (equation 4) rewards r1 and
    r2 + alpha * (r2 - r1), with a small KL on both. REINFORCE against the mean of a problem's rollouts.

    Differs from the paper: a turn is credited with its own reward alone, so that the bonus cannot teach a wrong first
    answer; the gradient of equation 4 credits it with what comes after too. Rollouts of a problem whose two verdicts
    are all the same are skipped, and those the verifier cannot judge. First attempts of the starting model are drawn
    once, the same for a problem's rollouts in a step; their share is a choice of ours. A stage is one or more rounds,
    each a training of its own with a fresh optimiser state, measured at its end. The gate goes by the second answer.
    Steps and batch are far smaller than 1,500 to 3,000 of 512. Settings are quoted from secondary sources, unconfirmed.

    Costs per round `steps * batch * samples` answers, twice, learnt once each; for `offline`, two answers per problem.

    Args:
        rounds: trainings, one after the other; each told acc@t1, acc@t2 and what they are made of on dev.
        pinned: how many of them, the first ones, are Stage I.
        steps: rollouts and updates in a round.
        samples: rollouts per problem and step.
        alpha: weight of the progress bonus.
        kl: weight of the KL to the starting model, on each turn (beta1).
        strong: what Stage I adds to that on the first turn (beta2): 0.1 for mathematics, 0.25 for code.
        offline: share of problems that start from a first attempt of the starting model.
        pace: learning rate, as a multiple of the run's: 0.25 of the usual 2e-5 is the paper's 5e-6.
        learner: "reinforcement", or SFT on second answers: of corrections that worked ("star"), or on a right answer
            behind a wrong one, both drawn alone from the starting model ("pairs").
    """
    if learner not in LEARNERS:
        raise BadInput(f"unknown {learner!r}", where="learner", fix=nearest(learner, LEARNERS))
    drafts = run.attempt(base, task.train, n=DRAFTS, temperature=1.0) if offline and learner == LEARNERS[0] else []
    rate, policy = pace * run.settings.training.learning_rate, base
    for number in run.rounds(rounds):
        if learner == "reinforcement":
            first = {draft.id: draft for draft in drafts}
            stage_one = Shaping(0.0, 0.0, (kl + strong, kl), first)
            stage = stage_one if number <= pinned else Shaping(1.0, alpha, (kl, kl), first)
            policy = run.reinforce(
                policy, task.train, rollout=Mixed(offline, by_problem(drafts)), credit=stage.crediting,
                objective=reinforce(reference=base), steps=steps, n=samples, learning_rate=rate,
            )  # fmt: skip
        elif traces := TRACES[learner](run, policy, base, task, samples):
            policy = run.learn(base, sft(), traces)
        run.measure(policy, solver=refine.two_turns, gated=True, figures=correction_metrics)
    return run.champion


@dataclass(frozen=True)
class Mixed:
    """A solver of two turns; for `share` of the problems of a step it goes on from one of `drafts`, by problem id."""

    share: float
    drafts: Mapping[str, Sequence[Attempt]]
    id = "two-turns"

    @property
    def options(self) -> dict[str, float | str]:
        """For the name: the share, and the drafts as a hash."""
        return {"share": self.share, "drafts": content_hash([a.id for group in self.drafts.values() for a in group])}

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        """A first answer or a draft, and a second answer."""
        lot = int(content_hash("draft", ask.policy, problem.id), 16)  # the live policy has another name each step
        group = self.drafts.get(problem.id, [])
        if group and lot % 1000 < 1000 * self.share:
            return await refine.second_attempt(ask, group[lot // 1000 % len(group)])
        return await refine.two_turns(ask, problem)


def worked(run: Run, policy: Policy, base: Policy, task: Task, n: int) -> list[Demo]:
    """Second answers of the policy that mended a wrong first one (STaR; Zelikman et al., 2203.14465)."""
    del base
    wrong = [a for a in run.attempt(policy, task.train, n=n, temperature=1.0) if a.verdict is Verdict.WRONG]
    revised = run.attempt(policy, wrong, solver=refine.second_attempt, temperature=1.0)
    return [Demo(a.prompt, a.text, attempts=(a.id, a.parent or a.id)) for a in finished(revised) if a.right]


def paired(run: Run, policy: Policy, base: Policy, task: Task, n: int) -> list[Demo]:
    """Right answers put behind wrong ones to the same problem (Pair-SFT; Welleck et al., 2211.00053)."""
    del policy
    groups = by_problem(finished(run.attempt(base, task.train, n=n, temperature=1.0))).values()
    sides = [[[a for a in group if a.verdict is v] for v in (Verdict.WRONG, Verdict.RIGHT)] for group in groups]
    pairs = [pair for wrong, right in sides for pair in zip(wrong, right, strict=False)]
    return [
        Demo(refine.self_correction_prompt(task.turn, bad), good.text, attempts=(good.id, bad.id))
        for bad, good in pairs
    ]


TRACES: dict[str, Callable[[Run, Policy, Policy, Task, int], list[Demo]]] = {"star": worked, "pairs": paired}
