"""SPO: beside a preference, the model learns to predict how much of a response's content was removed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selftaught.errors import BadInput
from selftaught.learn.checks import check_positive
from selftaught.learn.objectives.base import Batch, Row, encode_completion
from selftaught.learn.objectives.preference import Dpo, encode_pair
from selftaught.records import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

__all__ = ["spo"]

STOP_WORDS = frozenset(
    """a about after all also an and any are as at be because been before but by can could did do does for from had has
    have he her his how i if in into is it its just may more most my no nor not of on one only or other our out over
    she should so some such than that the their them then there these they this those to too under up very was we were
    what when where which while who whom why will with would you your""".split()  # noqa: SIM905
)


def key_phrases(text: str) -> list[str]:
    """Runs of words without stop words or punctuation, the most informative first.

    A word scores its co-occurrences over its occurrences, a phrase the sum of its words.
    Source: RAKE (Rose et al., "Automatic keyword extraction from individual documents", 2010, section 1.2).
    """
    phrases: list[tuple[str, ...]] = []
    for run in re.split(r"[^\w\s'-]+", text):
        words: list[str] = []
        for word in [*run.split(), ""]:
            if word and word.lower() not in STOP_WORDS:
                words.append(word)
            elif words:
                phrases.append(tuple(words))
                words = []
    seen: dict[str, int] = {}
    beside: dict[str, int] = {}
    for phrase in phrases:
        for word in phrase:
            seen[word] = seen.get(word, 0) + 1
            beside[word] = beside.get(word, 0) + len(phrase)
    ranked = sorted(dict.fromkeys(phrases), key=lambda p: -sum(beside[w] / seen[w] for w in p))
    return [" ".join(phrase) for phrase in ranked]


def remove_key_phrases(text: str, share: float) -> str:
    """`text` without the top `share` (0..1) of its key phrases, white space collapsed."""
    phrases = key_phrases(text)
    for phrase in phrases[: round(share * len(phrases))]:
        pattern = r"(?<!\S)" + r"\s+".join(map(re.escape, phrase.split())) + r"(?!\w)"
        text = re.sub(pattern, " ", text)
    return " ".join(text.split())


def class_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """`[rows]`: cross-entropy of `[rows, classes]` logits against `[rows]` class numbers."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, classes.long(), reduction="none")


@dataclass(frozen=True, slots=True)
class Spo(Dpo):
    """`Dpo` + gamma * mean cross-entropy of a head that predicts how much was removed from either response.

    L = L_DPO + gamma [CE(degree | chosen) + CE(degree | rejected)], each a mean over the degrees

    A response of degree k has lost k / (num_degrees - 1) * `max_removed` of its key phrases; the head reads the state
    at the response's last token. Versions that removal leaves unchanged are left out. Source: Li et al.,
    "Self-supervised preference optimization", 2409.17791, section 3; number of degrees and gamma not checked.

    Attributes:
        gamma: weight of the degree loss.
        num_degrees: number of versions of each response, the complete one included.
        max_removed: share of key phrases that the most degraded version has lost.
    """

    gamma: float = 0.1
    num_degrees: int = 3
    max_removed: float = 0.8
    name: str = "spo"

    def validate(self) -> None:
        """See `Objective.validate`."""
        Dpo.validate(self)
        check_positive(gamma=self.gamma, max_removed=self.max_removed)
        if self.num_degrees < 2:
            raise BadInput(f"must be ≥ 2, got {self.num_degrees}", where="num_degrees", fix="use 2 or more")
        if self.max_removed > 1:
            raise BadInput(f"must be ≤ 1, got {self.max_removed}", where="max_removed", fix="use at most 1")

    @property
    def value_outputs(self) -> int:
        """Classes of the head."""
        return self.num_degrees

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses, then the degraded versions of the chosen and of the rejected."""
        self.check_pair(record, where)
        pair = [_of_degree(row, 0) for row in encode_pair(record, tokenizer, where)]
        more = []
        for row, text in zip(pair, (record.chosen, record.rejected), strict=True):
            last = " ".join(text.split())
            for degree in range(1, self.num_degrees):
                less = remove_key_phrases(text, self.max_removed * degree / (self.num_degrees - 1))
                if less != last:
                    ids = encode_completion(tokenizer, less, record.ends)
                    more.append(_of_degree(replace(row, completion=ids), degree))
                last = less
        return [*pair, *more]

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:
        """The reference and the head."""
        return Dpo.requires(self, rows) | {"value"}

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        import torch

        starts = [sum(batch.sizes[:i]) for i in range(len(batch.sizes))]
        pairs = batch.select([start + side for start in starts for side in (0, 1)])
        assert batch.values is not None
        last = batch.lengths.long() - 1
        logits = batch.values[torch.arange(len(last), device=last.device), last]
        each = batch.by_group(class_entropy(logits, batch.row_features["degree"]))
        weights = batch.by_group(batch.weights)
        degrees = sum(2 * loss.mean() * weight[0] for loss, weight in zip(each, weights, strict=True))
        return Dpo.loss(self, pairs) + self.gamma * degrees


def _of_degree(row: Row, degree: int) -> Row:
    return replace(row, row_features={**row.row_features, "degree": float(degree)})


spo = Spo
