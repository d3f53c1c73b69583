import html
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.report.text import (
    count,
    duration,
    escaped,
    interval,
    make_visible,
    percent,
    points,
    short_number,
    signed_interval,
)

THIN = "\N{NARROW NO-BREAK SPACE}"


@given(st.text(alphabet=st.characters(codec=None)))
def test_visible_text_can_be_encoded_and_holds_nothing_that_acts(text):
    shown = make_visible(text)
    shown.encode()
    acting = {unicodedata.category(c) for c in shown if c not in "\n\t\u200c\u200d"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not acting
    assert make_visible(shown) == shown


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=["C", "Z"], include_characters=" \n\t<&\"'")))
def test_what_was_visible_stays_as_it_is(text):
    assert make_visible(text) == text
    assert html.unescape(escaped(text)) == text
    assert not set("<>\"'") & set(escaped(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[0m\x00\x7f", "a⟨U+001B⟩[0m⟨U+0000⟩⟨U+007F⟩"),
        ("a\r\nb\rc", "a\nb⟨U+000D⟩c"),
        ("\u202e\ud800\u0085\u2028\ufdd0\U0001fffe", "⟨U+202E⟩⟨U+D800⟩⟨U+0085⟩⟨U+2028⟩⟨U+FDD0⟩⟨U+1FFFE⟩"),
        ("नमस्ते العربية 你好 👩\u200d🔬", "नमस्ते العربية 你好 👩\u200d🔬"),
    ],
)
def test_visible_by_hand(text, shown):
    assert make_visible(text) == shown


def test_numbers_read_well():
    assert percent(0.1304) == f"13.0{THIN}%"
    assert [points(x) for x in (0.1251, -0.01, -0.0001)] == ["+12.5", "−1.0", "0.0"]
    assert interval((0.096, 0.173)) == "[9.6, 17.3]"
    assert signed_interval((-0.07, 0.17)) == "[−7.0, +17.0]"
    assert count(1_234_567) == f"1{THIN}234{THIN}567"
    assert [short_number(n) for n in (0, 950, 12_000, 1_500_000, 2e9)] == ["0", "950", "12k", "1.5M", "2G"]
    assert [duration(s) for s in (0.44, 59.96, 492, 3600 * 2 + 61)] == [
        f"0.4{THIN}s",
        f"1{THIN}min 0{THIN}s",
        f"8{THIN}min 12{THIN}s",
        f"2{THIN}h 1{THIN}min",
    ]
