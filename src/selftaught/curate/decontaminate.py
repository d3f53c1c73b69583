"""Decontamination: find texts that repeat a held-out problem, exactly or in other words.

A text repeats a problem if it holds the same tokens after normalization; or all its numbers, and most of its character
n-grams or almost the same set of words. The same text with other numbers is another problem.

n-gram overlap is the field's usual test (13 words in GPT-3, 2005.14165; half of the 8-grams in Tulu 3, 2411.15124);
shorter ones of characters also find problems with changed words, reordered clauses and inserted sentences.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from selftaught.records import Problem

NGRAM = 5  # characters
MIN_OVERLAP = 0.55  # of a problem's n-grams, in the text
MIN_SIMILARITY = 86.0  # of the sets of words, 0..100 (`rapidfuzz.fuzz.token_set_ratio`)
MIN_SHARE = 0.6  # length of a text whose words are compared, over the problem's
MIN_NGRAMS = 40  # shorter problems are only found by equal tokens
MAX_BACKGROUND = 100  # texts that show how alike different problems of a task are
QUANTILE = 0.95

_TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|[^\W\d_]+|[-+*/^=<>%()|&~]")
_SAME = str.maketrans({**dict.fromkeys("‐‑‒–—−", "-"), "×": "*", "÷": "/", "’": "'", "‘": "'"})
_NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_COMPOUND = re.compile(rf"\b({'|'.join(_TENS)})(?:[- ]({'|'.join(_NUMBERS[1:10])}))?\b")
_NAMED = {word: str(i) for i, word in enumerate(_NUMBERS) if word != "one"}  # "one" is rarely a number


@lru_cache(maxsize=65536)
def tokens(text: str) -> tuple[str, ...]:
    """Words, numbers and operators of a text, without case, punctuation, and variants of characters and numbers."""
    plain = unicodedata.normalize("NFKC", text).translate(_SAME).casefold().replace("'s", "").replace("'", "")
    plain = re.sub(r"(?<=[^\W\d_])-(?=[^\W_])|(?<=\d)-(?=[^\W\d_])", " ", plain)  # hyphens are no operators
    plain = _COMPOUND.sub(lambda m: str(_TENS[m[1]] + (_NUMBERS.index(m[2]) if m[2] else 0)), plain)
    return tuple(_NAMED.get(found, _number(found)) for found in _TOKEN.findall(plain))


def _number(token: str) -> str:
    if not token[0].isdigit():
        return token
    plain = token.replace(",", "")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


@dataclass(frozen=True)
class _Text:
    """A text as it is compared."""

    tokens: tuple[str, ...]

    @cached_property
    def numbers(self) -> frozenset[str]:
        return frozenset(t for t in self.tokens if t[0].isdigit()) | ({"1"} if "one" in self.tokens else frozenset())

    @cached_property
    def digits(self) -> frozenset[str]:
        """Numbers that a text must have to repeat this one."""
        return frozenset(t for t in self.tokens if t[0].isdigit())

    @cached_property
    def words(self) -> str:
        return " ".join(t for t in self.tokens if t[0].isalpha())

    @cached_property
    def ngrams(self) -> frozenset[str]:
        words = self.words
        return frozenset(words[i : i + NGRAM] for i in range(len(words) - NGRAM + 1))

    def windows(self, size: int) -> list[_Text]:
        """The text in pieces of `size` tokens, each a fifth after the last; itself if it is not longer."""
        if len(self.tokens) <= size:
            return [self]
        step = max(1, size // 5)
        return [_Text(self.tokens[i : i + size]) for i in range(0, len(self.tokens) - size + step, step)]


class Decontaminator:
    """Finds held-out problems in texts.

    Args:
        held_out: name of a split -> the texts of its problems.
        background: texts of other problems of the same task. Where these are already as alike as a rewording would be
            (problems made from a template), only texts more alike than 95 % of them count.
    """

    def __init__(self, held_out: Mapping[str, Iterable[str]], background: Sequence[str] = ()) -> None:
        found = {_Text(tokens(text)): split for split, texts in held_out.items() for text in texts}
        self._exact = {one.tokens: split for one, split in found.items()}
        self._long = [(one, split) for one, split in found.items() if len(one.ngrams) >= MIN_NGRAMS]
        self._background = background
        self._find = lru_cache(maxsize=65536)(self._search)

    def find(self, text: str, but: str = "") -> str:
        """What `text` repeats, such as "a test problem in other words"; empty if nothing.

        A long text is searched piece by piece.

        Args:
            text: in any language.
            but: text of a held-out problem that it may repeat.
        """
        return self._find(text, but)

    def _search(self, text: str, but: str) -> str:
        mine, own = _Text(tokens(text)), tokens(but)
        if mine.tokens != own and (split := self._exact.get(mine.tokens)) is not None:
            return f"a {split} problem"
        overlap, similarity = self._limits
        for one, split in self._long:
            if one.tokens != own and any(o > overlap or s > similarity for o, s in _alike(one, mine)):
                return f"a {split} problem in other words"
        return ""

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """Least overlap and similarity of a rewording."""
        texts = self._background[:: max(1, len(self._background) // MAX_BACKGROUND)]
        others = [_Text(tokens(text)) for text in texts]
        best = [[max(v) for v in zip((0.0, 0.0), *self._scores(one), strict=True)] for one in others]
        usual = [sorted(values)[int(QUANTILE * len(values))] for values in zip(*best, strict=True)] or [0.0, 0.0]
        return max(MIN_OVERLAP, usual[0]), max(MIN_SIMILARITY, usual[1])

    def _scores(self, text: _Text) -> list[tuple[float, float]]:
        return [score for one, _ in self._long for score in _alike(one, text)]


def _alike(problem: _Text, text: _Text) -> list[tuple[float, float]]:
    """(share of the problem's n-grams, similarity of words) of each piece of `text` with the problem's numbers."""
    from rapidfuzz import fuzz

    if not problem.digits <= text.numbers or not problem.ngrams & text.ngrams:
        return []
    scores = []
    for piece in text.windows(5 * len(problem.tokens) // 2):
        if problem.digits <= piece.numbers:
            long = len(piece.words) >= MIN_SHARE * len(problem.words)
            similarity = fuzz.token_set_ratio(problem.words, piece.words) if long else 0.0
            scores.append((len(problem.ngrams & piece.ngrams) / len(problem.ngrams), similarity))
    return scores


def question_of(problem: Problem, instruction: str = "") -> str:
    """The question of a problem, without the task's instruction."""
    return question_of_text(problem.question, instruction)


def question_of_text(text: str, instruction: str) -> str:
    """A question without the task's instruction."""
    return text.removesuffix(f"\n{instruction}") if instruction else text


def decontaminate(
    problems: Iterable[Problem], held_out: Decontaminator, *, known: Iterable[Problem] = (), instruction: str = ""
) -> tuple[list[Problem], list[tuple[Problem, str]]]:
    """Drop problems that repeat a held-out one, or one before them.

    Args:
        problems: candidates.
        held_out: finds the held-out ones.
        known: problems that are no longer new, such as those to train on; compared by normalized tokens.
        instruction: the task's, which every question ends with.

    Returns:
        The problems kept, and those dropped with the reason.
    """
    seen = {tokens(question_of(problem, instruction)) for problem in known}
    kept: list[Problem] = []
    dropped: list[tuple[Problem, str]] = []
    for problem in problems:
        question = question_of(problem, instruction)
        own = tokens(question)
        reason = held_out.find(question) or ("not new" if own in seen else "") or ("" if own else "empty")
        if reason:
            dropped.append((problem, reason))
        else:
            kept.append(problem)
        seen.add(own)
    return kept, dropped
