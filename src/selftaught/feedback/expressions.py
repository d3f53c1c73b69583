"""Normalize mathematics as models write it: one spelling for votes, and LaTeX that parses as intended.

Nothing is evaluated and nothing heavy imported; `selftaught.feedback.algebra` compares the results.
"""

from __future__ import annotations

import re

from selftaught.feedback.canonical import number_from_latex, plain_fractions
from selftaught.feedback.plain import plain_characters
from selftaught.feedback.words import word_set

_SYMBOLS = {
    "\u03c0": "\\pi ",
    "\u221e": "\\infty ",
    "\u222a": "\\cup ",
    "\u2229": "\\cap ",
    "\u2264": "\\le ",
    "\u2265": "\\ge ",
    "\u2260": "\\ne ",
    "\u00d7": "\\times ",
    "\u00b7": "\\cdot ",
    "\u00f7": "\\div ",
    "\u00b1": "\\pm ",
    "\u2208": "\\in ",
    "\u2205": "\\emptyset ",
    "\u03b8": "\\theta ",
    "\u03b1": "\\alpha ",
    "\u03b2": "\\beta ",
    "\u03b3": "\\gamma ",
    "\u03bb": "\\lambda ",
    "\u03bc": "\\mu ",
    "\u03c6": "\\phi ",
    "\u03c9": "\\omega ",
    "\u2228": "\\text{ or }",
    "\u2227": "\\text{ and }",
    "\u2026": "\\ldots ",
    "\u22ef": "\\ldots ",
    "\u2261": "\\equiv ",
    "\u00b0": "^\\circ ",
}
_ROOT_SIGN = re.compile(r"\u221a\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[a-zA-Z]|\\pi))")
_ROOT_CALL = re.compile(r"\\?\bsqrt\s*\(([^()]*)\)|\\sqrt\s*\(([^()]*)\)|\\sqrt\s*(\d+)")
_FRACTION_NAME = re.compile(r"\\[dtc]frac(?![a-z])")
_FRACTION_SHORT = re.compile(r"\\frac\s*(?:(\d)\s*(\d)(?!\d)|(\d)\s*(\{)|(\{[^{}]*\})\s*(\d)(?!\d))")
_SPACING = re.compile(
    r"(?<!\\)\\[,;:! ]|~|\\q?quad(?![a-z])|\\(?:left|right|big|Big|bigg|Bigg|displaystyle)[lr]?(?![a-z])"
)
_NAMED = re.compile(r"\\(?:mathrm|operatorname|mathit|mathbf|textbf|textit|mbox|textrm)\s*\{")
_UPRIGHT = re.compile(r"\\text\s*\{\s*([a-zA-Z])\s*\}")
_DEGREES_IN = re.compile(
    r"\\(sin|cos|tan|cot|sec|csc)\s?[({]?\s?(\d+(?:\.\d+)?)\s?\^\s?(?:\{\s?\\circ\s?\}|\\circ)\s?[)}]?"
)
_SCIENTIFIC = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?![\w.])")
_REPEATING = re.compile(
    r"(?<![\d.])(\d*)\.(\d*)(?:\\overline|\\bar|\\dot)\s*\{(\d+)\}|(?<![\d.])(\d*)\.(\d*)\((\d+)\)(?![\w(])"
)
_BASED = re.compile(r"(?<![\w.}])(\d[0-9A-Za-z]*)_\s*(?:\{\s*(?:\\text\s*\{)?\s*(\d{1,2})\s*\}?\s*\}|(\d)(?!\d))")
_SET_OFF = re.compile(r"\\text\s*\{\s*(or|and)\s*\}|\\(lor|vee|land|wedge)(?![a-z])|\b(or|and)\b", re.IGNORECASE)
_ONE_BRACED = re.compile(r"([\^_])\{(\w)\}")
_GROUPS = re.compile(r"(?<![\d,])(\d{1,3})((?:,\d{3})+)(?![\d,])")


def normalize_math(text: str) -> str:
    """The normalized spelling of a mathematical answer for counting: no spaces, one fraction style, no extra braces."""
    text = _rewritten(text)
    text = re.sub(r"(?<=\d)\s+(?=\d)", "~", text)  # adjacent numbers stay separate
    text = re.sub(r"\s+|(?<=\d)\\cdot(?![a-z])\s*(?=[a-zA-Z\\(])", "", plain_fractions(text))
    text = text.replace("\\text{or}", "or").replace("\\text{and}", "and")
    return _ONE_BRACED.sub(r"\1\2", text).replace("\\left", "").replace("\\right", "")


def to_parseable(text: str) -> str:
    """`text` for a LaTeX parser: every symbol a command, roots and fractions braced, no typesetting commands.

    Numbers in another base are converted to base ten, repeating decimals to fractions.
    """
    text = _rewritten(text)
    text = _REPEATING.sub(_repeating, text)
    text = _DEGREES_IN.sub(r"\\\1(\\frac{\2 \\pi}{180})", text.replace("\\varnothing", "\\emptyset"))
    text = _BASED.sub(_base_ten, text)
    text = _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)
    text = re.sub(r"(?<!\\)\{\s+|\s+(?=\})(?<!\\\s)", lambda m: m[0].strip(), text)  # the parser fails on `{ e }`
    if re.search(r"[(\[{]|,\s", text):  # commas between items
        return text.strip()
    return _GROUPS.sub(lambda m: m[1] + m[2].replace(",", ""), text).strip()


def is_based(text: str) -> bool:
    """Whether a text states a number in a base other than ten."""
    return any((m[2] or m[3]) != "10" for m in _BASED.finditer(_rewritten(text)))


def connectives(text: str) -> frozenset[str]:
    """Which of "or" and "and" joins the statements of a parseable text."""
    found = (next(g for g in m.groups() if g).lower() for m in _SET_OFF.finditer(text))
    return frozenset("or" if word in ("or", "lor", "vee") else "and" for word in found)


def alternatives(text: str) -> list[str]:
    """The statements that "or", "and" and a plus-minus sign join in a parseable text."""
    text = text if "\\pm" in text else text.replace("\\mp", "\\pm")
    parts = [part.strip(" ,;") for part in _SET_OFF.split(text) if part and not _JOINER.fullmatch(part)]
    found = [[part.replace("\\pm", sign, 1) for sign in "+-"] if part.count("\\pm") == 1 else [part] for part in parts]
    return [one.removeprefix("+") for both in found for one in both if one]


_JOINER = re.compile(r"or|and|lor|vee|land|wedge", re.IGNORECASE)


def _rewritten(text: str) -> str:
    text = plain_characters(text).strip().strip("$").strip()
    if not text.isascii():
        text = "".join(_SYMBOLS.get(c, c) for c in _ROOT_SIGN.sub(_root, text))
    if "\\" in text or "sqrt" in text:
        text = _NAMED.sub(r"\\text{", text.replace("{,}", ",").replace(",\\!", ","))
        text = _UPRIGHT.sub(r" \1 ", _SPACING.sub(" ", text))
        text = _FRACTION_NAME.sub(r"\\frac", text)
        for _ in range(2):
            text = _ROOT_CALL.sub(_root, text)
        text = _FRACTION_SHORT.sub(_fraction, text)
        text = re.sub(r"(?<=\d)\s+(?=\d{3}(?!\d))", "", text) if "\\" not in text else text
    return text


def _root(m: re.Match[str]) -> str:
    return "\\sqrt{" + next(g for g in m.groups() if g is not None) + "}"


def _fraction(m: re.Match[str]) -> str:
    if m[1]:
        return f"\\frac{{{m[1]}}}{{{m[2]}}}"
    return f"\\frac{{{m[3]}}}{{" if m[3] else f"\\frac{m[5]}{{{m[6]}}}"


def _repeating(m: re.Match[str]) -> str:
    whole, fixed, again = (m[1], m[2], m[3]) if m[3] else (m[4], m[5], m[6])
    bottom = (10 ** len(again) - 1) * 10 ** len(fixed)
    top = int((whole or "0") + fixed + again) - int((whole or "0") + fixed)
    return f"\\frac{{{top}}}{{{bottom}}}"


def _base_ten(m: re.Match[str]) -> str:
    try:
        return f"{int(m[1], int(m[2] or m[3]))} "
    except ValueError:  # not digits of that base: an index
        return m[0]


_COMMANDS = word_set(
    "frac sqrt pi infty cup cap le leq ge geq lt gt ne neq times cdot div pm mp in sin cos tan cot sec csc arcsin "
    "arccos arctan sinh cosh tanh log ln exp begin end binom theta alpha beta gamma delta lambda mu phi varphi "
    "omega sigma rho tau epsilon emptyset varnothing mathbb mathbf circ lfloor rfloor lceil rceil lvert rvert "
    "setminus to infin vec overline sum prod int partial nabla langle rangle cdots ldots dots prime le ge hat det "
    "max min gcd"
)
_NAMES = word_set("sin cos tan cot sec csc log ln exp max min gcd pi")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{(?:[pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?")
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_DANGLING = re.compile(r"(?:^|[-+*/=<>^_(,]|\\(?:times|cdot|div|pm|frac|sqrt))\s*$")
_RELATION_FIRST = re.compile(r"\s*(?:\\(?:neq?|leq?|geq?|lt|gt|in|times|cdot|div)(?![a-z])|[<>=*/])")


def is_mathematics(text: str) -> bool:
    """Whether a parseable text is mathematics as a whole: known commands and letters, no words, nothing truncated."""
    text = _ENVIRONMENT.sub(" ", text)
    if _RELATION_FIRST.match(text) or _DANGLING.search(text) or text.count("{") != text.count("}"):
        return False
    if re.search(r"\d\s*\\frac\{\d+\}\{\d+\}\s*[^\s=<>,)}\]+-]", text):  # a mixed number, or a product?
        return False
    if any(command not in _COMMANDS for command in _COMMAND.findall(text)):
        return False
    bare = _COMMAND.sub(" | ", text)
    if not bare.isascii() or re.search(r"[?;@#`\"~$]|\.\.|\d\s*_|\d\s+\d|\d\s*:\s*\d", bare):
        return False
    return all(
        word in _NAMES or (len(word) <= 3 and word.lower() not in _SHORT_WORDS) for word in _LETTERS.findall(bare)
    )


_SHORT_WORDS = word_set(
    "mod and or not the for per of is to by as at if no yes all any one two six ten cm km mm kg ft in"
)


_COMMON = word_set("yes no odd even all none any dne")


def is_words(text: str) -> bool:
    """Whether an answer is a word or a few (`\\text{Evelyn}`, `odd`) or a choice (`\\text{(C)}`), not mathematics."""
    bare = number_from_latex(text)
    if re.fullmatch(r"\s*(?:\([A-Z]\)|[A-Z])\s*", bare):
        return True
    letters = r"[^\W\d_]{2,}" if "\\text" in text or bare.strip().lower() in _COMMON else r"[^\W\d_]{4,}"
    return bool(re.fullmatch(rf"{letters}(?:[\s'-]+[^\W\d_]+){{0,5}}", bare.strip()))
