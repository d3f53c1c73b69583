"""What the local engine needs of a model: a forward pass over cache rows, for any architecture."""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from selftaught.engines import llama
from selftaught.engines.base import EngineError
from selftaught.engines.rows import Rows, step_mask
from selftaught.models.load import load_model, of_the_machine, read_config, reading
from selftaught.models.policy import Policy


class Decoder(Protocol):
    """A model that reads and writes cache rows."""

    max_context: int
    device: str

    def rows(self) -> Rows:
        """An empty cache."""
        ...

    def forward(self, ids: Tensor, positions: Tensor, cache: Rows, length: int, wanted: Tensor) -> Tensor:
        """Logits for tokens `ids` `[rows, steps]` at `positions`, written into the first rows of `cache`.

        Args:
            ids: token ids; either whole prompts from position 0, or one step a row.
            positions: `[rows, steps]`.
            length: how far the rows are read (the greatest position + 1).
            wanted: `[rows, n]`, the steps of each row whose logits are wanted.

        Returns:
            `[rows, n, vocab]`, float32.
        """
        ...


class TransformersDecoder:
    """Any causal language model of `transformers`, as it is, through its cache and attention interfaces.

    Raises:
        ValueError: the architecture computes something else through these interfaces than on its own.
    """

    def __init__(self, model: Any, device: str) -> None:
        config = model.config.get_text_config()
        self.model, self.device = model.to(device).eval(), device
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        self.max_context = min(getattr(config, "max_position_embeddings", None) or 2048, window or 1 << 30)
        heads = config.num_attention_heads
        self._shape = (
            config.num_hidden_layers,
            getattr(config, "num_key_value_heads", None) or heads,
            getattr(config, "head_dim", None) or config.hidden_size // heads,
        )
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        try:
            _check_same(self, config.vocab_size)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
            if of_the_machine(error):
                raise
            raise ValueError(f"the local engine cannot run {type(model).__name__}: {error}") from error

    def rows(self) -> Rows:
        """An empty cache."""
        layers, heads, head_dim = self._shape
        return Rows(layers, heads, head_dim, self.model.dtype, self.device)

    def forward(self, ids: Tensor, positions: Tensor, cache: Rows, length: int, wanted: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        kept = wanted.unique() if self._keeps else torch.arange(ids.shape[1], device=ids.device)
        logits = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=step_mask(positions, length, self.model.dtype),
            past_key_values=_bridge()(cache, positions, length),
            use_cache=True,
            **({"logits_to_keep": kept} if self._keeps else {}),
        ).logits
        row = torch.arange(ids.shape[0], device=ids.device)[:, None]
        return logits[row, torch.searchsorted(kept, wanted)].float()


@cache
def _bridge() -> Any:
    """The class that puts cache rows behind the cache interface of transformers, made once that is imported."""
    from transformers import Cache

    class Bridge(Cache):
        """Writes in place and returns views."""

        def __init__(self, rows: Rows, positions: Tensor, length: int) -> None:
            super().__init__(layers=[])
            self._rows, self._positions, self._length = rows, positions, length

        def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
            self._rows.write(layer_idx, key_states, value_states, self._positions)
            return self._rows.view(layer_idx, key_states.shape[0], self._length)

        def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - the interface has it
            return self._length - self._positions.shape[1]

    return Bridge


def _check_same(decoder: TransformersDecoder, vocab: int) -> None:
    """Raise where two padded rows and a further step, by our cache, differ from the model's own plain pass."""
    ids = (torch.arange(12, device=decoder.device).view(2, 6) * 7 + 3) % vocab
    rows, at = decoder.rows(), torch.arange(5, device=decoder.device).expand(2, -1)
    rows.resize(2, 6)
    steps = torch.tensor([[4], [2]], device=decoder.device)  # the second row is 3 tokens long
    with torch.inference_mode():
        first = decoder.forward(ids[:, :5], at, rows, 5, steps)
        second = decoder.forward(ids.gather(1, steps + 1), steps + 1, rows, 6, torch.zeros_like(steps))
        for row, size in enumerate((6, 4)):
            true = decoder.model(input_ids=ids[row : row + 1, :size], use_cache=False).logits[0].float()
            mine = torch.cat((first[row], second[row]))
            slack = (1e-3 if decoder.model.dtype == torch.float32 else 0.1) * float(true.abs().max())
            if float((mine - true[-2:]).abs().max()) > slack:
                raise ValueError("its logits differ through a cache written in place")


def state_dict(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model folder, memory-mapped: those its index names, else those of its safetensors files."""
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = {folder / name for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    else:
        whole = folder / "model.safetensors"
        files = {whole} if whole.is_file() else set(folder.glob("*.safetensors"))
    tensors: dict[str, Tensor] = {}
    for file in sorted(files):
        with reading(file):
            tensors.update(load_file(file))
    return tensors


def load_decoder(policy: Policy, dtype: torch.dtype, device: str, *, fused: bool = True) -> Decoder:
    """The decoder of a policy: fused where the architecture allows, else the transformers model itself.

    Raises:
        BadInput: its files cannot be read, do not belong together, or are of an architecture not to be run.
        EngineError: the machine cannot hold it.
    """
    config = read_config(policy.weights)
    try:
        with reading(policy.path):
            if not (fused and llama.fits(config)):
                return TransformersDecoder(load_model(policy, dtype), device)
            tensors = load_model(policy, torch.float32).state_dict() if policy.adapter else state_dict(policy.path)
            return llama.LlamaDecoder(config, tensors, dtype, device)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise EngineError(f"cannot load policy {policy.version} from {policy.path}: {reason}") from error
