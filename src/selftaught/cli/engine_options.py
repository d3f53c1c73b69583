"""Command-line options of the engine, shared by all commands that sample."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

from selftaught.engines.base import Engine
from selftaught.engines.create import EngineConfig, EngineName, create_engine, is_remote
from selftaught.machine.device import DTYPES
from selftaught.models.policy import Policy

MAX_BATCH_SIZE = 128  # default of the command line, for endpoints
CONFIG = EngineConfig()


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Options of the engine, with a group of those for models behind an endpoint."""
    engine = "what samples: torch in this process, or vLLM, which must be installed (default %(default)s)"
    parser.add_argument("--engine", default=CONFIG.engine, choices=get_args(EngineName), help=engine)
    parser.add_argument(
        "--dtype", default=CONFIG.dtype, choices=DTYPES, help="number format of sampling (default %(default)s)"
    )
    device = "device of sampling (default auto: CUDA if there is a GPU)"
    parser.add_argument("--device", default=CONFIG.device, help=device)
    deterministic = "sample and train in float32, and no answer depends on what is sampled beside it (local only)"
    parser.add_argument("--deterministic", action="store_true", help=deterministic)
    size = f"maximum number of answers sampled together (default {MAX_BATCH_SIZE}; more for a very small local model)"
    parser.add_argument("--max-batch-size", type=at_least(1), metavar="N", help=size)
    remote = parser.add_argument_group("models behind an endpoint", "--model openai:NAME, at OPENAI_BASE_URL")
    requests = "maximum (default none)"
    remote.add_argument("--requests-per-minute", type=at_least(1), metavar="N", help=requests)
    remote.add_argument("--tokens-per-minute", type=at_least(1), metavar="N", help="maximum (default none)")
    price = "dollars per million %s (default 0)"
    remote.add_argument("--prompt-price", type=float, default=0.0, metavar="DOLLARS", help=price % "prompt tokens")
    remote.add_argument("--completion-price", type=float, default=0.0, metavar="DOLLARS", help=price % "sampled tokens")
    remote.add_argument("--max-cost", type=float, metavar="DOLLARS", help="stop at this cost (default no limit)")
    served = "the name that the endpoint answers with, if not NAME"
    remote.add_argument("--served-model-name", default="", metavar="NAME", help=served)


def engine_config(args: argparse.Namespace, model: str | Path | Policy | None = None) -> EngineConfig:
    """The options as parsed, for `model`, by default that of the command line."""
    size = args.max_batch_size
    if size is None and is_remote(model or args.model):
        size = MAX_BATCH_SIZE
    return EngineConfig(
        engine=args.engine,
        dtype=args.dtype,
        device=args.device,
        deterministic=args.deterministic,
        max_batch_size=size,
        requests_per_minute=args.requests_per_minute,
        tokens_per_minute=args.tokens_per_minute,
        prompt_price=args.prompt_price,
        completion_price=args.completion_price,
        max_cost=args.max_cost,
        served_model_name=args.served_model_name,
    )


def engine_of(args: argparse.Namespace) -> Engine:
    """The engine for the model of a command line."""
    return create_engine(args.model, engine_config(args))


def engine_flags(args: argparse.Namespace) -> Iterator[str]:
    """The options of the engine that are not at their defaults, as on a command line."""
    for name in EngineConfig.__dataclass_fields__:
        if (value := getattr(args, name)) != getattr(CONFIG, name):
            flag = f"--{name.replace('_', '-')}"
            yield flag if value is True else f"{flag} {shlex.quote(str(value))}"


def at_least(least: int) -> Callable[[str], int]:
    """A reader of integers from `least` on."""

    def read(word: str) -> int:
        if int(word) < least:
            raise argparse.ArgumentTypeError(f"must be ≥ {least}, got {word}")
        return int(word)

    read.__name__ = "int"
    return read
