"""Learning good and bad alike, each behind words that tell which: at test time, ask for the good ones.

What tells them apart stands at the beginning of the answer; to ask for the good, sample with the same prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Base, Batch, Group, Row, check_types, check_within, tokens_of
from selftaught.learn.objectives.distill import forward_kl, with_rest
from selftaught.learn.objectives.sft import nll
from selftaught.records import Label, Ranking

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer


@dataclass(frozen=True, slots=True)
class MistakeTuning(Base):
    """Likelihood of good responses behind one prefix and of bad ones behind another, averaged over tokens.

    L = [ - sum_good log p(y | x, good) - sum_bad log p(y | x, bad) ] / tokens

    Source: Tong et al., "Can LLMs learn from previous mistakes?", 2403.20046 (mistake tuning).

    Attributes:
        good, bad: the prefixes, at the beginning of the answer.
    """

    takes = (Label,)
    good: str = "[CORRECT RATIONALE] "
    bad: str = "[INCORRECT RATIONALE] "
    name: str = "mistake-tuning"

    def __post_init__(self) -> None:
        if self.good == self.bad:
            raise BadInput("both prefixes are the same", where="good, bad", fix="let them differ")

    def rows(self, record: Label, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:  # noqa: ARG002
        """The response behind its prefix."""
        prompt = tokenizer.encode_prompt(record.prompt, self.good if record.good else self.bad)
        return [Row(tuple(prompt), tuple(tokenizer.encode_target(record.response)))]

    def size(self, group: Group) -> float:
        """Target tokens."""
        return tokens_of(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        return nll(batch.logprobs, batch.mask, batch.weights).sum()


def quantiles(scores: Sequence[float], count: int) -> list[int]:
    """The bin of each score, 0 (lowest) to count - 1, of bins as full as can be; equal scores share the higher bin.

    Raises:
        BadInput: fewer distinct scores than bins.
    """
    if len(set(scores)) < count:
        raise BadInput(
            f"{len(set(scores))} distinct scores for {count} quantiles", where="scores", fix="use fewer quantiles"
        )
    ranked = sorted(scores)
    last = {score: i for i, score in enumerate(ranked)}
    return [last[score] * count // len(ranked) for score in scores]


@dataclass(frozen=True, slots=True)
class Quark(Base):
    """Likelihood of every response behind the name of its quantile of reward, near the reference, on `Ranking` records.

    L = mean over tokens of [ - log p(y_t | x, r_k) + kl * KL(p_0(.|x) || p(.|x, r_k)) - entropy * H ]

    Bins are made over all records. Source: Lu et al., "Quark", 2205.13636, equation 2; the entropy term and rewards
    of several kinds at once are MaRio's (2311.02805).

    Attributes:
        count: number of quantiles.
        prefix: what stands at the beginning of an answer of quantile `{bin}`, the highest being `count - 1`.
        kl: weight of the KL from the weights that training starts from, which see no prefix.
        entropy: weight of the entropy.
        top_k: of how many of their likeliest tokens those weights tell; 0 for all.
    """

    takes = (Ranking,)
    count: int = 5
    prefix: str = "[REWARD {bin}] "
    kl: float = 0.05
    entropy: float = 0.0
    top_k: int = 64
    name: str = "quark"

    def __post_init__(self) -> None:
        check_within(2, float("inf"), count=self.count)
        check_within(0, float("inf"), kl=self.kl, entropy=self.entropy, top_k=self.top_k)
        if "{bin}" not in self.prefix:
            raise BadInput(f"got {self.prefix!r}", where="prefix", fix="let it hold {bin}")

    @property
    def best(self) -> str:
        """The prefix to sample with."""
        return self.prefix.replace("{bin}", str(self.count - 1))

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """Every response behind its quantile."""
        check_types(records, self.takes, "quark")
        found = iter(quantiles([score for record in records for score in record.scores], self.count))
        made = []
        for i, record in enumerate(records):
            if len(record.scores) != len(record.responses):
                raise BadInput("it has not one score for each response", where=f"training record {i}", fix="score each")
            plain = tuple(tokenizer.encode_prompt(record.prompt))
            made.append(tuple(self._row(record, text, plain, next(found), tokenizer) for text in record.responses))
        return made

    def _row(self, record: Ranking, text: str, plain: tuple[int, ...], bin_: int, tokenizer: ChatTokenizer) -> Row:
        prompt = tokenizer.encode_prompt(record.prompt, self.prefix.replace("{bin}", str(bin_)))
        return Row(tuple(prompt), tuple(tokenizer.encode_target(text)), anchor=plain)

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The starting weights as a teacher if there is a KL, the entropy if it is rewarded."""
        return frozenset([*(["teacher"] if self.kl else []), *(["entropy"] if self.entropy else [])])

    def size(self, group: Group) -> float:
        """Target tokens."""
        return tokens_of(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        each = -batch.logprobs
        if batch.student is not None:
            each = each + self.kl * forward_kl(with_rest(batch.tokens["teacher"]), with_rest(batch.student))
        if batch.entropy is not None:
            each = each - self.entropy * batch.entropy
        return (each * batch.mask * batch.weights[:, None]).sum()
