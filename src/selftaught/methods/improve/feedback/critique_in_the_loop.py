"""Critique-in-the-loop: a trained critic repairs failed attempts, so that hard problems are learned too."""

from collections.abc import Sequence, Set
from statistics import fmean
from typing import Any

from selftaught import Attempt, Baseline, Claim, Demo, Policy, Run, Task, recipe, refine, resolve, routines, sft
from selftaught.curate import by_problem, finished, keep_right

CLAIM = Claim(
    "Self-training in which a trained critic repairs failures beats the model it began with, and plain rejection"
    " sampling, which learns what is right at the first attempt.",
    baselines=("greedy", Baseline("without the critic", options={"repairs": 0})),
    options={"rounds": 2, "samples": 4, "repairs": 4, "drafts": 3, "rollouts_per_critique": 2, "per_problem": 4},
    ablations={
        "one round": {"rounds": 1},
        "no Monte Carlo check": {"min_success_rate": 0.0},
        "with self-talk": {"self_talk": True},
        "revisions not learned": {"learn_revisions": False},
    },
)


@recipe(paper="2411.16579", needs=("verifier",), claim=CLAIM)
def critique_in_the_loop(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 3,
    samples: int = 10,
    repairs: int = 10,
    per_problem: int = 10,
    temperature: float = 0.7,
    drafts: int = 4,
    critiques: int = 1,
    rollouts_per_critique: int = 4,
    min_success_rate: float = 0.5,
    hard_threshold: float = 0.25,
    teacher: str = "",
    learn_revisions: bool = True,
    self_talk: bool = False,
) -> Policy:
    """Train a critic, let it repair failures (most on hard problems), and fine-tune on all right answers.

    Source: Xi et al., Enhancing LLM Reasoning via Critique Models with Test-Time and Training-Time Supervision,
    2411.16579, sections 3 and 5. Solutions that are wrong, or perturbed from right ones, are critiqued; a critique is
    kept if its revisions are right often enough. Then each round the actor samples, the critic critiques failures and
    the actor revises them, in proportion to the problem's share of failures; right answers, balanced over problems,
    train the starting model.

    Differs from the paper: without a teacher the starting model writes the critiques, and the Monte Carlo check stands
    in for the annotator's skill; mistakes are located by exact verdicts on steps where the task has them, else by where
    a perturbed solution leaves its right original. The critic is trained once. There are no reference solutions in the
    actor's training set. The sample counts are those of the paper's middle setting, unconfirmed.

    Costs `drafts * (2 + critiques * (1 + rollouts_per_critique))` answers a problem once, and per round `samples`
    answers a problem, up to `2 * repairs` more on a hard one, and one fine-tuning.

    Args:
        rounds: rounds of self-training.
        samples: answers per problem and round.
        repairs: most critiques, each with a revision, of failures at one problem; 0 trains without a critic.
        per_problem: most answers trained on per problem.
        temperature: sampling temperature of answers, critiques and revisions.
        drafts: answers per problem that the critic's training set is made of.
        critiques: critiques per draft.
        rollouts_per_critique: revisions per critique.
        min_success_rate: share of these that must be right to keep the critique; at 0, pointing at the mistake is
            enough.
        hard_threshold: a problem is hard if at most this share of the starting model's first samples is right.
        teacher: model that writes the critic's training critiques, served by the run's engine; default the base model.
        learn_revisions: also train on right revisions under the prompt with draft and critique, to keep that skill.
        self_talk: also train on draft, critique and revision as one text.
    """
    critic, examples = None, list[routines.CritiqueExample]()
    if repairs:
        annotator = resolve(teacher, run.console.print, where="--teacher") if teacher else base
        how: dict[str, Any] = {"drafts": drafts, "critiques": critiques, "rollouts_per_critique": rollouts_per_critique}
        how |= {"min_success_rate": min_success_rate, "temperature": temperature}
        examples = routines.collect_critic_data(run, base, annotator, task, **how)
        critic = run.learn(base, sft(), routines.critique_demos(examples)) if examples else annotator
    actor, hard = base, set[str]()
    for number in run.rounds(rounds):
        tried = run.attempt(actor, task.train, samples=samples, temperature=temperature)
        hard = hard_problems(tried, hard_threshold) if number == 1 else hard
        repaired = routines.repair_failures(run, critic, actor, tried, repairs, temperature) if critic else []
        demos = keep_right(routines.deduplicate([*tried, *repaired]), per_problem=per_problem)
        demos += repair_demos(repaired, per_problem, as_revisions=learn_revisions, as_self_talk=self_talk)
        run.log_metrics("hard problems", coverage(hard, tried, repaired))
        version, counts = critic.version if critic else "none", {"examples": len(examples), "repairs": len(repaired)}
        run.log_metrics("critic", {"policy": version, **counts})
        actor = run.learn(base, sft(), demos)
        run.measure(actor)
    return run.champion


def hard_problems(tried: Sequence[Attempt], threshold: float) -> set[str]:
    """Ids of the problems of which at most this share of the attempts is right."""
    return {name for name, group in by_problem(tried).items() if fmean(a.right for a in group) <= threshold}


def repair_demos(
    repaired: Sequence[Attempt], per_problem: int, *, as_revisions: bool, as_self_talk: bool
) -> list[Demo]:
    """The first right repairs of each problem, as revisions of their draft and as one self-correcting text."""
    fixed = by_problem(a for a in finished(repaired) if a.right).values()
    kept = [a for group in fixed for a in group[:per_problem]]
    demos = [Demo(a.prompt, a.text, attempts=(a.id, a.parent or a.id)) for a in kept if as_revisions]
    return demos + [refine.self_talk(a) for a in kept if as_self_talk]


def coverage(hard: Set[str], tried: Sequence[Attempt], repaired: Sequence[Attempt]) -> dict[str, float]:
    """Share of the hard problems with a right answer, and distinct right answers, without and with repairs."""
    direct, both = ([a for a in some if a.right and a.problem.id in hard] for some in (tried, [*tried, *repaired]))
    count = max(1, len(hard))
    return {
        "of": len(hard),
        "covered directly": len(by_problem(direct)) / count,
        "covered": len(by_problem(both)) / count,
        "distinct directly": len(routines.deduplicate(direct)) / count,
        "distinct": len(routines.deduplicate(both)) / count,
    }
