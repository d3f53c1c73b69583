"""Log-probabilities over a vocabulary, from hidden states, a few tokens at a time.

Logits are the widest tensors of all: 49,152 numbers a token, where a hidden state has 576. Never more than `CHUNK` of
them exist, beside them on a processor those of `FEW` tokens in float32. For the gradient they are computed again, which
costs a third more of the output layer's products; not where one chunk is all, and one token a place is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 2**25  # logits that exist at once, of one token at least: fewer would mean more passes over the weights
VOCAB_BLOCK = 4096  # tokens of the vocabulary whose weights' gradient is told at once
FLOAT32_ROWS = 16  # tokens whose logits exist in float32: a processor's cache holds them from one operation to the next
GradientSink = Callable[[slice, Tensor], None]
"""Told of some rows of a weight, and the gradient of those."""

GRADIENT_SINK = "tell_gradient"  # attribute of an output layer while somebody wants to be told


class LMHead:
    """The output layer: how hidden states become logits.

    Args:
        weight: `[vocab, width]`.
        bias: `[vocab]`, or None.
        hidden: `[places, width]`, the hidden states that it is given.
        logits: `[places, vocab]`, where they are no plain product of the hidden states; nothing is saved then.
        tell: told the weight's gradient piece by piece, where it is not to exist whole and autograd not to see it.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, hidden: Tensor, logits: Tensor | None = None,
        gradient_sink: GradientSink | None = None,
    ) -> None:  # fmt: skip
        self.weight, self.bias, self.hidden, self._logits, self._tell = weight, bias, hidden, logits, gradient_sink

    def logprobs(self, wanted: Tensor, *, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of some tokens at each place, at least in float32, and the entropy in nats.

        Args:
            wanted: `[places, k]`, token ids.
            entropy: whether it is wanted.

        Returns:
            `[places, k]`, and `[places]` or None.
        """
        if self._logits is not None:
            spread = at_least_float32(self._logits).log_softmax(-1)
            return spread.gather(-1, wanted), (-(spread.exp() * spread).sum(-1) if entropy else None)
        given = self.hidden, self.weight, self.bias, wanted
        if wanted.shape[1] == 1 and not entropy:
            return FusedLogProb.apply(*given, torch.is_grad_enabled(), self._tell), None  # pyright: ignore[reportReturnType]
        found, spread = FusedLogProbEntropy.apply(*given, entropy)  # pyright: ignore[reportGeneralTypeIssues]
        return found, (spread if entropy else None)

    @torch.no_grad()
    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Logits of the whole vocabulary, for one slice of the places after the other; no gradient."""
        for at in _slices(len(self.hidden), self.weight):
            logits = F.linear(self.hidden[at], self.weight, self.bias) if self._logits is None else self._logits[at]
            for few, _, some in _float32_rows(logits, at):
                yield few, some


class FusedLogProb(torch.autograd.Function):
    """log softmax(W h + b) at one token a place.

    Its gradient by the logits is that of the place times what does not depend on it, the token's 1 less the softmax;
    that is made where the logits were.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        wanted: Tensor,
        learns: bool,
        tell: GradientSink | None,
    ) -> Tensor:
        found = torch.empty(wanted.shape, dtype=at_least_float32(hidden[:0]).dtype, device=hidden.device)
        slices = _slices(len(hidden), weight)
        keep, errors = learns and len(slices) == 1, None
        for at in slices:
            errors = None  # gone before there are others
            errors = F.linear(hidden[at], weight, bias)
            _to_errors(errors, at, wanted, found, keep)
        ctx.save_for_backward(hidden, weight, bias, wanted, errors if keep else None)
        ctx.tell = tell
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, bias, wanted, kept = ctx.saved_tensors
        factor = -gradients[0]
        scaled = (hidden * factor).to(hidden.dtype)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        tell: GradientSink | None = ctx.tell if ctx.needs_input_grad[1] else None
        new = torch.empty_like if len(hidden) else torch.zeros_like
        d_weight = new(weight) if ctx.needs_input_grad[1] and tell is None else None
        d_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for at in _slices(len(hidden), weight):
            errors = F.linear(hidden[at], weight, bias) if kept is None else kept
            if kept is None:
                _to_errors(errors, at, wanted, torch.empty_like(factor), True)
            if d_hidden is not None:
                d_hidden[at] = (errors @ weight) * factor[at]
            if d_weight is not None:
                d_weight.addmm_(errors.T, scaled[at], beta=int(at.start > 0))  # the first needs no zeros to add to
            if tell:
                for first in range(0, len(weight), VOCAB_BLOCK):
                    some = slice(first, first + VOCAB_BLOCK)
                    tell(some, errors[:, some].T @ scaled[at])
            if d_bias is not None:
                d_bias += (factor[at].to(errors.dtype).T @ errors)[0]
            del errors  # before there are others
        return d_hidden, d_weight, d_bias, None, None, None


def _to_errors(logits: Tensor, at: slice, wanted: Tensor, found: Tensor, errors: bool) -> None:
    """Find the log-probabilities of `wanted`, and where asked to, turn logits into softmax, less 1 at what is wanted.

    The difference is taken before it is rounded: of a token that is nearly certain, little is left.
    """
    for few, held, some in _float32_rows(logits, at):
        said, top = some.gather(-1, wanted[few]), some.amax(-1, keepdim=True)
        total = some.sub_(top).exp_().sum(-1, keepdim=True)
        found[few] = said - top - total.log()
        if errors:
            held.copy_(some.div_(total).scatter_add_(-1, wanted[few], torch.full_like(top, -1)))


class FusedLogProbEntropy(torch.autograd.Function):
    """log softmax(W h + b) at several tokens a place, and its entropy, computed anew for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        kind = at_least_float32(hidden[:0]).dtype
        found = torch.empty(wanted.shape, dtype=kind, device=hidden.device)
        total = torch.empty(len(hidden), dtype=kind, device=hidden.device)  # log of the sum of exponentials
        spread = torch.zeros_like(total)
        for at in _slices(len(hidden), weight):
            for few, _, logits in _float32_rows(F.linear(hidden[at], weight, bias), at):
                total[few] = logits.logsumexp(-1)
                found[few] = logits.gather(-1, wanted[few]) - total[few, None]
                if entropy:
                    shares = (logits - total[few, None]).exp_()
                    spread[few] = total[few] - shares.mul_(logits).sum(-1)
        ctx.save_for_backward(hidden, weight, bias, wanted, total, spread)
        ctx.entropy = entropy
        return found, spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, wanted, total, spread = ctx.saved_tensors
        of_found, of_spread = gradients
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        new = torch.empty_like if len(hidden) else torch.zeros_like
        d_weight = new(weight) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for at in _slices(len(hidden), weight):
            d = F.linear(hidden[at], weight, bias)
            for few, held, logits in _float32_rows(d, at):
                logits.sub_(total[few, None])
                share = -of_found[few].sum(-1, keepdim=True)
                if ctx.entropy:
                    share = share - of_spread[few, None] * (logits + spread[few, None])
                held.copy_(logits.exp_().mul_(share).scatter_add_(-1, wanted[few], of_found[few]))
            if d_hidden is not None:
                d_hidden[at] = d @ weight
            if d_weight is not None:
                d_weight.addmm_(d.T, hidden[at], beta=int(at.start > 0))  # the first of them needs no zeros to add to
            if d_bias is not None:
                d_bias += d.sum(0)
        return d_hidden, d_weight, d_bias, None, None


def at_least_float32(values: Tensor) -> Tensor:
    """Float32, or float64 as it is."""
    return values if values.dtype == torch.float64 else values.float()


def _float32_rows(logits: Tensor, at: slice) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """A few of the places `at` after the other: which, their logits, and those at least in float32."""
    size = FLOAT32_ROWS if logits.device.type == "cpu" else max(1, len(logits))
    for some in logits.split(size):
        few = slice(at.start, at.start + len(some))
        yield few, some, at_least_float32(some)
        at = slice(few.stop, at.stop)


def _slices(count: int, weight: Tensor) -> list[slice]:
    size = max(1, CHUNK // len(weight))
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]
