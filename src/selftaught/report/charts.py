"""Charts as inline SVG. Series differ by shape and dash or texture, not by color alone.

A chart scales with its page; its text stays legible on a phone. Colors
come from a `Theme`: CSS variables on the page (which turn with light and dark), fixed ones in a file.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from selftaught.report.data import Round
from selftaught.report.text import escaped, interval, percent, short_number

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Theme(NamedTuple):
    """Colors of a chart; `series` are for data, distinguishable with any color vision."""

    ink: str
    muted: str
    grid: str
    paper: str
    series: tuple[str, ...]


PAGE_THEME = Theme("var(--ink)", "var(--muted)", "var(--rule)", "var(--paper)", ("var(--c0)", "var(--c1)", "var(--c2)"))


class Point(NamedTuple):
    """One measured value: `low` and `high` draw its interval, `solid` fills its mark, `note` explains it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    solid: bool = True


class Series(NamedTuple):
    """Points of one kind. `shape`: circle, square or diamond; `line`: whether they are joined."""

    name: str
    points: Sequence[Point]
    color: int = 0
    shape: str = "circle"
    dashed: bool = False
    line: bool = True


class Axis(NamedTuple):
    """A scale from `low` to `high` with labeled ticks."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Frame:
    """The plotting area's position in the drawing, in user units, and its axes."""

    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis

    def sx(self, value: float) -> float:
        """Horizontal position of a value."""
        return self.left + self.width * (value - self.x.low) / ((self.x.high - self.x.low) or 1)

    def sy(self, value: float) -> float:
        """Vertical position of a value."""
        return self.top + self.height * (1 - (value - self.y.low) / ((self.y.high - self.y.low) or 1))


def nice_axis(
    label: str, values: Sequence[float], *, most: float = math.inf, write: Callable[[float], str] = short_number
) -> Axis:
    """An axis from zero over all `values` (at most `most`), with about five round ticks."""
    peak = max([v for v in values if math.isfinite(v)], default=0.0)
    rough = (peak if peak > 1e-9 else 1.0) / 4  # without data: an arbitrary axis
    power = 10 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5) if m * power >= rough * 0.999), 10 * power)
    high = min(most, step * max(1, math.ceil(4 * rough / step - 1e-9)))
    return Axis(label, 0.0, high, [(i * step, write(i * step)) for i in range(round(high / step) + 1)])


def accuracy_axis(label: str, values: Sequence[float]) -> Axis:
    """`nice_axis` for shares, labeled in percent."""
    return nice_axis(label, values, most=1.0, write=lambda v: f"{100 * v:.3g}%")


def steps_axis(label: str, numbers: Sequence[int]) -> Axis:
    """An axis of consecutive whole numbers, thinned to at most a dozen labels."""
    low, high = min(numbers, default=0), max(numbers, default=1)
    every = math.ceil((high - low + 1) / 12)
    ticks = [(float(n), str(n)) for n in range(low, high + 1) if (n - low) % every == 0]
    return Axis(label, low - 0.5, high + 0.5, ticks)


def powers_axis(label: str, ks: Sequence[int]) -> Axis:
    """A logarithmic axis of counts: positions are log2(k)."""
    ks = sorted(set(ks)) or [1]
    low, high = math.log2(ks[0]), math.log2(ks[-1])
    pad = max(0.15, 0.06 * (high - low))
    return Axis(label, low - pad, high + pad, [(math.log2(k), str(k)) for k in ks])


def svg(body: str, width: float, height: float, title: str, *, theme: Theme = PAGE_THEME) -> str:
    """An SVG image named by `title`; `body` must be escaped already."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escaped(title)}" font-family="{FONT}" font-size="13" fill="{theme.ink}">'
        f"<title>{escaped(title)}</title>{body}</svg>"
    )


def svg_text(x: float, y: float, words: str, *, fill: str = "", anchor: str = "start", more: str = "") -> str:
    """A line of text at its baseline."""
    color = f' fill="{fill}"' if fill else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{color}{more}>{escaped(words)}</text>'


def svg_line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1, more: str = "") -> str:
    """A straight line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{stroke}" stroke-width="{width:g}"{more}/>'
    )


def svg_mark(x: float, y: float, shape: str, color: str, paper: str, *, solid: bool = True, size: float = 5) -> str:
    """A data mark; hollow unless `solid`."""
    paint = f'fill="{color if solid else paper}" stroke="{color}" stroke-width="2"'
    if shape == "square":
        return f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:g}" height="{2 * size:g}" {paint}/>'
    if shape == "diamond":
        r = size * 1.3
        return f'<path d="M{x:.1f} {y - r:.1f}l{r:g} {r:g}l-{r:g} {r:g}l-{r:g} -{r:g}z" {paint}/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {paint}/>'


def axes(frame: Frame, theme: Theme) -> str:
    """Grid lines, tick labels and axis labels."""
    right, bottom = frame.left + frame.width, frame.top + frame.height
    out = []
    for value, label in frame.y.ticks:
        y = frame.sy(value)
        out.append(svg_line(frame.left, y, right, y, theme.muted if value == 0 else theme.grid))
        out.append(svg_text(frame.left - 8, y + 4.5, label, fill=theme.muted, anchor="end"))
    for value, label in frame.x.ticks:
        out.append(svg_text(frame.sx(value), bottom + 19, label, fill=theme.muted, anchor="middle"))
    out.append(svg_text(frame.left + frame.width / 2, bottom + 39, frame.x.label, fill=theme.muted, anchor="middle"))
    out.append(svg_text(frame.left - 40, frame.top - 14, frame.y.label, fill=theme.muted))
    return "".join(out)


def plot(series: Sequence[Series], frame: Frame, theme: Theme) -> str:
    """The series within a frame: lines first, then intervals, then marks on top."""
    lines, whiskers, marks = [], [], []
    crowd = max((len(s.points) for s in series), default=1)
    size = max(2.5, min(5.0, frame.width / (4.5 * crowd)))
    for s in series:
        color = theme.series[s.color % len(theme.series)]
        if s.line and len(s.points) > 1:
            path = " ".join(f"{frame.sx(p.x):.1f},{frame.sy(p.y):.1f}" for p in s.points)
            dash = ' stroke-dasharray="6 5"' if s.dashed else ""
            lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>')
        for p in s.points:
            x, y = frame.sx(p.x), frame.sy(p.y)
            if p.low is not None and p.high is not None:
                whiskers.append(whisker(x, frame.sy(p.low), frame.sy(p.high), size * 0.9, color))
            note = f"<title>{escaped(p.note)}</title>" if p.note else ""
            shape = svg_mark(x, y, s.shape, color, theme.paper, solid=p.solid, size=size)
            marks.append(f"<g>{note}{shape}</g>")
    return "".join([*lines, *whiskers, *marks])


def whisker(x: float, low: float, high: float, half: float, color: str) -> str:
    """An upright interval with caps."""
    bar = svg_line(x, low, x, high, color, 1.5)
    return bar + "".join(svg_line(x - half, y, x + half, y, color, 1.5) for y in (low, high))


def legend(entries: Sequence[tuple[str, str]], x: float, y: float) -> str:
    """Samples (drawn around 0, 0) with their names, in one row; 7 units per letter is an upper estimate."""
    out = []
    for sample, name in entries:
        out.append(f'<g transform="translate({x:.1f} {y:.1f})">{sample}</g>' + svg_text(x + 16, y + 4.5, name))
        x += 46 + 7 * len(name)
    return "".join(out)


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, *, title: str, size: tuple[float, float] = (480, 320),
    theme: Theme = PAGE_THEME,
) -> str:  # fmt: skip
    """Lines with marks and intervals; each series is named in the legend above."""
    frame = Frame(52, 66, size[0] - 68, size[1] - 116, x, y)
    entries = [(series_sample(s, theme), s.name) for s in series if s.points]
    body = legend(entries, 18, 14) + axes(frame, theme) + plot(series, frame, theme)
    return svg(body, *size, title, theme=theme)


def series_sample(s: Series, theme: Theme) -> str:
    """A series' entry in the legend."""
    color = theme.series[s.color % len(theme.series)]
    dash = ' stroke-dasharray="4 3"' if s.dashed else ""
    stroke = svg_line(-11, 0, 11, 0, color, 2, dash) if s.line else ""
    return stroke + svg_mark(0, 0, s.shape, color, theme.paper, solid=all(p.solid for p in s.points), size=4)


def stacked_bars(
    labels: Sequence[str],
    stacks: Mapping[str, Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    size: tuple[float, float] = (480, 320),
) -> str:
    """One bar per label, made of the stacks (name -> a value per label), each with its own texture."""
    totals = [sum(values) for values in zip(*stacks.values(), strict=True)] if stacks else []
    every = math.ceil(len(labels) / 12)
    ticks = [(float(i), label) for i, label in enumerate(labels) if i % every == 0]
    x = Axis(x_label, -0.6, len(labels) - 0.4, ticks)
    frame = Frame(52, 66, size[0] - 68, size[1] - 116, x, nice_axis(y_label, totals))
    width = min(64.0, 0.72 * frame.width / max(1, len(labels) + 0.2))
    key = f"t{zlib.crc32(title.encode('utf-8', 'replace')):x}"  # texture ids must be unique on a page
    paints = {name: (f"{key}-{i}", PAGE_THEME.series[i % len(PAGE_THEME.series)]) for i, name in enumerate(stacks)}
    base, bars = [0.0] * len(labels), []
    for name, values in stacks.items():
        for i, value in enumerate(values):
            if value > 0:
                top, bottom = frame.sy(base[i] + value), frame.sy(base[i])
                note = f"{labels[i]}: {short_number(value)} {name}"
                left = frame.sx(i) - width / 2
                bars.append(_textured(left, top, width, bottom - top, *paints[name], note))
                base[i] += value
    textures = "".join(_texture(i, *paints[name]) for i, name in enumerate(stacks))
    entries = [(_textured(-8, -7, 16, 14, *paints[name]), name) for name in stacks]
    body = f"<defs>{textures}</defs>" + legend(entries, 18, 14) + axes(frame, PAGE_THEME) + "".join(bars)
    return svg(body, *size, title)


def _texture(number: int, key: str, color: str) -> str:
    """Plain, hatched or dotted, by number."""
    drawn = (
        "",
        f'<path d="M-2 10L10 -2M-2 2L2 -2M6 10L10 6" stroke="{PAGE_THEME.paper}" stroke-width="1.8"/>',
        f'<circle cx="4" cy="4" r="1.7" fill="{PAGE_THEME.paper}"/>',
    )[number % 3]
    return (
        f'<pattern id="{key}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" fill="{color}"/>{drawn}</pattern>'
    )


def _textured(x: float, y: float, width: float, height: float, key: str, color: str, note: str = "") -> str:
    """A rectangle filled with a texture, and its tooltip."""
    title = f"<title>{escaped(note)}</title>" if note else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="url(#{key})" stroke="{color}">{title}</rect>'
    )


def interval_strip(value: float, ci: Sequence[float], high: float, *, color: int, shape: str, title: str) -> str:
    """One row of a forest plot: a value and its interval on a scale from 0 to `high`."""
    width, height, pad = 220, 26, 8

    def sx(v: float) -> float:
        return pad + (width - 2 * pad) * v / (high or 1)

    stroke = PAGE_THEME.series[color]
    y = height / 2
    body = svg_line(pad, y, width - pad, y, PAGE_THEME.grid) + svg_line(sx(ci[0]), y, sx(ci[1]), y, stroke, 3)
    body += "".join(svg_line(sx(end), y - 5, sx(end), y + 5, stroke, 2) for end in ci)
    return svg(body + svg_mark(sx(value), y, shape, stroke, PAGE_THEME.paper, size=5), width, height, title)


def rounds_series(rounds: Sequence[Round]) -> list[Series]:
    """Dev accuracy per round: the champions, from the start on, as solid circles joined by a line; rounds
    that were not promoted as hollow diamonds beside it."""

    def point(r: Round) -> Point:
        fate = "the start" if r.number == 0 else "promoted" if r.promoted else "not promoted"
        note = f"round {r.number}: {percent(r.accuracy)} {interval(r.ci95)}, {fate}"
        return Point(r.number, r.accuracy, *r.ci95, note=note, solid=r.promoted or r.number == 0)

    points = [point(r) for r in rounds]
    kept = Series("champion", [p for p in points if p.solid], color=0)
    held = Series("not promoted", [p for p in points if not p.solid], color=2, shape="diamond", line=False)
    return [s for s in (kept, held) if s.points]
