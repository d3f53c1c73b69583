"""Replace Unicode digits, signs, spaces and mathematics by plain ones.

`plain("１２ ⁻ ½")` for example: answer parsers then need one minus, one space and ten digits. Length may
change. Runs in linear time.
"""

from __future__ import annotations

import re
import unicodedata

_MINUS = "\u2212\u2010\u2011\u2012\ufe63\uff0d\u2796"
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_INVISIBLE = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\ufe0f"
)
_FULL_WIDTH = {0xFF01 + i: chr(0x21 + i) for i in range(94) if i != 0xFF0D - 0xFF01}
_DIGIT = re.compile(r"(?![0-9])\d")
_OTHERS = {
    "\u2044": "/", "\u2215": "/", "\u066b": ".", "\u066c": ",", "\ufe50": ",", "\uff61": ".", "\u3002": ".",
    "\u02c6": "^", "\u037e": ";", "\u2022": "*", "\u2217": "*", "\u22c5": "\u00b7", "\u2a2f": "\u00d7",
    "\u2715": "\u00d7", "\u2716": "\u00d7", "\u2236": ":",
}  # fmt: skip
_TABLE = str.maketrans(
    _FULL_WIDTH
    | {ord(c): "-" for c in _MINUS}
    | {ord(c): " " for c in _SPACES}
    | {ord(c): None for c in _INVISIBLE}
    | {ord(k): v for k, v in _OTHERS.items()}
)
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")
_VULGAR = {
    chr(code): text.replace("\u2044", "/")
    for code in (0xBC, 0xBD, 0xBE, *range(0x2150, 0x215F), 0x2189)
    if "\u2044" in (text := unicodedata.normalize("NFKC", chr(code))) and not text.endswith("\u2044")
}
_VULGAR_ONE = re.compile(rf"(?:(\d) ?)?([{''.join(_VULGAR)}])")
_PICTURE = re.compile("[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff\ufffd]")  # and undecodable characters
_DASH_SIGN = re.compile(r"(?<![\w)\]}.,])[\u2013\u2014\u2015](?=[\d.$\\])")


def plain_characters(text: str) -> str:
    """`text` with plain digits, minus signs and spaces, and without invisible characters.

    Superscript digits become a power (`10⁵`: `10^{5}`), subscripts an index, `2½` becomes `2 1/2`, and a dash
    before a number and not after one is its sign.
    """
    if text.isascii():
        return text
    text = _DIGIT.sub(lambda m: str(unicodedata.decimal(m[0])), text.translate(_TABLE))
    text = _RAISED_RUN.sub(lambda m: "^{" + "".join(_RAISED[c] for c in m[0]) + "}", text)
    text = _LOWERED_RUN.sub(lambda m: "_{" + "".join(_LOWERED[c] for c in m[0]) + "}", text)
    text = _VULGAR_ONE.sub(lambda m: f"{m[1]} {_VULGAR[m[2]]}" if m[1] else _VULGAR[m[2]], text)
    return _DASH_SIGN.sub("-", _PICTURE.sub(" ", text))
