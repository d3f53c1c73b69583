"""What the engine on vLLM decides before vLLM is loaded; none of it needs vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.engines.vllm.weights import LORA_RANKS, RequiredWeights, required_weights, weight_layout
from selftaught.errors import BadInput
from selftaught.models import Policy, resolve

PLAIN = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "target_modules": ["q_proj"]}


def adapter(folder: Path, base: Policy, **config: Any) -> Policy:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | config), "utf-8")
    return Policy(folder.name, folder, base, adapter=True)


def test_without_vllm_one_line_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['vllm'] = None; from selftaught.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "solve", "self-consistency", "2+2?"]
    command += ["--model", "underfit", "--engine", "vllm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith("vLLM: it is not installed; pip install 'selftaught[vllm]' in an environment of its own")


def test_importing_the_engine_loads_nothing_heavy() -> None:
    code = "import selftaught.engines.vllm.engine, sys; print(*{'vllm', 'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--model", "openai:x"], "openai:x is behind an endpoint; leave the option out"),
        (["--device", "cpu"], "--device: vLLM uses all devices that it sees; set CUDA_VISIBLE_DEVICES instead"),
    ],
)
def test_options_that_mean_nothing_to_vllm_are_refused(
    options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", "self-consistency", "2+2?", "--engine", "vllm", *options]) == 2
    assert line in capsys.readouterr().err


def test_what_a_policy_needs(tmp_path: Path) -> None:
    base = resolve("underfit")
    over = adapter(tmp_path / "over", base)
    assert required_weights(base) == RequiredWeights(base, base)
    assert required_weights(over) == RequiredWeights(over, base, 8)
    assert required_weights(over, use_loras=False) == RequiredWeights(over, over)
    merged = [
        adapter(tmp_path / "twice", over),
        adapter(tmp_path / "dora", base, use_dora=True),
        adapter(tmp_path / "biased", base, bias="all"),
        adapter(tmp_path / "saved", base, modules_to_save=["lm_head"]),
        adapter(tmp_path / "other", base, peft_type="IA3"),
        adapter(tmp_path / "huge", base, r=LORA_RANKS[-1] + 1),
    ]
    assert [required_weights(policy) for policy in merged] == [RequiredWeights(policy, policy) for policy in merged]


def test_an_adapter_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    base = resolve("underfit")
    (tmp_path / "bare").mkdir()
    broken = adapter(tmp_path / "broken", base)
    (broken.path / "adapter_config.json").write_text("{", "utf-8")
    for policy in (Policy("bare", tmp_path / "bare", base, adapter=True), broken):
        with pytest.raises(BadInput, match="cannot read the adapter") as error:
            required_weights(policy)
        assert str(policy.path) in str(error.value)
    with pytest.raises(BadInput, match="behind an endpoint"):
        required_weights(resolve("openai:some-model"))


def test_only_weights_of_one_shape_take_each_others_place(tiny: Any, tmp_path: Path) -> None:
    one, other, third = (tiny(kind, seed).path for kind, seed in (("llama", 0), ("llama", 1), ("qwen2", 0)))
    assert weight_layout(one) == weight_layout(other)
    assert weight_layout(one) != weight_layout(third)
    longer = tiny("llama", context=1024).path
    assert weight_layout(one)[1] == weight_layout(longer)[1]
    assert weight_layout(one) != weight_layout(longer)
