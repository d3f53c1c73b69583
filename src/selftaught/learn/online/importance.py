"""Importance weights of tokens that were sampled otherwise than the policy would have it: tempered, or truncated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selftaught.learn.forward import read

if TYPE_CHECKING:
    from selftaught.engines.base import Sampling
    from selftaught.learn.objectives.base import Row


def plain(sampling: Sampling) -> bool:
    """Whether tokens are sampled from the policy itself: temperature 1, nothing truncated."""
    return sampling.temperature == 1 and sampling.top_p == 1 and sampling.top_k == 0


def behaviour(logits: Tensor, chosen: Tensor, sampling: Sampling) -> Tensor:
    """Natural-log probability with which each chosen token was sampled.

    The temperature comes first, then top-k, then top-p of the mass that top-k leaves, as in `engines.choose`; what is
    left is renormalised. Greedily a token is chosen with probability 1.

    Args:
        logits: `[places, vocab]`.
        chosen: `[places]`.
        sampling: how they were sampled.

    Returns:
        `[places]`.
    """
    if sampling.greedy:
        return logits.new_zeros(len(chosen))
    spread = (logits / sampling.temperature).log_softmax(-1)
    found = spread.gather(-1, chosen[:, None])[:, 0]
    if sampling.top_k == 0 and sampling.top_p == 1:
        return found
    ordered = spread.sort(-1, descending=True).values[:, : sampling.top_k or None].exp()
    shares = ordered / ordered.sum(-1, keepdim=True)
    kept = shares.cumsum(-1) - shares < sampling.top_p
    return found - (ordered * kept).sum(-1).log()


@torch.no_grad()
def weigh(
    model: Any, rows: Sequence[Row], samplings: Sequence[Sampling], recorded: Sequence[Sequence[float]], cap: float
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """For each row its tokens' log-probabilities under `model` as it is, and min(cap, p / q) of each, q the sampler's.

    q is what the engine recorded where it sampled plainly, so that what engine and trainer compute differently is
    made up for as well; else it is computed from the model. Truncated weights by token: a product over a whole
    sequence would explode with its length.

    Args:
        rows: evaluated together.
        samplings: how each was sampled.
        recorded: log-probabilities that the engine recorded, at temperature 1 and without truncation.
        cap: greatest weight.
    """
    training = model.training
    model.eval()
    output, chosen = read(model, rows)
    own = [i for i, row in enumerate(rows) for _ in row.target]
    now, sampled = [], []
    for at, logits in output.chunks():
        now.append(logits.log_softmax(-1).gather(-1, chosen[at, None])[:, 0])
        mine = own[at]
        part = torch.empty_like(now[-1])
        for i in sorted(set(mine)):
            here = torch.tensor([j for j, owner in enumerate(mine) if owner == i], device=chosen.device)
            part[here] = behaviour(logits[here], chosen[at][here], samplings[i])
        sampled.append(part)
    model.train(training)
    lengths = [len(row.target) for row in rows]
    found = []
    for i, (p, q) in enumerate(zip(torch.cat(now).split(lengths), torch.cat(sampled).split(lengths), strict=True)):
        told = plain(samplings[i]) and len(recorded[i]) == lengths[i]
        base = torch.tensor(recorded[i], device=p.device) if told else q
        found.append((tuple(p.tolist()), tuple((p - base).exp().clamp(max=cap).tolist())))
    return found
