"""The online training loop: roll out with the current weights, assign credit, update, and again.

One model serves both: the trainer moves its tensors in place and the engine samples from those very tensors, in each
step under another policy version, so that every rollout is journalled under the weights that made it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.learner import OPTIMIZER_FOLDER, build_manifest, encode_records, load_trainable, write_policy
from selftaught.learn.objectives.base import Group
from selftaught.learn.online.config import OnlineConfig
from selftaught.learn.online.host import OnlineHost
from selftaught.learn.online.metrics import StepMetrics, mean, rollout_metrics, source_attempts
from selftaught.learn.online.reference import ReferenceModel
from selftaught.learn.online.rollouts import Rollout
from selftaught.learn.online.rows import learned_groups, pair_with_attempts, records_of, turn_numbers, weight_rows
from selftaught.learn.tracking import ExperimentTracker
from selftaught.machine.threads import releasing_threads
from selftaught.models.cache import config_files
from selftaught.models.policy import MANIFEST, Policy, base_reference, load_policy, publish, read_manifest
from selftaught.records import Problem, Record, content_hash

if TYPE_CHECKING:
    from selftaught.learn.trainer import StepResult, Trainer
    from selftaught.models.chat import ChatTokenizer


def train_online(
    base: Policy, problems: Sequence[Problem], config: OnlineConfig, host: OnlineHost, *, folder: Path
) -> Policy:
    """Train a new policy online into `folder/<version>`, or replay the steps of the one already there.

    An interrupted training resumes from its checkpoint; the steps before it are replayed from the journal,
    which costs nothing, and the result is the same.

    Raises:
        BadInput: there are no problems.
        TrainingFailed: the loss or its gradient is NaN or inf; the last good weights are in the checkpoint.
    """
    if not problems:
        raise BadInput("there are no problems", where="online training", fix="give some of task.train")
    version = config.version(base, problems)
    target, work = folder / version, folder / f"{version}.work"
    loop = OnlineTrainer(base, problems, config, host, version, work)
    if read_manifest(target):
        shutil.rmtree(work, ignore_errors=True)
        loop.replay(config.steps)
        return load_policy(target, version)
    host.release_memory()
    try:
        loop.train()
    finally:
        host.release_memory()
    link, training = base_reference(base, target), config.training
    manifest = build_manifest(version, link, config.objective, loop.records, training, config.seed, loop.done)
    publish(work / "policy", target, manifest)
    shutil.rmtree(work, ignore_errors=True)
    return load_policy(target, version)


def dry_run_online(
    base: Policy, problems: Sequence[Problem], config: OnlineConfig, host: OnlineHost, learner: Callable[..., Policy],
    folder: Path,
) -> Policy:  # fmt: skip
    """Collect all rollouts of an online training by policy names alone, and learn once from all their records.

    For learners that train no weights, as in a dry run: it shows what a run would sample, without a model.
    """
    loop = OnlineTrainer(base, problems, config, host, config.version(base, problems), folder)
    records = loop.collect_records()
    if not records:
        return base
    return learner(base, config.objective, records, config.training, seed=config.seed, folder=folder)


class OnlineTrainer:
    """One online training.

    Attributes:
        done: the optimizer steps so far.
        records: number of records learned so far.
    """

    def __init__(
        self,
        base: Policy,
        problems: Sequence[Problem],
        config: OnlineConfig,
        host: OnlineHost,
        version: str,
        work: Path,
    ) -> None:
        from selftaught.learn.trainer import TrainResult

        self._base, self._problems, self._config, self._host = base, problems, config, host
        self._version, self._work = version, work
        self.done, self.records = TrainResult(), 0
        self._tracker = ExperimentTracker(version, str(work.parent / "tracked" / version))

    @cached_property
    def _tokenizer(self) -> ChatTokenizer:
        from selftaught.models.chat import ChatTokenizer

        return ChatTokenizer(self._base.weights)

    def collect_records(self) -> list[Record]:
        """Roll out every step, and return the records of all."""
        found: list[Record] = []
        for step in range(self._config.steps):
            kept = learned_groups(self._roll(step), self._config)
            records = [record for group in kept for record in records_of(group, self._config)]
            self._host.record_step(self._key(step), self._names(step) | source_attempts(records), 0)
            found += records
        return found

    def replay(self, steps: int) -> None:
        """Repeat the rollouts of the first steps, which are all in the journal."""
        for step in range(steps):
            self._roll(step)
            self._host.record_step(self._key(step), None, 0)

    def _key(self, step: int) -> str:
        return content_hash("online step", self._version, step)

    def _roll(self, step: int) -> list[list[Rollout]]:
        """The step's rollouts: of one batch of problems, and of more until a whole batch has mixed outcomes."""
        self._host.start_step(self._names(step))
        config, rolled = self._config, list[list[Rollout]]()
        for draw in range(config.max_gen_batches):
            problems = config.problems_of(self._problems, step, draw)
            rolled += self._host.collect_rollouts(self._live(step), problems, config.samples, draw)
            if len(learned_groups(rolled, config)) >= len(problems):
                break
        return rolled

    def _names(self, step: int) -> dict[str, Any]:
        """Whose rollouts a step's are, for the lineage: `live` is the policy that they are journalled under."""
        live = self._live(step).version
        return {"policy": self._version, "base": self._base.version, "live": live, "step": step + 1}

    def _live(self, step: int) -> Policy:
        """The policy of a step; its folder has no weights, so that nothing loads others for them."""
        return Policy(content_hash("live", self._version, step), self._work / "live", self._base)

    def train(self) -> None:
        """Train all steps, from the checkpoint on; the finished policy is left in the working folder."""
        from selftaught.learn.trainer import Trainer

        config, training = self._config, self._config.training
        self._copy_config_files()
        model = load_trainable(self._base, training, config.seed)
        trainer = Trainer(model, config.objective, training, [], seed=config.seed, head_folder=self._base.path)
        if training.keep_optimizer_state:
            trainer.load_optimizer_state(self._base.path / OPTIMIZER_FOLDER)
        self.done = trainer.restore(self._work / "checkpoint")
        first, self.records = trainer.extra.get("step", 0), trainer.extra.get("records", 0)
        self.replay(first)
        try:
            self._train_steps(trainer, first)
            if training.keep_optimizer_state:
                trainer.save_optimizer_state(self._work / OPTIMIZER_FOLDER)
        finally:
            self._tracker.close()
            trainer.close()
        write_policy(self._work / "policy", model, self._base, [], adapter=bool(training.lora_rank))
        if training.keep_optimizer_state:
            (self._work / OPTIMIZER_FOLDER).rename(self._work / "policy" / OPTIMIZER_FOLDER)

    def _copy_config_files(self) -> None:
        """Give the live policies the tokenizer and configuration of the base."""
        (self._work / "live").mkdir(parents=True, exist_ok=True)
        for file in config_files(self._base.weights):
            if not file.name.endswith(".index.json") and file.name != MANIFEST:
                shutil.copy2(file, self._work / "live" / file.name)

    def _train_steps(self, trainer: Trainer, first: int) -> None:
        reference, saved = ReferenceModel(trainer, self._base, self._config), time.monotonic()
        for step in range(first, self._config.steps):
            self._host.attach_model(self._live(step), trainer.model)
            self._train_step(trainer, reference, step, self._roll(step))
            trainer.extra = {"step": step + 1, "records": self.records}
            due = time.monotonic() - saved > self._config.training.checkpoint_seconds
            if due and step + 1 < self._config.steps:
                trainer.save(self._work / "checkpoint", self.done)
                saved = time.monotonic()

    @releasing_threads()
    def _train_step(
        self, trainer: Trainer, reference: ReferenceModel, step: int, rolled: Sequence[Sequence[Rollout]]
    ) -> None:
        """The updates of one step, and its metrics."""
        kept = learned_groups(rolled, self._config)
        records = [record for group in kept for record in records_of(group, self._config)]
        groups = reference.with_logprobs(self._groups(trainer, kept, records))
        watched = StepMetrics(*self._config.objective.clip_range)
        made = self._updates(trainer, groups, step, watched, kept) if groups else []
        reference.update()
        trainer.release_memory()
        tokens = sum(one.tokens for one in made)
        metrics = rollout_metrics(rolled, kept, self._config) | watched.metrics()
        metrics |= self._names(step) | source_attempts(records)
        metrics |= {
            "updates": len(made), "staleness": max(0, len(made) - 1) / 2, "loss": mean([one.loss for one in made]),
            "grad_norm": mean([one.grad_norm for one in made]), "tokens": tokens,
        }  # fmt: skip
        self._tracker.log(step + 1, {k: v for k, v in metrics.items() if isinstance(v, (int, float))})
        self._host.record_step(self._key(step), metrics, tokens)
        self._host.report_progress(step + 1, self._config.steps, metrics["loss"] or 0.0)

    def _updates(
        self, trainer: Trainer, groups: Sequence[Group], step: int, watched: StepMetrics,
        kept: Sequence[Sequence[Rollout]],
    ) -> list[StepResult]:  # fmt: skip
        """One optimizer step for each epoch over a step's groups."""
        from selftaught.learn.trainer import TrainingFailed

        each, made = self._config.training.epochs, []
        for update in range(each):
            one = trainer.step(groups, step * each + update, self._config.steps * each, watched.update)
            if not math.isfinite(one.loss):
                if update == 0:
                    trainer.save(self._work / "checkpoint", self.done)
                names = [rollout.attempt.id for group in kept for rollout in group]
                where = f"step {step + 1} of {self._config.steps} (attempts {', '.join(names[:4])}, ...)"
                raise TrainingFailed(f"loss or gradient is NaN or inf at {where}: lower the learning rate")
            self.done = self.done.with_step(one)
            made.append(one)
        return made

    def _groups(self, trainer: Trainer, kept: Sequence[Sequence[Rollout]], records: Sequence[Record]) -> list[Group]:
        """The rows of a step's records, with importance weights."""
        from selftaught.learn.trainer import packed_attention_on

        self.records += len(records)
        if not records:
            return []
        with packed_attention_on(trainer.model):
            objective = self._config.objective
            groups = encode_records(objective, records, self._tokenizer, self._base, keep_empty=True)
            made = pair_with_attempts(records, groups, objective.name)
            return weight_rows(trainer.model, made, turn_numbers(kept), self._config, self._host)
