"""SELF: self-evolution with language feedback."""

from dataclasses import replace
from statistics import fmean

from selftaught import models, refine, routines
from selftaught.check.claim import Claim, Rival
from selftaught.curate import keep
from selftaught.learn import sft
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Problem
from selftaught.routines import Lesson
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.tasks import Task

CLAIM = Claim(
    "After learning to criticise and revise, training on one's own answers, revised and filtered by one's own verdict,"
    " beats the model it began with, and training on the answers as they come.",
    baselines=("greedy", Rival("neither refined nor filtered", options={"refined": False, "filtered": False})),
    options={"rounds": 2, "samples": 2, "drafts": 2},
    ablations={
        "not refined": {"refined": False},
        "not filtered": {"filtered": False},
        "continued, not restarted": {"restart": False},
        "one round": {"rounds": 1},
    },
)


@recipe(paper="2310.00533", needs=("verifier",), claim=CLAIM)
def self(
    run: Run, base: Policy, task: Task, *, rounds: int = 3, samples: int = 1, drafts: int = 4, temperature: float = 0.7,
    teacher: str = "", beta: float = 1.0, refined: bool = True, filtered: bool = True, restart: bool = True,
    refine_at_test: bool = False,
) -> Policy:  # fmt: skip
    """Learn to criticise and revise; then answer, revise, filter by one's own verdict, and learn that, over and over.

    Source: Lu et al., SELF: Self-Evolution with Language Feedback, 2310.00533, Algorithm 1. Meta-skill learning: SFT
    on (prompt, response, feedback, refined response), as feedback, as refinement and as an answer. Self-evolution: the
    policy answers, criticises and revises, keeps what it calls right itself, and learns it with the meta-skill corpus.

    Differs from the paper: prompts are the task's training problems, none are generated. Without a teacher the starting
    model writes feedback and refinements itself; from either, only what the verifier bears out is kept. A verdict is
    asked for in a word, beside the feedback. Verdicts of the verifier choose nothing in the evolution; they are
    reported: the share of right answers before refinement, after it, and after the filter.

    Costs `3 * drafts` answers a problem once, and per round up to `4 * samples` answers a problem and one fine-tuning.

    Args:
        rounds: of self-evolution.
        samples: answers per problem and round.
        drafts: answers per problem that the meta-skill corpus is made of.
        temperature: of answers, feedback and refinements; verdicts are greedy.
        teacher: model that writes the corpus's feedback and refinements, one that the run's engine can serve.
        beta: weight of the corpus's refined responses as plain answers.
        refined: whether answers are criticised and revised before they are learnt.
        filtered: whether only those are learnt that the policy calls right.
        restart: train the starting model on the corpus and the data of all rounds; else go on with the last policy.
        refine_at_test: measure answering with refinement on dev too, each round.
    """
    annotator = models.resolve(teacher, run.console.print) if teacher else base
    tried = routines.distinct(run.attempt(base, task.train, samples=drafts, temperature=temperature))
    lessons = routines.verified(routines.teach(run, annotator, annotator, tried, temperature=temperature))
    corpus = meta_skills(lessons, beta)
    policy = run.learn(base, sft(), corpus) if corpus else base
    evolved: list[Demo] = []
    for _ in run.rounds(rounds):
        before = run.attempt(policy, task.train, samples=samples, temperature=temperature)
        after = self_refined(run, policy, before, temperature) if refined else before
        words = run.attempt(policy, after, solver=refine.judge, temperature=0.0) if filtered else []
        kept = [a for a, word in zip(after, words, strict=True) if refine.accepted(word)] if filtered else after
        evolved = (evolved if restart else []) + keep(kept)
        run.log_metrics("corpus", {"lessons": len(lessons), "mending": sum(one.mends > 0 for one in lessons)})
        run.log_metrics(
            "right", {"answers": right(before), "refined": right(after), "kept": right(kept), "of": len(kept)}
        )
        policy = run.learn(base if restart else policy, sft(), corpus + evolved)
        run.measure(policy)
        if refine_at_test:
            run.log_metrics("refined at test", {"dev accuracy": run.measure(policy, solver=mend_one).accuracy})
    return run.champion


def meta_skills(lessons: list[Lesson], beta: float) -> list[Demo]:
    """Feedback, refinement, and the refined response as an answer: the three terms of the meta-skill loss."""
    answers = keep(routines.right_revisions(lessons))
    return routines.critiques(lessons) + routines.revisions(lessons) + [replace(demo, weight=beta) for demo in answers]


def self_refined(run: Run, policy: Policy, tried: list[Attempt], temperature: float) -> list[Attempt]:
    """Each attempt revised by the policy's own feedback, or as it is where that finds no mistakes.

    Where the request for feedback failed there is no answer: the failed request stands in its place.
    """
    notes = run.attempt(policy, tried, solver=refine.criticise, temperature=temperature)
    open_ = [note for note in notes if not refine.satisfied(note)]
    revised = {a.parent: a for a in run.attempt(policy, open_, solver=refine.revise, temperature=temperature)}
    pairs = zip(tried, notes, strict=True)
    return [note if note.failed else revised.get(note.id, draft) for draft, note in pairs]


async def mend_one(ask: Ask, problem: Problem) -> Attempt:
    """An answer, criticised and revised once."""
    return await refine.mend(ask, await ask(problem.prompt))


def right(attempts: list[Attempt]) -> float:
    """Share of right ones; 0 of none."""
    return fmean(attempt.right for attempt in attempts) if attempts else 0.0
