"""How a training went, thinned to what a page can show, and told to whatever tracker is installed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

POINTS = 100  # most points of a curve that is journalled


def thin(values: Sequence[float], most: int = POINTS) -> list[list[float]]:
    """`[step, mean]` of at most so many stretches of like length; steps count from 1 and are those of their ends."""
    size = max(1, math.ceil(len(values) / most))
    parts = [(min(i + size, len(values)), values[i : i + size]) for i in range(0, len(values), size)]
    return [[end, round(sum(part) / len(part), 6)] for end, part in parts]


def curves_of(manifest: Mapping[str, Any]) -> dict[str, list[list[float]]]:
    """The curves of a training from its policy's manifest: loss, rate and gradient norm by step."""
    names = {"loss": "losses", "rate": "rates", "grad_norm": "norms"}
    return {name: thin(manifest[key]) for name, key in names.items() if manifest.get(key)}


class Trackers:
    """Figures of each step to experiment trackers, by transformers' own integrations.

    Which ones the environment variable `SELFTAUGHT_TRACK` says, separated by commas: tensorboard, wandb, mlflow,
    trackio, or whatever else `transformers.integrations` knows. None by default, and nothing is imported then.

    Args:
        title: of the training, as trackers show it.
        folder: where trackers that write files put them.
    """

    def __init__(self, title: str, folder: str) -> None:
        names = [name.strip() for name in os.environ.get("SELFTAUGHT_TRACK", "").split(",") if name.strip()]
        self._handler: Any = None
        if names:
            self._open(names, title, folder)

    def _open(self, names: list[str], title: str, folder: str) -> None:
        from transformers import TrainerControl, TrainerState, TrainingArguments
        from transformers.integrations.integration_utils import get_reporting_integration_callbacks
        from transformers.trainer_callback import CallbackHandler

        self._arguments = TrainingArguments(output_dir=folder, run_name=title, report_to=names, use_cpu=True)
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", folder)
        self._state = TrainerState(is_world_process_zero=True, is_local_process_zero=True)
        self._control = TrainerControl()
        made = [kind() for kind in get_reporting_integration_callbacks(names)]
        self._handler = CallbackHandler(made, None, None, None, None)
        self._handler.on_train_begin(self._arguments, self._state, self._control)

    def tell(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures of one step, from 1."""
        if self._handler is not None:
            self._state.global_step = step
            self._handler.on_log(self._arguments, self._state, self._control, dict(figures))

    def close(self) -> None:
        """End of the training."""
        if self._handler is not None:
            self._handler.on_train_end(self._arguments, self._state, self._control)
            self._handler = None
