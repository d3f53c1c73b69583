"""What the number of a policy's value head means, as the policy's manifest records it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import exp
from typing import Any, Literal, get_args

from selftaught.errors import BadInput, suggest
from selftaught.models.policy import Policy, read_manifest

ScoreAt = Literal["end", "steps", "question"]
"""Where a head is read: after the whole answer, after each of its steps, or after the question alone."""

TRAIN_FIX = "train one, as with run.learn(policy, orm(), labels)"


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What a value head was trained to predict, and where it may be read.

    Attributes:
        link: "sigmoid" where the head's number is the log-odds of a probability; "identity" where it is a reward.
        reads: the places where its number means something.
    """

    link: Literal["sigmoid", "identity"]
    reads: tuple[ScoreAt, ...] = ("end", "steps")

    def to_json(self) -> dict[str, Any]:
        """The entry "head" of a manifest."""
        return {"link": self.link, "reads": list(self.reads)}

    def score(self, value: float) -> float:
        """The score that the head's number stands for: a probability, 0..1, or a reward."""
        return _sigmoid(value) if self.link == "sigmoid" else value


def has_head(policy: Policy) -> bool:
    """Whether a policy has a value head that scores answers."""
    return not policy.remote and bool(_manifest_entry(policy.weights_policy))


@lru_cache(maxsize=64)
def _manifest_entry(policy: Policy) -> Mapping[str, Any]:
    """The entry "head" of the manifest of weights, read once, as they do not change; empty if it has none."""
    return read_manifest(policy.weights_policy.path).get("head") or {}


def head_config(policy: Policy, at: ScoreAt, held: Mapping[str, Any] | None = None) -> HeadConfig:
    """The configuration of a policy's head, which is to be read at `at`.

    Args:
        held: the entry "head" of its manifest, if that is not to be read, as its weights may not be there.

    Raises:
        BadInput: the policy has no head, or one that means nothing there.
    """
    if policy.remote:
        fix = "score with a policy whose weights are local"
        raise BadInput("a model behind an endpoint has no value head to read", where=policy.remote, fix=fix)
    if at not in get_args(ScoreAt):
        raise BadInput(f"unknown place {at!r}", where="at", fix=suggest(at, get_args(ScoreAt)))
    where = f"policy {policy.version}"
    held = _manifest_entry(policy.weights_policy) if held is None else held
    if not held:
        raise BadInput("it has no value head that scores answers", where=where, fix=TRAIN_FIX)
    try:
        head = HeadConfig(held["link"], tuple(held["reads"]))
    except (KeyError, TypeError):
        raise BadInput(f"its manifest describes its head as {held!r:.60}", where=where, fix=TRAIN_FIX) from None
    if at not in head.reads:
        what = f"its value head was not trained to be read at {at!r}"
        raise BadInput(what, where=where, fix=f"use at={' or '.join(map(repr, head.reads))}")
    return head


def _sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 1 / (1 + exp(-value)) if value >= 0 else exp(value) / (1 + exp(value))
