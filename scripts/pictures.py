"""Pictures of the documentation, drawn from committed measurements while the site is built."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from selftaught.check.reading import headline
from selftaught.report.charts import svg, svg_line, svg_mark, svg_text
from selftaught.report.figure import FIGURE_THEME
from selftaught.worlds.world import DEFAULT_WORLD

OTHER_KINDS = ("statistic", "alarm")  # legs that measure no effect over a baseline


class Bar(NamedTuple):
    """A row of a forest plot."""

    label: str
    value: float
    ci95: Sequence[float]


def boxed(picture: str) -> str:
    """A picture on paper of its own, so that it reads on a dark page too."""
    head, _, rest = picture.partition("</title>")
    return f'{head}</title><rect width="100%" height="100%" fill="{FIGURE_THEME.paper}"/>{rest}'


def forest(bars: Sequence[Bar], title: str, write: Callable[[float], str], scale: tuple[float, float]) -> str:
    """Values with their intervals, one below the other, on a scale from low to high."""
    left, right, row = 300.0, 620.0, 24.0
    low, high = scale
    height = 44 + row * len(bars)

    def sx(value: float) -> float:
        return left + (right - left) * (min(high, max(low, value)) - low) / (high - low)

    ticks = [low + (high - low) * i / 4 for i in range(5)]
    body = [svg_line(sx(t), 10, sx(t), height - 30, FIGURE_THEME.grid) for t in ticks]
    body += [svg_text(sx(t), height - 12, write(t), fill=FIGURE_THEME.muted, anchor="middle") for t in ticks]
    if low < 0 < high:
        body.append(svg_line(sx(0), 10, sx(0), height - 30, FIGURE_THEME.ink))
    for i, bar in enumerate(bars):
        y, color = 24 + row * i, FIGURE_THEME.series[0]
        body.append(svg_text(left - 14, y + 4.5, bar.label, anchor="end"))
        body.append(svg_line(sx(bar.ci95[0]), y, sx(bar.ci95[1]), y, color, 3))
        body.append(svg_mark(sx(bar.value), y, "circle", color, FIGURE_THEME.paper))
    return boxed(svg("".join(body), 640, height, title, theme=FIGURE_THEME))


def claims(folder: Path) -> str:
    """The effect of each method over the baseline that it beats by least."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    tiny = [one for one in found if one.get("world", one.get("model")) == DEFAULT_WORLD]
    shown = [(one["id"], headline(one)) for one in tiny]
    shown = [(name, one) for name, one in shown if one["effect"] is not None and one.get("kind") not in OTHER_KINDS]
    bars = [Bar(f"{name} over {one['against']}", one["effect"], one["ci95"]) for name, one in shown]
    far = max((abs(end) for bar in bars for end in bar.ci95), default=0.1)
    far = math.ceil(far * 10) / 10
    return forest(bars, "Effects found by selftaught check", lambda v: f"{v:+.2f}", (-far, far))
