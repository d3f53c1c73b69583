"""A chain over the rows of a journal: each holds a hash of itself and of the row before, so that no row can be changed,
dropped, added or moved without all that follow."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

COLUMNS = ("key", "kind", "round", "payload", "prompt", "generated", "judge", "trained", "at")
"""What is hashed of a row, in this order."""
START = "selftaught"
_LENGTH = 32  # hexadecimal digits
_ROWS = f"SELECT id, {', '.join(COLUMNS)}, chain FROM effects ORDER BY id"


def link(before: str, row: Sequence[Any]) -> str:
    """The hash of a row, given that of the row before (of the first one `START`).

    Args:
        row: values of `COLUMNS`.
    """
    text = json.dumps([before, *row], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]


def links(rows: Iterable[Sequence[Any]], before: str = START) -> Iterator[tuple[int, str, str]]:
    """Of each row (id, `COLUMNS`, chain) its number, the hash that it should have, and the one that it has."""
    for number, *values, kept in rows:
        before = link(before, values)
        yield number, before, kept


def add_column(db: sqlite3.Connection) -> None:
    """Give the effects of a journal that an earlier version began their place for a hash, and link them all."""
    if "chain" in {row[1] for row in db.execute("PRAGMA table_info(effects)")}:
        return
    db.execute("BEGIN IMMEDIATE")
    db.execute("ALTER TABLE effects ADD COLUMN chain TEXT NOT NULL DEFAULT ''")
    relink(db)
    db.execute("COMMIT")


def relink(db: sqlite3.Connection, first: int = 1) -> str:
    """Link the rows from a number on anew; returns the last hash."""
    before = _last(db, f"WHERE id < {first}")
    rows = db.execute(_ROWS.replace("ORDER", f"WHERE id >= {first} ORDER")).fetchall()
    for number, wanted, _ in links(rows, before):
        db.execute("UPDATE effects SET chain = ? WHERE id = ?", (wanted, number))
        before = wanted
    return before


def last_link(db: sqlite3.Connection) -> str:
    """The hash of the last row."""
    return _last(db, "")


def _last(db: sqlite3.Connection, where: str) -> str:
    found = db.execute(f"SELECT chain FROM effects {where} ORDER BY id DESC LIMIT 1").fetchall()
    return found[0][0] if found else START


def broken_links(db: sqlite3.Connection) -> list[int] | None:
    """Numbers of the rows whose hash is not that of their content and the row before; None if it has no chain."""
    if "chain" not in {row[1] for row in db.execute("PRAGMA table_info(effects)")}:
        return None
    return [number for number, wanted, kept in links_kept(db) if wanted != kept]


def links_kept(db: sqlite3.Connection) -> Iterator[tuple[int, str, str]]:
    """As `links`, where a row follows on the hash that the one before has: one change breaks one link or two."""
    before = START
    for number, *values, kept in db.execute(_ROWS):
        yield number, link(before, values), kept
        before = kept
