import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_sample import SUMMARY, report_data, some_rounds

from selftaught.records import Verdict
from selftaught.report import Example, ReportData, Round, before_after_figure, render_page
from selftaught.report.text import make_visible

HOSTILE = {
    "script": "</script><script>alert(1)</script>",
    "attribute": "\"><img src=x onerror=alert(1)> ' onmouseover='x",
    "template": "{{7*7}} {% raw %} {#",
    "breakout": "</pre></title></svg></style><style>*{display:none}</style><iframe src=//evil>",
    "ansi": "\x1b[31mred\x1b[0m\x07\x08",
    "nul": "a\x00b",
    "surrogate": "a\ud800b\udfff",
    "direction": "abc\u202edcba\u2066x\u200f",
    "separators": "a\u2028b\u2029c\u0085d\r\ne\rf",
    "entities": "&lt;b&gt; &amp;amp; &#60;",
    "comment": "<!-- --> <![CDATA[ ]]> <?xml",
    "hidden": "a\u200b\ufeffb\U000e0041",
}


class Page(HTMLParser):
    """Every tag with its attributes, and the text of each element kind."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "line", "rect", "circle", "path", "polyline"}:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data


PLAIN = Page(render_page(report_data()))


def inert(html: str) -> Page:
    """The page parsed, once it is certain that nothing on it can act or fetch."""
    html.encode()  # a lone surrogate would raise here
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in PLAIN.tags}
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "link",
        "a",
        "form",
        "use",
    }
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in {"src", "href", "xlink:href", "srcset", "action", "style"}
        assert "javascript:" not in value.lower() or name == "aria-label"
    return page


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(kind):
    text = HOSTILE[kind]
    page = inert(render_page(report_data(lambda _: text)))
    # The same elements with the same attributes in the same order as for harmless text.
    assert page.tags == PLAIN.tags
    shown = make_visible(text)
    assert page.texts["pre"].count("\n" + shown) == 4 * 20 + 1 + 2
    assert shown in page.texts["title"]
    assert shown in page.texts["li"]
    assert any(shown in cell for cell in page.texts["td"])
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]",
        "".join(part for parts in page.texts.values() for part in parts),
    )


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.characters(codec=None), max_size=30))
def test_no_text_changes_the_structure(text):
    count = iter(range(10_000))
    page = inert(render_page(report_data(lambda word: f"{text}{next(count)}")))
    assert page.tags == PLAIN.tags


def test_verdicts_and_numbers_from_elsewhere_are_text_too():
    text = HOSTILE["attribute"]
    example = Example(text, text, text, text, text, text)
    page = inert(
        render_page(report_data(examples=(example,), config={text: {text: [text]}}, summary={**SUMMARY, "model": text}))
    )
    badges = [t for t in page.texts["span"] if t.startswith("? ")]
    assert badges == [f"? {text.upper()}"] * 2
    ET.fromstring(
        before_after_figure({**SUMMARY, "model": text, "task": HOSTILE["nul"], "method": text}, some_rounds(3))
    )


def test_the_policy_forbids_scripts_and_requests():
    html = render_page(report_data())
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert html.index("Content-Security-Policy") < html.index("<style>")
    rest = html.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import", rest)


def test_every_element_is_closed_and_every_drawing_is_xml():
    html = render_page(report_data())
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    assert len(drawings) == 3 + 3  # three charts, three rows of the table
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert root.attrib["role"] == "img"
        assert root[0].tag.endswith("title")
        assert root[0].text == root.attrib["aria-label"]
    body = re.sub(r"<svg.*?</svg>", "", html[html.index("<body>") :].replace("</html>", ""), flags=re.S)
    ET.fromstring(body)  # our HTML is well-formed XML: nothing left open, nothing crossed


def test_references_within_the_page_resolve_and_ids_are_unique():
    html = render_page(report_data())
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids)) == 3
    assert set(re.findall(r"url\(#([^)]+)\)", html)) == set(ids)


def words(html: str) -> str:
    """What a reader reads, with spaces as one."""
    page = Page(re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.S))
    assert page.tags
    text = re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.S))
    return " ".join(text.replace("\N{NARROW NO-BREAK SPACE}", " ").split())


def test_the_headline_says_what_happened():
    text = words(render_page(report_data()))
    assert (
        "Accuracy on 300 held-out problems went from 13.0 % [9.6, 17.3] to 25.5 % [20.9, 30.7]; "
        "paired difference +12.5 [+7.8, +17.2] points."
    ) in text
    assert "Better: the interval of the paired difference lies above zero." in text
    assert "majority vote over its samples at equal tokens, reaches 16.2 % [12.5, 20.8]" in text
    assert "5 samples per problem, 312 345 tokens" in text


@pytest.mark.parametrize(
    ("ci", "verdict"),
    [
        ([-0.02, 0.05], "No change shown"),
        ([0.0, 0.05], "No change shown"),
        ([-0.2, -0.01], "Worse"),
        ([0.01, 0.1], "Better"),
    ],
)
def test_the_verdict_follows_the_interval(ci, verdict):
    paired = {"mean": sum(ci) / 2, "ci95": ci}
    text = words(render_page(report_data(summary={**SUMMARY, "paired_difference": paired})))
    assert [v for v in ("No change shown", "Worse", "Better") if f"{v}: the interval" in text] == [verdict]


def test_the_page_tells_the_whole_run():
    text = words(render_page(report_data()))
    for said in (
        "rounds 3 (2 promoted)",
        "generated tokens412 345",
        "wall time10 min 52 s",
        "peak memory3.2 GiB",
        "verdict unknown31.0 % → 4.0 %",
        "framework overhead1.2 %",
        "policy-2",
        "not promoted",
        "because 2",
        "105k",  # tokens of one round, not of all so far
        "3 min 20 s",
        "20 problems, before and after",
        "✗ WRONG",
        "✓ RIGHT",
        "selftaught run rest-em --task chain_sum --seed 0",
        "learn.lr2e-05",
        "torch2.13.0",
        "one note",
    ):
        assert said.replace(" ", "") in text.replace(" ", ""), said


def test_alarms_stand_with_their_round_and_only_where_there_are_any():
    text = words(render_page(report_data()))
    assert "Alarms Round 2: harm alarming 2 What the method watched" in text
    calm = tuple(Round(r.number, r.policy, r.records, r.accuracy, r.ci95, r.samples) for r in some_rounds(3))
    assert "Alarms" not in words(render_page(report_data(rounds=calm)))


def test_what_a_method_watched_stands_with_its_round_and_only_where_it_told():
    text = words(render_page(report_data()))
    assert "What the method watched Round 1: balance hot 0.75, kept 12, who critic Round by round" in text
    silent = tuple(Round(r.number, r.policy, r.records, r.accuracy, r.ci95, r.samples) for r in some_rounds(3))
    assert "watched" not in words(render_page(report_data(rounds=silent)))


def test_verdicts_of_records_have_their_badges():
    example = Example("q", "r", "a", Verdict.UNKNOWN, "b", Verdict.RIGHT)
    text = words(render_page(report_data(examples=(example,))))
    assert "1 problem, before and after" in text
    assert "? UNKNOWN" in text
    assert "✓ RIGHT" in text


@pytest.mark.parametrize("summary", [{}, {"before": None, "after": None}, {"before": {}, "after": {}, "test": None}])
def test_an_unfinished_run_says_so(summary):
    text = words(render_page(report_data(summary=summary)))
    assert "Not concluded: the champion of round 3 solves 64.0 % [60.0, 70.0] of 150 dev problems." in text
    assert "The test split has not been opened" in text
    assert "On held-out problems" not in text
    assert "wall time 10 min 20 s".replace(" ", "") in text.replace(" ", "")


def test_nothing_at_all_still_makes_a_page():
    html = render_page(ReportData(title="t", command="c", method="m", model="x", task="y"))
    text = words(html)
    assert "Not concluded: nothing has been measured yet." in text
    assert "<svg" not in html
    for absent in ("Round by round", "history", "before and after", "Configuration", "Notes"):
        assert absent not in text


@pytest.mark.parametrize("n", [1, 2, 40])
def test_any_number_of_rounds(n):
    html = render_page(report_data(n=n))
    inert(html)
    assert words(html).count("because") == n


def test_rounds_in_any_order_make_the_same_page():
    rounds = some_rounds(5)
    assert render_page(report_data(rounds=rounds)) == render_page(report_data(rounds=rounds[::-1]))


def test_import_is_light():
    heavy = "numpy scipy torch transformers sympy jinja2"
    code = f"import selftaught.report, sys; print([m for m in {heavy.split()} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
