"""Code that runs inside vLLM's processes: sample tokens as the local engine does, and replace weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.vocab_parallel_embedding import (  # pyright: ignore[reportMissingImports]
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
)
from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]
from vllm.v1.sample.logits_processor import LogitsProcessor  # pyright: ignore[reportMissingImports]
from vllm.v1.sample.logits_processor.builtin import process_dict_updates  # pyright: ignore[reportMissingImports]

from selftaught.engines.base import Sampling
from selftaught.engines.local.request_state import uniforms
from selftaught.engines.sampler import TokenSampler

EXTRA_ARGS_KEY = (
    "selftaught"  # in `SamplingParams.extra_args`: temperature, top_p, top_k, seed, number of prefix tokens
)


@dataclass(slots=True)
class _Row:
    """A request: its sampling parameters, its random numbers so far, and the tokens that vLLM has sampled."""

    sampling: Sampling
    stream: Iterator[float]
    sampled: list[int]
    drawn: list[float] = field(default_factory=list)

    @property
    def uniform(self) -> float:
        """The random number of the next token. A token may be computed twice, after a preemption."""
        while len(self.drawn) <= len(self.sampled):
            self.drawn.append(next(self.stream))
        return self.drawn[len(self.sampled)]


class SeededLogitsProcessor(LogitsProcessor):
    """Masks all logits of a row except the token that its request's seed and position determine.

    vLLM then takes it greedily. Its own seeds would restart if an answer continues given tokens.
    Rows without `EXTRA_ARGS_KEY` are greedy, and unchanged.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        del vllm_config, device, is_pin_memory
        self._rows: dict[int, _Row] = {}
        self._sampler: tuple[list[int], TokenSampler] | None = None  # None once the rows have changed

    def is_argmax_invariant(self) -> bool:
        """Whether a greedy choice would be the same without it."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Track what vLLM adds to its batch, moves and removes."""
        if process_dict_updates(self._rows, batch_update, _row):
            self._sampler = None

    def apply(self, logits: Tensor) -> Tensor:
        """See the class; `logits` is `[rows, vocab]`, changed in place."""
        if not self._rows:
            return logits
        if self._sampler is None:
            at = sorted(self._rows)
            self._sampler = at, TokenSampler([self._rows[i].sampling for i in at], logits.shape[1], logits.device)
        at, chooser = self._sampler
        everyone = len(at) == len(logits)
        tokens, _ = chooser(logits if everyone else logits[at], [self._rows[i].uniform for i in at])
        rows = torch.tensor(at, device=logits.device)
        if everyone:
            logits.fill_(-torch.inf)
        else:
            logits[rows] = -torch.inf
        logits[rows, tokens] = 0.0
        return logits


def _row(params: Any, prompt: list[int] | None, sampled: list[int]) -> _Row | None:
    del prompt
    how = (params.extra_args or {}).get(EXTRA_ARGS_KEY)
    if how is None:
        return None
    temperature, top_p, top_k, seed, given = how  # the seed as text: it may have more than 64 bits
    return _Row(Sampling(temperature, top_p, int(top_k)), uniforms(int(seed), given), sampled)


class WeightReplacement:
    """Extends vLLM's workers, which inherit from this class."""

    def replace_weights(self, folder: str) -> None:
        """Replace the weights with those of a folder, as vLLM does, and complete what it leaves out.

        On a CPU each layer uses a packed copy of its weights. vLLM repacks the layers that it reads weights for; an
        output layer tied to the embedding is not among them, and would keep the old weights.
        """
        worker: Any = self
        worker.reload_weights(weights_path=folder)
        if not current_platform.is_cpu():
            return
        for layer in worker.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead) and isinstance(layer.quant_method, UnquantizedEmbeddingMethod):
                layer.quant_method.process_weights_after_loading(layer)
