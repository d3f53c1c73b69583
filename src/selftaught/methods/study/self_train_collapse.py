"""Collapse of self-trained language models: train a model on its own unfiltered samples, again and again."""

from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice, pairwise
from math import exp, isnan, log, nan
from typing import Literal

from selftaught import Attempt, BadInput, Baseline, Claim, Demo, Policy, Run, StudyReport, Task, sft, study
from selftaught.check.claim import Alarm, SystemResult
from selftaught.curate import by_problem, keep, keep_right

Data = Literal["all", "right", "replay", "none"]


def held_out_nll(result: SystemResult) -> dict[str, float]:
    """Mean negative log-likelihood (nats per token) of each problem's held-out text, at the end of the study."""
    return dict(result.returned.scores)


CLAIM = Claim(
    "Learning one's own unfiltered samples again and again raises the perplexity of held-out text above the frozen"
    " model's, and above that of training on filtered or half replayed text for as many steps; the fall of the samples'"
    " entropy raises an alarm.",
    baselines=(
        Baseline("frozen", options={"data": "none"}, contrasts=("as published",)),
        Baseline("right ones only", options={"data": "right"}, contrasts=("as published",)),
        Baseline("half replay", options={"data": "replay"}, contrasts=("as published",)),
    ),
    legs=(Alarm("entropy"),),
    metric=held_out_nll,
    options={"rounds": 3, "samples": 2, "lr_scale": 4.0},
    ablations={"at the usual learning rate": {"lr_scale": 1.0}},
)


@study(paper="2404.02305", needs=("verifier", "dev"), claim=CLAIM)
def self_train_collapse(
    run: Run,
    policy: Policy,
    task: Task,
    *,
    rounds: int = 5,
    samples: int = 4,
    temperature: float = 0.7,
    lr_scale: float = 1.0,
    data: Data = "all",
) -> StudyReport:
    """Train a model on its own samples, round after round, and measure how the perplexity of real text rises.

    Source: Herel & Mikolov, Collapse of Self-trained Language Models, 2404.02305. The current model samples
    text, is trained on it by next-token loss, and is measured on held-out text.

    Differs from the paper: an instruction-tuned model answers training questions, where GPT-2 continues an empty
    prompt; held-out text is the starting model's right answers to the dev problems, as no human-written text exists.

    Costs `rounds + 1` times `samples` answers a train problem, `samples` a dev problem, and `rounds` fine-tunings.

    Args:
        rounds: rounds of sampling and training.
        samples: answers per problem and round.
        temperature: sampling temperature; below 1 each round sharpens the next, at 1 errors accumulate.
        lr_scale: learning rate as a multiple of the run's; the higher, the sooner the collapse.
        data: what is trained on: "all" samples; as controls of as many steps, only the "right" ones, "replay" (half of
            the samples, half right answers of the starting model), or "none".
    """
    held_out = [a for a in run.attempt(policy, task.dev, samples=samples, temperature=1.0) if a.right]
    if not held_out:
        raise BadInput("the starting model solves no dev problem", where=run.task.name, fix="use an easier task")
    rows, real = [], list[Demo]()
    for number in run.rounds(rounds):
        tried = run.attempt(policy, task.train, samples=samples, temperature=temperature)
        real = real or keep_right(tried)
        rows.append({"round": number - 1, **_collapse_metrics(run, policy, held_out, tried)})
        if data != "none":
            demos = _mix(keep(tried), real if data == "replay" else keep_right(tried), data)
            policy = run.learn(policy, sft(), demos, lr_scale=lr_scale)
        run.measure(policy)
    tried = run.attempt(policy, task.train, samples=samples, temperature=temperature)
    rows.append({"round": len(rows), **_collapse_metrics(run, policy, held_out, tried)})
    title = f"perplexity {rows[0]['perplexity']:.3f} before, {rows[-1]['perplexity']:.3f} after {len(rows) - 1} rounds"
    return StudyReport(title, tuple(rows), _nll_per_token(run, policy, held_out))


def _mix(own: list[Demo], right: list[Demo], data: Data) -> list[Demo]:
    """As many demos as there are samples, right ones repeated as needed."""
    kept = {"all": len(own), "right": 0, "replay": len(own) // 2}[data] if right else len(own)
    return own[:kept] + list(islice(cycle(right), len(own) - kept))


def _nll_per_token(run: Run, policy: Policy, texts: Sequence[Attempt]) -> dict[str, float]:
    """Mean nats per token in the texts of each problem, without texts that the engine cannot score."""
    read = zip(texts, run.nll(policy, texts), strict=True)
    nats = {a.id: value for a, value in read if not isnan(value)}
    return {
        problem: sum(nats[a.id] for a in group) / sum(len(a.token_ids) for a in group)
        for problem, group in by_problem(a for a in texts if a.id in nats).items()
    }


def _collapse_metrics(
    run: Run, policy: Policy, held_out: Sequence[Attempt], tried: Sequence[Attempt]
) -> dict[str, float | str]:
    """The paper's metrics: perplexity of held-out text, distinct n-grams and word entropy of the samples."""
    words = [attempt.text.split() for attempt in tried if not attempt.failed]
    pairs = [pair for text in words for pair in pairwise(text)]
    counts = Counter(word for text in words for word in text)
    shares = [count / max(1, counts.total()) for count in counts.values()]
    nats = _nll_per_token(run, policy, held_out).values()
    return {
        "policy": policy.version,
        "perplexity": exp(sum(nats) / len(nats)) if nats else nan,
        "distinct-2": len(set(pairs)) / max(1, len(pairs)),
        "entropy": -sum(share * log(share) for share in shares),
    }
