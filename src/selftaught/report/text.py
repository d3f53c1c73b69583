"""Format text for a page: make invisible characters visible, and numbers readable."""

from __future__ import annotations

import html
from collections.abc import Sequence

from selftaught.terminal import make_visible

THIN = "\N{NARROW NO-BREAK SPACE}"


def escaped(text: object) -> str:
    """`text` made visible and escaped for HTML and SVG elements and quoted attributes."""
    return html.escape(make_visible(str(text)))


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


def short_number(number: float) -> str:
    """A count in few characters, for axes: `950`, `12k`, `1.5M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:  # rounds to 1 of it
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
