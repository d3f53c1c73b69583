"""Every objective, records for it, and what training on them should raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from learn_models import make_model

from selftaught.learn import objectives as o
from selftaught.learn.forward import forward_batch
from selftaught.learn.frozen import with_frozen_logprobs
from selftaught.learn.objectives import Row
from selftaught.learn.objectives.distill import forward_kl, with_other_tokens
from selftaught.learn.value_head import head_values
from selftaught.records import (
    Attempt,
    Demo,
    Label,
    Message,
    Pair,
    Ranking,
    RolloutGroup,
    ScoredSteps,
    TokenAdvantages,
    make_problem,
)
from selftaught.samples import Sample

QUESTIONS = ["what is one plus two", "how red is the cat", "what is two"]
GOOD = ["the sum is three .", "green .", "two . two ."]
BAD = ["cat .", "the cat is the sum of red", "two . one . six"]


def ask(question: str) -> tuple[Message, ...]:
    return (Message("user", question),)


def attempt(tokenizer: Any, question: str, text: str, *, finish: str = "stop") -> Attempt:
    """An attempt whose tokens are those of `text`, each recorded with log-probability -3."""
    ids = tuple(tokenizer.encode_target(text))
    problem = make_problem(question)
    sample = Sample(text, ids, (-3.0,) * len(ids), finish, policy="p")
    return Attempt(f"{question}/{text}", problem, ask(question), text, None, sample)


ALL = list(zip(QUESTIONS, GOOD, BAD, strict=True))
DEMOS = [Demo(ask(q), good) for q, good, _ in ALL]
PAIRS = [Pair(ask(q), good, bad) for q, good, bad in ALL]
LABELS = [Label(ask(q), text, text == good) for q, good, bad in ALL for text in (good, bad)]
RANKINGS = [Ranking(ask(q), (good, bad, "dog"), (1.0, 0.0, 0.5)) for q, good, bad in ALL]
TREES = [  # two branches of the same first step, and one that is a single step
    Ranking(ask(q), ("what is it .\n" + good, "what is it .\n" + bad, "dog"), (1.0, 0.0, 0.5)) for q, good, bad in ALL
]
TWO_SIDED = [Ranking(ask(q), (good, bad), (1.0, 0.0)) for q, good, bad in ALL]
STEPS = [ScoredSteps(ask(q), (good, " " + bad), (1.0, 0.0)) for q, good, bad in ALL]
BRANCHES = [replace(p, chosen="the dog is " + p.chosen, rejected="the dog is " + p.rejected) for p in PAIRS]


def rollouts(tokenizer: Any) -> list[Any]:
    return [
        RolloutGroup(tuple(attempt(tokenizer, q, text) for text in (good, bad, "dog is", "one")), (1.0, 0.0, 1.0, 0.0))
        for q, good, bad in ALL
    ]


def credits(tokenizer: Any, gain: float = 1.0, kl: float = 0.0) -> list[TokenAdvantages]:
    """Right attempts with an advantage of `gain` for each token, wrong ones with its negative."""
    made = []
    for q, good, bad in ALL:
        for text, sign in ((good, gain), (bad, -gain)):
            one = attempt(tokenizer, q, text)
            made.append(TokenAdvantages(one, (sign,) * len(one.token_ids), kl))
    return made


def questions(tokenizer: Any) -> list[Any]:
    """Two questions always solved, one never."""
    return [
        RolloutGroup(tuple(attempt(tokenizer, q, good) for _ in range(2)), (float(i < 2),) * 2)
        for i, (q, good, _) in enumerate(ALL)
    ]


@dataclass
class Entry:
    """`raises(model, groups, objective)` is the number that training should raise."""

    name: str
    objective: Any
    records: Any
    raises: Callable[[Any, Any, Any], float]
    other: str = ""  # what another model, not the start, says of the rows

    def prepared(self, tokenizer: Any, model: Any, seed: int) -> list[Any]:
        """The groups that teach, with what frozen weights say of them."""
        records = self.records(tokenizer) if callable(self.records) else self.records
        groups = [group for group in self.objective.groups(records, tokenizer) if group]
        top_k = self.objective.teacher_top_k
        if self.other:
            groups = with_frozen_logprobs(
                make_model(layers=1, spread=0.3, seed=seed + 77), groups, {self.other}, 512, top_k=top_k
            )
        needs = self.objective.requires([row for group in groups for row in group])
        return with_frozen_logprobs(model, groups, needs, 512, top_k=top_k)


def seen(model: Any, groups: Any, objective: Any) -> Any:
    learnt = [tuple(row for row in group if not row.no_grad_probe) for group in groups]
    rows = [row for group in learnt for row in group]
    with torch.no_grad():
        return forward_batch(model, rows, set(objective.requires(rows)) - {"value"}, tuple(map(len, learnt)))


def likelihood(model: Any, groups: Any, objective: Any) -> float:
    return seen(model, groups, objective).sequence_logprobs.mean().item()


def chosen_over_rejected(model: Any, groups: Any, objective: Any) -> float:
    firsts = [group[:2] for group in groups]
    sums = seen(model, firsts, objective).sequence_logprobs.view(-1, 2)
    return (sums[:, 0] - sums[:, 1]).mean().item()


def mean_over_rejected(model: Any, groups: Any, objective: Any) -> float:
    batch = seen(model, groups, objective)
    means = (batch.sequence_logprobs / batch.lengths).view(-1, 2)
    return (means[:, 0] - means[:, 1]).mean().item()


def by(fact: str) -> Callable[[Any, Any, Any], float]:
    """How far the likelihood per token of rows with more of a fact is above that of rows with less."""

    def measure(model: Any, groups: Any, objective: Any) -> float:
        batch = seen(model, groups, objective)
        means, level = (
            batch.sequence_logprobs / batch.lengths,
            batch.row_features[fact] - batch.row_features[fact].mean(),
        )
        return (means * level).mean().item()

    return measure


def advantage(model: Any, groups: Any, objective: Any) -> float:
    batch = seen(model, groups, objective)
    return (batch.token_features["advantage"] * batch.logprobs * batch.mask).sum().item()


def best_asked_for(good: str, bad: str) -> Callable[[Any, Any, Any], float]:
    """How much likelier good responses are behind the prefix that asks for them than behind the other."""

    def measure(model: Any, groups: Any, objective: Any) -> float:
        rows = [row for group in groups for row in group]
        ids = {name: rows[i].prompt[-1] for i, name in ((0, good), (1, bad))}
        assert len(set(ids.values())) == 2
        wanted = [row for row in rows if row.prompt[-1] == ids[good]]
        swapped = [replace(row, prompt=(*row.prompt[:-1], ids[bad])) for row in wanted]
        with torch.no_grad():
            likely, less = (forward_batch(model, each).sequence_logprobs.mean().item() for each in (wanted, swapped))
        return likely - less

    return measure


def near(fact: str) -> Callable[[Any, Any, Any], float]:
    """Minus the distance from what another model says."""

    def measure(model: Any, groups: Any, objective: Any) -> float:
        batch = seen(model, groups, objective)
        if fact == "reference":
            return -((batch.logprobs - batch.token_features["reference"]) ** 2 * batch.mask).sum().item()
        apart = forward_kl(with_other_tokens(batch.token_features["teacher"]), with_other_tokens(batch.student))
        return -(apart * batch.mask).sum().item()

    return measure


def entropy(model: Any, groups: Any, objective: Any) -> float:
    batch = seen(model, groups, objective)
    return (batch.entropy * batch.mask).sum().item()


def fit(model: Any, groups: Any, objective: Any) -> float:
    """Minus the squared error of LaSeR's self-rewards."""
    batch = seen(model, groups, objective)
    last = (batch.logprobs * (batch.mask - batch.token_features["answer"])).sum(-1)
    return -((0.1 * (last + 23) - batch.row_features["reward"]) ** 2).mean().item()


def head(label: Callable[[Row], list[float]]) -> Callable[[Any, Any, Any], float]:
    """How far the head reads higher where the label is high; a model without one reads 0."""

    def measure(model: Any, groups: Any, objective: Any) -> float:
        if not hasattr(model, "value_head"):
            return 0.0
        rows = [row for group in groups for row in group]
        model.eval()
        read = [x[0] for values, row in zip(head_values(model, rows), rows, strict=True) for x in places(values, row)]
        wanted = [w for row in rows for w in label(row)]
        middle = sum(wanted) / len(wanted)
        return sum((w - middle) * r for w, r in zip(wanted, read, strict=True))

    return measure


def step_scores(row: Row) -> list[float]:
    ends = zip(row.token_features["score"], row.token_features["step_end"], strict=True)
    return [score for score, end in ends if end]


def preferred(model: Any, groups: Any, objective: Any) -> float:
    """How far the head reads higher for chosen responses than for rejected ones."""
    if not hasattr(model, "value_head"):
        return 0.0
    ends = [values[-1][0] for values in head_values(model, [row for group in groups for row in group])]
    return sum(a - b for a, b in zip(ends[::2], ends[1::2], strict=True))


def places(values: list[list[float]], row: Row) -> list[list[float]]:
    if "step_end" in row.token_features:
        return [v for v, marked in zip(values, row.token_features["step_end"], strict=True) if marked]
    return values[-1:]


def degree(model: Any, groups: Any, objective: Any) -> float:
    """Log-probability that the head gives the true degrees."""
    if not hasattr(model, "value_head"):
        return -torch.tensor(float(objective.num_degrees)).log().item()
    rows = [row for group in groups for row in group]
    read = torch.tensor([values[-1] for values in head_values(model, rows)]).log_softmax(-1)
    return read.gather(-1, torch.tensor([[int(r.row_features["degree"])] for r in rows])).mean().item()


START = {"old_logprobs": "initial"}
TABLE = [
    Entry("sft", o.sft(), DEMOS, likelihood),
    Entry("unlikelihood", o.unlikelihood(), LABELS, by("good")),
    Entry("unlikelihood-of-bad", o.unlikelihood(alpha=3.0), LABELS[1::2], lambda *x: -likelihood(*x)),
    Entry("mistake-tuning", o.mistake_tuning("good ", "bad "), LABELS, best_asked_for("good", "bad")),
    Entry("quark", o.quark(2, "{bin} ", 0.01, 0.01, teacher_top_k=0), TWO_SIDED, best_asked_for("1", "0")),
    Entry("dpo", o.dpo(0.5), PAIRS, chosen_over_rejected),
    Entry("rpo", o.rpo(0.5, nll_coef=0.3), PAIRS, chosen_over_rejected),
    Entry("cdpo", o.dpo(0.5, label_smoothing=0.2), PAIRS, chosen_over_rejected),
    Entry("robust", o.dpo(0.5, loss_type="robust", label_smoothing=0.2), PAIRS, chosen_over_rejected),
    Entry("hinge", o.dpo(0.5, loss_type="hinge"), PAIRS, chosen_over_rejected),
    Entry("ipo", o.dpo(0.5, loss_type="ipo"), PAIRS, mean_over_rejected),
    Entry("sppo", o.sppo(0.1), PAIRS, chosen_over_rejected),
    Entry("spin", o.spin(0.5), PAIRS, chosen_over_rejected),
    Entry("step-dpo", o.step_dpo(0.5), BRANCHES, chosen_over_rejected),
    Entry("spo", o.spo(0.5, gamma=1.0), PAIRS, degree),
    Entry("spo-pairs", o.spo(0.5), PAIRS, chosen_over_rejected),
    Entry("simpo", o.simpo(), PAIRS, mean_over_rejected),
    Entry("orpo", o.orpo(1.0), PAIRS, mean_over_rejected),
    Entry("kto", o.kto(0.5), LABELS, by("good")),
    Entry("tpo", o.tpo(0.5), RANKINGS, by("score")),
    Entry("tpo-steps", o.tpo(0.5, step_contrast=1.0), TREES, by("score")),
    Entry("reinforce", o.reinforce(), rollouts, advantage),
    Entry("rloo", o.rloo(0.01, **START), rollouts, advantage),
    Entry("grpo", o.grpo(0.01, **START), rollouts, advantage),
    Entry("gspo", o.grpo(importance_level="sequence_mean", **START), rollouts, advantage),
    Entry("dr-grpo", o.dr_grpo(8, **START), rollouts, advantage),
    Entry("credits", o.grpo(loss_aggregation="token-mean", **START), credits, advantage),
    Entry("kl-of-a-turn", o.grpo(**START), lambda t: credits(t, 0.0, 1.0), near("reference"), "reference"),
    Entry("entropy", o.grpo(entropy_coef=1.0, **START), lambda t: credits(t, 0.0), entropy),
    Entry("nft", o.nft(**START), rollouts, by("right")),
    Entry("laser", o.laser(score_token="dog", alpha=5.0, **START), rollouts, fit),
    Entry("distill", o.distill(teacher_top_k=0), DEMOS, near("teacher"), "teacher"),
    Entry("distill-reverse", o.distill(divergence="reverse_kl", teacher_top_k=0), DEMOS, near("teacher"), "teacher"),
    Entry("distill-js", o.distill(divergence="js", teacher_top_k=0), DEMOS, near("teacher"), "teacher"),
    Entry("distill-few", o.distill(teacher_top_k=5), DEMOS, near("teacher"), "teacher"),
    Entry("distill-and-labels", o.distill(teacher_weight=0.3, teacher_top_k=0), DEMOS, likelihood, "teacher"),
    Entry("distill-off-labels", o.distill(teacher_weight=1.2, teacher_top_k=0), DEMOS, near("teacher"), "teacher"),
    Entry(
        "distill-adaptive", o.distill(mixed_teacher_share=0.7, hard_threshold=0.1, teacher_top_k=0), DEMOS,
        near("teacher"), "teacher",
    ),
    Entry("orm", o.orm(), LABELS, head(lambda row: [row.row_features["good"]])),
    Entry("prm", o.prm(), STEPS, head(step_scores)),
    Entry("step-values", o.prm("regression"), STEPS, head(step_scores)),
    Entry("reward-model", o.reward_model(center_coef=0.01), PAIRS, preferred),
    Entry("p-ik", o.p_ik(), questions, head(lambda row: [row.row_features["rate"]])),
]  # fmt: skip


class Flipped:
    """An objective with the sign of its loss turned round."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def loss(self, batch: Any) -> Any:
        return -self._inner.loss(batch)
