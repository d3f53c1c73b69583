"""A standalone figure of a run: dev accuracy per round, and held-out accuracy before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selftaught.report.charts import (
    Axis,
    Frame,
    Theme,
    accuracy_axis,
    axes,
    legend,
    plot,
    rounds_series,
    series_sample,
    steps_axis,
    svg,
    svg_line,
    svg_mark,
    svg_text,
)
from selftaught.report.data import Round
from selftaught.report.text import interval, percent

FIGURE_THEME = Theme("#1f2430", "#5b6472", "#e3e6ea", "#ffffff", ("#1d5fc4", "#7a828e", "#b45309"))


def before_after_figure(summary: Mapping[str, Any], rounds: Sequence[Round]) -> str:
    """A standalone SVG of a run: dev accuracy per round, and held-out accuracy before and after.

    It has its own background and colors, so it looks the same on light and dark pages. Panels without data
    are omitted; with neither, the figure says so.
    """
    wide, tall = 860.0, 350.0
    heading = f"{summary.get('model', 'a model')} teaching itself {summary.get('task', 'a task')}"
    if summary.get("method"):
        heading += f" with {summary['method']}"
    rows = [
        (name, summary.get(key) or {}, color, shape)
        for name, key, color, shape in (
            ("before", "before", 1, "square"),
            ("majority vote, equal tokens", "majority_at_equal_tokens", 2, "diamond"),
            ("after", "after", 0, "circle"),
        )
    ]
    rows = [row for row in rows if row[1].get("accuracy") is not None]
    body = f'<rect width="{wide:g}" height="{tall:g}" rx="10" fill="{FIGURE_THEME.paper}"/>'
    letters = min(17.0, 1400 / len(heading))  # fit a long task name on one line
    body += svg_text(28, 38, heading, more=f' font-size="{letters:.1f}" font-weight="600"')
    if rounds:
        body += _rounds_panel(rounds, 78, 362 if rows else 740)
    if rows:
        body += _held_out_panel(rows, summary.get("n_test"), 500 if rounds else 60, 330 if rounds else 740)
    if not rounds and not rows:
        body += svg_text(28, 80, "nothing measured yet", fill=FIGURE_THEME.muted)
    return svg(body, wide, tall, heading, theme=FIGURE_THEME) + "\n"


def _rounds_panel(rounds: Sequence[Round], left: float, width: float) -> str:
    """Dev accuracy per round."""
    series = rounds_series(rounds)
    y = accuracy_axis("accuracy on dev", [r.ci95[1] for r in rounds])
    frame = Frame(left, 112, width, 180, steps_axis("round", [r.number for r in rounds]), y)
    entries = [(series_sample(s, FIGURE_THEME), s.name) for s in series]
    return legend(entries, left - 28, 68) + axes(frame, FIGURE_THEME) + plot(series, frame, FIGURE_THEME)


def _held_out_panel(
    rows: Sequence[tuple[str, Mapping[str, Any], int, str]], n: int | None, left: float, width: float
) -> str:
    """Accuracy on the test split, one row per system."""
    x = accuracy_axis("", [row[1]["ci95"][1] for row in rows])
    label = f"accuracy on {n} held-out problems" if n else "accuracy on held-out problems"
    frame = Frame(left, 92, width, 200, x, Axis("", 0, 1, []))
    out = [svg_text(left, 73, label, fill=FIGURE_THEME.muted)]
    for value, tick in x.ticks:
        out.append(
            svg_line(frame.sx(value), 92, frame.sx(value), 292, FIGURE_THEME.muted if value == 0 else FIGURE_THEME.grid)
        )
        out.append(svg_text(frame.sx(value), 311, tick, fill=FIGURE_THEME.muted, anchor="middle"))
    for i, (name, found, color, shape) in enumerate(rows):
        y = 92 + 200 * (i + 0.62) / len(rows)
        paint, (low, high), value = FIGURE_THEME.series[color], found["ci95"], found["accuracy"]
        # Painted under the text, so that grid lines do not cross it.
        halo = f' stroke="{FIGURE_THEME.paper}" stroke-width="5" paint-order="stroke"'
        out.append(svg_text(left + 6, y - 15, name, more=halo))
        figures = f"{percent(value)} {interval(found['ci95'])}"
        out.append(svg_text(left + width, y - 15, figures, anchor="end", more=halo))
        out.append(svg_line(frame.sx(low), y, frame.sx(high), y, paint, 3))
        out += [svg_line(frame.sx(end), y - 6, frame.sx(end), y + 6, paint, 2) for end in (low, high)]
        out.append(svg_mark(frame.sx(value), y, shape, paint, FIGURE_THEME.paper, size=6))
    return "".join(out)
