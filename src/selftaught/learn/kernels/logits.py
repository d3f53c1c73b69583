"""Log-probabilities over a vocabulary, from hidden states, in chunks of tokens.

Logits are the widest tensors of a model: 49,152 numbers per token, where a hidden state has 576. At most `CHUNK` of
them exist at a time, and on a CPU those of `FLOAT32_ROWS` tokens in float32 beside them. The backward pass recomputes
them, which costs a third more of the output layer's products, unless there is one chunk and one token per position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 2**25  # logits that exist at once, at least one token's: fewer would mean more passes over the weights
VOCAB_BLOCK = 4096  # rows of the weight's gradient that a sink gets at once
FLOAT32_ROWS = 16  # tokens whose logits exist in float32: they stay in a CPU's cache between operations
GradientSink = Callable[[slice, Tensor], None]
"""Takes a slice of the rows of a weight, and their gradient."""

GRADIENT_SINK = "gradient_sink"  # attribute of an output layer that has one


class LMHead:
    """The output layer of a language model, with its inputs.

    Args:
        weight: `[vocab, width]`.
        bias: `[vocab]`, or None.
        hidden: `[tokens, width]`, its input.
        logits: `[tokens, vocab]`, if they are more than a product of the hidden states; that saves no memory.
        gradient_sink: gets the weight's gradient in blocks, instead of autograd, so that it never exists whole.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, hidden: Tensor, logits: Tensor | None = None,
        gradient_sink: GradientSink | None = None,
    ) -> None:  # fmt: skip
        self.weight, self.bias, self.hidden, self._logits, self._sink = weight, bias, hidden, logits, gradient_sink

    def logprobs(self, wanted: Tensor, *, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of some tokens at each position, at least in float32, and the entropy in nats.

        Args:
            wanted: `[tokens, k]`, token ids.
            entropy: whether to compute it.

        Returns:
            `[tokens, k]`, and `[tokens]` or None.
        """
        if self._logits is not None:
            spread = at_least_float32(self._logits).log_softmax(-1)
            return spread.gather(-1, wanted), (-(spread.exp() * spread).sum(-1) if entropy else None)
        given = self.hidden, self.weight, self.bias, wanted
        if wanted.shape[1] == 1 and not entropy:
            return _FusedLogProb.apply(*given, torch.is_grad_enabled(), self._sink), None  # pyright: ignore[reportReturnType]
        found, spread = _FusedLogProbEntropy.apply(*given, entropy)  # pyright: ignore[reportGeneralTypeIssues]
        return found, (spread if entropy else None)

    @torch.no_grad()
    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of the tokens with their logits over the whole vocabulary; no gradient."""
        for at in _slices(len(self.hidden), self.weight):
            logits = F.linear(self.hidden[at], self.weight, self.bias) if self._logits is None else self._logits[at]
            for few, _, some in _float32_rows(logits, at):
                yield few, some


class _FusedLogProb(torch.autograd.Function):
    """log softmax(W h + b) at one token per position.

    Its gradient by the logits is the incoming gradient times (one-hot - softmax), which is computed in place of the
    logits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        wanted: Tensor,
        learns: bool,
        sink: GradientSink | None,
    ) -> Tensor:
        found = torch.empty(wanted.shape, dtype=at_least_float32(hidden[:0]).dtype, device=hidden.device)
        slices = _slices(len(hidden), weight)
        keep, errors = learns and len(slices) == 1, None
        for at in slices:
            errors = None  # free them before the next exist
            errors = F.linear(hidden[at], weight, bias)
            _to_errors(errors, at, wanted, found, keep)
        ctx.save_for_backward(hidden, weight, bias, wanted, errors if keep else None)
        ctx.sink = sink
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight, bias, wanted, kept = ctx.saved_tensors
        factor = -gradients[0]
        scaled = (hidden * factor).to(hidden.dtype)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        sink: GradientSink | None = ctx.sink if ctx.needs_input_grad[1] else None
        new = torch.empty_like if len(hidden) else torch.zeros_like
        d_weight = new(weight) if ctx.needs_input_grad[1] and sink is None else None
        d_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for at in _slices(len(hidden), weight):
            errors = F.linear(hidden[at], weight, bias) if kept is None else kept
            if kept is None:
                _to_errors(errors, at, wanted, torch.empty_like(factor), True)
            if d_hidden is not None:
                d_hidden[at] = (errors @ weight) * factor[at]
            if d_weight is not None:
                d_weight.addmm_(errors.T, scaled[at], beta=int(at.start > 0))  # the first needs no zeros to add to
            if sink:
                for first in range(0, len(weight), VOCAB_BLOCK):
                    some = slice(first, first + VOCAB_BLOCK)
                    sink(some, errors[:, some].T @ scaled[at])
            if d_bias is not None:
                d_bias += (factor[at].to(errors.dtype).T @ errors)[0]
            del errors  # before the next exist
        return d_hidden, d_weight, d_bias, None, None, None


def _to_errors(logits: Tensor, at: slice, wanted: Tensor, found: Tensor, errors: bool) -> None:
    """Write the log-probabilities of `wanted` to `found`; if `errors`, turn logits into softmax - one-hot in place.

    The difference is taken before rounding: it is tiny for a token that is nearly certain.
    """
    for few, held, some in _float32_rows(logits, at):
        logits_of, top = some.gather(-1, wanted[few]), some.amax(-1, keepdim=True)
        total = some.sub_(top).exp_().sum(-1, keepdim=True)
        found[few] = logits_of - top - total.log()
        if errors:
            held.copy_(some.div_(total).scatter_add_(-1, wanted[few], torch.full_like(top, -1)))


class _FusedLogProbEntropy(torch.autograd.Function):
    """log softmax(W h + b) at several tokens per position, and the entropy, recomputed in the backward pass."""

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
                d_weight.addmm_(d.T, hidden[at], beta=int(at.start > 0))  # the first needs no zeros to add to
            if d_bias is not None:
                d_bias += d.sum(0)
        return d_hidden, d_weight, d_bias, None, None


def at_least_float32(values: Tensor) -> Tensor:
    """Cast to float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def _float32_rows(logits: Tensor, at: slice) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield a few of the tokens `at` at a time: their slice, their logits, and the same at least in float32."""
    size = FLOAT32_ROWS if logits.device.type == "cpu" else max(1, len(logits))
    for some in logits.split(size):
        few = slice(at.start, at.start + len(some))
        yield few, some, at_least_float32(some)
        at = slice(few.stop, at.stop)


def _slices(count: int, weight: Tensor) -> list[slice]:
    size = max(1, CHUNK // len(weight))
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]
