"""Building the tiny model: a Llama of about a million parameters, trained from scratch on the world's text.

Seeded throughout: the same processor and versions give the same weights.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.records import Prompt
from selftaught.worlds.tiny.language import END
from selftaught.worlds.tiny.text import conversations
from selftaught.worlds.tiny.tokenizer import make_tokenizer

if TYPE_CHECKING:
    import torch

CONTEXT = 512
POOL = 4096  # conversations sorted by length together, so that little of a batch is padding
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the model is made.

    Attributes:
        width: of the residual stream.
        layers: decoder layers.
        heads: attention heads.
        hidden: of the feed-forward layers.
        conversations: of the text, each seen once.
        batch_tokens: about so many a step, padding included.
        learning_rate: at its peak; warmed up over 2 % of the steps, then a cosine down to a twentieth.
        weight_decay: of AdamW, on matrices.
        seed: of text and weights.
    """

    width: int = 160
    layers: int = 4
    heads: int = 5
    hidden: int = 448
    conversations: int = 150_000
    batch_tokens: int = 2048
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0


Row = tuple[list[int], list[int]]


def encode(prompt: Prompt, ids: dict[str, int]) -> Row:
    """Token ids of a conversation, and labels: all the assistant says, and the end of its last turn."""
    tokens: list[int] = []
    labels: list[int] = []
    for message in prompt:
        said = [ids[c] for c in message.content]
        tokens += [ids[f"<|{message.role}|>"], *said]
        labels += [IGNORED, *(said if message.role == "assistant" else [IGNORED] * len(said))]
    return [*tokens, ids[END]], [*labels, ids[END]]


def batches(recipe: Recipe) -> Iterator[list[Row]]:
    """The text in batches of conversations of like length, in an order that is shuffled and seeded."""
    import random

    ids = make_tokenizer().get_vocab()
    rng = random.Random(recipe.seed)
    text = islice(conversations(recipe.seed), recipe.conversations)
    while pool := [encode(prompt, ids) for prompt in islice(text, POOL)]:
        pool.sort(key=lambda row: len(row[0]))
        cut: list[list[Row]] = []
        while pool:
            count = max(1, recipe.batch_tokens // len(pool[-1][0]))
            cut.append(pool[-count:])
            del pool[-count:]
        rng.shuffle(cut)
        yield from cut


def tensors(batch: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels `[rows, tokens]`, padded on the right."""
    import torch

    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row, _ in batch])
    labels = torch.tensor([[*row, *[IGNORED] * (longest - len(row))] for _, row in batch])
    return ids, labels


def make_model(recipe: Recipe) -> Any:
    """The untrained model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    vocabulary = make_tokenizer().get_vocab()
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=recipe.width,
        intermediate_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
    )
    return LlamaForCausalLM(config)


def rate(recipe: Recipe, share: float) -> float:
    """Learning rate when `share` of the text is read."""
    if share < 0.02:
        return recipe.learning_rate * share / 0.02
    return recipe.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * (share - 0.02) / 0.98)) / 2)


def train(recipe: Recipe, progress: Callable[[int, int, float], None] = lambda *_: None) -> tuple[Any, dict[str, Any]]:
    """Train a model. Returns it, and what it took: tokens, seconds, the loss at the end."""
    import torch

    model = make_model(recipe)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
    read, tokens, smooth, began = 0, 0, 0.0, time.monotonic()
    for batch in batches(recipe):
        ids, labels = tensors(batch)
        for group in optimizer.param_groups:
            group["lr"] = rate(recipe, read / recipe.conversations)
        loss = torch.nn.functional.cross_entropy(
            model(input_ids=ids[:, :-1]).logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        read += len(batch)
        tokens += sum(len(row) for row, _ in batch)
        smooth = loss.item() if not smooth else 0.98 * smooth + 0.02 * loss.item()
        progress(read, recipe.conversations, smooth)
    seconds = time.monotonic() - began
    speed = round(tokens / seconds)
    return model, {"tokens": tokens, "seconds": round(seconds), "tokens_per_second": speed, "loss": round(smooth, 4)}


def save(model: Any, folder: Path, recipe: Recipe, cost: dict[str, Any]) -> None:
    """Write the model, its tokenizer and how it was made."""
    model.save_pretrained(str(folder), safe_serialization=True)
    make_tokenizer().save_pretrained(str(folder))
    made = {"recipe": asdict(recipe), "cost": cost}
    (folder / "built.json").write_text(json.dumps(made, indent=1) + "\n", "utf-8")
