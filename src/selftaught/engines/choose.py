"""Choosing tokens from logits: temperature, then top-k, then top-p, one uniform number a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from selftaught.engines.base import Sampling

SHORTLIST = 512  # candidates looked at for top-p before falling back to a full sort


def choose(logits: Tensor, settings: Sequence[Sampling], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Choose a token a row.

    Each row depends on nothing but its own logits, settings and uniform number (inverse transform
    sampling), so a request's tokens do not depend on what else is in the batch.

    Args:
        logits: `[rows, vocab]`, float32.
        settings: how to sample each row.
        uniforms: a number in [0, 1) for each row; unused by greedy rows.

    Returns:
        Tokens `[rows]` and their natural-log probabilities `[rows]` at temperature 1 without truncation;
        NaN where the row's logits hold a NaN.
    """
    tokens = logits.argmax(-1)
    for truncated in (False, True):
        rows = [i for i, s in enumerate(settings) if not s.greedy and truncated == (s.top_k > 0 or s.top_p < 1)]
        if not rows:
            continue
        whole = len(rows) == len(settings)
        heat = torch.tensor([settings[i].temperature for i in rows], device=logits.device)[:, None]
        draws = torch.tensor([uniforms[i] for i in rows], dtype=torch.float32, device=logits.device)[:, None]
        scaled = (logits if whole else logits[rows]) / heat
        if truncated:
            picked = _truncated(scaled, [settings[i] for i in rows], draws)
        else:
            picked = _invert(torch.softmax(scaled, -1), draws)
        tokens[rows] = picked
    return tokens, logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, -1)


def _invert(probabilities: Tensor, draws: Tensor) -> Tensor:
    """The first index whose cumulative probability exceeds the draw; never one of probability zero."""
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    at = torch.searchsorted(cumulative, draws * total, right=True)
    # A draw that rounds up to the total would land past the end: take the last index with any probability.
    last = torch.searchsorted(cumulative, total).clamp(max=probabilities.shape[1] - 1)
    return torch.minimum(at, last)[:, 0]


def _truncated(scaled: Tensor, settings: Sequence[Sampling], draws: Tensor) -> Tensor:
    """Sample from the top-k, top-p truncation of each row, looking at as few candidates as suffice."""
    vocab = scaled.shape[1]
    top_k = torch.tensor([s.top_k or vocab for s in settings], device=scaled.device)[:, None].clamp(max=vocab)
    top_p = torch.tensor([s.top_p for s in settings], device=scaled.device)[:, None]
    # Long enough for every top-k, so that only rows truncated by top-p alone can need more.
    short = min(vocab, max(s.top_k or SHORTLIST for s in settings))
    while True:
        values, index = torch.topk(scaled, short, -1)
        kept = torch.arange(short, device=scaled.device) < top_k
        # top-p is taken after top-k, so it is relative to the mass that top-k leaves.
        mass = torch.where(
            top_k <= short,
            torch.logsumexp(values.masked_fill(~kept, -torch.inf), -1, True),
            torch.logsumexp(scaled, -1, True),
        )
        probabilities = torch.exp(values - mass) * kept
        before = probabilities.cumsum(-1) - probabilities
        enough = (top_k <= short) | (before[:, -1:] + probabilities[:, -1:] >= top_p)
        if short == vocab or bool(enough.all()):
            probabilities = torch.where(before < top_p, probabilities, 0.0)
            return index.gather(1, _invert(probabilities, draws)[:, None])[:, 0]
        short = vocab
