"""The journal of a run: one SQLite file, one writer, an effect a row."""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from selftaught.disk import full_disk
from selftaught.errors import BadInput
from selftaught.journal.ledger import Usage

SCHEMA = 1
TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE effects (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, round INTEGER NOT NULL, payload TEXT NOT NULL,
  prompt INTEGER NOT NULL, generated INTEGER NOT NULL, judge INTEGER NOT NULL, trained INTEGER NOT NULL,
  at REAL NOT NULL
);
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY, started REAL NOT NULL, last REAL NOT NULL, engine REAL NOT NULL, learn REAL NOT NULL,
  peak_rss_mb REAL NOT NULL
);
"""
RESUME = "free some space and run the same command again: it resumes"


class Journal:
    """An append-only store of effects under content keys. Each effect is committed before it is used.

    Commits reach the operating system at once (WAL, synchronous=NORMAL): a killed process loses nothing
    committed, a power cut at most the last moments. A second process on the same folder is refused.

    Args:
        folder: made if absent; holds `journal.sqlite` and the lock.

    Attributes:
        path: the SQLite file.
        round: the round that effects are filed under from now on.

    Raises:
        BadInput: the folder is in use or not to be written, the file is not a journal or of another schema,
            or the disk is full. So do all methods, for what the disk does later.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.sqlite"
        self.round = 0
        self._guard = threading.Lock()
        self._lock = _only_writer(folder)
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._run("PRAGMA journal_mode=WAL")
            self._run("PRAGMA synchronous=NORMAL")
            self._open_schema()
            now = time.time()
            self._run("INSERT INTO sessions VALUES (NULL, ?, ?, 0, 0, 0)", (now, now))
            self._session = self._run("SELECT MAX(id) FROM sessions")[0][0]
        except sqlite3.Error as error:
            self._lock.close()
            raise _readable(error, self.path) from error
        except BaseException:
            self._lock.close()
            raise

    def _open_schema(self) -> None:
        if not self._run("SELECT 1 FROM sqlite_master WHERE name = 'meta'"):
            self._db.executescript(f"BEGIN; {TABLES} INSERT INTO meta VALUES ('schema', '{SCHEMA}'); COMMIT;")
        found = self.meta("schema")
        if found != str(SCHEMA):
            raise BadInput(
                f"its schema is version {found}, this program writes {SCHEMA}",
                where=str(self.path),
                fix="use the version that made it, or another run folder",
            )

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Execute one statement, committed when this returns, and fetch its rows."""
        try:
            with self._guard:
                return self._db.execute(statement, values).fetchall()
        except sqlite3.IntegrityError as error:
            raise RuntimeError(f"effect {values[0]} was journalled twice") from error
        except sqlite3.DatabaseError as error:
            raise _readable(error, self.path) from error

    def meta(self, name: str) -> str | None:
        """A named value kept beside the effects."""
        rows = self._run("SELECT value FROM meta WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def set_meta(self, name: str, value: str) -> None:
        """Set a named value."""
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def get(self, key: str) -> tuple[Any, Usage] | None:
        """The payload and cost of an effect, or None where it has not happened."""
        rows = self._run("SELECT payload, prompt, generated, judge, trained FROM effects WHERE key = ?", (key,))
        return (json.loads(rows[0][0]), Usage(*rows[0][1:])) if rows else None

    def put(self, key: str, kind: str, payload: Any, usage: Usage | None = None) -> None:
        """Commit an effect. Raises RuntimeError where its key is taken: nothing is ever doubled."""
        cost = usage or Usage()
        row = (key, kind, self.round, json.dumps(payload, separators=(",", ":")))
        row += (cost.prompt, cost.generated, cost.judge, cost.trained, time.time())
        self._run("INSERT INTO effects VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def effects(self, kind: str) -> Iterator[tuple[str, int, Any, Usage]]:
        """`(key, round, payload, usage)` of every effect of a kind, in the order they were committed."""
        query = "SELECT key, round, payload, prompt, generated, judge, trained FROM effects WHERE kind = ? ORDER BY id"
        for row in self._run(query, (kind,)):
            yield row[0], row[1], json.loads(row[2]), Usage(*row[3:])

    def count(self, kind: str) -> int:
        """How many effects of a kind there are."""
        return self._run("SELECT COUNT(*) FROM effects WHERE kind = ?", (kind,))[0][0]

    def usage(self) -> Usage:
        """The cost of everything journalled."""
        columns = "TOTAL(prompt), TOTAL(generated), TOTAL(judge), TOTAL(trained)"
        return Usage(*map(int, self._run(f"SELECT {columns} FROM effects")[0]))

    def digest(self) -> str:
        """Hash of every effect but its time: equal for a disturbed and an undisturbed run of one program."""
        digest = hashlib.sha256()
        columns = "key, kind, round, payload, prompt, generated, judge, trained"
        for row in self._run(f"SELECT {columns} FROM effects ORDER BY key"):
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def clock(self, engine: float, learn: float, peak_rss_mb: float) -> None:
        """Note how far this session has come: seconds in the engine and in learning, and peak memory in MB."""
        values = (time.time(), engine, learn, peak_rss_mb, self._session)
        self._run("UPDATE sessions SET last = ?, engine = ?, learn = ?, peak_rss_mb = ? WHERE id = ?", values)

    def seconds(self) -> dict[str, float]:
        """Seconds of all sessions: `total`, `engine`, `learn`; and the greatest `peak_rss_mb`."""
        query = "SELECT TOTAL(last - started), TOTAL(engine), TOTAL(learn), MAX(peak_rss_mb) FROM sessions"
        total, engine, learn, peak = self._run(query)[0]
        return {"total": total, "engine": engine, "learn": learn, "peak_rss_mb": peak}

    def close(self) -> None:
        """Close the file and let others write; closing twice is harmless."""
        with self._guard:
            self._db.close()
        self._lock.close()


def _only_writer(folder: Path) -> IO[str]:
    """The folder's lock, held until it is closed or the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "lock").open("w", encoding="utf-8")
    except OSError as error:
        reason = f"it cannot be made a run folder ({error.strerror or error})"
        raise full_disk(error, folder) or BadInput(reason, where=str(folder), fix="use another folder") from None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise BadInput(
            "another process is using this run folder", where=str(folder), fix="wait for it, or use another folder"
        ) from None
    return stream


def _readable(error: sqlite3.Error, path: Path) -> Exception:
    """SQLite's errors that are the user's to mend, as one line."""
    text = str(error)
    if "is full" in text:
        return BadInput(f"the disk is full ({text})", where=str(path), fix=RESUME)
    if "disk I/O" in text:
        return BadInput(f"the disk is full or failing ({text})", where=str(path), fix=RESUME)
    if "not a database" in text or "malformed" in text:
        return BadInput(f"not a journal, or a damaged one ({text})", where=str(path), fix="use another run folder")
    if "readonly" in text or "unable to open" in text:
        return BadInput(f"cannot be written ({text})", where=str(path), fix="use a folder you may write to")
    return error
