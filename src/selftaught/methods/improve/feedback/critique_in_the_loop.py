"""Critique-in-the-loop: a trained critic repairs failed attempts, so that hard problems are learned too."""

from collections.abc import Sequence
from typing import Any

from selftaught import Attempt, Baseline, Claim, Demo, Policy, Precondition, Run, Task, recipe, refine, routines, sft
from selftaught.check.readings import logged
from selftaught.curate import by_problem, finished, keep_right

CLAIM = Claim(
    "Self-training in which a critic, trained on an annotator's critiques, repairs failures beats the model it began"
    " with, and the same self-training without the critic.",
    baselines=("greedy", Baseline("without the critic", options={"repairs": 0}, fit_with="samples")),
    preconditions=(
        Precondition("the critic learned from 1,000 critiques", logged("critic", "lessons", at=0), at_least=1000),
        Precondition("it locates mistakes better than untrained", logged("critic", "f1_gain", at=0), at_least=0.1),
        Precondition("its critiques mend more than untrained", logged("critic", "mended_gain", at=0), at_least=0.05),
        Precondition("a quarter of the train problems is hard", routines.hard_share, at_least=0.25),
        Precondition(
            "repairs reach hard problems that answers do not", logged("hard problems", "gained", at=1), at_least=0.02
        ),
    ),
    options={
        "samples": 8,
        "repairs": 8,
        "drafts": 8,
        "annotated": 256,
        "learn_solutions": False,
        "learn_refinements": False,
    },
    train=512,
    variant="hard",
    ablations={
        "one round": {"rounds": 1},
        "the actor learns the annotator's solutions too": {"learn_solutions": True},
        "the actor learns the annotator's revisions too": {"learn_refinements": True},
        "at most 4 answers per problem": {"per_problem": 4},
        "with self-talk": {"self_talk": True},
        "revisions not learned": {"learn_revisions": False},
    },
    champion="last",
)


@recipe(paper="2411.16579", needs=("verifier", "teacher"), claim=CLAIM)
def critique_in_the_loop(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 3,
    samples: int = 10,
    repairs: int = 10,
    per_problem: int = 0,
    temperature: float = 0.7,
    teacher: str = "",
    annotated: int = 0,
    drafts: int = 4,
    rollouts_per_critique: int = 4,
    probe: int = 64,
    learn_solutions: bool = True,
    learn_refinements: bool = True,
    learn_revisions: bool = True,
    self_talk: bool = False,
) -> Policy:
    """Train a critic, let it repair failures (most on hard problems), and fine-tune on all right answers.

    Source: Xi et al., Enhancing LLM Reasoning via Critique Models with Test-Time and Training-Time Supervision,
    2411.16579, sections 3 and 5, and the authors' code (github.com/WooooDyy/MathCritique, selfimprove). An annotator
    critiques and revises the starting model's drafts. Its critiques train a critic; its solutions and revisions train
    the actor for the first time. Each round the actor samples, the critic critiques each failure greedily and the actor
    revises it; right answers and right revisions, with the annotator's data, train the starting model anew.

    Differs from the paper: the annotator is the task's own where it has one, whose critiques need no Monte Carlo check;
    without it and without a teacher the starting model annotates. A critique is in the form that the task's model
    knows. Revisions that lose their steps are recognized by the draft alone (`refine.keeps_steps`). One revision per
    failure is sampled, where the code samples several and keeps one.

    Costs `drafts` answers a problem once, and a critique and a revision of each if the annotator is a model; then per
    round `samples` answers a problem, up to `2 * repairs` more on a hard one, and one fine-tuning.

    Args:
        rounds: rounds of self-training.
        samples: answers per problem and round (N in the paper).
        repairs: most revisions of failures at one problem; as many as `samples` revises each failure once; 0 trains
            without a critic.
        per_problem: most right answers per problem and round that are trained on; 0 for all.
        temperature: sampling temperature of answers and revisions; critiques are greedy.
        teacher: model that annotates, also behind an endpoint; empty for the task's annotator, else the base model.
        annotated: train problems that are annotated, the first ones; 0 for all but those of `probe`.
        drafts: answers per problem that the annotator critiques.
        rollouts_per_critique: revisions by the base model per critique of a model that annotates; a critique is kept if
            half of its revisions are right.
        probe: train problems, not annotated, on which the critic is measured; at most a quarter.
        learn_solutions: also train the actor on the annotator's solutions.
        learn_refinements: also train the actor on the annotator's revisions.
        learn_revisions: also train on right revisions under the prompt with draft and critique, to keep that skill.
        self_talk: also train on draft, critique and revision as one text.
    """
    how: dict[str, Any] = {"annotated": annotated, "probe": probe, "drafts": drafts, "solve": learn_solutions}
    how |= {"rollouts_per_critique": rollouts_per_critique, "temperature": temperature}
    expert = routines.collect_expert_data(run, base, task, teacher, **how)
    corpus = expert.demos(revisions=learn_refinements)
    actor, first = run.learn(base, sft(), corpus) if corpus else base, list[Attempt]()
    critic = routines.train_measured_critic(run, base, actor, expert, temperature=temperature) if repairs else None
    for _ in run.rounds(rounds):
        tried = run.attempt(actor, task.train, samples=samples, temperature=temperature)
        repaired = routines.repair_failures(run, critic.policy, actor, tried, repairs, temperature) if critic else []
        first = first or tried
        run.log_metrics("critic", {**(critic.metrics if critic else {}), "repairs": len(repaired)})
        run.log_metrics("hard problems", routines.hard_coverage(first, tried, repaired))
        new = right_demos(tried, repaired, per_problem or None, as_revisions=learn_revisions, as_self_talk=self_talk)
        actor = run.learn(base, sft(), corpus + new)
        run.measure(actor)
    return run.champion


def right_demos(
    tried: Sequence[Attempt],
    repaired: Sequence[Attempt],
    per_problem: int | None,
    *,
    as_revisions: bool,
    as_self_talk: bool,
) -> list[Demo]:
    """Right answers and repairs; the first repairs of each problem also as revisions, and as self-correcting texts."""
    fixed = by_problem(a for a in finished(repaired) if a.right).values()
    kept = [a for group in fixed for a in group[:per_problem]]
    demos = keep_right([*tried, *repaired], per_problem=per_problem)
    demos += [Demo(a.prompt, a.text, attempts=(a.id, a.parent or a.id)) for a in kept if as_revisions]
    return demos + [refine.self_talk(a) for a in kept if as_self_talk]
