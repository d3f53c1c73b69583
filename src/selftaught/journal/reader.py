"""Read a journal: by its writer, or by other processes while the run is in progress."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.journal.chain import broken_links, last_link
from selftaught.journal.ledger import Usage

JOURNAL_FILE = "journal.sqlite"
SCHEMA = 2
READABLE = ("1", "2")
"""Schemas that this program reads; in the first, token ids and log-probabilities are lists."""
DAMAGE = ("not a database", "malformed", "not UTF-8", "no such table", "unsupported file format")
"""What SQLite says of a file that is no journal, or no longer."""
RESUME_FIX = "free some space and run the same command again: it resumes"


# A session that did nothing counts for nothing. An earlier version's clock could step back: none is shorter than 0.
WORKING_SESSIONS = """
SELECT started, MAX(last - started, 0) FROM sessions WHERE engine > 0 OR learn > 0 OR EXISTS (
  SELECT 1 FROM effects WHERE at >= started AND at < COALESCE(
    (SELECT MIN(later.started) FROM sessions AS later WHERE later.id > sessions.id), 1e18)
) ORDER BY id
"""
SESSION_TOTALS = "SELECT TOTAL(MAX(engine, 0)), TOTAL(MAX(learn, 0)), MAX(peak_rss_mb) FROM sessions"


class EffectStore:
    """Read access to the effects and metadata in a journal file.

    Attributes:
        path: the SQLite file.

    Raises:
        BadInput: by all methods, for disk errors and damaged files.
    """

    _db: sqlite3.Connection

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Execute one statement, committed when this returns, and fetch its rows."""
        with self._guard, self._errors(values):
            return self._db.execute(statement, values).fetchall()

    def _run_together(self, statements: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        """Execute statements in one transaction: all of them are committed when this returns, or none."""
        with self._transaction(statements[0][1]):
            for statement, values in statements:
                self._db.execute(statement, values)

    @contextmanager
    def _transaction(self, values: tuple[Any, ...]) -> Iterator[None]:
        """All that is executed within is committed at its end, or none of it; `values` name the effect in errors."""
        with self._guard, self._errors(values):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self, values: tuple[Any, ...]) -> Iterator[None]:
        """Errors of the database, as this class raises them."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise RuntimeError(f"effect {values[0]} was journaled twice") from error
        except sqlite3.DatabaseError as error:
            raise readable_error(error, self.path) from error

    def meta(self, name: str) -> str | None:
        """Return a metadata value, or None."""
        rows = self._run("SELECT value FROM meta WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def meta_object(self, name: str) -> dict[str, Any]:
        """Return a metadata value that is a JSON object; empty if absent."""
        text = self.meta(name)
        found = {} if text is None else self._json(text, f"its {name}")
        if not isinstance(found, dict):
            raise self._damaged(f"its {name} is no JSON object")
        return found

    def _json(self, text: Any, what: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(f"{what} is no JSON ({error})") from None

    def _damaged(self, what: str) -> BadInput:
        fix = "put a copy of the file back, or use another run folder"
        return BadInput(f"a damaged journal, {what}", where=str(self.path), fix=fix)

    def check_schema(self) -> None:
        """Raise `BadInput` if another version of this program wrote the file."""
        found = self.meta("schema")
        if found not in READABLE:
            raise BadInput(
                f"its schema is version {found}, this program writes {SCHEMA}",
                where=str(self.path),
                fix="use the version that made it, or another run folder",
            )

    def get(self, key: str) -> tuple[Any, Usage] | None:
        """Return the payload and cost of an effect, or None."""
        rows = self._run("SELECT payload, prompt, generated, judge, trained FROM effects WHERE key = ?", (key,))
        return (self._json(rows[0][0], f"effect {key}"), Usage(*rows[0][1:])) if rows else None

    def entry(self, key: str) -> tuple[str, int, Any] | None:
        """Return the kind, round and payload of an effect, or None."""
        rows = self._run("SELECT kind, round, payload FROM effects WHERE key = ?", (key,))
        return (rows[0][0], rows[0][1], self._json(rows[0][2], f"effect {key}")) if rows else None

    def numbered(self, kind: str) -> Iterator[tuple[int, str, Any, Usage]]:
        """Yield `(number, key, payload, usage)` of every effect of a kind, in commit order, reading as it goes."""
        query = "SELECT id, key, payload, prompt, generated, judge, trained FROM effects WHERE kind = ? ORDER BY id"
        after = 0
        while rows := self._run(query.replace("ORDER", "AND id > ? ORDER") + " LIMIT 1000", (kind, after)):
            for row in rows:
                yield row[0], row[1], self._json(row[2], f"effect {row[1]}"), Usage(*row[3:])
            after = rows[-1][0]

    def stream(self, kind: str) -> Iterator[tuple[str, int, Any]]:
        """Yield `(key, round, payload)` of every effect of a kind, in commit order, reading as it goes."""
        after = 0
        query = "SELECT id, key, round, payload FROM effects WHERE kind = ? AND id > ? ORDER BY id LIMIT 1000"
        while rows := self._run(query, (kind, after)):
            for _, key, number, payload in rows:
                yield key, number, self._json(payload, f"effect {key}")
            after = rows[-1][0]

    def usage_until(self, number: int) -> Usage:
        """Sum the cost of the effects up to a number."""
        columns = "TOTAL(prompt), TOTAL(generated), TOTAL(judge), TOTAL(trained)"
        return Usage(*map(int, self._run(f"SELECT {columns} FROM effects WHERE id <= ?", (number,))[0]))

    def effects(self, kind: str) -> Iterator[tuple[str, int, Any, Usage]]:
        """Yield `(key, round, payload, usage)` of every effect of a kind, in commit order."""
        query = "SELECT key, round, payload, prompt, generated, judge, trained FROM effects WHERE kind = ? ORDER BY id"
        for row in self._run(query, (kind,)):
            yield row[0], row[1], self._json(row[2], f"effect {row[0]}"), Usage(*row[3:])

    def count(self, kind: str) -> int:
        """Count the effects of a kind."""
        return self._run("SELECT COUNT(*) FROM effects WHERE kind = ?", (kind,))[0][0]

    @property
    def last_effect(self) -> int:
        """Number of the latest effect; 0 where there is none."""
        return self._run("SELECT MAX(id) FROM effects")[0][0] or 0

    def usage(self) -> Usage:
        """Sum the cost of all effects."""
        columns = "TOTAL(prompt), TOTAL(generated), TOTAL(judge), TOTAL(trained)"
        return Usage(*map(int, self._run(f"SELECT {columns} FROM effects")[0]))

    def digest(self) -> str:
        """Hash all effects except their times: equal for an interrupted and an uninterrupted run of one program."""
        digest = hashlib.sha256()
        columns = "key, kind, round, payload, prompt, generated, judge, trained"
        for row in self._run(f"SELECT {columns} FROM effects ORDER BY key"):
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def broken_links(self) -> list[int] | None:
        """Numbers of the effects that were changed, moved or put in, or follow on one that is gone; see `chain`.

        None where an earlier version of this program began and ended the journal, without a chain.
        """
        with self._guard, self._errors(("",)):
            return broken_links(self._db)

    def link_of(self, number: int) -> str | None:
        """The hash in the chain at the effect of a number; None if there is none."""
        with self._guard, self._errors(("",)):
            if "chain" not in self._columns():
                return None
            rows = self._db.execute("SELECT chain FROM effects WHERE id = ?", (number,)).fetchall()
        return rows[0][0] if rows else None

    @property
    def last_link(self) -> str:
        """The hash that the chain of effects ends in; empty where there is none."""
        with self._guard, self._errors(("",)):
            return last_link(self._db) if "chain" in self._columns() else ""

    def _columns(self) -> set[str]:
        return {row[1] for row in self._db.execute("PRAGMA table_info(effects)")}

    def keys(self, kind: str, prefix: str = "", limit: int = -1) -> list[str]:
        """Return the sorted keys of a kind that start with `prefix`; at most `limit`, all if negative."""
        query = "SELECT key FROM effects WHERE kind = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
        return [key for (key,) in self._run(query, (kind, prefix, prefix + "\U0010ffff", limit))]

    def seconds(self) -> dict[str, float]:
        """Seconds of all sessions: `total`, `engine`, `learn`; and the greatest `peak_rss_mb`.

        A session that only replayed existing effects does not count.
        """
        engine, learn, peak = self._run(SESSION_TOTALS)[0]
        total = sum(length for _, length in self._run(WORKING_SESSIONS))
        return {"total": float(total), "engine": engine, "learn": learn, "peak_rss_mb": peak}

    def seconds_until(self, kind: str) -> dict[str, float]:
        """Map the key of each effect of a kind to the seconds the run had worked by then, without pauses."""
        sessions = self._run(WORKING_SESSIONS)
        return {
            key: sum(min(length, max(0.0, at - started)) for started, length in sessions)
            for key, at in self._run("SELECT key, at FROM effects WHERE kind = ?", (kind,))
        }

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read as the journal is now, whatever is written meanwhile."""
        self._run("BEGIN")
        try:
            yield
        finally:
            self._run("ROLLBACK")

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with self._guard:
            self._db.close()


class JournalReader(EffectStore):
    """Read-only view of a run's journal; the run may be in progress.

    Args:
        folder: of the run.

    Raises:
        BadInput: there is no journal, or it is damaged or of another schema.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / JOURNAL_FILE)
        if not self.path.is_file():
            raise BadInput(f"not a run folder (no {JOURNAL_FILE})", where=str(folder), fix="give the folder of a run")
        # A file that nobody has open stands alone, and opened as such it is read without a trace, even where nobody
        # may write; one with a write-ahead log beside it is read together with that.
        alone = not self.path.with_name(f"{JOURNAL_FILE}-wal").exists()
        uri = f"{self.path.resolve().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"
        try:
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise readable_error(error, self.path) from error
        try:
            if not self._run("SELECT 1 FROM sqlite_master WHERE name = 'meta'"):
                raise BadInput("not a journal, it holds no run", where=str(self.path), fix="give the folder of a run")
            self.check_schema()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def readable_error(error: sqlite3.Error, path: Path) -> Exception:
    """Turn SQLite errors that the user can fix into one line."""
    text = str(error)
    if "is full" in text:
        return BadInput(f"the disk is full ({text})", where=str(path), fix=RESUME_FIX)
    if "disk I/O" in text:
        return BadInput(f"the disk is full or failing ({text})", where=str(path), fix=RESUME_FIX)
    if "Could not decode to UTF-8" in text:
        text = "a text in it is not UTF-8"  # the message quotes it, whatever it holds
    if any(sign in text for sign in DAMAGE):
        return BadInput(f"not a journal, or a damaged one ({text})", where=str(path), fix="use another run folder")
    if "readonly" in text or "unable to open" in text:
        return BadInput(f"cannot be written ({text})", where=str(path), fix="use a folder you may write to")
    return error
