"""Learning online: roll out with the weights as they are now, credit what was sampled, step, and again.

One model serves both: the trainer moves its tensors in place and the engine samples from those very tensors, each
step under a name of its own, so that every rollout is journalled under the weights that made it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from selftaught.engines.base import Sampling
from selftaught.errors import BadInput
from selftaught.learn.learner import OPTIMIZER, manifest_of, rows_of, trainable_model, write_policy
from selftaught.learn.objectives.base import Group, Row
from selftaught.learn.objectives.rollouts import Rollouts
from selftaught.learn.online.metrics import Watched, facts_of, learnt_from, mean
from selftaught.learn.online.plan import Plan
from selftaught.learn.online.reference import Frozen
from selftaught.learn.online.rollouts import Rollout, spread_evenly
from selftaught.learn.tracking import Trackers
from selftaught.machine.threads import releasing_threads
from selftaught.models.cache import config_files
from selftaught.models.policy import MANIFEST, Policy, base_reference, load_policy, publish, read_manifest
from selftaught.records import Attempt, Problem, content_hash

if TYPE_CHECKING:
    from selftaught.learn.trainer import Trainer
    from selftaught.models.chat import ChatTokenizer


class Services(Protocol):
    """What an online training asks of the run."""

    def room(self) -> None:
        """Make the engine give back the memory it holds; called before weights are loaded, and after."""

    def begin(self, facts: dict[str, Any]) -> None:
        """Be told whose rollouts come next, see `_Loop._named`."""

    def roll(self, policy: Policy, problems: Sequence[Problem], n: int) -> list[list[Rollout]]:
        """`n` rollouts of each problem, by a policy."""
        ...

    def serve(self, policy: Policy, model: Any) -> None:
        """Have the engine sample a policy from a model's tensors."""

    def sampling(self, attempt: Attempt) -> Sampling:
        """How an attempt was sampled."""
        ...

    def note(self, key: str, facts: dict[str, Any] | None, tokens: int) -> None:
        """Be told what a step came to, with the tokens it trained on, under a key; None if it was told before."""

    def progress(self, done: int, total: int, loss: float) -> None:
        """Be told, after each step, how many steps are done, of how many, and the loss."""


def reinforce(base: Policy, problems: Sequence[Problem], plan: Plan, services: Services, *, folder: Path) -> Policy:
    """Train a new policy online into `folder/<version>`, or go once more through the steps of the one already there.

    An interrupted training resumes from its checkpoint; steps before it are gone through again from the journal,
    which costs nothing, and the end is the same.

    Raises:
        BadInput: there are no problems.
        TrainingFailed: the loss stopped being a number; the last good weights are in the checkpoint.
    """
    if not problems:
        raise BadInput("there are no problems", where="reinforce", fix="give some of task.train")
    version = plan.version(base, problems)
    target, work = folder / version, folder / f"{version}.work"
    loop = _Loop(base, problems, plan, services, version, work)
    if read_manifest(target):
        shutil.rmtree(work, ignore_errors=True)
        loop.replay(plan.steps)
        return load_policy(target)
    services.room()
    try:
        loop.train()
    finally:
        services.room()
    made = manifest_of(
        version, base_reference(base, target), plan.objective, loop.records, plan.settings, plan.seed, loop.done
    )
    publish(work / "policy", target, made)
    shutil.rmtree(work, ignore_errors=True)
    return load_policy(target)


def played_through(
    base: Policy, problems: Sequence[Problem], plan: Plan, services: Services, learner: Callable[..., Policy],
    folder: Path,
) -> Policy:  # fmt: skip
    """All rollouts of an online training by names alone, and one learning from all their records.

    For learners that train no weights: what a run is going to ask is told so without a model.
    """
    loop = _Loop(base, problems, plan, services, plan.version(base, problems), folder)
    records = loop.gathered()
    return learner(base, plan.objective, records, plan.settings, seed=plan.seed, folder=folder) if records else base


class _Loop:
    """One online training under way."""

    def __init__(
        self, base: Policy, problems: Sequence[Problem], plan: Plan, services: Services, version: str, work: Path
    ) -> None:  # fmt: skip
        from selftaught.learn.trainer import Outcome

        self._base, self._problems, self._plan, self._services = base, problems, plan, services
        self._version, self._work = version, work
        self.done, self.records = Outcome(), 0
        self._trackers = Trackers(version, str(work.parent / "tracked" / version))

    @cached_property
    def _tokenizer(self) -> ChatTokenizer:
        from selftaught.models.chat import ChatTokenizer

        return ChatTokenizer(self._base.weights)

    def gathered(self) -> list[Any]:
        """The records of all steps."""
        found: list[Any] = []
        for step in range(self._plan.steps):
            records = self._records_of(self._kept(self._roll(step)))
            self._services.note(self._key(step), self._named(step) | learnt_from(records), 0)
            found += records
        return found

    def replay(self, steps: int) -> None:
        """Go through the rollouts of the first steps again, which are all in the journal."""
        for step in range(steps):
            self._roll(step)
            self._services.note(self._key(step), None, 0)

    def _key(self, step: int) -> str:
        return content_hash("online step", self._version, step)

    def _roll(self, step: int) -> list[list[Rollout]]:
        self._services.begin(self._named(step))
        asked_of = self._plan.problems_of(self._problems, step)
        return self._services.roll(self._name(step), asked_of, self._plan.n)

    def _named(self, step: int) -> dict[str, Any]:
        """Whose rollouts a step's are, to walk back from them: `live` is the policy that they are journalled under."""
        live = self._name(step).version
        return {"policy": self._version, "base": self._base.version, "live": live, "step": step + 1}

    def _name(self, step: int) -> Policy:
        """The policy of a step; its folder has no weights, so that nobody takes others for them."""
        return Policy(content_hash("live", self._version, step), self._work / "live", self._base)

    def train(self) -> None:
        """All steps, from the checkpoint on; the finished policy is left in the working folder."""
        from selftaught.learn.trainer import Trainer

        plan, settings = self._plan, self._plan.settings
        (self._work / "live").mkdir(parents=True, exist_ok=True)
        for file in config_files(self._base.weights):
            if not file.name.endswith(".index.json") and file.name != MANIFEST:
                shutil.copy2(file, self._work / "live" / file.name)
        model = trainable_model(self._base, settings, plan.seed)
        trainer = Trainer(model, plan.objective, settings, [], seed=plan.seed, head=self._base.path)
        frozen = Frozen(trainer, self._base, plan)
        if settings.carry:
            trainer.carry_from(self._base.path / OPTIMIZER)
        self.done, saved = trainer.restore(self._work / "checkpoint"), time.monotonic()
        first = trainer.extra.get("step", 0)
        self.records = trainer.extra.get("records", 0)
        self.replay(first)
        try:
            for step in range(first, plan.steps):
                self._services.serve(self._name(step), trainer.model)
                self._learn(trainer, frozen, step, self._roll(step))
                trainer.extra = {"step": step + 1, "records": self.records}
                if time.monotonic() - saved > settings.checkpoint_seconds and step + 1 < plan.steps:
                    trainer.save(self._work / "checkpoint", self.done)
                    saved = time.monotonic()
            if settings.carry:
                trainer.carry_into(self._work / OPTIMIZER)
        finally:
            self._trackers.close()
            trainer.close()
        write_policy(self._work / "policy", model, self._base, [], adapter=bool(settings.lora_rank))
        if settings.carry:
            (self._work / OPTIMIZER).rename(self._work / "policy" / OPTIMIZER)

    @releasing_threads()
    def _learn(self, trainer: Trainer, frozen: Frozen, step: int, rolled: Sequence[Sequence[Rollout]]) -> None:
        """The updates of one step, and what it came to."""
        from selftaught.learn.trainer import TrainingFailed

        plan = self._plan
        kept = self._kept(rolled)
        records = self._records_of(kept)
        groups = self._groups(trainer, kept, records)
        low, high = (getattr(plan.objective, name, math.inf) for name in ("low", "high"))
        watch, losses, norms, read = Watched(low, high), [], [], 0
        groups, each = frozen.tell(groups), plan.settings.epochs
        for update in range(each if groups else 0):
            made = trainer.step(groups, step * each + update, plan.steps * each, watch.look)
            if not math.isfinite(made.loss):
                if update == 0:
                    trainer.save(self._work / "checkpoint", self.done)
                names = [one.attempt.id for group in kept for one in group]
                where = f"step {step + 1} of {plan.steps} (attempts {', '.join(names[:4])}, ...)"
                raise TrainingFailed(f"the loss or its gradient is no number at {where}: lower the learning rate")
            self.done = self.done.and_then(made)
            losses.append(made.loss)
            norms.append(made.norm)
            read += made.tokens
        trainer.rest()
        facts = facts_of(rolled, kept, plan) | watch.facts()
        facts |= self._named(step) | learnt_from(records) | {"updates": len(losses)}
        facts |= {
            "staleness": max(0, len(losses) - 1) / 2,
            "loss": mean(losses),
            "grad_norm": mean(norms),
            "tokens": read,
        }
        self._trackers.tell(step + 1, {k: v for k, v in facts.items() if isinstance(v, (int, float))})
        self._services.note(self._key(step), facts, read)
        self._services.progress(step + 1, plan.steps, facts["loss"] or 0.0)

    def _groups(self, trainer: Trainer, kept: Sequence[Sequence[Rollout]], records: Sequence[Any]) -> list[Group]:
        """Rows of a step's records."""
        from selftaught.learn.trainer import attention_of

        self.records += len(records)
        if not records:
            return []
        turns = {  # one that builds on what was sampled before the rollout is no first turn
            turn.id: i + (one.turns[0].parent is not None)
            for group in kept for one in group for i, turn in enumerate(one.turns)
        }  # fmt: skip
        with attention_of(trainer.model):
            return self._weighed(trainer, records, turns)

    def _records_of(self, kept: Sequence[Sequence[Rollout]]) -> list[Any]:
        return [record for group in kept for record in self._records(group)]

    def _kept(self, rolled: Sequence[Sequence[Rollout]]) -> list[Sequence[Rollout]]:
        """The groups that do not agree, without rollouts in which a request was refused."""
        told = [[one for one in group if all(turn.token_ids for turn in one.turns)] for group in rolled]
        return [g for g in told if len({content_hash(self._plan.credit.outcome(one)) for one in g}) > 1]

    def _records(self, group: Sequence[Rollout]) -> list[Any]:
        plan = self._plan
        if plan.credit.spread is not None:
            return list(plan.credit.spread(group))
        baseline = getattr(plan.objective, "baseline", None)
        if baseline and any(len(one.turns) > 1 for one in group):
            return list(spread_evenly(baseline, plan.credit.reward)(group))
        rewards = [(one.attempt, value) for one in group if (value := plan.credit.reward(one)) is not None]
        return [Rollouts(tuple(a for a, _ in rewards), tuple(float(v) for _, v in rewards))] if rewards else []

    def _weighed(self, trainer: Trainer, records: Sequence[Any], turns: Mapping[str, int]) -> list[Group]:
        """The rows of all records: `old` by the weights as they are, advantages with their importance weights."""
        made: list[tuple[Group, list[Attempt]]] = []
        groups = rows_of(self._plan.objective, records, self._tokenizer, self._base, keep_empty=True)
        for record, group in zip(records, groups, strict=True):
            attempts = list(record.samples) if isinstance(record, Rollouts) else [record.attempt]
            if group and len(group) != len(attempts):
                raise BadInput(
                    f"{self._plan.objective.name} makes other rows than one for each attempt", where="reinforce",
                    fix="use a policy gradient",
                )  # fmt: skip
            if group:
                made.append((group, attempts))
        said = iter(self._said(trainer, [pair for group, own in made for pair in zip(group, own, strict=True)]))
        return [
            tuple(_filled(row, turns.get(attempt.id, 0), *next(said)) for row, attempt in zip(group, own, strict=True))
            for group, own in made
        ]

    def _said(self, trainer: Trainer, pairs: Sequence[tuple[Row, Attempt]]) -> Iterator[tuple[Sequence[float], ...]]:
        """See `correction.weigh`, in parts of neighbours, which often share a prompt."""
        from selftaught.learn.kernels.packing import packed_tokens
        from selftaught.learn.online.importance import weigh

        parts: list[list[tuple[Row, Attempt]]] = [[]]
        for pair in pairs:
            if parts[-1] and packed_tokens([row for row, _ in (*parts[-1], pair)]) > self._plan.settings.micro_tokens:
                parts.append([])
            parts[-1].append(pair)
        for part in parts:
            rows, attempts = [row for row, _ in part], [attempt for _, attempt in part]
            how = [self._services.sampling(attempt) for attempt in attempts]
            if part:
                yield from weigh(trainer.model, rows, how, [a.logprobs for a in attempts], self._plan.cap)


def _filled(row: Row, turn: int, now: Sequence[float], weights: Sequence[float]) -> Row:
    tokens = {**row.tokens, "old": now, "start": now}
    if "advantage" in tokens:
        tokens["advantage"] = tuple(a * w for a, w in zip(tokens["advantage"], weights, strict=True))
    return replace(row, tokens=tokens, numbers={**row.numbers, "turn": float(turn)})
