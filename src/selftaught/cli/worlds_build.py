"""`selftaught worlds build WORLD` for worlds of the kit: a network is trained until it is its writer."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from selftaught.console import Console
from selftaught.errors import BadInput, suggest
from selftaught.terminal import print_json, print_table
from selftaught.worlds import SyntheticWorld, problem_worlds

if TYPE_CHECKING:
    from selftaught.worlds.kit.build import BuildConfig
    from selftaught.worlds.kit.gate import Gate
    from selftaught.worlds.kit.training import Progress


def kit_worlds() -> dict[str, SyntheticWorld]:
    """The worlds whose models are built from a writer, by name."""
    found = ((name, world) for name, world in problem_worlds().items() if world.can_build)
    return {name: world for name, world in found if hasattr(world.module("build"), "PRESETS")}


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only worlds of the kit have."""
    parser.add_argument("--kin", default="base", help="whose text a model of the kit reads (default %(default)s)")
    parser.add_argument("--tokens", type=int, help="tokens of text that it reads (default: as many as its gate needs)")


def build_kit_world(args: argparse.Namespace, world: SyntheticWorld, console: Console) -> int:
    """Build a model, or continue an interrupted build. Returns 1 if the model is not its writer."""
    from selftaught.worlds.kit.build import build

    config = _config(args, world)
    out: Path = args.out or Path(f"{world.name}-{args.kin}-{args.seed}")
    with console.meter("reading tokens", config.training.tokens) as meter:
        read = 0

        def report(progress: Progress) -> None:
            nonlocal read
            meter.advance(progress.tokens - read, _divergences(progress))
            read = progress.tokens

        found = build(out, config, world.module("build").lessons, report=report)
    console.print(f"written to {out}")
    if args.json:
        print_json(found.as_data())
    else:
        print_gate(found)
    return 0 if found.holds else 1


def _config(args: argparse.Namespace, world: SyntheticWorld) -> BuildConfig:
    """The preset of a kin, with the seed and size asked for."""
    presets = world.module("build").PRESETS
    if args.kin not in presets:
        raise BadInput(f"unknown kin {args.kin!r}", where="--kin", fix=suggest(args.kin, presets))
    config = presets[args.kin].with_seed(args.seed)
    if args.tokens is None:
        return config
    if args.tokens < 1:
        raise BadInput("too few tokens", where="--tokens", fix="leave it at its default")
    size = min(config.training.chunk_tokens, args.tokens)
    training = replace(config.training, chunks=max(1, round(args.tokens / size)), chunk_tokens=size)
    return replace(config, training=training)


def _divergences(progress: Progress) -> str:
    shown = (name for name in ("way", "result", "judge") if name in progress.sums)
    return "KL " + ", ".join(f"{name} {progress.divergence[name]:.3f}" for name in shown)


def print_gate(found: Gate) -> None:
    """Print what the gate found."""
    failing = {row.skill for row in found.failing}
    rows = [
        (
            row.skill,
            f"{row.kl:.4f}",
            _share(row.writer),
            _share(row.model),
            str(row.count),
            "no" * (row.skill in failing),
        )
        for row in found.rows
    ]
    print_table(rows, columns=("decision", "KL, nats", "writer right", "model right", "of", "holds"))
    if failing:
        print(f"The model is not its writer: {', '.join(sorted(failing))}. It may have read too little text.")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
