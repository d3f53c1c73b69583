"""LaSeR: a policy gradient that also teaches the model to score its own answer by one token's log-probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.objectives.advantages import standardised
from selftaught.learn.objectives.base import Batch, Group, Row, check_positive, check_types, check_within
from selftaught.learn.objectives.policy_gradient import PolicyGradient
from selftaught.learn.objectives.rollouts import Rollouts

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer


def self_reward(logprob: Tensor, beta: float, constant: float) -> Tensor:
    """beta (log p(z|x,y) - c). Source: Yang et al., "LaSeR", 2510.14943."""
    return beta * (logprob - constant)


@dataclass(frozen=True, slots=True)
class Laser(PolicyGradient):
    """`PolicyGradient` + alpha * mean balance * (self-reward - reward)^2, on `Rollouts` with rewards 0 and 1.

    After an answer's end of sequence stands the token z; r_s = beta (log p(z|x,y) - c) is fitted to the reward.
    Right and wrong answers weigh the same in all. An answer cut off at its length limit is not scored. Fitted
    exactly, log p(z|x,y) = c + reward / beta. Source: 2510.14943, and its code
    (github.com/RUCBM/LaSeR); there the self-rewards mixed into advantages are those of the sampler, here those
    of the policy as it is now.

    Attributes:
        token: text of z, one token that answers never hold.
        beta: the paper's beta_v.
        constant: the paper's c_ref.
        alpha: weight of the fit.
        tau: share of the self-rewards in the advantages, standardised in the group.
    """

    takes = (Rollouts,)
    token: str = ""
    beta: float = 0.1
    constant: float = -23.0
    alpha: float = 0.1
    tau: float = 0.0
    name: str = "laser"

    def __post_init__(self) -> None:
        PolicyGradient.__post_init__(self)
        check_positive(beta=self.beta, alpha=self.alpha)
        check_within(0, 1, tau=self.tau)
        if self.mean == "token":
            raise BadInput("the fit counts rows", where="mean", fix='use mean="row" or mean="constant"')

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """The rows of the policy gradient with z behind them.

        Raises:
            BadInput: `token` is not one token; rewards other than 0 and 1.
        """
        check_types(records, self.takes, "laser")
        ids = tokenizer.encode(self.token) if self.token else []
        if len(ids) != 1:
            raise BadInput(f"{self.token!r} is {len(ids)} tokens", where="token", fix="name one token, of no answer")
        found = [r for record in records for r in record.rewards]
        if not set(found) <= {0.0, 1.0}:
            raise BadInput(
                "there are rewards other than 0 and 1", where="laser", fix="reward right answers 1, wrong ones 0"
            )
        shares = {r: len(found) / (2 * found.count(r)) for r in set(found)}
        groups = PolicyGradient.groups(self, records, tokenizer)
        return [
            tuple(
                _scored(row, ids[0], shares[reward] if attempt.finish_reason == "stop" else 0.0)
                for row, attempt, reward in zip(group, record.samples, record.rewards, strict=True)
            ) if group else ()
            for group, record in zip(groups, records, strict=True)
        ]  # fmt: skip

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        answer, reward = batch.tokens["answer"] * batch.mask, batch.numbers["reward"]
        score = self_reward(((batch.mask - answer) * batch.logprobs).sum(-1), self.beta, self.constant)
        facts = dict(batch.tokens)
        if self.tau:
            own = [a for group in batch.by_group(score.detach()) for a in standardised(group.tolist())]
            facts["advantage"] = (1 - self.tau) * facts["advantage"] + self.tau * answer.new_tensor(own)[:, None]
        rest = PolicyGradient.loss(self, replace(batch, mask=answer, tokens=facts))
        return rest + self.alpha * (batch.numbers["balance"] * (score - reward) ** 2).sum()


def _scored(row: Row, token: int, balance: float) -> Row:
    """`row` with z behind its target; facts about z are 0."""
    facts = {name: (*values, 0.0) for name, values in row.tokens.items()}
    facts["answer"] = (1.0,) * len(row.target) + (0.0,)
    return replace(row, target=(*row.target, token), numbers={**row.numbers, "balance": balance}, tokens=facts)
