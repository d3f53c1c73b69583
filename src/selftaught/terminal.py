"""Printing untrusted text: control characters are shown, not sent, and any text can be encoded.

Answers, questions, file and field names and messages of servers and verifiers come from others. They must not control
the terminal (move its cursor, set its title, write to its clipboard), nor end a command by a character that the
terminal's encoding lacks.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

JOINERS = {0x200C, 0x200D}  # Persian and emoji need them


class _Shown(dict[int, str]):
    """Code point -> what to show instead, computed on first use."""

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


def make_visible(text: str) -> str:
    """`text` with every invisible or control character replaced by its code point.

    Control characters (ANSI escapes, NUL), direction overrides, zero-width characters and lone
    surrogates are written like ⟨U+001B⟩: the result cannot reorder its surroundings, and can
    always be encoded. New lines and tabs stay.
    """
    return text.replace("\r\n", "\n").translate(_SHOWN)


def print_text(text: str, *, to: TextIO | None = None) -> None:
    """Print text made visible, with `\\u` escapes for characters that the stream's encoding lacks.

    Args:
        to: standard output by default.
    """
    stream = to or sys.stdout
    print(_encodable(make_visible(text), stream), file=stream, flush=True)


def print_json(value: Any) -> None:
    """Print JSON in ASCII, from which programs read back the exact characters."""
    print(json.dumps(value, indent=1), flush=True)


def print_table(rows: Iterable[Sequence[str]], *, columns: Sequence[str] = ()) -> None:
    """Print rows as a table on standard output, fitted to its width; `columns` is the heading."""
    from rich.console import Console
    from rich.table import Table

    shown = [[_encodable(make_visible(cell), sys.stdout) for cell in row] for row in (columns, *rows)]
    table = Table(box=None, header_style="bold", show_header=bool(columns))
    for place in range(max(map(len, shown))):
        table.add_column(shown[0][place] if columns else "", overflow="fold")
    for row in shown[1:]:
        table.add_row(*row)
    Console(markup=False, highlight=False, emoji=False).print(table)


def print_wrapped(text: str) -> None:
    """Print text on standard output, wrapped between words to its width."""
    from rich.console import Console

    Console(markup=False, highlight=False, emoji=False).print(_encodable(make_visible(text), sys.stdout))


def make_printable(stream: TextIO) -> None:
    """Make a stream escape characters its encoding lacks, for all writers (argparse, Rich, warnings)."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:  # a custom stream with an unknown encoding
        return text
