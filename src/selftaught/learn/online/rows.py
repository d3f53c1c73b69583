"""From a step's rollouts to records, and from records to rows with importance weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Group, Row
from selftaught.learn.online.config import OnlineConfig
from selftaught.learn.online.host import OnlineHost
from selftaught.learn.online.rollouts import Rollout, agree, broadcast_advantage
from selftaught.records import Attempt, Record, RolloutGroup, TokenAdvantages

Weighted = tuple[tuple[float, ...], tuple[float, ...]]


def learned_groups(rolled: Sequence[Sequence[Rollout]], config: OnlineConfig) -> list[Sequence[Rollout]]:
    """The groups to learn from, at most a batch, without rollouts that failed or hold no own turn.

    Those to which a judge or an asynchronous function gave no reward are left out, too. Groups whose outcomes agree are
    skipped unless the credit assignment learns from them.
    """
    credit = config.credit
    complete = [
        [one for one in group if one.own_turns and all(turn.token_ids for turn in one.own_turns)] for group in rolled
    ]
    rewarded = [[one for one in group if not credit.deferred or one.reward is not None] for group in complete]
    kept = [g for g in rewarded if g and not (credit.skip_agreeing and agree(g, credit))]
    return list(kept[: config.training.batch_size])


def records_of(group: Sequence[Rollout], config: OnlineConfig) -> list[Record]:
    """The records that the rollouts of one problem make."""
    credit = config.credit
    if credit.advantages is not None:
        return _of_learner(credit.advantages(group), group)
    estimator = config.objective.advantage_estimator
    if estimator and any(len(one.turns) > 1 for one in group):
        return list(broadcast_advantage(estimator, credit.reward_of)(group))
    own = [one for one in group if one.is_own(one.attempt)]
    rewards = [(one.attempt, float(value)) for one in own if (value := credit.reward_of(one)) is not None]
    if not rewards:
        return []
    return [RolloutGroup(tuple(attempt for attempt, _ in rewards), tuple(value for _, value in rewards))]


def _of_learner(made: Sequence[TokenAdvantages], group: Sequence[Rollout]) -> list[Record]:
    """What was made of turns of the policy in training."""
    learners = {one.learner for one in group}
    return [one for one in made if "" in learners or one.attempt.policy in learners]


def turn_numbers(kept: Sequence[Sequence[Rollout]]) -> dict[str, int]:
    """The turn, from 0, of each attempt; one that builds on an attempt from before the rollout is no first turn."""
    rollouts = [one for group in kept for one in group]
    return {turn.id: i + (one.turns[0].parent is not None) for one in rollouts for i, turn in enumerate(one.turns)}


def pair_with_attempts(
    records: Sequence[Record], groups: Sequence[Group], name: str
) -> list[tuple[Group, list[Attempt]]]:
    """Each group with the attempts of its rows.

    Raises:
        BadInput: the objective, called `name`, makes other rows than one for each attempt.
    """
    made: list[tuple[Group, list[Attempt]]] = []
    for record, group in zip(records, groups, strict=True):
        attempts = list(record.samples) if isinstance(record, RolloutGroup) else [getattr(record, "attempt", None)]
        if group and (len(group) != len(attempts) or None in attempts):
            problem = f"{name} does not make one row for each attempt"
            raise BadInput(problem, where="online training", fix="use a policy gradient")
        if group:
            made.append((group, [attempt for attempt in attempts if attempt is not None]))
    return made


def weight_rows(
    model: Any, made: Sequence[tuple[Group, list[Attempt]]], turns: Mapping[str, int], config: OnlineConfig,
    host: OnlineHost,
) -> list[Group]:  # fmt: skip
    """Add the old log-probabilities by the weights as they are, and multiply advantages by their importance weights."""
    pairs = [pair for group, own in made for pair in zip(group, own, strict=True)]
    weighted = iter(_weights(model, pairs, config, host))
    return [
        tuple(_filled(row, turns.get(one.id, 0), *next(weighted)) for row, one in zip(group, own, strict=True))
        for group, own in made
    ]


def _weights(
    model: Any, pairs: Sequence[tuple[Row, Attempt]], config: OnlineConfig, host: OnlineHost
) -> Iterator[Weighted]:
    """See `importance_weights`, in parts of neighbors, which often share a prompt."""
    from selftaught.learn.kernels.packing import packed_tokens
    from selftaught.learn.online.importance import importance_weights

    parts: list[list[tuple[Row, Attempt]]] = [[]]
    for pair in pairs:
        if parts[-1] and packed_tokens([row for row, _ in (*parts[-1], pair)]) > config.training.max_tokens_per_pass:
            parts.append([])
        parts[-1].append(pair)
    for part in filter(None, parts):
        rows, attempts = [row for row, _ in part], [attempt for _, attempt in part]
        samplings = [host.sampling_of(attempt) for attempt in attempts]
        recorded = [attempt.logprobs for attempt in attempts]
        yield from importance_weights(model, rows, samplings, recorded, config.max_importance_weight)


def _filled(row: Row, turn: int, now: Sequence[float], weights: Sequence[float]) -> Row:
    features = {**row.token_features, "old_logprobs": now, "initial": now}
    if "advantage" in features:
        features["advantage"] = tuple(a * w for a, w in zip(features["advantage"], weights, strict=True))
    return replace(row, token_features=features, row_features={**row.row_features, "turn": float(turn)})
