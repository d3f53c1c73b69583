"""Create the engine that a model needs: the one place where engines are constructed from options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from selftaught.engines.base import Engine
from selftaught.errors import BadInput, suggest
from selftaught.models.policy import Policy, read_manifest
from selftaught.models.remote import PREFIX

EngineName = Literal["local", "vllm"]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Options of an engine; picklable, and without secrets.

    Attributes:
        engine: what samples from weights: "local" (torch in this process) or "vllm". A model behind an endpoint is
            always sampled by `OpenAIEngine`.
        dtype: "auto", or a name.
        device: "auto", "cpu", "cuda", ...; local only.
        deterministic: what is sampled does not depend on what is sampled together; local only.
        max_batch_size: maximum number of requests in progress together; None for the engine's default.
        requests_per_minute: limit at an endpoint; so are the following.
        tokens_per_minute: see `Limits`.
        prompt_price: dollars per million prompt tokens.
        completion_price: dollars per million sampled tokens.
        max_cost: limit in dollars.
        served_model_name: the name that the endpoint answers with, if not the one requested.

    Raises:
        BadInput: no such engine.
    """

    engine: EngineName = "local"
    dtype: str = "auto"
    device: str = "auto"
    deterministic: bool = False
    max_batch_size: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    prompt_price: float = 0.0
    completion_price: float = 0.0
    max_cost: float | None = None
    served_model_name: str = ""

    def __post_init__(self) -> None:
        if self.engine not in (names := get_args(EngineName)):
            raise BadInput(f"there is no engine {self.engine!r}", where="--engine", fix=suggest(self.engine, names))


def create_engine(model: str | Path | Policy, config: EngineConfig | None = None) -> Engine:
    """Create the engine for `model`. The caller closes it.

    Args:
        model: what `models.resolve` takes, or a `Policy`; only whether it is behind an endpoint matters, and which.
        config: defaults to the local engine.

    Raises:
        BadInput: the options exclude each other, or the engine is not installed.
    """
    config = config or EngineConfig()
    if config.deterministic and (is_remote(model) or config.engine != "local"):
        what = "an endpoint and vLLM decide for themselves what is computed together"
        raise BadInput(what, where="--deterministic", fix="leave it out, or use the local engine")
    if is_remote(model):
        return _openai(model, config)
    return _vllm(config) if config.engine == "vllm" else _local(config)


def is_remote(model: str | Path | Policy) -> bool:
    """Whether a model is behind an endpoint, also where it is the folder of a policy with notes."""
    if isinstance(model, Policy):
        return bool(model.remote)
    folder = Path(model).expanduser()
    if folder.is_dir() and (manifest := read_manifest(folder)).get("notes"):
        model = (manifest.get("base") or {}).get("path", "")
    return str(model).startswith(PREFIX)


def _local(config: EngineConfig) -> Engine:
    from selftaught.engines.local.engine import LocalEngine

    return LocalEngine(
        dtype=config.dtype, device=config.device, max_batch_size=config.max_batch_size,
        batch_invariant=config.deterministic,
    )  # fmt: skip


def _vllm(config: EngineConfig) -> Engine:
    if config.device != "auto":
        raise BadInput("vLLM uses all devices that it sees", where="--device", fix="set CUDA_VISIBLE_DEVICES instead")
    from selftaught.engines.vllm.engine import VllmEngine

    size: dict[str, Any] = {} if config.max_batch_size is None else {"max_batch_size": config.max_batch_size}
    return VllmEngine(dtype=config.dtype, **size)


def _openai(model: str | Path | Policy, config: EngineConfig) -> Engine:
    if config.engine == "vllm":
        name = f"{PREFIX}{model.remote}" if isinstance(model, Policy) else model
        raise BadInput(f"{name} is behind an endpoint", where="--engine vllm", fix="leave the option out")
    from selftaught.engines.openai.engine import Endpoint, Limits, OpenAIEngine

    size: dict[str, Any] = {} if config.max_batch_size is None else {"concurrency": config.max_batch_size}
    limits = Limits(
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
        prompt_price=config.prompt_price,
        completion_price=config.completion_price,
        max_cost=config.max_cost,
        **size,
    )
    url = model.url if isinstance(model, Policy) else ""
    return OpenAIEngine(Endpoint(url, served_model_name=config.served_model_name), limits)
