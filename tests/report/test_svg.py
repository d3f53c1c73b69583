"""Pieces of drawings: well-formed SVG, positions on axes, marks told apart, legends without overlap; and numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.report.charts import (
    PAGE_THEME,
    Axis,
    Frame,
    Point,
    Series,
    axes,
    legend,
    plot,
    svg,
    svg_line,
    svg_mark,
    svg_text,
    whisker,
)
from selftaught.report.figure import FIGURE_THEME
from selftaught.report.text import count, duration, interval, percent, points, short_number, signed_interval

SVG = "{http://www.w3.org/2000/svg}"
FRAME = Frame(10, 20, 100, 50, Axis("x", 0, 10, [(0, "0"), (10, "10")]), Axis("y", 0, 1, [(0, "0"), (1, "1")]))


def drawn(body: str) -> ET.Element:
    return ET.fromstring(svg(body, 200, 100, "a title"))


def test_a_drawing_is_named_and_scales() -> None:
    root = ET.fromstring(svg("", 200, 100, 'a <title> & "more"'))
    assert root.attrib["viewBox"] == "0 0 200 100"
    assert root.attrib["aria-label"] == root[0].text == 'a <title> & "more"'
    assert "width" not in root.attrib  # as wide as the page lets it be


def test_text_is_escaped_and_made_visible() -> None:
    (_, text) = drawn(svg_text(1, 2, "<b> & \x1b"))
    assert (text.text or "").startswith("<b> & ")
    assert "\x1b" not in (text.text or "")
    assert text.attrib["text-anchor"] == "start"


def test_a_value_lies_on_its_axis() -> None:
    assert [FRAME.sx(v) for v in (0, 5, 10)] == [10, 60, 110]
    assert [FRAME.sy(v) for v in (0, 0.5, 1)] == [70, 45, 20]  # upwards
    point = Frame(0, 0, 100, 100, Axis("", 3, 3, []), Axis("", 0, 0, []))
    assert (point.sx(3), point.sy(0)) == (0, 100)  # an axis without width divides by nothing


def test_the_grid_has_a_line_and_a_label_for_each_tick() -> None:
    root = drawn(axes(FRAME, PAGE_THEME))
    assert len(list(root.iter(f"{SVG}line"))) == 2
    assert [t.text for t in root.iter(f"{SVG}text")] == ["0", "1", "0", "10", "x", "y"]


@pytest.mark.parametrize(("shape", "tag"), [("circle", "circle"), ("square", "rect"), ("diamond", "path")])
def test_marks_differ_by_shape_and_are_hollow_where_not_solid(shape: str, tag: str) -> None:
    solid, hollow = (drawn(svg_mark(5, 5, shape, "red", "white", solid=s))[1] for s in (True, False))
    assert solid.tag == hollow.tag == SVG + tag
    assert (solid.attrib["fill"], hollow.attrib["fill"]) == ("red", "white")
    assert solid.attrib["stroke"] == hollow.attrib["stroke"] == "red"


def test_a_whisker_is_a_bar_with_two_caps() -> None:
    bar, *caps = list(drawn(whisker(5, 10, 30, 2, "red")).iter(f"{SVG}line"))
    assert (bar.attrib["y1"], bar.attrib["y2"]) == ("10.0", "30.0")
    assert [(c.attrib["x1"], c.attrib["x2"], c.attrib["y1"]) for c in caps] == [
        ("3.0", "7.0", "10.0"),
        ("3.0", "7.0", "30.0"),
    ]


def test_marks_are_painted_over_lines_and_intervals() -> None:
    series = Series("s", [Point(0, 0.5, 0.4, 0.6, note="first"), Point(10, 0.7)], dashed=True)
    tags = [e.tag.removeprefix(SVG) for e in drawn(plot([series], FRAME, PAGE_THEME))][1:]
    assert tags == ["polyline", "line", "line", "line", "g", "g"]
    root = drawn(plot([series], FRAME, PAGE_THEME))
    (line,) = root.iter(f"{SVG}polyline")
    assert "stroke-dasharray" in line.attrib
    assert [t.text for t in root.iter(f"{SVG}title")] == ["a title", "first"]


def test_a_single_point_has_no_line() -> None:
    assert not list(drawn(plot([Series("s", [Point(0, 0.5)])], FRAME, PAGE_THEME)).iter(f"{SVG}polyline"))
    assert not list(drawn(plot([], FRAME, PAGE_THEME)).iter(f"{SVG}g"))


def test_entries_of_a_legend_do_not_overlap() -> None:
    names = ["champion", "not promoted", "after"]
    root = drawn(legend([(svg_line(-1, 0, 1, 0, "red"), name) for name in names], 10, 5))
    starts = [float(t.attrib["x"]) for t in root.iter(f"{SVG}text")]
    for start, name, after in zip(starts, names, starts[1:], strict=False):
        assert after - 16 - 11 >= start + 7 * len(name)  # before the next sample begins


def test_the_figure_needs_no_style_of_a_page() -> None:
    colors = [*FIGURE_THEME[:4], *FIGURE_THEME.series]
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in colors)
    assert all(color.startswith("var(--") for color in [*PAGE_THEME[:4], *PAGE_THEME.series])


# --- numbers ---


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (percent(0.1304), "13.0 %"),
        (points(0.1251), "+12.5"),
        (points(-0.02), "−2.0"),
        (points(-0.0001), "0.0"),  # no sign without a figure
        (interval((0.096, 0.173)), "[9.6, 17.3]"),
        (signed_interval((-0.07, 0.17)), "[−7.0, +17.0]"),
        (count(1234567), "1 234 567"),
        (count(999.6), "1 000"),
        (short_number(950), "950"),
        (short_number(12_000), "12k"),
        (short_number(1_500_000), "1.5M"),
        (short_number(2e9), "2G"),
        (short_number(999.4), "999"),
        (short_number(999.5), "1k"),  # not 1e+03
        (short_number(999_700), "1M"),
        (short_number(0.25), "0.25"),
        (duration(3.14), "3.1 s"),
        (duration(59.96), "1 min 0 s"),
        (duration(492), "8 min 12 s"),
        (duration(7384), "2 h 3 min"),
    ],
)
def test_numbers_are_short_and_exact(shown: str, text: str) -> None:
    assert re.sub("\N{NARROW NO-BREAK SPACE}", " ", shown) == text


@settings(max_examples=50)
@given(st.floats(0.01, 9.99e11))
def test_a_short_number_is_within_half_a_percent_and_without_an_exponent(number: float) -> None:
    text = short_number(number)
    assert len(text) <= 6
    assert "e" not in text
    sizes = {"k": 1e3, "M": 1e6, "G": 1e9}
    value = float(text[:-1]) * sizes[text[-1]] if text[-1] in sizes else float(text)
    assert value == pytest.approx(number, rel=0.005)


@settings(max_examples=50)
@given(st.integers(60, 10**7))
def test_a_duration_is_exact_to_its_last_unit(seconds: int) -> None:
    found = re.findall("([0-9]+)\N{NARROW NO-BREAK SPACE}(h|min|s)", duration(seconds))
    assert [unit for _, unit in found] == (["h", "min"] if seconds >= 3600 else ["min", "s"])
    assert all(int(number) < 60 for number, unit in found if unit != "h")
    shown = sum(int(number) * {"h": 3600, "min": 60, "s": 1}[unit] for number, unit in found)
    assert 0 <= seconds - shown < (60 if seconds >= 3600 else 1)
