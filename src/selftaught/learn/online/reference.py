"""The reference model of an online training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selftaught.learn.learner import check_vocabulary
from selftaught.learn.objectives.base import EMAConfig, Group
from selftaught.learn.online.config import OnlineConfig
from selftaught.models.policy import Policy

if TYPE_CHECKING:
    from selftaught.learn.trainer import Trainer


class ReferenceModel:
    """The reference: the trained model with its adapter off, a frozen copy for full weights or another policy, or a
    moving average of the weights in training.
    """

    def __init__(self, trainer: Trainer, base: Policy, config: OnlineConfig) -> None:
        self._trainer, self._config, self._base = trainer, config, base
        self._model: Any = None
        decay = config.reference_decay
        self._average = trainer.moving_average(EMAConfig(decay, 0), "reference") if decay < 1 else None

    def update(self) -> None:
        """Let a moving reference follow the weights in training."""
        if self._average and self._average.started:
            self._average.update()

    def with_logprobs(self, groups: Sequence[Group]) -> Sequence[Group]:
        """Add the reference's log-probabilities to `groups`, if the objective requires them."""
        from selftaught.learn.frozen import with_frozen_logprobs
        from selftaught.learn.trainer import packed_attention_on
        from selftaught.models.chat import ChatTokenizer
        from selftaught.models.load import load_model

        trainer, objective, training = self._trainer, self._config.objective, self._config.training
        trainer.requires = objective.requires([row for group in groups for row in group]) - {"initial"}
        if "reference" not in trainer.requires:
            return groups
        if self._average:
            with packed_attention_on(trainer.model):
                return self._average.with_logprobs(groups)
        other = objective.reference
        if other is None and training.lora_rank:
            return trainer.with_frozen_logprobs(groups)
        if self._model is None:
            if other is not None:
                check_vocabulary(objective.name, "reference", other, ChatTokenizer(self._base.weights))
            self._model = load_model(other or self._base, trainer.dtype).requires_grad_(False)
        return with_frozen_logprobs(self._model, groups, {"reference"}, training.max_tokens_per_pass)
