"""Sample tokens from logits: temperature, then top-k, then top-p, with one uniform number per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from selftaught.engines.base import Sampling

MAX_CANDIDATES = 512  # candidates for top-p before falling back to a full sort
BLOCK = 256  # tokens whose probabilities are summed before searching within
MAX_LOGITS = 2**20  # logits processed together, so that they stay in the processor's cache


class TokenSampler:
    """Samples one token per row, with the sampling parameters of each row.

    A row depends only on its own logits, parameters and uniform number (inverse transform sampling), so a request's
    tokens do not depend on what else is in the batch.
    """

    def __init__(self, settings: Sequence[Sampling], vocab: int, device: str | torch.device = "cpu") -> None:
        self._rows_per_chunk = max(1, MAX_LOGITS // vocab)
        self._chunks = [
            _RowChunk(settings[i : i + self._rows_per_chunk], device)
            for i in range(0, len(settings), self._rows_per_chunk)
        ]

    def __call__(self, logits: Tensor, uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Sample one token per row.

        Args:
            logits: `[rows, vocab]`.
            uniforms: a number in [0, 1) for each row; unused by greedy rows.

        Returns:
            Tokens `[rows]` and their natural-log probabilities `[rows]` at temperature 1 without truncation;
            NaN where the row's logits hold a NaN.
        """
        draws = torch.tensor(uniforms, dtype=torch.float32, device=logits.device)[:, None]
        split = zip(self._chunks, logits.split(self._rows_per_chunk), draws.split(self._rows_per_chunk), strict=True)
        pairs = [part.sample(some.float(), own) for part, some, own in split]
        return torch.cat([tokens for tokens, _ in pairs]), torch.cat([logprobs for _, logprobs in pairs])


def sample_tokens(logits: Tensor, settings: Sequence[Sampling], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Sample one token per row, once; see `TokenSampler`."""
    return TokenSampler(settings, logits.shape[1], logits.device)(logits, uniforms)


class _RowChunk:
    """Rows processed together, grouped by sampling strategy."""

    def __init__(self, settings: Sequence[Sampling], device: str | torch.device) -> None:
        self._size = len(settings)
        self._strategies: list[tuple[_Strategy, Tensor | None]] = []
        kinds = {key: _strategy_for(s) for key, s in {id(s): s for s in settings}.items()}  # most are the same object
        for kind in (_Greedy, _FullSoftmax, _Truncated):
            rows = [i for i, s in enumerate(settings) if kinds[id(s)] is kind]
            if rows:
                at = None if len(rows) == len(settings) else torch.tensor(rows, device=device)
                self._strategies.append((kind([settings[i] for i in rows], device), at))

    def sample(self, logits: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        weights = _ExpLogits(logits)
        tokens = torch.empty(self._size, dtype=torch.long, device=logits.device)
        for way, at in self._strategies:
            if at is None:
                tokens = way.sample(weights, draws)
            else:
                tokens[at] = way.sample(weights.rows(at), draws[at])
        return tokens, weights.logprobs(tokens)


class _ExpLogits:
    """Logits and exp(logit - maximum of the row), padded to whole blocks."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.max = logits, logits.amax(-1, keepdim=True)
        self.exp, self.sums = self._exp(logits - self.max)

    def _exp(self, below: Tensor) -> tuple[Tensor, Tensor]:
        rows, vocab = below.shape
        if vocab % BLOCK == 0:
            exp = below.exp_()
        else:
            exp = below.new_zeros((rows, -(-vocab // BLOCK) * BLOCK))
            torch.exp(below, out=exp[:, :vocab])
        return exp, exp.view(rows, -1, BLOCK).sum(-1)

    def rows(self, rows: Tensor) -> _ExpLogits:
        """A subset of the rows."""
        part = object.__new__(_ExpLogits)
        part.logits, part.max, part.exp, part.sums = (x[rows] for x in (self.logits, self.max, self.exp, self.sums))
        return part

    def at_temperatures(self, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        """The exponentials at other temperatures `[rows, 1]`, and their sums by block."""
        return self._exp((self.logits - self.max) / temperatures)

    def logprobs(self, tokens: Tensor) -> Tensor:
        """Natural-log probability of one token per row."""
        chosen = self.logits.gather(1, tokens[:, None]) - self.max
        return (chosen - self.sums.sum(-1, keepdim=True).log())[:, 0]


class _Strategy(Protocol):
    """One way to sample, for some rows."""

    def sample(self, weights: _ExpLogits, draws: Tensor) -> Tensor: ...


class _Greedy:
    """The most probable token."""

    def __init__(self, settings: Sequence[Sampling], device: str | torch.device) -> None:
        del settings, device

    def sample(self, weights: _ExpLogits, draws: Tensor) -> Tensor:
        del draws
        return weights.logits.argmax(-1)


class _FullSoftmax:
    """The first token whose cumulative probability exceeds the draw: first the block, then the token in it."""

    def __init__(self, settings: Sequence[Sampling], device: str | torch.device) -> None:
        self._temperatures = None if all(s.temperature == 1 for s in settings) else _temperatures(settings, device)

    def sample(self, weights: _ExpLogits, draws: Tensor) -> Tensor:
        exp, sums = (
            (weights.exp, weights.sums) if self._temperatures is None else weights.at_temperatures(self._temperatures)
        )
        block, before, total = _inverse_cdf(sums, draws)
        inside = exp.view(len(exp), -1, BLOCK)[torch.arange(len(exp), device=exp.device), block]
        within, _, _ = _inverse_cdf(inside, (draws * total - before) / inside.sum(-1, keepdim=True))
        return (block * BLOCK + within).clamp(max=weights.logits.shape[1] - 1)


def _temperatures(settings: Sequence[Sampling], device: str | torch.device) -> Tensor:
    return torch.tensor([s.temperature for s in settings], device=device)[:, None]


def _inverse_cdf(weights: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first index whose cumulative share exceeds the draw, never one with weight 0.

    Returns:
        Indices `[rows]`, the weight before each, and the total weight, `[rows, 1]`.
    """
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    at = torch.searchsorted(cumulative, draws * total, right=True)
    # A draw that rounds up to the total would land past the end: take the last index with any weight.
    last = torch.searchsorted(cumulative, total).clamp(max=weights.shape[1] - 1)
    at = torch.minimum(at, last)
    return at[:, 0], cumulative.gather(1, at) - weights.gather(1, at), total


class _Truncated:
    """A draw from the top-k, top-p truncation of each row, with as few candidates as necessary."""

    def __init__(self, settings: Sequence[Sampling], device: str | torch.device) -> None:
        self._temperatures = _temperatures(settings, device)
        # Long enough for every top-k, so that only rows truncated by top-p alone can need more.
        self._num_candidates = max(s.top_k or MAX_CANDIDATES for s in settings)
        self._top_k = torch.tensor([s.top_k or 2**31 for s in settings], device=device)[:, None]
        self._top_p = torch.tensor([s.top_p for s in settings], device=device)[:, None]

    def sample(self, weights: _ExpLogits, draws: Tensor) -> Tensor:
        scaled = (weights.logits - weights.max) / self._temperatures
        vocab = scaled.shape[1]
        return self._sample_from_top(scaled, min(vocab, self._num_candidates), draws)

    def _sample_from_top(self, scaled: Tensor, num_candidates: int, draws: Tensor) -> Tensor:
        """The draw among the `num_candidates` most probable tokens, or among all if these have too little mass."""
        top_k = self._top_k.clamp(max=scaled.shape[1])
        values, index = torch.topk(scaled, num_candidates, -1)
        kept = torch.arange(num_candidates, device=scaled.device) < top_k
        # top-p is taken after top-k, so it is relative to the mass that top-k leaves.
        left = torch.logsumexp(values.masked_fill(~kept, -torch.inf), -1, True)
        mass = torch.where(top_k <= num_candidates, left, torch.logsumexp(scaled, -1, True))
        probabilities = torch.exp(values - mass) * kept
        before = probabilities.cumsum(-1) - probabilities
        enough = (top_k <= num_candidates) | (before[:, -1:] + probabilities[:, -1:] >= self._top_p)
        if num_candidates < scaled.shape[1] and not bool(enough.all()):
            return self._sample_from_top(scaled, scaled.shape[1], draws)
        picked, _, _ = _inverse_cdf(torch.where(before < self._top_p, probabilities, 0.0), draws)
        return index.gather(1, picked[:, None])[:, 0]


def _strategy_for(settings: Sampling) -> type[_Greedy | _FullSoftmax | _Truncated]:
    if settings.greedy:
        return _Greedy
    return _Truncated if settings.top_k > 0 or settings.top_p < 1 else _FullSoftmax


def token_logprobs(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """Natural-log probability of one token per row of logits `[rows, vocab]`: `[rows]`, float32."""
    step = max(1, MAX_LOGITS // logits.shape[1])
    at = torch.tensor(tokens, device=logits.device)[:, None]
    parts = []
    for i in range(0, len(tokens), step):
        some = logits[i : i + step].float()
        parts.append(some.gather(1, at[i : i + step])[:, 0] - torch.logsumexp(some, -1))
    return torch.cat(parts)


def summarize_distributions(
    logits: Tensor, counts: Sequence[int]
) -> list[tuple[tuple[tuple[int, float], ...], float, float]]:
    """The most probable tokens of each row with their log-probabilities, its entropy, and its self-certainty.

    Both are in nats, at temperature 1; for the last see `Sample.self_certainties`.

    Args:
        logits: `[rows, vocab]`.
        counts: how many tokens to return for each row.
    """
    logp = torch.log_softmax(logits.float(), -1)
    entropy = torch.special.entr(logp.exp()).sum(-1).tolist()
    possible = logp > -torch.inf
    size = possible.sum(-1)
    certainty = (-logp.where(possible, 0.0).sum(-1) / size - size.log()).tolist()
    values, index = torch.topk(logp, min(max(counts), logp.shape[1]), -1)
    named = [tuple(zip(i, v, strict=True)) for i, v in zip(index.tolist(), values.tolist(), strict=True)]
    return [(row[:count], *rest) for row, count, *rest in zip(named, counts, entropy, certainty, strict=True)]
