"""What the benchmarks share: where they ran, and how a result is printed."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, NoReturn


def machine() -> dict[str, Any]:
    """The processor, its cores that this process may use, and the versions that shape a figure."""
    from importlib.metadata import version

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def _processor() -> str:
    """The processor's name; Linux tells it in a file only."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def lines_of(file: str, *names: str) -> list[list[str]]:
    """What each JSON line of `file` says under `names`; where it does not, ends the program with one line on why."""
    try:
        lines = Path(file).read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        _give_up(f"{file}: {error}; name a readable file of JSON lines")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append([str(json.loads(line)[name]) for name in names])
        except (ValueError, KeyError, TypeError):
            _give_up(f"{file}:{number}: no JSON object with {' and '.join(names)}")
    if not found:
        _give_up(f"{file}: it is empty; give it a line at least")
    return found


def _give_up(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    raise SystemExit(2)


def show(result: dict[str, Any], as_json: bool) -> None:
    """Print a result as JSON, or its figures as lines."""
    if as_json:
        print(json.dumps(result, indent=1))
        return
    for part, figures in result.items():
        print(part)
        for name, value in figures.items():
            shown = f"{value:,.4g}" if isinstance(value, float) else value
            print(f"  {name:28s}{shown}")
