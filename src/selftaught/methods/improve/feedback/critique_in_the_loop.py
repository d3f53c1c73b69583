"""Critique-in-the-loop: a trained critic repairs what the actor fails at, so that hard problems are learnt too."""

from collections.abc import Sequence, Set
from statistics import fmean

from selftaught import models, refine, routines
from selftaught.check.claim import Claim, Rival
from selftaught.curate import by_problem, keep_right, whole
from selftaught.learn import sft
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.records import Attempt, Demo
from selftaught.run.run import Run
from selftaught.tasks import Task

CLAIM = Claim(
    "Self-training in which a trained critic repairs failures beats the model it began with, and plain rejection"
    " sampling, which learns what is right at the first attempt.",
    baselines=("greedy", Rival("without the critic", options={"repairs": 0})),
    options={"rounds": 2, "samples": 4, "repairs": 4, "drafts": 3, "checks": 2, "per_problem": 4},
    ablations={
        "one round": {"rounds": 1},
        "no Monte-Carlo check": {"least": 0.0},
        "with self-talk": {"self_talk": True},
        "revisions not learnt": {"learn_revisions": False},
    },
)


@recipe(paper="2411.16579", needs=("verifier",), claim=CLAIM)
def critique_in_the_loop(
    run: Run, base: Policy, task: Task, *, rounds: int = 3, samples: int = 10, repairs: int = 10, per_problem: int = 10,
    temperature: float = 0.7, drafts: int = 4, critiques: int = 1, checks: int = 4, least: float = 0.5,
    hard: float = 0.25, teacher: str = "", learn_revisions: bool = True, self_talk: bool = False,
) -> Policy:  # fmt: skip
    """Train a critic on critiques that help; let it repair failures, most on hard problems; learn what is right.

    Source: Xi et al., Enhancing LLM Reasoning via Critique Models with Test-Time and Training-Time Supervision,
    2411.16579, sections 3 and 5. Solutions that are wrong, or derailed from right ones, are criticised; a critique is
    kept if revisions by it are right often enough. Then each round the actor samples, the critic comments on failures
    and the actor revises, in proportion to the problem's share of failures; right answers, as many for each problem,
    train the starting model.

    Differs from the paper: without a teacher the starting model writes the critiques, and the Monte-Carlo check stands
    in for the annotator's skill; mistakes are located by exact verdicts on steps where the task has them, else by where
    a derailed solution leaves its right original. The critic is trained once. There are no reference solutions in the
    actor's training set. The sample counts are those of the paper's middle setting, unconfirmed.

    Costs `drafts * (2 + critiques * (1 + checks))` answers a problem once, and per round `samples` answers a problem,
    up to `2 * repairs` more on a hard one, and one fine-tuning.

    Args:
        rounds: of self-training.
        samples: answers per problem and round.
        repairs: most critiques, each with a revision, of failures at one problem; 0 trains without a critic.
        per_problem: most answers learnt per problem.
        temperature: of answers, critiques and revisions.
        drafts: answers per problem that the critic's training set is made of.
        critiques: per draft.
        checks: revisions per critique.
        least: share of them that must be right for the critique to be learnt; at 0 one that points right will do.
        hard: a problem is hard if the starting model has at most this share of its first samples right.
        teacher: model that writes the critiques the critic learns, one that the run's engine can serve.
        learn_revisions: learn right revisions under the prompt with draft and critique too, so that the skill stays.
        self_talk: learn draft, critique and revision as one text too.
    """
    critic, lessons = None, list[routines.Lesson]()
    if repairs:
        annotator = models.resolve(teacher, run.console.print) if teacher else base
        how = {"drafts": drafts, "notes": critiques, "checks": checks, "least": least, "temperature": temperature}
        lessons = routines.critic_lessons(run, base, annotator, task, **how)
        critic = run.learn(base, sft(), routines.critiques(lessons)) if lessons else annotator
    actor, difficult = base, set[str]()
    for number in run.rounds(rounds):
        tried = run.attempt(actor, task.train, samples=samples, temperature=temperature)
        if number == 1:
            difficult = {name for name, group in by_problem(tried).items() if fmean(a.right for a in group) <= hard}
        repaired = routines.repair(run, critic, actor, tried, repairs, temperature) if critic else []
        mended = [
            a for group in by_problem(a for a in whole(repaired) if a.right).values() for a in group[:per_problem]
        ]
        demos = keep_right(routines.distinct([*tried, *repaired]), per_problem=per_problem)
        demos += [Demo(a.prompt, a.text, attempts=(a.id, a.parent or a.id)) for a in mended if learn_revisions]
        demos += [refine.self_talk(a) for a in mended if self_talk]
        run.log_metrics("hard problems", coverage(difficult, tried, repaired))
        who = critic.version if critic else "none"
        run.log_metrics("critic", {"policy": who, "lessons": len(lessons), "repairs": len(repaired)})
        actor = run.learn(base, sft(), demos)
        run.measure(actor)
    return run.champion


def coverage(difficult: Set[str], tried: Sequence[Attempt], repaired: Sequence[Attempt]) -> dict[str, float]:
    """Of the hard problems, the share with a right answer, without and with repairs, and how varied those are."""
    direct, both = ([a for a in some if a.right and a.problem.id in difficult] for some in (tried, [*tried, *repaired]))
    count = max(1, len(difficult))
    return {
        "of": len(difficult),
        "covered directly": len(by_problem(direct)) / count,
        "covered": len(by_problem(both)) / count,
        "distinct directly": len(routines.distinct(direct)) / count,
        "distinct": len(routines.distinct(both)) / count,
    }
