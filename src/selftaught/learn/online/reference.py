"""The reference of an online training: what it says of each step's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selftaught.learn.learner import check_vocabulary
from selftaught.learn.objectives.base import Group
from selftaught.learn.online.plan import Plan
from selftaught.models.policy import Policy

if TYPE_CHECKING:
    from selftaught.learn.trainer import Trainer


class Frozen:
    """What the reference says of each step's rows: the model with its adapter off, or a frozen copy of full weights."""

    def __init__(self, trainer: Trainer, base: Policy, plan: Plan) -> None:
        self._trainer, self._plan, self._base = trainer, plan, base
        self._model: Any = None

    def tell(self, groups: Sequence[Group]) -> Sequence[Group]:
        """`groups` with the reference's log-probabilities where a row is anchored."""
        from selftaught.learn.forward import anchored
        from selftaught.models.chat import ChatTokenizer
        from selftaught.models.load import load_model

        trainer, other = self._trainer, getattr(self._plan.objective, "reference", None)
        trainer.needs = self._plan.objective.needs([row for group in groups for row in group]) - {"start"}
        if "reference" not in trainer.needs:
            return groups
        if other is None and self._plan.settings.lora_rank:
            return trainer.anchored(groups)
        if self._model is None:
            if other is not None:
                check_vocabulary(self._plan.objective.name, "reference", other, ChatTokenizer(self._base.weights))
            self._model = load_model(other or self._base, trainer.dtype).requires_grad_(False)
        return anchored(self._model, groups, {"reference"}, self._plan.settings.micro_tokens)
