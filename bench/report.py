"""What the benchmarks share: where they ran, and how a result is printed."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any


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
