"""Results read back from their JSON form, for tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.measure import benjamini_hochberg

COLUMNS = ("as published", "at equal compute", "conditions", "how sure")
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


def result_cells(found: Mapping[str, Any], q: float | None = None) -> tuple[str, str, str, str]:
    """A result as cells for `COLUMNS`: both verdicts with what was seen, the conditions, and what they rest on.

    Args:
        q: of the result, see `q_values`.
    """
    contrasts, sure = contrasts_of(found), sure_text(found, q)
    if is_older(found):
        return f"{OLDER}, equal tokens: {contrast_text(contrasts['equal_tokens'])}", NONE, NONE, sure
    published, equal = (contrasts.get(key) for key in ("as_published", "equal_compute"))
    cells = (contrast_text(one, found["direction"]) if one else NONE for one in (published, equal))
    return *cells, conditions_text(found["preconditions"], brief=True), sure  # type: ignore[return-value]


def contrast_text(contrast: Mapping[str, Any], direction: str = "higher") -> str:
    """A verdict in words, such as "reproduced: +0.083 [+0.061, +0.105] over greedy".

    Args:
        direction: that is claimed.
    """
    verdict, seen = contrast["verdict"], seen_text(contrast)
    left_out = contrast.get("left_out", {})
    missing = [name for name in contrast.get("failed", ()) if name in left_out]
    if missing:
        why = "; ".join(f"{name} cannot be given the method's compute ({left_out[name]})" for name in missing)
        return f"{verdict}: {why}" + ("" if contrast["effect"] is None else f". Of the others: {seen}")
    if contrast.get("failed"):
        return f"{verdict}, as a condition fails: {seen}"
    return f"{verdict}: {seen}" + (" (lower was claimed)" if direction == "lower" else "")


def seen_text(contrast: Mapping[str, Any]) -> str:
    """What the leg that decides a verdict measured, with its 95 % interval."""
    against, kind = contrast["against"], contrast.get("kind", "beats")
    leg = contrast.get("leg", against)
    if kind in ("statistic", "alarm"):
        value, low, high = (_unsigned(number, kind) for number in (contrast["effect"], *contrast["ci95"]))
        return f"{leg} {value} [{low}, {high}]" + (" of the seeds" if kind == "alarm" else "")
    if kind == "ordered":
        return f"{leg} by {effect_text(contrast)}"
    return f"{effect_text(contrast)} over {against}"


def _unsigned(number: float | None, kind: str) -> str:
    if number is None:
        return "unknown"
    return f"{number:.0%}" if kind == "alarm" else f"{number:.3f}"


def effect_text(row: Mapping[str, Any]) -> str:
    """An effect or a statistic with its 95 % interval; "unknown" where it could not be computed."""
    low, high = row["ci95"]
    value = row["effect"] if "effect" in row else row["value"]
    return "unknown" if None in (low, high, value) else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def sure_text(found: Mapping[str, Any], q: float | None = None) -> str:
    """What a result rests on: seeds, builds of the model, test problems, and its q-value."""
    parts = [counted(found["seeds"], "seed")] if found["seeds"] > 1 else []
    parts += [counted(found["builds"], "model")] if found.get("builds", 1) > 1 else []
    parts += [counted(found["problems"], "problem")]
    return ", ".join(parts) + ("" if q is None else "; q < 0.001" if q < 0.0005 else f"; q = {q:.3f}")


def counted(number: int, what: str) -> str:
    """A number of things, in the singular or the plural."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def conditions_text(conditions: Sequence[Mapping[str, Any]], *, brief: bool = False) -> str:
    """Preconditions in words: those that fail with their values, else that all hold.

    Args:
        brief: without the names of those that hold.
    """
    if not conditions:
        return "none needed"
    failed = [_measured(one) for one in conditions if not one["holds"]]
    if failed and brief:
        return f"{len(failed)} of {len(conditions)} fail{'s' if len(failed) == 1 else ''}: {'; '.join(failed)}"
    if failed:
        return f"fails: {'; '.join(failed)}"
    if brief:
        return {1: "holds", 2: "both hold"}.get(len(conditions), f"all {len(conditions)} hold")
    return f"hold: {'; '.join(map(_measured, conditions))}"


def needed_text(one: Mapping[str, Any]) -> str:
    """The bounds of a precondition, such as "≥ 0.1"."""
    bounds = [f"≥ {one['at_least']:g}"] if "at_least" in one else []
    return " and ".join([*bounds, *([f"≤ {one['at_most']:g}"] if "at_most" in one else [])])


def _measured(one: Mapping[str, Any]) -> str:
    value = "not measured" if one["value"] is None else f"{one['value']:.3g}"
    return f"{one['name']}: {value}, needs {needed_text(one)}"


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
