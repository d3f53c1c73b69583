"""Code that lies beside a model is never run, and nobody is asked about it: whatever stands on standard input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from test_resolve import write_gguf

from tiny_models import edit_json, reference

CODE = "from pathlib import Path\nPath({marker!r}).write_text('ran')\n"
USES = """
import os, sys, torch
from pathlib import Path
from transformers import AutoConfig
from selftaught.cli.main import main
from selftaught.models import ChatTokenizer, resolve
from selftaught.models.load import load_model

folder, gguf, ran = sys.argv[1:]
uses = {
    "tokenizer": lambda: ChatTokenizer(Path(folder)),
    "weights": lambda: load_model(resolve(folder), torch.float32),
    "gguf": lambda: ChatTokenizer(resolve(gguf).weights),
    "command": lambda: main(["solve", "self-consistency", "hi", "--model", folder, "--quiet"]),
    "trusted": lambda: AutoConfig.from_pretrained(folder, trust_remote_code=True),
}
for name, use in uses.items():
    try:
        came = f"gave {use()}"
    except Exception as error:
        came = f"{type(error).__name__} {error}"
    print(name, os.path.exists(ran), came.replace(chr(10), " "))
print("left", len(sys.stdin.read()))
"""


def poisoned(policy: Any, folder: Path) -> Path:
    """A copy of a model that names code of its own for everything; that code leaves a file `ran`."""
    shutil.copytree(policy.path, folder)
    for name in ("evil", "modeling_evil"):
        (folder / f"{name}.py").write_text(CODE.format(marker=str(folder.parent / "ran")), "utf-8")
    classes = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "modeling_evil.EvilForCausalLM"}
    edit_json(folder / "config.json", model_type="evil", auto_map=classes)
    edit_json(
        folder / "tokenizer_config.json", tokenizer_class="EvilTokenizer",
        auto_map={"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]},
    )  # fmt: skip
    return folder


def test_code_beside_a_model_is_never_asked_about_and_never_run(tiny: Any, tmp_path: Path) -> None:
    folder = poisoned(tiny("llama"), tmp_path / "m")
    write_gguf(folder / "m.gguf", reference(tiny("llama")), tiny("llama").path)
    env = {**os.environ, "SELFTAUGHT_CACHE": str(tmp_path / "cache"), "HF_MODULES_CACHE": str(tmp_path / "hf")}
    command = [sys.executable, "-c", USES, str(folder), str(folder / "m.gguf"), str(tmp_path / "ran")]
    done = subprocess.run(command, input="y\n" * 8, env=env, capture_output=True, text=True, check=True)
    assert "[y/N]" not in done.stdout + done.stderr
    *lines, left = done.stdout.splitlines()
    came = dict(line.split(" ", 1) for line in lines)
    assert left == "left 16"  # nothing was read
    assert came["tokenizer"].startswith(f"False BadInput {folder}: cannot load the tokenizer")
    assert came["weights"].startswith(f"False BadInput {folder}: cannot load the model")
    assert came["gguf"].startswith("False ")
    assert came["command"] == "False gave 2"
    assert came["trusted"].startswith("True ")  # the trap is a trap: where it is trusted, the code runs
