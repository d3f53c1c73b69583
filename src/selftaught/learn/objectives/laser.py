"""LaSeR: a policy gradient that also teaches the model to score its own answer by one token's log-probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.checks import check_positive, check_range
from selftaught.learn.objectives.advantages import group_std
from selftaught.learn.objectives.base import Batch, Group, Row, check_types
from selftaught.learn.objectives.policy_gradient import PolicyGradient
from selftaught.learn.objectives.sampled import check_rewards
from selftaught.records import RolloutGroup

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

__all__ = ["laser"]


def self_reward(logprob: Tensor, beta: float, c_ref: float) -> Tensor:
    """beta (log p(z|x,y) - c_ref). Source: Yang et al., "LaSeR", 2510.14943."""
    return beta * (logprob - c_ref)


@dataclass(frozen=True, slots=True)
class Laser(PolicyGradient):
    """`PolicyGradient` + alpha * mean balance * (self-reward - reward)^2, on rollouts with rewards 0 and 1.

    The token z follows an answer's end of sequence; r_s = beta (log p(z|x,y) - c_ref) is fitted to the reward.
    Right and wrong answers have the same total weight. An answer truncated at its length limit is not scored. Fitted
    exactly, log p(z|x,y) = c_ref + reward / beta. Source: 2510.14943, and its code
    (github.com/RUCBM/LaSeR); there the self-rewards mixed into advantages are those of the sampler, here those
    of the current policy.

    Attributes:
        score_token: text of z, one token that no answer contains.
        beta: the paper's beta_v.
        c_ref: the paper's c_ref, z's log-probability under the reference.
        alpha: weight of the fit.
        tau: share of the self-rewards in the advantages, standardized in the group.
    """

    takes = (RolloutGroup,)
    score_token: str = ""
    beta: float = 0.1
    c_ref: float = -23.0
    alpha: float = 0.1
    tau: float = 0.0
    name: str = "laser"

    def validate(self) -> None:
        """See `Objective.validate`."""
        PolicyGradient.validate(self)
        check_positive(beta=self.beta, alpha=self.alpha)
        check_range(0, 1, tau=self.tau)
        if self.loss_aggregation == "token-mean":
            fix = 'use "seq-mean-token-mean" or "seq-mean-token-sum-norm"'
            raise BadInput("the fit is a mean over sequences", where="loss_aggregation", fix=fix)

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """The rows of the policy gradient, each followed by z.

        Raises:
            BadInput: `score_token` is not one token; rewards other than 0 and 1.
        """
        check_types(records, self.takes, self.name)
        ids = tokenizer.encode(self.score_token) if self.score_token else []
        if len(ids) != 1:
            tokens = f"{self.score_token!r} is {len(ids)} tokens"
            raise BadInput(tokens, where="score_token", fix="name one token that no answer contains")
        for i, record in enumerate(records):
            check_rewards(record, f"training record {i}", binary=True)
        rewards = [reward for record in records for reward in record.rewards]
        balance = {reward: len(rewards) / (2 * rewards.count(reward)) for reward in set(rewards)}
        groups = PolicyGradient.groups(self, records, tokenizer)
        return [
            tuple(
                _with_score_token(row, ids[0], balance[reward] if attempt.finish_reason == "stop" else 0.0)
                for row, attempt, reward in zip(group, record.samples, record.rewards, strict=True)
            ) if group else ()
            for group, record in zip(groups, records, strict=True)
        ]  # fmt: skip

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        answer, reward = batch.token_features["answer"] * batch.mask, batch.row_features["reward"]
        score = self_reward(((batch.mask - answer) * batch.logprobs).sum(-1), self.beta, self.c_ref)
        features = dict(batch.token_features)
        if self.tau:
            own = [a for group in batch.by_group(score.detach()) for a in group_std(group.tolist())]
            mixed = self.tau * answer.new_tensor(own)[:, None]
            features["advantage"] = (1 - self.tau) * features["advantage"] + mixed
        rest = PolicyGradient.loss(self, replace(batch, mask=answer, token_features=features))
        return rest + self.alpha * (batch.row_features["balance"] * (score - reward) ** 2).sum()


def _with_score_token(row: Row, token: int, balance: float) -> Row:
    """`row` with z after its completion; z's token features are 0."""
    features = {name: (*values, 0.0) for name, values in row.token_features.items()}
    features["answer"] = (1.0,) * len(row.completion) + (0.0,)
    row_features = {**row.row_features, "balance": balance}
    return replace(row, completion=(*row.completion, token), row_features=row_features, token_features=features)


laser = Laser
