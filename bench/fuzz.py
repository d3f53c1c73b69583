"""Damage each file that a run leaves, and use the run: `python -m bench.fuzz`.

A finished run of the tiny model is copied, one of its files is damaged (bits flipped, cut short, emptied, removed,
overwritten, or exchanged with another file), and a command that reads it must end well, or with exit status 2 and one
line that says what is wrong and where. Exit status 1 if one ends otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftaught.cli.main import main as selftaught

COMMON = ("--task", "tiny:level=2", "--threads", "1", "--json", "--quiet")
SIZES = ("--train", "8", "--dev", "6", "--test", "4", "--rounds", "1", "--samples", "4", "--per-problem", "1")
RUN = ("run", "rest-em", "--model", "tiny", "--dtype", "float32", "--max-tokens", "48", *COMMON, *SIZES)


def _flip(data: bytes, luck: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(luck.choice((1, 1, 8, 64))):
        if found:
            found[luck.randrange(len(found))] ^= 1 << luck.randrange(8)
    return bytes(found)


def _cut(data: bytes, luck: random.Random) -> bytes:
    return data[: luck.randrange(len(data))] if data else data


def _overwrite(data: bytes, luck: random.Random) -> bytes:
    start = luck.randrange(len(data) + 1)
    return data[:start] + luck.choice((bytes(512), luck.randbytes(512), b'{"a": ' * 90)) + data[start + 512 :]


def _other(_: bytes, luck: random.Random) -> bytes:
    return luck.choice((b"[" * 100_000, b'{"a":' * 50_000, b"null", b"[]", b"{}", b'"text"', b"1e999", b"\xff\xfe{}"))


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bits flipped": _flip,
    "cut short": _cut,
    "emptied": lambda _, __: b"",
    "overwritten": _overwrite,
    "other content": _other,
}


@dataclass(frozen=True)
class Case:
    """What became of a case.

    Attributes:
        file: that was damaged, in the run's folder.
        damage: what was done to it.
        command: that read the run.
        status: exit status; -1 for an exception.
        wrong: what does not hold; empty if it ended well.
    """

    file: str
    damage: str
    command: str
    status: int
    wrong: str = ""


def commands(run: Path) -> dict[str, list[str]]:
    """Commands that read a run, by name."""
    policy = next(iter(sorted((run / "policies").glob("*/selftaught.json"))), run / "policies" / "x").parent
    asked = ["--test", "2", "--max-tokens", "32", *COMMON]
    return {
        "run": [*RUN, "--out", str(run)],
        "lineage": ["lineage", str(run)],
        "audit": ["audit", str(run), "--json"],
        "eval": ["eval", "--model", str(policy), *asked, "--out", str(run.parent / "evaluated")],
    }


def played(words: list[str]) -> tuple[int, str, str]:
    """Exit status, last line and traceback of a command in this process."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status = selftaught(words)
    except BaseException:
        return -1, said.getvalue(), traceback.format_exc()
    return status, said.getvalue(), ""


def play(whole: Path, folder: Path, luck: random.Random) -> Case:
    """Damage a copy of a run, and read it."""
    run = folder / "run"
    shutil.copytree(whole, run, symlinks=True)
    files = sorted(p for p in run.rglob("*") if p.is_file() and not p.is_symlink())
    path, damage = luck.choice(files), luck.choice((*DAMAGES, "removed", "exchanged", "a folder"))
    if damage == "removed":
        path.unlink()
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "exchanged":
        path.write_bytes(luck.choice(files).read_bytes())
    else:
        path.write_bytes(DAMAGES[damage](path.read_bytes(), luck))
    name, words = luck.choice(list(commands(run).items()))
    status, said, trace = played(words)
    shutil.rmtree(folder, ignore_errors=True)
    return Case(str(path.relative_to(run)), damage, name, status, wrong(name, status, said, trace))


def wrong(command: str, status: int, said: str, trace: str) -> str:
    """What does not hold of how a command ended; empty if all does."""
    if trace:
        return trace.strip().splitlines()[-1][:300] + " " + _where(trace)
    if status not in ((0, 1, 2, 3) if command == "audit" else (0, 2)):
        return f"exit status {status}"
    lines = said.splitlines()
    if status == 2 and (len(lines) != 1 or not lines[0].startswith("selftaught: ")):
        return f"exit status 2 with {len(lines)} lines: {said[-300:]}"
    return ""


def _where(trace: str) -> str:
    """The last places of this package in a traceback."""
    lines = [line.strip() for line in trace.splitlines() if "selftaught/" in line and "File" in line]
    return "; ".join(line.split("selftaught/", 1)[-1] for line in lines[-3:])


def fuzz(cases: int, seed: int, folder: Path, console: Any = sys.stderr) -> list[Case]:
    """Play cases."""
    whole = folder / "whole"
    status, said, trace = played([*RUN, "--out", str(whole)])
    if status:
        raise RuntimeError(f"the undamaged run ends with {status}: {said}{trace}")
    found: list[Case] = []
    for number in range(cases):
        found.append(play(whole, folder / f"case-{number}", random.Random(f"{seed}/{number}")))
        one = found[-1]
        if one.wrong:
            print(f"case {number}, {one.file} {one.damage}, {one.command}: {one.wrong}", file=console, flush=True)
        elif (number + 1) % 20 == 0:
            print(f"{number + 1} of {cases} cases", file=console, flush=True)
    return found


def main() -> int:
    """Play the cases; 1 if one ends badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300, help="number of cases (default %(default)s)")
    parser.add_argument("--seed", type=int, help="of all that is random (default: a new one, which is printed)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="selftaught-fuzz-") as temporary:
        found = fuzz(args.cases, seed, Path(temporary))
    bad = [one for one in found if one.wrong]
    statuses = Counter(f"{one.command} {one.status}" for one in found)
    outcome = {
        "seed": seed,
        "cases": len(found),
        "failed": [vars(one) for one in bad],
        "statuses": dict(sorted(statuses.items())),
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }
    if args.json:
        print(json.dumps(outcome, indent=1))
    else:
        print(f"{len(bad)} of {len(found)} cases end badly; seed {seed}; exit statuses: {outcome['statuses']}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
