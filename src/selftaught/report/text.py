"""Text for a page: what a reader cannot see is made visible, and numbers read well."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence

THIN = "\N{NARROW NO-BREAK SPACE}"
JOINERS = {0x200C, 0x200D}  # Persian and emoji need them


class _Shown(dict[int, str]):
    """Code point -> what to show instead, worked out when first met."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = _show(code)
        return shown


def _show(code: int) -> str:
    char = chr(code)
    if char in "\n\t" or code in JOINERS:
        return char
    nonchar = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return f"⟨U+{code:04X}⟩" if nonchar or unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char


_SHOWN = _Shown()


def visible(text: str) -> str:
    """`text` with every character that acts instead of being seen replaced by its code point.

    Control characters (ANSI escapes, NUL), direction overrides, zero-width characters and lone
    surrogates are written like ⟨U+001B⟩: the result shows what is there, cannot reorder its
    surroundings, and can always be encoded. New lines and tabs stay.
    """
    return text.replace("\r\n", "\n").translate(_SHOWN)


def escaped(text: object) -> str:
    """`text` made visible and safe in HTML and SVG, in elements and in quoted attributes."""
    return html.escape(visible(str(text)))


def percent(share: float) -> str:
    """`0.1304` as `13.0 %`."""
    return f"{100 * share:.1f}{THIN}%"


def points(share: float) -> str:
    """A difference of shares in signed percentage points: `0.1251` as `+12.5`."""
    words = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if words[1:] == "0.0" else words


def interval(ci: Sequence[float]) -> str:
    """`(0.096, 0.173)` as `[9.6, 17.3]`, in percent."""
    return f"[{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]"


def signed_interval(ci: Sequence[float]) -> str:
    """`(0.07, 0.17)` as `[+7.0, +17.0]`, in percentage points."""
    return f"[{points(ci[0])}, {points(ci[1])}]"


def count(number: float) -> str:
    """`1234567` as `1 234 567`."""
    return f"{number:,.0f}".replace(",", THIN)


def short(number: float) -> str:
    """A count in few characters, for axes: `950`, `12k`, `1.5M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """`492` as `8 min 12 s`."""
    if seconds < 59.95:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{THIN}h {minutes}{THIN}min"
