"""The policies whose weights the local engine holds, the least recently used evicted first."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.machine.device import pick_device, pick_dtype
from selftaught.models.policy import Policy, require_weights

if TYPE_CHECKING:
    from selftaught.engines.local.batch import ContinuousBatch
    from selftaught.engines.local.decoder import Decoder
    from selftaught.models.chat import ChatTokenizer

SMALL_MODEL = 10_000_000  # parameters up to which a large batch costs little
MAX_BATCH_SIZE, MAX_BATCH_SIZE_SMALL_MODEL = 128, 512


class LoadedPolicies:
    """A batch with weights and cache for each loaded policy. Used by the worker thread only.

    Args: see `LocalEngine`.

    Attributes:
        batches: by policy version, the most recently used last.
        load_seconds: wall-clock seconds spent loading weights.
    """

    def __init__(
        self, dtype: str, device: str, *, fused: bool, max_batch_size: int | None, cache_bytes: int, max_policies: int,
        batch_invariant: bool = False,
    ) -> None:  # fmt: skip
        self._invariant, self._invariant_shapes = batch_invariant, set[Any]()
        self._dtype, self._device, self._fused = dtype, device, fused
        self._max_batch_size, self._cache_bytes, self._max_policies = max_batch_size, cache_bytes, max_policies
        self.batches: OrderedDict[str, ContinuousBatch] = OrderedDict()
        self.load_seconds = 0.0

    def load(self, policy: Policy) -> ContinuousBatch:
        """The batch of `policy`, whose weights are loaded if they are not.

        Raises:
            BadInput: the files cannot be read, or the policy has notes.
            EngineError: the weights do not fit the machine.
        """
        if policy.version not in self.batches:
            require_weights(policy)
            from selftaught.engines.local.decoder import load_decoder
            from selftaught.models.chat import ChatTokenizer
            from selftaught.models.load import load_errors, read_config

            started = time.perf_counter()
            self._evict()
            device = pick_device(self._device)
            with load_errors(policy.weights):
                read_config(policy.weights)  # first: the tokenizer would report its errors as its own
                tokenizer = ChatTokenizer(policy.weights)
            decoder = load_decoder(policy, pick_dtype(self._dtype, device), device, fused=self._fused)
            self._add(policy, decoder, tokenizer)
            self.load_seconds += time.perf_counter() - started
        self.batches.move_to_end(policy.version)
        return self.batches[policy.version]

    def attach(self, policy: Policy, model: Any) -> None:
        """Hold `policy` as the tensors of `model`; see `LocalEngine.attach_model`."""
        import torch

        from selftaught.engines.local.decoder import live_decoder
        from selftaught.models.chat import ChatTokenizer

        if self._invariant and model.dtype != torch.float32:
            what = f"the model in training is in {str(model.dtype).removeprefix('torch.')}"
            raise BadInput(what, where="--deterministic", fix='train with precision="float32"')
        for version in [v for v, batch in self.batches.items() if batch.live_model is model]:
            del self.batches[version]
        decoder = live_decoder(model, in_place=not self._invariant)  # plain products depend on the batch, packed do not
        self._add(policy, decoder, ChatTokenizer(policy.weights), model)

    def clear(self) -> None:
        """Free all weights and caches."""
        self.batches.clear()

    def _evict(self) -> None:
        """Make room for one more policy; the tensors of a model in training are not the engine's to free."""
        own = [version for version, batch in self.batches.items() if batch.live_model is None]
        for version in own[: max(0, len(own) + 1 - self._max_policies)]:
            del self.batches[version]

    def _add(self, policy: Policy, decoder: Decoder, tokenizer: ChatTokenizer, live_model: Any = None) -> None:
        from selftaught.engines.local.batch import ContinuousBatch
        from selftaught.engines.local.batch_invariance import require_batch_invariance

        usual = MAX_BATCH_SIZE_SMALL_MODEL if decoder.parameters < SMALL_MODEL else MAX_BATCH_SIZE
        layers = decoder.new_cache().layers
        shape = type(decoder), decoder.parameters, len(layers), layers[0].shape, layers[0].dtype
        if self._invariant and shape not in self._invariant_shapes:
            require_batch_invariance(decoder, policy)
            self._invariant_shapes.add(shape)
        batch = ContinuousBatch(
            policy, decoder, tokenizer, max_batch_size=self._max_batch_size or usual, cache_bytes=self._cache_bytes,
            batch_invariant=self._invariant,
        )  # fmt: skip
        batch.live_model = live_model
        self.batches[policy.version] = batch
