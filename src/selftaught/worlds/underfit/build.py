"""Build the underfit model: a Llama of about a million parameters, trained from scratch on the world's text.

Seeded throughout: the same processor and versions give the same weights.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.engines import Engine, EngineConfig, Request, Sampling, create_engine
from selftaught.machine.threads import release_threads, releasing_threads
from selftaught.models import Policy
from selftaught.records import Message, Prompt
from selftaught.worlds.underfit.curriculum import CURRICULA, conversations
from selftaught.worlds.underfit.language import END
from selftaught.worlds.underfit.text import Case, case_of_draft, questions
from selftaught.worlds.underfit.tokenizer import make_tokenizer

if TYPE_CHECKING:
    import torch

CONTEXT = 512
POOL = 4096  # conversations sorted by length together, to reduce padding
LONGEST = 120  # maximum tokens of the model's own drafts
DRAFT_TEMPERATURE = 0.7  # sampling temperature of these drafts
SHORTEST = 16  # minimum weight of a reply in tokens, so that verdicts count as much as solutions


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """Configuration of the model and its training.

    Attributes:
        width: width of the residual stream.
        layers: decoder layers.
        heads: attention heads.
        hidden: width of the feed-forward layers.
        conversations: training conversations per stage, each seen once.
        rates: peak learning rate per stage, as a share of the two rates below.
        own: drafts sampled from the model, per conversation, for a stage that uses its own drafts.
        batch_tokens: approximate tokens per step, including padding.
        learning_rate: peak rate of Muon for the layers' matrices; warmup over 2 % of the text, then cosine
            decay to a twentieth.
        adam_rate: peak rate of AdamW for embeddings and norms, same schedule.
        weight_decay: weight decay of the layers' matrices.
        seed: seed of text and weights.
    """

    width: int = 128
    layers: int = 6
    heads: int = 4
    hidden: int = 352
    conversations: tuple[int, ...] = (76_000, 36_000, 22_000)
    rates: tuple[float, ...] = (1.0, 0.5, 0.3)
    own: float = 0.7
    batch_tokens: int = 3072
    learning_rate: float = 0.02
    adam_rate: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0


TokenRow = tuple[list[int], list[float]]


def encode(prompt: Prompt, ids: dict[str, int], drafts: bool = True) -> TokenRow:
    """Token ids of a conversation, and their loss weights: 1 for the assistant's tokens, or more in the last reply.

    Args:
        drafts: whether to train on the assistant's earlier turns, without an end of sequence.
    """
    tokens: list[int] = []
    weights: list[float] = []
    for message in prompt:
        said = [ids[c] for c in message.content]
        tokens += [ids[f"<|{message.role}|>"], *said]
        weights += [0.0, *[float(drafts and message.role == "assistant")] * len(said)]
    learned = len(prompt[-1].content) + 1
    return [*tokens, ids[END]], [*weights[: 1 - learned or None], *[max(1.0, SHORTEST / learned)] * learned]


def batches(recipe: BuildConfig, number: int, own: Sequence[Case] = ()) -> Iterator[list[TokenRow]]:
    """A stage's text in batches of conversations of similar length, in seeded random order."""
    import random

    ids = make_tokenizer().get_vocab()
    lesson, seed = CURRICULA[number], recipe.seed + 1000 * number
    rng = random.Random(seed)
    text = islice(conversations(seed, lesson, own), recipe.conversations[number])
    while pool := [encode(prompt, ids, lesson.drafts) for prompt in islice(text, POOL)]:
        pool.sort(key=lambda row: len(row[0]))
        cut: list[list[TokenRow]] = []
        while pool:
            count = max(1, recipe.batch_tokens // len(pool[-1][0]))
            cut.append(pool[-count:])
            del pool[-count:]
        rng.shuffle(cut)
        yield from cut


def tensors(batch: list[TokenRow]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and weights `[rows, tokens]`, padded on the right."""
    import torch

    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row, _ in batch])
    weights = torch.tensor([[*row, *[0.0] * (longest - len(row))] for _, row in batch])
    return ids, weights


def loss_of(model: Any, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the negative log-probability of each token after those before it, in nats."""
    import torch

    logits = model(input_ids=ids[:, :-1]).logits.transpose(1, 2)
    nats = torch.nn.functional.cross_entropy(logits, ids[:, 1:], reduction="none")
    return (nats * weights[:, 1:]).sum() / weights[:, 1:].sum()


def make_model(recipe: BuildConfig) -> Any:
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


def schedule(share: float) -> float:
    """The learning rate as a share of its peak after `share` of the text."""
    if share < 0.02:
        return share / 0.02
    return 0.05 + 0.95 * (1 + math.cos(math.pi * (share - 0.02) / 0.98)) / 2


def optimizers(model: Any, recipe: BuildConfig, share: float = 1.0) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) and AdamW, each for its parameters.

    On this text Muon needs a third of the tokens of AdamW alone.
    """
    import torch

    layers = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not layer for layer in layers)]
    return [
        torch.optim.Muon(layers, lr=share * recipe.learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=share * recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


@releasing_threads()
def train_model(
    recipe: BuildConfig, progress: Callable[[int, int, float], None] = lambda *_: None
) -> tuple[Any, dict[str, Any]]:
    """Train a model stage by stage. Returns it with tokens, seconds and final loss."""
    model, read, tokens, loss, began = make_model(recipe), 0, 0, 0.0, time.monotonic()
    for number in range(len(CURRICULA)):
        for rows, loss in train_curriculum(model, recipe, number):
            read += len(rows)
            tokens += sum(len(ids) for ids, _ in rows)
            progress(read, sum(recipe.conversations), loss)
    seconds = time.monotonic() - began
    speed = round(tokens / seconds)
    return model, {"tokens": tokens, "seconds": round(seconds), "tokens_per_second": speed, "loss": round(loss, 4)}


def train_curriculum(model: Any, recipe: BuildConfig, number: int) -> Iterator[tuple[list[TokenRow], float]]:
    """Train `model` on one stage; yields the running loss after each batch."""
    import torch

    steppers = optimizers(model, recipe, recipe.rates[number])
    peaks = [(group, group["lr"]) for stepper in steppers for group in stepper.param_groups]
    read, lately = 0, 0.0
    own = own_drafts(model, recipe, number) if CURRICULA[number].own else ()
    for batch in batches(recipe, number, own):
        loss = loss_of(model, *tensors(batch))
        loss.backward()
        for group, peak in peaks:
            group["lr"] = peak * schedule(read / recipe.conversations[number])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad()
        read += len(batch)
        lately = 0.98 * lately + 0.02 * loss.item() if lately else loss.item()
        yield batch, lately


def own_drafts(model: Any, recipe: BuildConfig, number: int) -> list[Case]:
    """Drafts sampled from the current model on problems of the text, with their true verdicts."""
    import random
    import tempfile

    rng = random.Random(recipe.seed + 1000 * number)
    asked = list(islice(questions(rng), round(recipe.own * recipe.conversations[number])))
    sampling = Sampling(max_tokens=LONGEST, temperature=DRAFT_TEMPERATURE)

    async def drafts(engine: Engine, policy: Policy) -> list[str]:
        requests = [Request((Message("user", q),), sampling, recipe.seed + i) for i, (q, _) in enumerate(asked)]
        return [s.text for s in await asyncio.gather(*(engine.sample(policy, request) for request in requests))]

    config = EngineConfig(dtype="float32", max_batch_size=256)
    with tempfile.TemporaryDirectory() as folder, closing(create_engine(folder, config)) as engine:
        policy = Policy("draft", Path(folder))
        model.config.save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        release_threads()
        engine.attach_model(policy, model)
        texts = asyncio.run(drafts(engine, policy))
    model.train()
    cases = [case_of_draft(q, reference, text) for (q, reference), text in zip(asked, texts, strict=True)]
    return [case for case in cases if case]


def save(model: Any, folder: Path, recipe: BuildConfig, cost: dict[str, Any]) -> None:
    """Write the model, its tokenizer and a record of its training."""
    model.save_pretrained(str(folder), safe_serialization=True)
    make_tokenizer().save_pretrained(str(folder))
    made = {"recipe": asdict(recipe), "cost": cost}
    (folder / "built.json").write_text(json.dumps(made, indent=1) + "\n", "utf-8")
