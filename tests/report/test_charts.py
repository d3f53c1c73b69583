import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_sample import SUMMARY, some_rounds

from selftaught.report.charts import (
    Point,
    Series,
    accuracy_axis,
    interval_strip,
    line_chart,
    nice_axis,
    powers_axis,
    rounds_series,
    stacked_bars,
    steps_axis,
)
from selftaught.report.figure import before_after_figure

SVG = "{http://www.w3.org/2000/svg}"


def read_axis(labels):
    """Value -> position by a line through two tick labels: how a reader reads the chart."""
    (v0, p0), *_, (v1, p1) = labels
    return lambda value: p0 + (value - v0) * (p1 - p0) / (v1 - v0)


def ticks(root, across):
    """Tick labels of one axis: (value, position of the tick)."""
    anchor, key, shift = ("middle", "x", 0.0) if across else ("end", "y", 4.5)
    found = []
    for t in root.iter(f"{SVG}text"):
        words = (t.text or "").rstrip("%k")
        if t.attrib["text-anchor"] == anchor and words.replace(".", "").isdigit():
            scale = 0.01 if "%" in t.text else 1000 if "k" in t.text else 1
            found.append((float(words) * scale, float(t.attrib[key]) - shift))
    return found


def test_marks_and_whiskers_lie_where_the_axes_say():
    points = [Point(0, 0.10, 0.05, 0.2), Point(1, 0.33, 0.25, 0.42), Point(2, 0.5, 0.4, 0.58)]
    root = ET.fromstring(
        line_chart([Series("s", points)], steps_axis("round", [0, 1, 2]), accuracy_axis("y", [0.58]), title="t")
    )
    sx, sy = read_axis(ticks(root, across=True)), read_axis(ticks(root, across=False))
    marks = [c.attrib for c in root.iter(f"{SVG}circle") if c.attrib["r"] == "5"]
    upright = [a.attrib for a in root.iter(f"{SVG}line") if a.attrib["x1"] == a.attrib["x2"]]
    assert len(marks) == len(upright) == 3
    for p, m, w in zip(points, marks, upright, strict=True):
        assert float(m["cx"]) == float(w["x1"]) == pytest.approx(sx(p.x), abs=0.2)
        assert float(m["cy"]) == pytest.approx(sy(p.y), abs=0.2)
        assert (float(w["y1"]), float(w["y2"])) == pytest.approx((sy(p.low), sy(p.high)), abs=0.2)


def test_bars_stack_to_their_totals():
    stacks = {"generated": [100_000, 50_000], "judge": [0, 20_000], "trained": [20_000, 30_000]}
    root = ET.fromstring(stacked_bars(["1", "2"], stacks, title="t", x_label="round", y_label="tokens"))
    sy = read_axis(ticks(root, across=False))
    bars = [r for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    said = [r.find(f"{SVG}title").text for r in bars]
    assert said == ["1: 100k generated", "2: 50k generated", "2: 20k judge", "1: 20k trained", "2: 30k trained"]
    values, bases = [100_000, 50_000, 20_000, 20_000, 30_000], [0, 0, 50_000, 100_000, 70_000]
    for bar, value, base in zip(bars, values, bases, strict=True):
        top, height = float(bar.attrib["y"]), float(bar.attrib["height"])
        assert top == pytest.approx(sy(base + value), abs=0.2)
        assert height == pytest.approx(sy(base) - sy(base + value), abs=0.2)
    patterns = [ET.tostring(p[1]) if len(p) > 1 else b"" for p in root.iter(f"{SVG}pattern")]
    assert len(set(patterns)) == 3  # told apart without color


def test_promoted_rounds_differ_from_the_others_without_color():
    rounds = some_rounds(6)
    x, y = steps_axis("round", range(7)), accuracy_axis("y", [0.7])
    root = ET.fromstring(line_chart(rounds_series(rounds), x, y, title="t"))
    notes = {g.find(f"{SVG}title").text: g[1].tag for g in root.iter(f"{SVG}g") if g.find(f"{SVG}title") is not None}
    assert len(notes) == 7
    for note, tag in notes.items():
        assert (tag == f"{SVG}path") == note.endswith("not promoted")
    (joined,) = root.iter(f"{SVG}polyline")
    assert len(joined.attrib["points"].split()) == sum(r.promoted or r.number == 0 for r in rounds) == 5


def test_an_interval_is_drawn_to_scale():
    root = ET.fromstring(interval_strip(0.2, (0.1, 0.3), 0.4, color=0, shape="circle", title="t"))
    base, bar = [line.attrib for line in root.iter(f"{SVG}line")][:2]
    left, right = float(base["x1"]), float(base["x2"])
    shares = [(float(bar[end]) - left) / (right - left) for end in ("x1", "x2")]
    assert shares == pytest.approx([0.25, 0.75], abs=0.01)
    assert float(root.find(f"{SVG}circle").attrib["cx"]) == pytest.approx((left + right) / 2, abs=0.1)


@given(st.lists(st.floats(0, 1e9), max_size=5))
def test_axes_hold_the_data_in_few_round_steps(values):
    axis = nice_axis("y", values)
    steps = [b - a for (a, _), (b, _) in pairwise(axis.ticks)]
    assert axis.low == 0
    assert axis.high >= max(values, default=0) * (1 - 1e-9)
    assert 2 <= len(axis.ticks) <= 6
    assert all(s == pytest.approx(steps[0]) for s in steps)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5, 10)) < 1e-6


def test_accuracy_never_goes_beyond_one():
    assert accuracy_axis("y", [0.97, 1.0]).high == 1.0
    assert accuracy_axis("y", [0.81]).ticks[-1] == (1.0, "100%")


def test_many_rounds_keep_their_labels_apart():
    axis = steps_axis("round", range(41))
    assert [label for _, label in axis.ticks][:3] == ["0", "4", "8"]
    assert len(axis.ticks) <= 12
    assert powers_axis("k", [8, 1, 2]).ticks == [(0.0, "1"), (1.0, "2"), (3.0, "8")]


@pytest.mark.parametrize("summary", [SUMMARY, {}, {"before": None}])
@pytest.mark.parametrize("n", [0, 1, 40])
def test_the_figure_stands_alone(summary, n):
    figure = before_after_figure(summary, some_rounds(n) if n else ())
    root = ET.fromstring(figure)
    assert root[1].attrib["fill"] == "#ffffff"  # its own background
    assert "var(" not in figure
    width = float(root.attrib["viewBox"].split()[2])
    placed = [e for part in root if "transform" not in part.attrib for e in part.iter()]
    xs = [float(e.attrib[k]) for e in placed for k in ("x", "x1", "x2", "cx") if k in e.attrib]
    assert all(0 <= x <= width for x in xs)


def test_the_figure_says_what_was_reached():
    words = " ".join(t.text for t in ET.fromstring(before_after_figure(SUMMARY, some_rounds(3))).iter(f"{SVG}text"))
    words = words.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "smollm2-135m teaching itself chain_sum with rest-em" in words
    for said in (
        "before 13.0 % [9.6, 17.3]",
        "equal tokens 16.2 % [12.5, 20.8]",
        "after 25.5 % [20.9, 30.7]",
        "on 300 held-out",
    ):
        assert said in words
