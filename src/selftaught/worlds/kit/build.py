"""Build the model of a world: train a network on the text of a writer, save it, and see whether it is its writer."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.machine.threads import num_cores
from selftaught.worlds.kit.language import END, make_tokenizer, vocabulary

if TYPE_CHECKING:
    from selftaught.worlds.kit.gate import Gate
    from selftaught.worlds.kit.training import Progress, Training

RECORD_FILE = "built.json"
WORK_FOLDER = "work"
CONFIG_FILE = "config.json"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
        chunks: number of chunks of text.
        chunk_tokens: tokens of a chunk.
        passes: how often the text is read.
        batch_tokens: tokens of a forward and backward pass, with padding; about what the cache of a core holds.
        batches: passes per optimizer step.
        learning_rate: peak rate of Muon, for the layers' matrices.
        adam_rate: peak rate of AdamW, for the embeddings.
        warmup: share of the training for the linear warm-up.
        floor: learning rate at the end of the cosine decay, as a share of the peak.
        weight_decay: of the layers' matrices.
        max_grad_norm: gradients are clipped to this norm.
        weights: (beginning of a skill's name, weight of its decisions in the loss); the longest match counts, and 1
            without one.
        dtype: of the large matrix products in training: "float32", or "bfloat16", which is faster on processors with
            instructions for it.
        seed: of text, weights and order.
    """

    chunks: int = 30
    chunk_tokens: int = 500_000
    passes: int = 1
    batch_tokens: int = 1024
    batches: int = 2
    learning_rate: float = 0.007
    adam_rate: float = 3e-3
    warmup: float = 0.02
    floor: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    weights: tuple[tuple[str, float], ...] = ()
    dtype: str = "bfloat16"
    seed: int = 0

    @property
    def tokens(self) -> int:
        """Tokens that are read in all."""
        return self.chunks * self.chunk_tokens * self.passes


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """A model and its training.

    Attributes:
        kin: whose text it reads: a writer of the world.
        width: width of the residual stream.
        layers: decoder layers.
        heads: attention heads.
        hidden: width of the feed-forward layers.
        context: most tokens of a conversation.
        training: how it is trained.
        gate_lessons: lessons on which model and writer are compared.
    """

    kin: str = "base"
    width: int = 128
    layers: int = 6
    heads: int = 4
    hidden: int = 352
    context: int = 512
    training: TrainingConfig = field(default_factory=TrainingConfig)
    gate_lessons: int = 8000

    def with_seed(self, seed: int) -> BuildConfig:
        """The same build with another seed."""
        return replace(self, training=replace(self.training, seed=seed))


def build(
    folder: Path,
    config: BuildConfig,
    lessons: Callable[[str, int], Any],
    *,
    threads: int | None = None,
    ahead: bool = True,
    every: float = 120.0,
    report: Callable[[Progress], None] = lambda _: None,
) -> Gate:
    """Build a model in a folder; one that was interrupted continues where its last checkpoint is, to the same weights.

    Args:
        lessons: the text of one of the kin, from a seed, without an end; picklable.
        threads: of the training, 1 or 2; one per processor by default. The weights do not depend on it.
        ahead: whether another process writes the text.
        every: seconds between checkpoints.
        report: called after each optimizer step.

    Raises:
        BadInput: the folder holds something else.
    """
    from selftaught.worlds.kit.gate import GATE_SEED, gate
    from selftaught.worlds.kit.network import Shape
    from selftaught.worlds.kit.text import first_lessons
    from selftaught.worlds.kit.training import train

    work = _open(folder, config)
    text = partial(lessons, config.kin)
    shape = Shape(len(vocabulary()), config.width, config.layers, config.heads, config.hidden)
    used = min(2, threads or num_cores())
    training = train(shape, config.training, text, work, threads=used, ahead=ahead, every=every, report=report)
    found = gate(_save(training, folder, config), first_lessons(text, GATE_SEED, config.gate_lessons))
    record = _record(training, folder, config) | {"gate": found.as_data()}
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    shutil.rmtree(work)
    return found


def is_built(folder: Path) -> bool:
    """Whether a build in a folder is finished."""
    return (folder / RECORD_FILE).exists()


def _open(folder: Path, config: BuildConfig) -> Path:
    """The folder of an unfinished build, which continues only with the configuration that it began with."""
    work = folder / WORK_FOLDER
    if folder.exists() and any(folder.iterdir()) and (is_built(folder) or not (work / CONFIG_FILE).exists()):
        raise BadInput("it holds something else already", where=str(folder), fix="name another folder with --out")
    wanted = json.loads(json.dumps(asdict(config)))
    if not (work / CONFIG_FILE).exists():
        work.mkdir(parents=True, exist_ok=True)
        (work / CONFIG_FILE).write_text(json.dumps(wanted), "utf-8")
    elif json.loads((work / CONFIG_FILE).read_text("utf-8")) != wanted:
        raise BadInput("a build began here with other settings", where=str(folder), fix="repeat them, or use --out")
    return work


def _save(training: Training, folder: Path, config: BuildConfig) -> Any:
    """Write the model, in bfloat16, and its tokenizer. Returns it as it was written, in float32."""
    import torch

    from selftaught.worlds.kit.network import as_llama

    weights = {name: tensor.detach() for name, tensor in training.weights.items()}
    model = as_llama(weights, training.shape, context=config.context, end=vocabulary()[END])
    model.to(torch.bfloat16).save_pretrained(str(folder))  # type: ignore[arg-type]
    make_tokenizer().save_pretrained(str(folder))
    return model.to(torch.float32).eval()  # type: ignore[arg-type]


def _record(training: Training, folder: Path, config: BuildConfig) -> dict[str, Any]:
    """Everything about a build but its gate."""
    progress = training.progress
    text = hashlib.sha256("".join(progress.text[: config.training.chunks]).encode()).hexdigest()
    seconds = max(progress.seconds, 1e-9)
    return {
        "config": asdict(config),
        "cost": {
            "tokens": progress.tokens,
            "steps": progress.steps,
            "seconds": round(seconds),
            "tokens_per_second": round(progress.tokens / seconds),
        },
        "curve": progress.curve,
        "versions": {name: version(name) for name in ("selftaught", "torch", "transformers", "numpy")}
        | {"python": platform.python_version(), "processor": _processor()},
        "text_sha256": text,
        "weights_sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    }


def _processor() -> str:
    """Instruction set that torch uses, on which the last digits of the weights depend."""
    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
