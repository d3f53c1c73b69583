"""SCoRe: reinforcement learning over two turns that teaches a model to correct its own first answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from selftaught import Ask, Attempt, Baseline, Claim, Policy, Problem, Run, Task, by_problem, curate, recipe, refine
from selftaught.check.claim import Precondition
from selftaught.learn import round_schedule
from selftaught.learn.objectives import reinforce
from selftaught.learn.online.two_turn_credit import TwoTurnReward
from selftaught.measure.flips import correction_metrics
from selftaught.records import content_hash
from selftaught.routines import self_correction as rates

DRAFTS = 2  # first attempts of the starting model per problem, sampled once for `offline_fraction`

CLAIM = Claim(
    "Reinforcement learning that first trains the second attempt alone, and then rewards progress between the two,"
    " makes second answers right more often than the model it began with, SFT on correction traces, and the same number"
    " of steps of reinforcement learning over both turns without its first stage and its bonus.",
    baselines=(
        "greedy",
        Baseline("SFT on corrections that worked (STaR)", method="star-corrections", options={"samples": 4}),
        Baseline("SFT on wrong and right answers (Pair-SFT)", method="pair-sft", options={"samples": 4}),
        Baseline(
            "one stage, no bonus", options={"rounds": 2, "stage1_rounds": 0, "alpha": 0.0, "offline_fraction": 0.0}
        ),
    ),
    preconditions=(
        Precondition(
            "the start changes answers when asked to (share of samples)", rates.start_change_rate, at_least=0.1
        ),
        Precondition(
            "the start mends wrong answers when asked to (share of them)", rates.start_fix_rate, at_least=0.05
        ),
    ),
    metric=rates.second_answer_accuracy,
    vote_baseline=True,
    options={"steps": 100, "batch_size": 16, "samples": 4, "alpha": 3.0, "lr_scale": 0.5},
    variant="hard",  # at the usual level RL alone solves all that the model can
    ablations={
        "without stage I": {"stage1_rounds": 0},
        "without the bonus": {"alpha": 0.0},
        "the paper's bonus": {"alpha": 10.0},
        "the paper's bonus, standardized": {"alpha": 10.0, "second_advantage": "group_std"},
        "on-policy attempts alone": {"offline_fraction": 0.0},
    },
    extra_metrics=rates.correction_and_start_rates,
)


@recipe(paper="2409.12917", needs=("verifier",), claim=CLAIM)
def score(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 2,
    stage1_rounds: int = 1,
    steps: int = 100,
    batch_size: int = 16,
    samples: int = 8,
    alpha: float = 10.0,
    second_advantage: Literal["group_mean", "group_std"] = "group_mean",
    kl_coef: float = 0.01,
    stage1_kl_coef: float = 0.1,
    offline_fraction: float = 0.25,
    lr_scale: float = 0.25,
) -> Policy:
    """Two-stage RL for self-correction: optimize turn 2 with turn 1 KL-anchored, then both with a progress bonus.

    Source: Kumar et al., Training Language Models to Self-Correct via Reinforcement Learning, 2409.12917, sections 4.1
    and 4.2. The model answers, reads that there may be a mistake, and answers again. Stage I (equation 3) rewards r2
    alone, with a strong KL penalty to the starting model on the first attempt. Stage II (equation 4) rewards r1 and
    r2 + alpha * (r2 - r1), with a small KL penalty on both. REINFORCE, each turn credited with its own reward (see
    `TwoTurnReward`), against the mean of that turn over a problem's rollouts. One optimizer goes through both stages.

    Differs from the paper: rollouts that the verifier cannot judge are left out. First attempts of the starting model
    are sampled once, and all rollouts of a problem in a step share one; their fraction is our choice. Each stage is one
    or more rounds, measured at their ends (with adapters each has a fresh optimizer). Promotion depends on the second
    answer. Steps and batch are smaller than the paper's 3,000 of 512, so that an alpha of 10 makes the second turn's
    advantages about 40 times as variable as the first's and its updates mostly noise: use 2 to 3, or
    `second_advantage="group_std"`. Settings are quoted from secondary sources, unconfirmed.

    Costs per round `steps * batch_size * samples` two-turn rollouts, each learned once; with `offline_fraction` also
    two answers per problem at the start.

    Args:
        rounds: trainings in sequence; each reports acc@t1, acc@t2 and their breakdown on dev.
        stage1_rounds: how many of the rounds, from the first, are Stage I.
        steps: rollout and update steps per round.
        batch_size: problems per step.
        samples: rollouts per problem and step.
        alpha: weight of the progress bonus.
        second_advantage: how rewards of second answers become advantages: less their mean, or standardized.
        kl_coef: weight of the KL penalty to the starting model, on each turn (beta1).
        stage1_kl_coef: extra weight on the first turn in Stage I (beta2): 0.1 for mathematics, 0.25 for code.
        offline_fraction: share of problems that start from a first attempt of the starting model, 0..1.
        lr_scale: multiplies the run's learning rate; 0.25 of the default 2e-5 is the paper's 5e-6.
    """
    drafts = run.attempt(base, task.train, samples=DRAFTS, temperature=1.0) if offline_fraction else []
    by_id, rollout = {draft.id: draft for draft in drafts}, TwoTurns(offline_fraction, by_problem(drafts))
    stage1 = TwoTurnReward(0.0, 0.0, (kl_coef + stage1_kl_coef, kl_coef), by_id)
    stage2 = TwoTurnReward(1.0, alpha, (kl_coef, kl_coef), by_id, second_advantage)
    policy = base
    for number in run.rounds(rounds):
        policy = run.learn_online(
            policy,
            curate.round_batch(task.train, steps * batch_size, number),
            solver=rollout,
            credit=(stage1 if number <= stage1_rounds else stage2).credit_assignment,
            objective=reinforce(reference=base),
            steps=steps,
            batch_size=batch_size,
            samples=samples,
            lr_scale=lr_scale,
            **round_schedule(run.settings.training, number, rounds),
        )
        run.measure(policy, solver=refine.two_turns, gated=True, metrics=correction_metrics)
    return run.champion


@dataclass(frozen=True)
class TwoTurns:
    """A two-turn solver that starts `offline_fraction` of a step's problems from a given first attempt.

    Attributes:
        offline_fraction: share of problems, 0..1.
        drafts: problem id -> first attempts to choose from.
    """

    offline_fraction: float
    drafts: Mapping[str, Sequence[Attempt]]
    id = "two-turns"

    @property
    def options(self) -> dict[str, float | str]:
        """The fraction, and a hash of the drafts, for the solver's name."""
        drafts = content_hash([a.id for group in self.drafts.values() for a in group])
        return {"offline_fraction": self.offline_fraction, "drafts": drafts}

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        """Answer or take a draft, then answer again."""
        lot = int(content_hash("draft", ask.policy, problem.id), 16)  # the live policy has another name each step
        group = self.drafts.get(problem.id, [])
        if group and lot % 1000 < 1000 * self.offline_fraction:
            return await refine.second_attempt(ask, group[lot // 1000 % len(group)])
        return await refine.two_turns(ask, problem)
