"""Collapse of self-trained language models: what comes of learning one's own samples, right or wrong."""

from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice, pairwise
from math import exp, isnan, log, nan

from selftaught.check.claim import Claim, Outcome, Rival
from selftaught.curate import by_problem, keep, keep_right
from selftaught.errors import BadInput, suggest
from selftaught.learn import sft
from selftaught.measure import Report
from selftaught.method import study
from selftaught.models import Policy
from selftaught.records import Attempt, Demo
from selftaught.run.run import Run
from selftaught.tasks import Task

LEARNS = ("all", "right", "replay", "nothing")


def surprise(outcome: Outcome) -> dict[str, float]:
    """Nats a token, at the end of the study, that the held-out text of each problem has."""
    return dict(outcome.returned.scores)


CLAIM = Claim(
    "Learning one's own unfiltered samples again and again raises the perplexity of held-out text above the frozen"
    " model's, and above what a filter or a replay of verified text comes to in as many steps.",
    baselines=(
        Rival("frozen", options={"learns": "nothing"}),
        Rival("right ones only", options={"learns": "right"}),
        Rival("half replay", options={"learns": "replay"}),
    ),
    metric=surprise,
    options={"rounds": 3, "samples": 2, "pace": 4.0},
    ablations={"gently": {"pace": 1.0}},
)


@study(paper="2404.02305", needs=("verifier", "dev"), claim=CLAIM)
def self_train_collapse(
    run: Run, policy: Policy, task: Task, *, rounds: int = 5, samples: int = 4, temperature: float = 0.7,
    pace: float = 1.0, learns: str = "all",
) -> Report:  # fmt: skip
    """Train a model on its own samples, over and over, and watch it forget how real text goes.

    Source: Herel & Mikolov, Collapse of Self-trained Language Models, 2404.02305. The current model writes
    freely, learns what it wrote by next-token loss, and is measured on held-out text.

    Differs from the paper: an instruction-tuned model answers training questions, where GPT-2 writes on from
    nothing; held-out text is the starting model's right answers to the dev problems, as no person wrote any.

    Costs `rounds + 1` times `samples` answers a train problem, `samples` a dev problem, and `rounds` fine-tunings.

    Args:
        rounds: how often to sample and learn.
        samples: answers per problem and round.
        temperature: of sampling; below 1 each round sharpens the next, at 1 its errors pile up.
        pace: learning rate, as a multiple of the run's; collapse comes sooner the higher it is.
        learns: "all" of the samples; controls in as many steps are the "right" ones alone, "replay" (half of them
            in place of the starting model's right ones), and "nothing".
    """
    if learns not in LEARNS:
        raise BadInput(f"unknown {learns!r}", where="learns", fix=suggest(learns, LEARNS))
    held_out = [a for a in run.attempt(policy, task.dev, samples=samples, temperature=1.0) if a.right]
    if not held_out:
        raise BadInput("the starting model has no dev problem right", where=run.task.name, fix="use an easier task")
    rows, real = [], list[Demo]()
    for number in run.rounds(rounds):
        tried = run.attempt(policy, task.train, samples=samples, temperature=temperature)
        real = real or keep_right(tried)
        rows.append({"round": number - 1, **_signs(run, policy, held_out, tried)})
        if learns != "nothing":
            demos = _mixed(keep(tried), real if learns == "replay" else keep_right(tried), learns)
            policy = run.learn(policy, sft(), demos, learning_rate=pace * run.settings.training.learning_rate)
        run.measure(policy)
    tried = run.attempt(policy, task.train, samples=samples, temperature=temperature)
    rows.append({"round": len(rows), **_signs(run, policy, held_out, tried)})
    title = f"perplexity {rows[0]['perplexity']:.3f} before, {rows[-1]['perplexity']:.3f} after {len(rows) - 1} rounds"
    return Report(title, tuple(rows), _nats(run, policy, held_out))


def _mixed(own: list[Demo], right: list[Demo], learns: str) -> list[Demo]:
    """As many demos as there are samples, right ones repeated as needed."""
    kept = {"all": len(own), "right": 0, "replay": len(own) // 2}[learns] if right else len(own)
    return own[:kept] + list(islice(cycle(right), len(own) - kept))


def _nats(run: Run, policy: Policy, texts: Sequence[Attempt]) -> dict[str, float]:
    """Mean surprise of a token in the texts of each problem, without those that the engine refused to read."""
    read = zip(texts, run.nll(policy, texts), strict=True)
    nats = {a.id: value for a, value in read if not isnan(value)}
    return {
        problem: sum(nats[a.id] for a in group) / sum(len(a.token_ids) for a in group)
        for problem, group in by_problem(a for a in texts if a.id in nats).items()
    }


def _signs(run: Run, policy: Policy, held_out: Sequence[Attempt], tried: Sequence[Attempt]) -> dict[str, float | str]:
    """What the paper watches: perplexity of held-out text, distinct n-grams and the entropy of words in samples."""
    words = [attempt.text.split() for attempt in tried if not attempt.failed]
    pairs = [pair for text in words for pair in pairwise(text)]
    counts = Counter(word for text in words for word in text)
    shares = [count / max(1, counts.total()) for count in counts.values()]
    nats = _nats(run, policy, held_out).values()
    return {
        "policy": policy.version,
        "perplexity": exp(sum(nats) / len(nats)) if nats else nan,
        "distinct-2": len(set(pairs)) / max(1, len(pairs)),
        "entropy": -sum(share * log(share) for share in shares),
    }
