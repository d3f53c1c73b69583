"""How a writer decides what to put down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

WriteStep = Callable[[str, str, Sequence[str]], str]
"""`(skill, right, slips) -> said`: what a writer puts down where `right` would be right.

`skill` names the difficulty met ("plain", "carry", "heavy", "search"); `slips` are the mistakes people make there, the
commonest first. The skill "way" is a choice between ways that are both right.
"""
