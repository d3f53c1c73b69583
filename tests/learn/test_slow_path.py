"""A run says once when it takes a slower path than its model's family allows, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from learn_models import make_model, make_policy
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaMLP

from selftaught import Run, Settings
from selftaught.console import Console
from selftaught.engines import Sampling
from selftaught.engines.local import llama
from selftaught.feedback.verifiers import Exact
from selftaught.learn import sft
from selftaught.learn.kernels import fused
from selftaught.learn.kernels.slow_path import slow_path_reason
from selftaught.models.policy import Policy
from selftaught.records import Demo, Message, make_problem
from selftaught.tasks import Kind, Task

TASK = Task(
    "words", [make_problem("one plus two", "three")], [make_problem("two plus two", "four")], [], verifier=Exact(),
    kind=Kind.TEXT,
)  # fmt: skip
SHORT = Settings(sampling=Sampling(max_tokens=2))


def longer(self: Any, x: Tensor) -> Tensor:
    return LlamaMLP.forward(self, 2 * x)


class LongerMLP(LlamaMLP):
    """Computes something else than Llama's."""

    forward = longer


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model counts as a large one."""
    monkeypatch.setattr(fused, "LARGE_MODEL", 0)


@pytest.mark.usefixtures("large")
def test_a_training_that_is_as_fast_as_can_be_says_nothing() -> None:
    assert slow_path_reason(make_model()) == ""


def test_of_small_models_nothing_is_said() -> None:
    made = make_model()
    made.model.layers[1].mlp.forward = lambda x: x
    assert slow_path_reason(made) == ""


@pytest.mark.usefixtures("large")
def test_of_other_families_nothing_is_said() -> None:
    assert slow_path_reason(make_model("gpt2")) == ""


@pytest.mark.usefixtures("large")
def test_the_reason_is_named() -> None:
    made = make_model()
    for layer in made.model.layers:
        layer.mlp = LongerMLP(made.config)
    assert "gated layer of transformers" in slow_path_reason(made)
    assert slow_path_reason(made).endswith("(LongerMLP: it computes something else)")
    made.model.norm.forward = lambda x: x
    assert "(LlamaRMSNorm: its forward was replaced)" in slow_path_reason(made)
    made = make_model()
    made.config.sliding_window = 8
    assert slow_path_reason(made) == "training is slower than it could be: rows are padded (a window of 8 tokens)"


def scaled(folder: Path) -> Policy:
    """A tiny Llama whose rotary positions the fused pass does not know."""
    make_policy(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return Policy("scaled", folder)


@pytest.mark.usefixtures("large")
def test_a_run_says_it_once_on_the_console_and_in_its_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaMLP, "forward", longer_than(LlamaMLP.forward))
    base = scaled(tmp_path / "base")
    demos = [Demo((Message("user", "one plus two"),), "three")]
    with Run(tmp_path / "run", model=base, task=TASK, settings=SHORT, console=Console()) as run:
        run.attempt(run.base, run.task.train)
        run.attempt(run.learn(run.base, sft(), demos, epochs=1), run.task.train)
        run.learn(run.base, sft(), demos, epochs=2)
        notes = [note for note in run.notes if "slower" in note]
    assert len(notes) == 2
    assert notes[0].startswith("sampling is slower than it could be: through transformers' own model")
    assert "(its rotary positions are of type linear)" in notes[0]
    assert notes[1].startswith("training is slower than it could be: gated layer of transformers")
    said = capsys.readouterr().err
    assert [said.count(note) for note in notes] == [1, 1]


def longer_than(own: Any) -> Any:
    """Another arithmetic for the whole model, in sampling and in training alike."""
    return lambda self, x: 2 * own(self, x)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "gelu"}, "its activation is gelu"),
        ({"rope_scaling": {"type": "yarn"}}, "its rotary positions are of type yarn"),
        ({"quantization_config": {"bits": 4}}, "its weights are quantized"),
        ({"model_type": "mistral"}, "its configuration does not state rms_norm_eps, max_position_embeddings"),
        ({"layer_types": ["sliding_attention"]}, "its tokens see only a window of those before them"),
        ({"partial_rotary_factor": 0.5}, "its heads are rotated in part"),
        ({}, ""),
    ],
)
def test_the_fused_pass_says_what_it_does_not_compute(change: dict[str, Any], said: str) -> None:
    config = {"model_type": "llama"} | change
    assert llama.unsupported_reason(config).startswith(said)
    assert llama.is_supported(config) is not bool(said)
