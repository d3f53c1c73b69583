"""SELF: self-evolution with language feedback."""

from dataclasses import replace
from statistics import fmean

from selftaught import Ask, Baseline, Claim, Policy, Run, Task, keep, recipe, refine, resolve, routines, sft
from selftaught.records import Attempt, Demo, Problem

CLAIM = Claim(
    "After learning to critique and revise, training on one's own answers, revised and filtered by one's own verdict,"
    " beats the model it began with, and training on the answers as they come.",
    baselines=(
        "greedy",
        Baseline("neither refined nor filtered", options={"self_refine": False, "self_filter": False}),
    ),
    options={"rounds": 2, "samples": 2, "drafts": 2},
    ablations={
        "not refined": {"self_refine": False},
        "not filtered": {"self_filter": False},
        "continued, not restarted": {"restart": False},
        "one round": {"rounds": 1},
    },
)


@recipe(paper="2310.00533", needs=("verifier",), claim=CLAIM)
def self(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 3,
    samples: int = 1,
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
    on (prompt, response, feedback, refined response), as feedback, as refinement and as an answer. Self-evolution: the
    policy answers, critiques and revises, keeps what it judges right itself, and is fine-tuned on that together with
    the meta-skill corpus.

    Differs from the paper: prompts are the task's training problems, none are generated. Without a teacher the starting
    model writes feedback and refinements itself; from either, only what the verifier confirms is kept. The verdict is
    one word, separate from the feedback. The verifier's verdicts choose nothing in the evolution; they are only
    reported: the share of right answers before refinement, after it, and after the filter.

    Costs `3 * drafts` answers a problem once, and per round up to `4 * samples` answers a problem and one fine-tuning.

    Args:
        rounds: rounds of self-evolution.
        samples: answers per problem and round.
        drafts: answers per problem that the meta-skill corpus is made of.
        temperature: sampling temperature of answers, feedback and refinements; verdicts are greedy.
        teacher: model that writes the corpus's feedback and refinements, served by the run's engine; default the base.
        beta: β in the paper, weight of the corpus's refined responses as plain answers.
        self_refine: critique and revise answers before training on them.
        self_filter: train only on answers that the policy judges right.
        restart: train the starting model on the data of all rounds; otherwise the last policy on this round's.
        refine_at_test: also measure answering with refinement on dev, each round.
    """
    annotator = resolve(teacher, run.console.print, where="--teacher") if teacher else base
    tried = routines.deduplicate(run.attempt(base, task.train, samples=drafts, temperature=temperature))
    examples = routines.collect_critiques(run, annotator, annotator, tried, temperature=temperature)
    examples = routines.filter_verified(examples)
    corpus = meta_skills(examples, beta)
    policy = run.learn(base, sft(), corpus) if corpus else base
    evolved: list[Demo] = []
    for _ in run.rounds(rounds):
        before = run.attempt(policy, task.train, samples=samples, temperature=temperature)
        after = refine_all(run, policy, before, temperature) if self_refine else before
        kept = accepted_by(run, policy, after) if self_filter else after
        evolved = (evolved if restart else []) + keep(kept)
        run.log_metrics("corpus", {"examples": len(examples), "fixing": sum(one.fix_rate > 0 for one in examples)})
        shares = {"answers": share_right(before), "refined": share_right(after), "kept": share_right(kept)}
        run.log_metrics("share right", shares | {"of": len(kept)})
        policy = run.learn(base if restart else policy, sft(), corpus + evolved)
        run.measure(policy)
        if refine_at_test:
            run.log_metrics("refined at test", {"dev accuracy": run.measure(policy, solver=answer_and_refine).accuracy})
    return run.champion


def meta_skills(examples: list[routines.CritiqueExample], beta: float) -> list[Demo]:
    """Feedback, refinement, and the refined response as an answer: the three terms of the meta-skill loss."""
    answers = [replace(demo, weight=beta) for demo in keep(routines.right_revisions(examples))]
    return routines.critique_demos(examples) + routines.revision_demos(examples) + answers


def refine_all(run: Run, policy: Policy, tried: list[Attempt], temperature: float) -> list[Attempt]:
    """Revise each attempt by the policy's own feedback; leave it as it is where that finds no mistakes.

    Where the request for feedback failed, the failed request takes the attempt's place.
    """
    critiques = run.attempt(policy, tried, solver=refine.criticize, temperature=temperature)
    flawed = [critique for critique in critiques if not refine.finds_no_error(critique)]
    revised = {a.parent: a for a in run.attempt(policy, flawed, solver=refine.revise, temperature=temperature)}
    pairs = zip(tried, critiques, strict=True)
    return [critique if critique.failed else revised.get(critique.id, draft) for draft, critique in pairs]


def accepted_by(run: Run, policy: Policy, attempts: list[Attempt]) -> list[Attempt]:
    """The attempts that the policy judges right in a word, greedily."""
    verdicts = run.attempt(policy, attempts, solver=refine.judge_answer, temperature=0.0)
    return [a for a, verdict in zip(attempts, verdicts, strict=True) if refine.parse_verdict(verdict)]


async def answer_and_refine(ask: Ask, problem: Problem) -> Attempt:
    """Answer, then critique and revise once."""
    return await refine.critique_and_revise(ask, await ask(problem.prompt))


def share_right(attempts: list[Attempt]) -> float:
    """Share of right attempts, 0..1; 0 of none."""
    return fmean(attempt.right for attempt in attempts) if attempts else 0.0
