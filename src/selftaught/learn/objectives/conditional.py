"""Reward-conditioned training: learn good and bad responses after prefixes that mark them, sample with the good one.

The prefix stands at the beginning of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.checks import check_range
from selftaught.learn.objectives.base import Batch, Group, Objective, Row, check_types, count_tokens
from selftaught.learn.objectives.distill import forward_kl, with_other_tokens
from selftaught.learn.objectives.sft import nll
from selftaught.records import Label, Ranking

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

__all__ = ["mistake_tuning", "quark"]


@dataclass(frozen=True, slots=True)
class MistakeTuning(Objective):
    """Likelihood of good responses after one prefix and of bad ones after another, averaged over tokens.

    L = [ - sum_good log p(y | x, good) - sum_bad log p(y | x, bad) ] / tokens

    Source: Tong et al., "Can LLMs learn from previous mistakes?", 2403.20046 (mistake tuning).

    Attributes:
        good_prefix, bad_prefix: the prefixes, at the beginning of the answer.
    """

    takes = (Label,)
    good_prefix: str = "[CORRECT RATIONALE] "
    bad_prefix: str = "[INCORRECT RATIONALE] "
    name: str = "mistake-tuning"

    def validate(self) -> None:
        """See `Objective.validate`."""
        if self.good_prefix == self.bad_prefix:
            raise BadInput("both prefixes are the same", where="good_prefix, bad_prefix", fix="use different ones")

    def rows(self, record: Label, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:  # noqa: ARG002
        """The response after its prefix."""
        prompt = tokenizer.encode_prompt(record.prompt, self.good_prefix if record.good else self.bad_prefix)
        return [Row(tuple(prompt), tuple(tokenizer.encode_target(record.response)))]

    def normalizer(self, group: Group) -> float:
        """Completion tokens."""
        return count_tokens(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        return nll(batch.logprobs, batch.mask, batch.weights).sum()


def quantiles(scores: Sequence[float], count: int) -> list[int]:
    """The bin of each score, 0 (lowest) to count - 1, of bins of about equal size; equal scores share the higher bin.

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
class Quark(Objective):
    """Likelihood of every response of `Ranking` records after a prefix for its reward quantile, with a KL penalty.

    L = mean over tokens of [ - log p(y_t | x, r_k) + kl_coef * KL(p_0(.|x) || p(.|x, r_k)) - entropy_coef * H ]

    Bins are made over all records. Source: Lu et al., "Quark", 2205.13636, equation 2; the entropy term and rewards
    of several kinds at once are MaRio's (2311.02805).

    Attributes:
        num_quantiles: number of quantiles.
        prefix: beginning of an answer of quantile `{bin}`; the highest is `num_quantiles - 1`.
        kl_coef: weight of the KL from the initial weights of the training, which see no prefix.
        entropy_coef: weight of the entropy.
        teacher_top_k: see `Objective`.
    """

    takes = (Ranking,)
    num_quantiles: int = 5
    prefix: str = "[REWARD {bin}] "
    kl_coef: float = 0.05
    entropy_coef: float = 0.0
    teacher_top_k: int = 64
    name: str = "quark"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_range(2, float("inf"), num_quantiles=self.num_quantiles)
        check_range(0, float("inf"), kl_coef=self.kl_coef, entropy_coef=self.entropy_coef)
        check_range(0, float("inf"), teacher_top_k=self.teacher_top_k)
        if "{bin}" not in self.prefix:
            raise BadInput(f"has no {{bin}}: {self.prefix!r}", where="prefix", fix="put {bin} into it")

    @property
    def best_prefix(self) -> str:
        """The prefix to sample with."""
        return self.prefix.replace("{bin}", str(self.num_quantiles - 1))

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """Every response after the prefix of its quantile."""
        check_types(records, self.takes, self.name)
        found = iter(quantiles([score for record in records for score in record.scores], self.num_quantiles))
        made = []
        for i, record in enumerate(records):
            if len(record.scores) != len(record.responses):
                raise BadInput("needs one score for each response", where=f"training record {i}", fix="score each")
            plain = tuple(tokenizer.encode_prompt(record.prompt))
            made.append(tuple(self._row(record, text, plain, next(found), tokenizer) for text in record.responses))
        return made

    def _row(self, record: Ranking, text: str, plain: tuple[int, ...], bin_: int, tokenizer: ChatTokenizer) -> Row:
        prompt = tokenizer.encode_prompt(record.prompt, self.prefix.replace("{bin}", str(bin_)))
        return Row(tuple(prompt), tuple(tokenizer.encode_target(text)), reference_prompt=plain)

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The starting weights as a teacher if there is a KL, the entropy if it is rewarded."""
        return frozenset([*(["teacher"] if self.kl_coef else []), *(["entropy"] if self.entropy_coef else [])])

    def normalizer(self, group: Group) -> float:
        """Completion tokens."""
        return count_tokens(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        each = -batch.logprobs
        if batch.student is not None:
            teacher, student = map(with_other_tokens, (batch.token_features["teacher"], batch.student))
            each = each + self.kl_coef * forward_kl(teacher, student)
        if batch.entropy is not None:
            each = each - self.entropy_coef * batch.entropy
        return (each * batch.mask * batch.weights[:, None]).sum()


mistake_tuning = MistakeTuning
quark = Quark
