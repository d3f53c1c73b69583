"""The interface of writers: what to write for each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

WriteStep = Callable[[str, str, Sequence[str]], str]
"""`(skill, right, slips) -> said`: what a writer writes if `right` is right.

`skill` names the difficulty ("plain", "carry", "heavy", "search"); `slips` are common errors, most frequent first.
The skill "way" is a choice between two right alternatives.
"""
