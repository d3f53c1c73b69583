"""Forward passes over the engine's cache, for any architecture."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from selftaught.engines.base import EngineError
from selftaught.engines.local import llama
from selftaught.engines.local.agreement import check_before_sampling
from selftaught.engines.local.kv_cache import BLOCK_SIZE, KVCache
from selftaught.engines.local.paged_cache import BlockTable, PagedAttention, PagedCache
from selftaught.engines.local.passes import DecodePass, ForwardPass, PrefillPass
from selftaught.engines.local.prefix_attention import PrefixLevel
from selftaught.models.load import is_machine_error, load_errors, load_model, read_config, state_dict
from selftaught.models.policy import Policy
from selftaught.remarks import remark

FULL, SLIDING = "full_attention", "sliding_attention"  # layer types, as in configurations
TEST_WINDOW = 3  # sliding window, in tokens, that models are tested with


class Decoder(Protocol):
    """A model that reads and writes the engine's cache."""

    max_context: int
    device: str
    parameters: int

    def new_cache(self) -> KVCache:
        """An empty cache."""
        ...

    def forward(self, ids: Tensor, run: ForwardPass, wanted: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Logits for tokens `ids` `[rows, steps]`, whose keys and values `run` stores.

        Args:
            wanted: (row, step) of each token whose logits are needed; None for the first step of every row.

        Returns:
            `[wanted, vocab]`.
        """
        ...

    def hidden_states(self, ids: Tensor, run: ForwardPass, wanted: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """As `forward`, what the output layer would get of each token: `[wanted, width]`."""
        ...


class TransformersDecoder:
    """Any causal language model of `transformers`, unchanged, through its cache and attention interfaces.

    Sliding windows of layers are respected; the context is the model's `max_position_embeddings`.

    Raises:
        ValueError: the architecture computes something else through these interfaces than on its own.
    """

    def __init__(self, model: Any, device: str) -> None:
        config = model.config.get_text_config()
        self.model, self.device = model.to(device).eval(), device
        self.parameters = sum(p.numel() for p in model.parameters())
        self.max_context = getattr(config, "max_position_embeddings", None) or 2048
        heads = config.num_attention_heads
        self._shape = (
            config.num_hidden_layers,
            getattr(config, "num_key_value_heads", None) or heads,
            getattr(config, "head_dim", None) or config.hidden_size // heads,
        )
        self._has_logits_to_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft's takes anything
        self._cache = "cache" if "cache" in inspect.signature(inner.forward).parameters else "past_key_values"
        self._window: int | None = None
        self._mask_kind = "plain"
        try:
            self._choose_mask_kind(config)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
            if is_machine_error(error):
                raise
            raise ValueError(f"the local engine cannot run {type(model).__name__}: {error}") from error

    def _choose_mask_kind(self, config: Any) -> None:
        """Find out by trial which mask the layers take: not every model with a window in its configuration uses it."""
        kinds, window = set(getattr(config, "layer_types", None) or ()), getattr(config, "sliding_window", None)
        if unknown := sorted(kinds - {FULL, SLIDING}):
            raise ValueError(f"it has layers of kind {unknown[0]}")
        ways = ["by layer"] if SLIDING in kinds else ["plain"] if kinds or not window else ["windowed", "plain"]
        for way in ways:
            self._mask_kind = way
            try:
                with _narrow_windows(self.model):
                    self._window = TEST_WINDOW
                    _check_same_logits(self, config.vocab_size)
                break
            except ValueError:
                if way == ways[-1]:
                    raise
            finally:
                self._window = window

    def new_cache(self) -> KVCache:
        """An empty cache."""
        layers, heads, head_dim = self._shape
        return KVCache(layers, heads, head_dim, self.model.dtype, self.device)

    def forward(self, ids: Tensor, run: ForwardPass, wanted: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """See `Decoder.forward`."""
        return self._run(ids, run, wanted)

    def hidden_states(self, ids: Tensor, run: ForwardPass, wanted: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """See `Decoder.hidden_states`; the output layer itself gets no tokens."""
        seen: list[Tensor] = []

        def take(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            seen.append(inputs[0])
            return (inputs[0][:, :0], *inputs[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(take)
        try:
            return self._run(ids, run, wanted, seen)
        finally:
            handle.remove()

    def _run(
        self, ids: Tensor, run: ForwardPass, wanted: Sequence[tuple[int, int]] | None, seen: list[Tensor] | None = None
    ) -> Tensor:
        """The logits of the wanted tokens, or what was `seen` of them at the output layer."""
        wanted = [(row, 0) for row in range(len(ids))] if wanted is None else wanted
        rows, steps = [row for row, _ in wanted], torch.tensor([s for _, s in wanted], dtype=torch.long)
        kept = steps.unique() if self._has_logits_to_keep and wanted else torch.arange(ids.shape[1])
        logits = self.model(
            input_ids=ids,
            position_ids=run.positions.clamp(max=self.max_context - 1),  # padding may exceed the context
            attention_mask=self._mask(run),
            use_cache=True,
            **{self._cache: _cache_adapter()(run)},
            **({"logits_to_keep": kept.to(ids.device)} if self._has_logits_to_keep else {}),
        ).logits
        found = logits if seen is None else seen[0]
        return found[rows, torch.searchsorted(kept, steps).to(ids.device)]

    def _mask(self, run: ForwardPass) -> Any:
        if self._mask_kind == "plain" or self._window is None:
            return run.mask
        narrow = run.windowed_mask(self._window)
        return narrow if self._mask_kind == "windowed" else {FULL: run.mask, SLIDING: narrow}


@contextmanager
def _narrow_windows(model: Any) -> Iterator[None]:
    """Make every sliding window so narrow that a few tokens show whether it is used."""
    owners: dict[int, Any] = {id(one): one for part in model.modules() for one in (part, getattr(part, "config", None))}
    widths = {name: getattr(one, "sliding_window", None) for name, one in owners.items()}
    windowed = {name: width for name, width in widths.items() if isinstance(width, int) and width}
    try:
        for name in windowed:
            owners[name].sliding_window = TEST_WINDOW
        yield
    finally:
        for name, width in windowed.items():
            owners[name].sliding_window = width


@cache
def _cache_adapter() -> Any:
    """The class that adapts a forward pass to the cache interface of transformers; created on first use."""
    from transformers import Cache

    class Bridge(Cache):
        """Writes in place."""

        def __init__(self, run: ForwardPass) -> None:
            super().__init__(layers=[])
            self._run = run

        def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
            return self._run.update(layer_idx, key_states.transpose(1, 2), value_states.transpose(1, 2))

        def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - the interface has it
            return self._run.mask.shape[-1] - self._run.mask.shape[-2]

    return Bridge


def _check_same_logits(decoder: TransformersDecoder, vocab: int) -> None:
    """Raise if logits of two padded rows and further steps through our cache differ from the model's own."""
    ids = (torch.arange(14, device=decoder.device).view(2, 7) * 7 + 3) % vocab
    shared, own, tails, sizes = (
        decoder.new_cache(),
        PagedCache(decoder.new_cache()),
        (BlockTable(), BlockTable()),
        (5, 3),
    )  # tokens of each row
    shared.resize(2, BLOCK_SIZE)
    own.allocate(tails, len(tails))
    with torch.inference_mode():
        found = [decoder.forward(ids[:, :5], PrefillPass(shared, (0, 0), 5), [(0, 4), (1, 2)])]
        levels = [PrefixLevel(shared, (0, 1), sizes)]
        for step in range(2):
            at = [size + step for size in sizes]
            new = ids[[0, 1], at][:, None]
            found.append(decoder.forward(new, DecodePass(PagedAttention(own, tails), (step, step), levels, at)))
        for row, size in enumerate(sizes):
            true = decoder.model(input_ids=ids[row : row + 1, : size + 2], use_cache=False).logits[0].float()
            mine = torch.stack([one[row] for one in found]).float()
            slack = (1e-3 if decoder.model.dtype == torch.float32 else 0.1) * float(true.abs().max())
            if float((mine - true[-3:]).abs().max()) > slack:
                raise ValueError("its logits differ through a cache written in place")


def load_decoder(policy: Policy, dtype: torch.dtype, device: str, *, fused: bool = True) -> Decoder:
    """The decoder of a policy: fused if the architecture supports it, else the transformers model.

    Raises:
        BadInput: its files cannot be read, do not match, or are of an unsupported architecture.
        EngineError: it does not fit the machine.
    """
    config = read_config(policy.weights)
    try:
        with load_errors(policy.path):
            if fused and _use_fused(config):
                tensors = load_model(policy, torch.float32).state_dict() if policy.adapter else state_dict(policy.path)
                check_before_sampling(policy)
                with suppress(KeyError):  # a weight is missing or has another name: use transformers
                    return llama.LlamaDecoder(config, tensors, dtype, device)
            return TransformersDecoder(load_model(policy, dtype), device)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise EngineError(f"cannot load policy {policy.version} from {policy.path}: {reason}") from error


def _use_fused(config: Mapping[str, Any]) -> bool:
    """Whether to use the fused pass; remarks why not for models of its types."""
    if config.get("model_type") in llama.MODEL_TYPES and (why := llama.unsupported_reason(config)):
        remark(f"sampling is slower than it could be: through transformers' own model ({why})")
    return llama.is_supported(config)


def live_decoder(model: Any, *, in_place: bool = True) -> Decoder:
    """A decoder over the tensors of `model` in place, in its dtype and on its device: it sees every change to them.

    Args:
        in_place: False: matrices are packed as those of a loaded policy are, which copies them as they are now.

    Raises:
        ValueError: the architecture computes something else through the engine than on its own.
    """
    config, tensors = model.config.to_dict(), model.state_dict()
    if _use_fused(config) and "model.embed_tokens.weight" in tensors:
        model.eval()
        return llama.LlamaDecoder(config, tensors, model.dtype, str(model.device), live=in_place)
    return TransformersDecoder(model, str(model.device))
