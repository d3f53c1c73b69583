"""SELF: self-evolution with language feedback."""

from collections.abc import Sequence
from dataclasses import replace

from selftaught import Ask, Baseline, Claim, Policy, Precondition, Run, Task, keep, recipe, refine, routines, sft
from selftaught.check.readings import logged
from selftaught.records import Attempt, Demo, Problem

CORPUS = {"annotated": 64, "drafts": 10}
CLAIM = Claim(
    "After learning from an annotator to critique and revise, training on one's own answers to unlabeled problems,"
    " revised and filtered by one's own feedback, beats training on the annotator's answers alone, and training on"
    " one's own answers as they come.",
    baselines=(
        "greedy",
        Baseline("SFT on the corpus's answers", method="corpus-sft", options=CORPUS, fit_with="drafts"),
        Baseline(
            "neither refined nor filtered", options={"self_refine": False, "self_filter": False}, fit_with="problems"
        ),
    ),
    preconditions=(
        Precondition(
            "answers kept are purer than greedy ones (gap)", logged("share right", "above greedy", at=0), at_least=0.01
        ),
        Precondition("the filter makes it purer (gain)", logged("share right", "gained by filter", at=0), at_least=0.0),
        Precondition("the corpus has 500 critiques", logged("corpus", "examples", at=0), at_least=500),
    ),
    options={**CORPUS, "problems": 512},
    train=CORPUS["annotated"] + 3 * 512,
    variant="checkable",
    ablations={
        "not refined": {"self_refine": False},
        "not filtered": {"self_filter": False},
        "continued, not restarted": {"restart": False},
        "one round": {"rounds": 1},
    },
    champion="last",
)


@recipe(paper="2310.00533", needs=("verifier", "teacher"), claim=CLAIM)
def self(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 3,
    samples: int = 1,
    annotated: int = 256,
    problems: int = 512,
    drafts: int = 4,
    temperature: float = 0.7,
    teacher: str = "",
    beta: float = 1.0,
    self_refine: bool = True,
    self_filter: bool = True,
    restart: bool = True,
    refine_at_test: bool = False,
) -> Policy:
    """Train critique and revision skills, then iterate: answer, self-refine, self-filter, fine-tune.

    Source: Lu et al., SELF: Self-Evolution with Language Feedback, 2310.00533, Algorithm 1. Meta-skill learning: SFT
    on (prompt, response, feedback, refined response) of an annotator, as feedback, as refinement and as an answer.
    Self-evolution: on prompts that are new in each round, the policy answers, critiques and revises, keeps what its own
    feedback finds no mistakes in, and is fine-tuned on that together with the meta-skill corpus.

    Differs from the paper: the unlabeled prompts are train problems outside of the corpus, none are generated. The
    annotator is the task's own where it has one; without it and without a teacher the starting model annotates. Of the
    annotations only what the verifier confirms is kept. In the evolution verdicts choose nothing; they are reported:
    the share of right answers before refinement, after it, and after the filter. The sizes are not the paper's (256
    annotated problems and 512 prompts a round, where the paper has thousands; unconfirmed).

    Costs `drafts` answers to an annotated problem, and a critique and a revision of each if the annotator is a model;
    then per round up to `4 * samples` answers to each of its problems and one fine-tuning.

    Args:
        rounds: rounds of self-evolution.
        samples: answers per problem and round.
        annotated: train problems of the meta-skill corpus, the first ones; at most half of all.
        problems: train problems per round of the evolution, new in each round; fewer if there are not enough.
        drafts: answers per problem that the meta-skill corpus is made of.
        temperature: sampling temperature of answers and refinements; feedback is greedy.
        teacher: model that annotates, also behind an endpoint; empty for the task's annotator, else the base model.
        beta: β in the paper, weight of the corpus's refined responses as plain answers.
        self_refine: critique and revise answers before training on them.
        self_filter: train only on answers in which the policy's own feedback finds no mistakes.
        restart: train the starting model on the data of all rounds; otherwise the last policy on this round's.
        refine_at_test: also measure answering with refinement on dev, each round.
    """
    annotator = routines.choose_teacher(run, base, task, teacher)
    known, prompts = routines.split_train(task.train, annotated, rounds, problems)
    drafted = run.attempt(base, known, samples=drafts, temperature=temperature)
    found = routines.annotate_drafts(run, drafted, annotator, temperature=temperature)
    examples = routines.filter_verified(found)
    corpus = meta_skills(examples, beta)
    policy, evolved = run.learn(base, sft(), corpus) if corpus else base, list[Demo]()
    greedy = run.measure(policy).accuracy
    for number in run.rounds(rounds):
        before = run.attempt(policy, prompts[number - 1], samples=samples, temperature=temperature)
        after = refine_all(run, policy, before, temperature) if self_refine else before
        kept = accepted_by(run, policy, after, before if self_refine else ()) if self_filter else after
        evolved = (evolved if restart else []) + keep(kept)
        run.log_metrics("corpus", {"examples": len(examples), "fixing": sum(one.fix_rate > 0 for one in examples)})
        run.log_metrics("share right", routines.purity(before, after, kept, greedy))
        policy = run.learn(base if restart else policy, sft(), corpus + evolved)
        greedy = run.measure(policy).accuracy
        if refine_at_test:
            run.log_metrics("refined at test", {"dev accuracy": run.measure(policy, solver=answer_and_refine).accuracy})
    return run.champion


def meta_skills(examples: list[routines.CritiqueExample], beta: float) -> list[Demo]:
    """Feedback, refinement, and the refined response as an answer: the three terms of the meta-skill loss."""
    answers = [replace(demo, weight=beta) for demo in routines.answer_demos(examples)]
    return routines.critique_demos(examples) + routines.revision_demos(examples) + answers


def refine_all(run: Run, policy: Policy, tried: list[Attempt], temperature: float) -> list[Attempt]:
    """Revise each attempt by the policy's own feedback; leave it as it is where that finds no mistakes.

    Where the request for feedback failed, the failed request takes the attempt's place.
    """
    critiques = run.attempt(policy, tried, solver=refine.criticize, temperature=0.0)
    flawed = [critique for critique in critiques if not refine.finds_no_error(critique)]
    revised = {a.parent: a for a in run.attempt(policy, flawed, solver=refine.revise, temperature=temperature)}
    pairs = zip(tried, critiques, strict=True)
    return [critique if critique.failed else revised.get(critique.id, draft) for draft, critique in pairs]


def accepted_by(run: Run, policy: Policy, attempts: list[Attempt], cleared: Sequence[Attempt]) -> list[Attempt]:
    """The attempts in which the policy's own feedback, greedily, finds no mistakes; not asked again of `cleared`."""
    known = {one.id for one in cleared}
    critiques = run.attempt(policy, [a for a in attempts if a.id not in known], solver=refine.criticize, temperature=0)
    accepted = known | {critique.parent for critique in critiques if refine.finds_no_error(critique)}
    return [one for one in attempts if one.id in accepted]


async def answer_and_refine(ask: Ask, problem: Problem) -> Attempt:
    """Answer, then critique and revise once."""
    return await refine.critique_and_revise(ask, await ask(problem.prompt))
