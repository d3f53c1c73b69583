"""Results read back from their JSON form, for tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.measure import benjamini_hochberg

COLUMNS = ("as published", "at equal compute", "conditions")
"""Columns of a table of results, see `result_cells`."""

NONE = "–"
OLDER = "older check"
"""Mark of a result written before claims had contrasts: it compares at equal tokens, over five seeds."""


def is_older(found: Mapping[str, Any]) -> bool:
    """Whether a result is in the form that had one verdict, at equal tokens."""
    return "contrasts" not in found


def contrasts_of(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The verdicts of a result by contrast key; of an older one its only verdict, at equal tokens."""
    if is_older(found):
        return {"equal_tokens": {key: found[key] for key in ("verdict", "effect", "ci95", "against")}}
    return dict(found["contrasts"])


def headline(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The contrast that stands for a result: as published, else the only one it has."""
    contrasts = contrasts_of(found)
    return contrasts.get("as_published") or next(iter(contrasts.values()))


def result_cells(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """A result as cells for `COLUMNS`: the verdicts with effect, 95 % interval and baseline, and the preconditions."""
    contrasts = contrasts_of(found)
    if is_older(found):
        return f"{OLDER}, equal tokens: {contrast_text(contrasts['equal_tokens'])}", NONE, NONE
    published, equal = (contrasts.get(key) for key in ("as_published", "equal_compute"))
    cells = (contrast_text(one) if one else NONE for one in (published, equal))
    return *cells, conditions_text(found["preconditions"])  # type: ignore[return-value]


def contrast_text(contrast: Mapping[str, Any]) -> str:
    """A verdict in words, such as "reproduced: +0.083 [+0.061, +0.105] over greedy"."""
    if contrast.get("kind") in ("statistic", "alarm"):
        return f"{contrast['verdict']}: {contrast['against']} {effect_text(contrast)}"
    return f"{contrast['verdict']}: {effect_text(contrast)} over {contrast['against']}"


def effect_text(row: Mapping[str, Any]) -> str:
    """An effect or a statistic with its 95 % interval; "unknown" where it could not be computed."""
    low, high = row["ci95"]
    value = row["effect"] if "effect" in row else row["value"]
    return "unknown" if None in (low, high, value) else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def conditions_text(conditions: Sequence[Mapping[str, Any]]) -> str:
    """Preconditions in words: those that fail with their values, else that all hold."""
    if not conditions:
        return "none needed"
    failed = [f"{one['name']} ({_value(one)})" for one in conditions if not one["holds"]]
    return "fails: " + "; ".join(failed) if failed else "hold: " + "; ".join(one["name"] for one in conditions)


def _value(one: Mapping[str, Any]) -> str:
    if one["value"] is None:
        return "not measured"
    bounds = [f"≥ {one['at_least']:g}"] if "at_least" in one else []
    bounds += [f"≤ {one['at_most']:g}"] if "at_most" in one else []
    return f"{one['value']:.3g}, needs {' and '.join(bounds)}"


def q_values(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The q-value of each result as published, over all of them (Benjamini & Hochberg 1995); older ones have none.

    Of the results with q at most 0.05 that are reproduced, 5 % are expected to be false.
    """
    known = [(one["id"], headline(one)["p_value"]) for one in found if not is_older(one)]
    adjusted = benjamini_hochberg([p for _, p in known]) if known else []
    return {name: q for (name, _), q in zip(known, adjusted, strict=True)}


def read_result(path: Path) -> dict[str, Any] | None:
    """A result, or None where there is no file.

    Raises:
        BadInput: the file holds no result.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        headline(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        fix = "remove it, or write to another folder (--out)"
        raise BadInput("not a result of selftaught check", where=str(path), fix=fix) from None
    return found


def require_same_version(path: Path, version: str) -> None:
    """Refuse to replace a result that was measured on another version of the world.

    Args:
        version: of the world now; empty if it has none.

    Raises:
        BadInput: the versions differ.
    """
    found = read_result(path)
    if found is None or is_older(found) or found["world_version"] == version:
        return
    fix = "write to another folder (--out), or remove it"
    old, new = (one or "no version" for one in (found["world_version"], version))
    raise BadInput(f"its world was {found['world']}, {old}, and is now {new}", where=str(path), fix=fix)
