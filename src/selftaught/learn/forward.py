"""What a model says of rows: log-probabilities of their targets, and what else an objective needs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from selftaught.errors import BadInput
from selftaught.learn.kernels.fused import lean
from selftaught.learn.kernels.logits import TELL, Output
from selftaught.learn.kernels.packing import lay_out, packs, run, window
from selftaught.learn.objectives.base import ANCHORS, Batch, Group, Row

HEAD = "value_head"  # name of the submodule, and of its folder beside a policy's weights
CACHE = "anchors.safetensors"


def target_logprobs(model: Any, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Log-probability of every target token, float32.

    Args:
        model: a causal language model of transformers, or a peft model around one.
        rows: each with at least one prompt token.

    Returns:
        `(logprobs, mask)`, both `[rows, longest target]`; padded places (on the right) are 0 in both.
    """
    batch = evaluate(model, rows)
    return batch.logprobs, batch.mask


def evaluate(
    model: Any, rows: Sequence[Row], needs: Collection[str] = (), sizes: tuple[int, ...] = (),
    survey: tuple[Tensor, int] | None = None,
) -> Batch:  # fmt: skip
    """All that the model says of `rows`, and all that the rows say of themselves.

    Args:
        rows: each with at least one prompt token; of whole groups, if a loss is to be computed.
        needs: what beyond log-probabilities (see `learn.objectives.base.NEEDS`); what frozen weights say
            must already be with the rows (see `anchored`).
        sizes: rows of each group.
        survey: handed through.
    """
    output, chosen = read(model, rows)
    mask = _mask(rows, chosen.device)
    tokens, places = _facts(rows, mask), mask.bool()
    wanted = chosen[:, None]
    if "teacher" in needs:
        wanted = torch.cat([wanted, tokens.pop("teacher_ids")[places]], -1)
        tokens["label"] = _scatter((wanted[:, 1:] == chosen[:, None]).float(), places)
    said, spread = output.say(wanted, entropy="entropy" in needs)
    student = _scatter(said[:, 1:], places) if "teacher" in needs else None
    values = _scatter(getattr(model, HEAD)(output.hidden.float()), places) if "value" in needs else None
    entropy = None if spread is None else _scatter(spread[:, None], places)[..., 0]
    numbers = {n: torch.tensor([r.numbers[n] for r in rows], device=mask.device) for n in _shared(rows, "numbers")}
    weights = torch.tensor([row.weight for row in rows], device=mask.device)
    logprobs = _scatter(said[:, :1], places)[..., 0]
    return Batch(logprobs, mask, weights, sizes, numbers, tokens, entropy, student, values, survey)


def read(model: Any, rows: Sequence[Row]) -> tuple[Output, Tensor]:
    """What the output layer of `model` is given before every target token of every row, and those tokens.

    Rows lie side by side where the model can be run so; else they are padded on the right, where a causal
    model's real tokens never look, so no attention mask is needed. What pads is told by length, never by token id.
    """
    device, head = next(model.parameters()).device, model.get_output_embeddings()
    plain = plain_head(model)
    if side_by_side(model):
        layout = lay_out(rows, device)
        with _at(head, layout.before, plain) as seen:
            logits = run(model, layout)
        chosen = layout.chosen
    else:
        ids, before = (x.to(device) for x in _padded(rows))
        with _at(head, before.flatten().nonzero()[:, 0], plain) as seen:
            logits = model(input_ids=ids, use_cache=False).logits
        chosen = ids[:, 1:][before[:, :-1]]
    bias, tell = getattr(head, "bias", None), getattr(head, TELL, None)
    return Output(head.weight, bias, seen[0], None if plain else logits[0], tell), chosen


def side_by_side(model: Any) -> bool:
    """Whether rows go through `model` without padding; not where a token sees only so many before it."""
    return window(model) is None and packs(model)


@contextmanager
def _at(head: Any, places: Tensor, plain: bool) -> Iterator[list[Tensor]]:
    """Inside, the output layer is fed the hidden states of some places only, or of none if it is `plain`.

    Its logits are then `[1, places, vocab]`, for any architecture whose last layers work on each token
    alone. The list yielded holds those hidden states, `[places, width]`, once the model has run.
    """
    seen: list[Tensor] = []

    def select(_: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen[:] = [given[0].flatten(0, 1)[places]]
        return (seen[0][None, : 0 if plain else None], *given[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield seen
    finally:
        handle.remove()


_plain: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def plain_head(model: Any) -> bool:
    """Whether the model's logits are its hidden states times a weight, and nothing more; tried once for each model."""
    if model not in _plain:
        head = model.get_output_embeddings()
        _plain[model] = type(head) is torch.nn.Linear and _is_product(model, head)
    return _plain[model]


@torch.no_grad()
def _is_product(model: Any, head: Any) -> bool:
    ids = torch.arange(4, device=head.weight.device)[None] % len(head.weight)
    with _at(head, torch.arange(4, device=ids.device), plain=False) as seen:
        logits = model(input_ids=ids, use_cache=False).logits[0]
    return torch.equal(logits, head(seen[0]))


def _mask(rows: Sequence[Row], device: torch.device) -> Tensor:
    """`[rows, longest target]`, 1 for a target token."""
    lengths = torch.tensor([len(row.target) for row in rows], device=device)
    return (torch.arange(int(lengths.max()), device=device) < lengths[:, None]).float()


def _padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Token ids and the places whose next token is a target, `[rows, longest]`."""
    longest = max(len(row.prompt) + len(row.target) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    before = torch.zeros((len(rows), longest), dtype=torch.bool)
    for i, row in enumerate(rows):
        size = len(row.prompt) + len(row.target)
        ids[i, :size] = torch.tensor(row.prompt + row.target)
        before[i, len(row.prompt) - 1 : size - 1] = True
    return ids, before


def _shared(rows: Sequence[Row], which: str) -> set[str]:
    """The names of facts that every row gives."""
    return set.intersection(*(set(getattr(row, which)) for row in rows))


def _facts(rows: Sequence[Row], mask: Tensor) -> dict[str, Tensor]:
    """Facts about target tokens, padded with 0 to `[rows, tokens, ...]`."""
    found = {}
    for name in _shared(rows, "tokens"):
        each = [torch.as_tensor(row.tokens[name], device=mask.device) for row in rows]
        kind = torch.float32 if each[0].is_floating_point() else each[0].dtype
        found[name] = torch.zeros((*mask.shape, *each[0].shape[1:]), dtype=kind, device=mask.device)
        for i, values in enumerate(each):
            found[name][i, : len(values)] = values
    return found


def _scatter(values: Tensor, places: Tensor) -> Tensor:
    """`values` `[places, k]` at the true places of `[rows, tokens, k]`, 0 elsewhere."""
    whole = values.new_zeros((*places.shape, values.shape[-1]))
    return whole.masked_scatter(places[..., None], values)


# --- what frozen weights say of the rows, before the trained ones move ---


def anchored(
    model: Any, groups: Sequence[Group], needs: Collection[str], most: int, *, top_k: int = 0, cache: Path | None = None
) -> Sequence[Group]:
    """`groups` with what `needs` asks of frozen weights, as `model` (its adapter switched off) says it now.

    Args:
        needs: of these "reference", "start" and "teacher" are filled in, where the rows lack them.
        most: padded tokens in one forward pass; one group always fits.
        top_k: of how many of its likeliest tokens the teacher tells; 0 for the whole vocabulary.
        cache: folder that keeps the answers, so that a resumed training need not ask again.
    """
    rows = [row for group in groups for row in group]
    names = [n for n in ANCHORS if n in needs and not all(n in row.tokens for row in rows)]
    if not names:
        return groups
    found = _cached(cache, len(rows)) or _say(model, groups, names, most, top_k)
    if cache:
        _keep(cache, found)
    filled = iter([replace(row, tokens={**row.tokens, **said}) for row, said in zip(rows, found, strict=True)])
    return [tuple(next(filled) for _ in group) for group in groups]


def _say(model: Any, groups: Sequence[Group], names: Collection[str], most: int, top_k: int) -> list[dict[str, Tensor]]:
    """For each row what `model` says of it, in parts of groups of like length."""
    seen = [[replace(row, prompt=row.anchor or row.prompt, numbers={}, tokens={}) for row in g] for g in groups]
    found: list[list[dict[str, Tensor]]] = [[] for _ in groups]
    order = sorted(range(len(groups)), key=lambda i: max((_size(row) for row in seen[i]), default=0))
    off = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    was_training = model.training
    model.eval()
    with torch.no_grad(), off, lean(model):  # as in training, or rounding would tell them apart
        for part in _chunks(seen, order, most):
            answers = iter(_ask(model, [row for i in part for row in seen[i]], names, top_k))
            for i in part:
                found[i] = [next(answers) for _ in seen[i]]
    model.train(was_training)
    return [said for group in found for said in group]


def _size(row: Row) -> int:
    return len(row.prompt) + len(row.target)


def _chunks(groups: Sequence[Sequence[Row]], order: Sequence[int], most: int) -> Iterator[list[int]]:
    part: list[int] = []
    held = 0
    for i in order:
        rows = len(groups[i])
        if part and (held + rows) * max(map(_size, groups[i]), default=0) > most:
            yield part
            part, held = [], 0
        if rows:
            part.append(i)
            held += rows
    if part:
        yield part


def _ask(model: Any, rows: Sequence[Row], names: Collection[str], top_k: int) -> list[dict[str, Tensor]]:
    output, chosen = read(model, rows)
    answers: dict[str, Tensor] = {}
    if "reference" in names or "start" in names:
        drawn = output.say(chosen[:, None])[0][:, 0].cpu()
        answers |= {name: drawn for name in ("reference", "start") if name in names}
    if "teacher" in names:
        count = min(top_k or len(output.weight), len(output.weight))
        tops = [logits.log_softmax(-1).topk(count) for _, logits in output.chunks()]
        answers |= {"teacher": torch.cat([top.values.cpu() for top in tops])}
        answers |= {"teacher_ids": torch.cat([top.indices.cpu() for top in tops])}
    lengths = [len(row.target) for row in rows]
    split = {name: values.split(lengths) for name, values in answers.items()}
    return [{name: parts[i].clone() for name, parts in split.items()} for i in range(len(rows))]


def _cached(folder: Path | None, count: int) -> list[dict[str, Tensor]] | None:
    from safetensors.torch import load_file

    if folder is None or not (folder / CACHE).is_file():
        return None
    found: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for key, values in load_file(folder / CACHE).items():
        name, _, i = key.rpartition(".")
        found[int(i)][name] = values
    return found


def _keep(folder: Path, found: Sequence[dict[str, Tensor]]) -> None:
    from safetensors.torch import save_file

    if (folder / CACHE).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    # equal tensors under two names are one in memory, which safetensors refuses to save
    save_file(
        {f"{n}.{i}": t.clone() for i, said in enumerate(found) for n, t in said.items()}, folder / "anchors.draft"
    )
    os.replace(folder / "anchors.draft", folder / CACHE)


# --- a head that reads numbers off the hidden states ---


def add_head(model: Any, outputs: int, source: Path | None = None) -> None:
    """Give `model` a linear head of `outputs` numbers per place, from `source` if a head of that size lies there.

    A fresh one starts at zero, which needs no seed: a linear layer learns from its inputs, not from its own weights.
    """
    width = model.config.get_text_config().hidden_size
    head = torch.nn.Linear(width, outputs)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    if source is not None and (known := read_head(source)) is not None and known["weight"].shape == head.weight.shape:
        head.load_state_dict(known)
    setattr(model, HEAD, head.to(next(model.parameters()).device))


def take_head(model: Any) -> Any:
    """Remove and return the head of `model`; None where it has none."""
    return model._modules.pop(HEAD, None)


def write_head(head: Any, folder: Path) -> None:
    """The head's weights beside a policy's, in a folder of their own so that nothing takes them for the model's."""
    from safetensors.torch import save_file

    (folder / HEAD).mkdir(parents=True, exist_ok=True)
    save_file(
        {n: t.detach().cpu().contiguous() for n, t in head.state_dict().items()}, folder / HEAD / "head.safetensors"
    )


def read_head(folder: Path) -> dict[str, Tensor] | None:
    """The weights of the head in a policy's folder, or None."""
    from safetensors.torch import load_file

    file = folder / HEAD / "head.safetensors"
    return load_file(file) if file.is_file() else None


def read_values(model: Any, rows: Sequence[Row]) -> list[list[list[float]]]:
    """What the head of `model` reads before each target token of each row: `[rows][tokens][outputs]`.

    Raises:
        BadInput: the model has no head.
    """
    if not hasattr(model, HEAD):
        raise BadInput("the model has no value head", where="read_values", fix="learn one, or add_head from its folder")
    with torch.no_grad():
        batch = evaluate(model, rows, {"value"})
    assert batch.values is not None
    return [batch.values[i, : len(row.target)].tolist() for i, row in enumerate(rows)]
