"""Importance weights of tokens that were not sampled from the policy itself: at another temperature, or truncated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selftaught.learn.forward import hidden_states

if TYPE_CHECKING:
    from selftaught.engines.base import Sampling
    from selftaught.learn.objectives.base import Row


def is_on_policy(sampling: Sampling) -> bool:
    """Whether tokens are sampled from the policy itself: temperature 1, nothing truncated."""
    return sampling.temperature == 1 and sampling.top_p == 1 and sampling.top_k == 0


def behavior_logprobs(logits: Tensor, chosen: Tensor, sampling: Sampling) -> Tensor:
    """Natural-log probability with which each chosen token was sampled.

    The temperature applies first, then top-k, then top-p to the mass that top-k leaves, as in the local engine; the
    rest is renormalized. Greedy sampling chooses a token with probability 1.

    Args:
        logits: `[tokens, vocab]`.
        chosen: `[tokens]`.
        sampling: how they were sampled.

    Returns:
        `[tokens]`.
    """
    if sampling.greedy:
        return logits.new_zeros(len(chosen))
    logprobs = (logits / sampling.temperature).log_softmax(-1)
    found = logprobs.gather(-1, chosen[:, None])[:, 0]
    if sampling.top_k == 0 and sampling.top_p == 1:
        return found
    ordered = logprobs.sort(-1, descending=True).values[:, : sampling.top_k or None].exp()
    shares = ordered / ordered.sum(-1, keepdim=True)
    kept = shares.cumsum(-1) - shares < sampling.top_p
    return found - (ordered * kept).sum(-1).log()


@torch.no_grad()
def importance_weights(
    model: Any, rows: Sequence[Row], samplings: Sequence[Sampling], recorded: Sequence[Sequence[float]],
    max_weight: float,
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:  # fmt: skip
    """For each row its tokens' log-probabilities under `model` as it is, and min(max_weight, p / q), q the sampler's.

    q is what the engine recorded if it sampled from the policy itself, which also corrects differences between engine
    and trainer; else it is computed from the model. Weights are truncated by token: a product over a whole
    sequence would explode with its length.

    Args:
        rows: evaluated together.
        samplings: how each was sampled.
        recorded: log-probabilities that the engine recorded, at temperature 1 and without truncation.
        max_weight: greatest weight.
    """
    training = model.training
    model.eval()
    now, sampled = _policy_and_behavior(model, rows, samplings)
    model.train(training)
    lengths = [len(row.completion) for row in rows]
    found = []
    for i, (p, q) in enumerate(zip(now.split(lengths), sampled.split(lengths), strict=True)):
        if is_on_policy(samplings[i]) and len(recorded[i]) == lengths[i]:
            q = torch.tensor(recorded[i], device=p.device)
        found.append((tuple(p.tolist()), tuple((p - q).exp().clamp(max=max_weight).tolist())))
    return found


def _policy_and_behavior(model: Any, rows: Sequence[Row], samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """`[tokens]` each, of all rows: log-probabilities under the policy, and with which they were sampled."""
    head, targets = hidden_states(model, rows)
    owners = [i for i, row in enumerate(rows) for _ in row.completion]
    now, sampled = [], []
    for at, logits in head.chunks():
        now.append(logits.log_softmax(-1).gather(-1, targets[at, None])[:, 0])
        mine = owners[at]
        part = torch.empty_like(now[-1])
        for i in sorted(set(mine)):
            here = torch.tensor([j for j, owner in enumerate(mine) if owner == i], device=targets.device)
            part[here] = behavior_logprobs(logits[here], targets[at][here], samplings[i])
        sampled.append(part)
    return torch.cat(now), torch.cat(sampled)
