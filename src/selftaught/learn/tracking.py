"""Training curves, downsampled for the report, and metrics for installed experiment trackers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

MAX_POINTS = 100  # most points of a journalled curve


def downsample(values: Sequence[float], max_points: int = MAX_POINTS) -> list[list[float]]:
    """`[step, mean]` of at most `max_points` stretches of about equal length; a step, from 1, is a stretch's last."""
    size = max(1, math.ceil(len(values) / max_points))
    parts = [(min(i + size, len(values)), values[i : i + size]) for i in range(0, len(values), size)]
    return [[end, round(sum(part) / len(part), 6)] for end, part in parts]


def curves_of(manifest: Mapping[str, Any]) -> dict[str, list[list[float]]]:
    """A training's curves by step from its policy's manifest: loss, learning rate and gradient norm."""
    names = {"loss": "losses", "learning_rate": "learning_rates", "grad_norm": "grad_norms"}
    return {name: downsample(manifest[key]) for name, key in names.items() if manifest.get(key)}


class ExperimentTracker:
    """Logs each step's metrics to experiment trackers, through transformers' own integrations.

    The environment variable `SELFTAUGHT_TRACK` names them, separated by commas: tensorboard, wandb, mlflow, trackio, or
    any other that `transformers.integrations` knows. None by default, and nothing is imported then.

    Args:
        title: of the training, as trackers show it.
        folder: for trackers that write files.
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

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one step, counted from 1."""
        if self._handler is not None:
            self._state.global_step = step
            self._handler.on_log(self._arguments, self._state, self._control, dict(metrics))

    def close(self) -> None:
        """End the training's run in every tracker."""
        if self._handler is not None:
            self._handler.on_train_end(self._arguments, self._state, self._control)
            self._handler = None
