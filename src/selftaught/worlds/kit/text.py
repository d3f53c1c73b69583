"""Training text of a world: lessons as arrays, with the writer's distribution at every token of the assistant.

Text is written in chunks, each from its own seed, by a process beside the training. A chunk is a file, so a build that
was interrupted, or that reads its text more than once, does not write it again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


class Target(Protocol):
    """What is to be predicted at a position of a conversation.

    Attributes:
        position: index of the token; it is predicted from those before it.
        ids: tokens that the writer may write there.
        probs: their exact probabilities.
        skill: what the decision needs; "" for a token that is certain.
        right: id of the token that is right; -1 if all are, or none.
    """

    @property
    def position(self) -> int: ...  # noqa: D102
    @property
    def ids(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def probs(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def skill(self) -> str: ...  # noqa: D102
    @property
    def right(self) -> int: ...  # noqa: D102


class Encoded(Protocol):
    """A conversation as token ids, and the targets in it."""

    @property
    def ids(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def targets(self) -> Sequence[Target]: ...  # noqa: D102


Lessons = Callable[[int], Iterable[Encoded]]
"""The lessons of a seed, without an end; picklable, as another process writes the text."""


@dataclass(frozen=True)
class Text:
    """Lessons, one after the other. Equal distributions are stored once, as rows of a sparse matrix.

    Attributes:
        ids: tokens of all lessons.
        starts: index in `ids` of each lesson's first token, `[lessons + 1]`.
        positions: position of each target in its lesson.
        rows: distribution of each target.
        target_starts: index in `positions` of each lesson's first target, `[lessons + 1]`.
        tokens: tokens of all distributions.
        probs: their probabilities.
        row_starts: index in `tokens` of each distribution's first token, `[distributions + 1]`.
        skill: index in `skills` of each distribution.
        right: id of the right token of each distribution; -1 for none.
        skills: names of the skills.
    """

    ids: Array
    starts: Array
    positions: Array
    rows: Array
    target_starts: Array
    tokens: Array
    probs: Array
    row_starts: Array
    skill: Array
    right: Array
    skills: Array

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Array:
        """Tokens of each lesson."""
        return np.diff(self.starts)

    def save(self, file: Path) -> None:
        """Write to a file, at once or not at all."""
        half = file.with_name(f"{file.name}.part")
        with half.open("wb") as out:
            np.savez(out, allow_pickle=False, **{field.name: getattr(self, field.name) for field in fields(self)})
        os.replace(half, file)

    @classmethod
    def load(cls, file: Path) -> Text:
        """Read from a file."""
        with np.load(file) as found:
            return cls(**{field.name: found[field.name] for field in fields(cls)})

    @property
    def sha256(self) -> str:
        """Hash of the content."""
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return digest.hexdigest()


class _Distributions:
    """Distinct distributions, numbered in order of appearance."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[Any, ...], int] = {}

    def number(self, target: Target) -> int:
        ids, probs = zip(*((i, p) for i, p in zip(target.ids, target.probs, strict=True) if p > 0), strict=True)
        key = (target.skill, getattr(target, "right", -1), ids, probs)
        return self.numbers.setdefault(key, len(self.numbers))


def as_text(lessons: Iterable[Encoded]) -> Text:
    """Gather lessons."""
    ids: list[int] = []
    positions: list[int] = []
    rows: list[int] = []
    starts, target_starts, seen = [0], [0], _Distributions()
    for lesson in lessons:
        ids += lesson.ids
        starts.append(len(ids))
        for target in lesson.targets:
            positions.append(target.position)
            rows.append(seen.number(target))
        target_starts.append(len(positions))
    skills = list(dict.fromkeys(skill for skill, *_ in seen.numbers))
    places = {skill: i for i, skill in enumerate(skills)}
    return Text(
        ids=np.array(ids, np.uint16),
        starts=np.array(starts, np.int64),
        positions=np.array(positions, np.int32),
        rows=np.array(rows, np.int32),
        target_starts=np.array(target_starts, np.int64),
        tokens=np.array([t for _, _, tokens, _ in seen.numbers for t in tokens], np.uint16),
        probs=np.array([p for *_, probs in seen.numbers for p in probs], np.float32),
        row_starts=np.cumsum([0, *(len(probs) for *_, probs in seen.numbers)]),
        skill=np.array([places[skill] for skill, *_ in seen.numbers], np.int16),
        right=np.array([right for _, right, *_ in seen.numbers], np.int32),
        skills=np.array(skills or [""]),
    )


def write_chunk(file: Path, lessons: Lessons, seed: int, tokens: int) -> None:
    """Write about `tokens` tokens of lessons, from `seed`, unless the file exists."""
    if not file.exists():
        as_text(_up_to(lessons(seed), tokens)).save(file)


def _up_to(lessons: Iterable[Encoded], tokens: int) -> Iterator[Encoded]:
    read = 0
    for lesson in lessons:
        yield lesson
        read += len(lesson.ids)
        if read >= tokens:
            return


class Batch(NamedTuple):
    """Lessons side by side, padded on the right; targets are in the order of the rows.

    Attributes:
        ids: `[lessons, tokens]`; each lesson's last token is left out, as nothing follows it.
        at: for each target, index in the flat ids of the token before it.
        rows: for each target its distribution, as a row number of the text.
        target: for each token of the distributions, which target it belongs to.
        token: its id.
        probs: its probability.
    """

    ids: Array
    at: Array
    rows: Array
    target: Array
    token: Array
    probs: Array


def make_batch(text: Text, lessons: Sequence[int] | Array) -> Batch:
    """Put lessons side by side."""
    chosen = np.asarray(lessons)
    lengths = text.lengths[chosen] - 1
    longest = int(lengths.max())
    ids = np.zeros((len(chosen), longest), np.int64)
    ids[np.arange(longest) < lengths[:, None]] = text.ids[_ranges(text.starts[chosen], lengths)]
    counts = np.diff(text.target_starts)[chosen]
    targets = _ranges(text.target_starts[chosen], counts)
    at = np.repeat(np.arange(len(chosen)) * longest, counts) + text.positions[targets] - 1
    rows = text.rows[targets]
    sizes = np.diff(text.row_starts)[rows]
    entries = _ranges(text.row_starts[rows], sizes)
    target = np.repeat(np.arange(len(rows)), sizes)
    return Batch(ids, at, rows, target, text.tokens[entries].astype(np.int64), text.probs[entries])


def _ranges(starts: Array, counts: Array) -> Array:
    """`range(start, start + count)` of each pair, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


def entropies(text: Text) -> Array:
    """Entropy of each distribution, in nats."""
    probs = text.probs.astype(np.float64)
    return -np.add.reduceat(probs * np.log(probs), text.row_starts[:-1]) if len(probs) else probs


def plan(text: Text, batch_tokens: int, seed: Sequence[int]) -> list[Array]:
    """Every lesson once, in batches of lessons of similar length, in random order.

    Args:
        batch_tokens: most tokens of a batch, with padding.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(text))
    order = order[np.argsort(text.lengths[order], kind="stable")]
    lengths, batches, first = text.lengths[order] - 1, [], 0
    while first < len(order):
        last = first + 1
        while last < len(order) and (last + 1 - first) * lengths[last] <= batch_tokens:
            last += 1
        batches.append(order[first:last])
        first = last
    rng.shuffle(batches)
    return batches


def first_lessons(lessons: Lessons, seed: int, count: int) -> Text:
    """The first `count` lessons of a seed."""
    return as_text(islice(lessons(seed), count))
