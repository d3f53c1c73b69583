"""The journal of a run: one SQLite file with one writer and one row per effect."""

from __future__ import annotations

import contextlib
import fcntl
import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selftaught.errors import BadInput
from selftaught.journal.bookings import SETTLE, Bookings
from selftaught.journal.chain import add_column, last_link, link, relink
from selftaught.journal.ledger import Usage
from selftaught.journal.read_ahead import ReadAhead
from selftaught.journal.reader import JOURNAL_FILE, SCHEMA, EffectStore, readable_error
from selftaught.machine.disk import disk_full_error, write_atomically

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE effects (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, round INTEGER NOT NULL, payload TEXT NOT NULL,
  prompt INTEGER NOT NULL, generated INTEGER NOT NULL, judge INTEGER NOT NULL, trained INTEGER NOT NULL,
  at REAL NOT NULL, chain TEXT NOT NULL
);
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY, started REAL NOT NULL, last REAL NOT NULL, engine REAL NOT NULL, learn REAL NOT NULL,
  peak_rss_mb REAL NOT NULL
);
"""

LOCK_FILE = "lock"
LEFT = (f"{JOURNAL_FILE}-wal", "policies", "summary.json", "champion")  # of a run, besides its journal
CHECKPOINT_EVERY = 1000  # commits between two times that the log is written into the file
NEEDS_LOG, COMPLETE = "needs its log", "complete"

_COMPACT = json.JSONEncoder(separators=(",", ":"))
LAST_TIMESTAMP = (
    "SELECT MAX(last) FROM sessions UNION ALL SELECT * FROM (SELECT at FROM effects ORDER BY id DESC LIMIT 1)"
)


class Journal(EffectStore):
    """An append-only store of effects under content keys. Each effect is committed before it is used.

    Commits reach the operating system at once (WAL, synchronous=NORMAL): a killed process loses nothing
    committed, a power cut at most the last moments. A second process on the same folder is refused, and so is a folder
    whose journal, or whose write-ahead log, has gone missing: what it held would be asked and paid for again.

    Args:
        folder: made if absent; holds `journal.sqlite` and the lock.

    Attributes:
        path: the SQLite file.
        round: the round that new effects are assigned to.
        bookings: requests to an endpoint that are in flight, or whose answers are lost.

    Raises:
        BadInput: the folder is in use or not writable, the file is not a journal or of another schema, or the disk
            is full. All methods raise it for later disk errors.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / JOURNAL_FILE)
        self.round = 0
        self._since, self._closed = 0, False
        self._linking = threading.Lock()
        self._lock = _WriterLock(folder)
        try:
            self._begin_file()
            self._require_log()
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._run("PRAGMA journal_mode=WAL")
            self._run("PRAGMA synchronous=NORMAL")
            self._run("PRAGMA wal_autocheckpoint=0")
            self._open_schema()
            add_column(self._db)
            self._link = last_link(self._db)
            self.bookings = Bookings(self._run_counted)
            self._ahead = ReadAhead(self._run, self.last_effect)
            self._open_session()
            self._checkpoint()
            self._lock.mark()
        except sqlite3.Error as error:
            self._lock.close()
            raise readable_error(error, self.path) from error
        except BaseException:
            self._lock.close()
            raise

    def _begin_file(self) -> None:
        """Make the file in one rename, with its tables in it, so that an empty one is always one that lost all."""
        if self.path.exists():
            if self.path.stat().st_size == 0:
                fix = (
                    f"put a copy of it back; or remove it and {LOCK_FILE}, and what it held is asked and paid for again"
                )
                raise BadInput("the journal is empty: what it held is lost", where=str(self.path), fix=fix)
            return
        self._refuse_lost_file()
        with closing(sqlite3.connect(":memory:")) as empty:
            empty.executescript(f"BEGIN; {TABLES} INSERT INTO meta VALUES ('schema', '{SCHEMA}'); COMMIT;")
            write_atomically(self.path, empty.serialize())

    def _refuse_lost_file(self) -> None:
        """Refuse a folder in which there was a journal: one with what it made, or whose lock says so."""
        begun = "its lock says so" if self._lock.begun else ""
        if left := next((f"{name} is still here" for name in LEFT if (self.path.parent / name).exists()), begun):
            what = f"the journal is missing, and what it held is lost ({left})"
            fix = "put a copy of it back, or use another run folder"
            if left == begun:
                lock = self.path.parent / LOCK_FILE
                fix = f"put a copy of it back; or remove {lock}, and what it held is paid for again"
            raise BadInput(what, where=str(self.path), fix=fix)

    def _require_log(self) -> None:
        """Refuse a file whose last session did not end in order, and whose write-ahead log is not there.

        The file itself says `COMPLETE` only where it holds all that its log did.
        """
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists():
            return
        with closing(sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro&immutable=1", uri=True)) as file:
            known = file.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall()
            state = file.execute("SELECT value FROM meta WHERE name = 'log'").fetchall() if known else []
        if state == [(NEEDS_LOG,)]:
            what = "the journal's write-ahead log is missing: what the last session wrote is lost"
            fix = f"put a copy of it back; or run `touch {log}`, and what it held is asked and paid for again"
            raise BadInput(what, where=str(log), fix=fix)

    def _checkpoint(self) -> None:
        """Write the log into the file, with the mark that what follows is in the log alone."""
        self._since = 0
        self.set_meta("log", NEEDS_LOG)
        self._run("PRAGMA wal_checkpoint(PASSIVE)")
        self.set_meta("log", COMPLETE)

    def _open_schema(self) -> None:
        if not self._run("SELECT 1 FROM sqlite_master WHERE name = 'meta'"):
            fix = "remove it, or use another run folder"
            raise BadInput("not a journal, it holds no run", where=str(self.path), fix=fix)
        self.check_schema()
        if self.meta("schema") != str(SCHEMA):
            self.set_meta("schema", str(SCHEMA))  # an earlier version would misread what is written from now on

    def _open_session(self) -> None:
        """Begin to keep time: by a clock that never steps back, and not before what earlier sessions noted."""
        noted = self._run(LAST_TIMESTAMP)
        self._offset = max(time.time(), *(at or 0.0 for (at,) in noted)) - time.monotonic()
        now = self._now()
        self._run("INSERT INTO sessions VALUES (NULL, ?, ?, 0, 0, 0)", (now, now))
        self._session = self._run("SELECT MAX(id) FROM sessions")[0][0]

    def _now(self) -> float:
        return self._offset + time.monotonic()

    def set_meta(self, name: str, value: str) -> None:
        """Set a named value."""
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def get(self, key: str) -> tuple[Any, Usage] | None:
        """Return the payload and cost of an effect, or None; what follows it is read ahead."""
        if (row := self._ahead.get(key)) is None:
            columns = "id, payload, prompt, generated, judge, trained"
            if not (found := self._run(f"SELECT {columns} FROM effects WHERE key = ?", (key,))):
                return None
            number, *row = found[0]
            self._ahead.follow(number)
        return self._json(row[0], f"effect {key}"), Usage(*row[1:])

    def put(self, key: str, kind: str, payload: Any, usage: Usage | None = None, *, settles: int | None = None) -> None:
        """Commit an effect, and with it that the request `settles` is answered, if it was booked.

        Raises:
            RuntimeError: its key exists already.
        """
        cost = usage or Usage()
        row = (key, kind, self.round, _COMPACT.encode(payload))
        row += tuple(map(int, (cost.prompt, cost.generated, cost.judge, cost.trained)))
        with self._linking:
            row += (self._now(),)
            after = link(self._link, row)
            try:
                self._commit("INSERT INTO effects VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, after), settles)
            except BaseException:  # which may have come behind the commit
                self._link = self.last_link
                raise
            self._link = after
        self._count_commit()

    def put_new(self, key: str, kind: str, payload: Any) -> None:
        """Commit an effect that costs nothing, unless its key is taken."""
        if self.get(key) is None:
            self.put(key, kind, payload)

    def replace(self, key: str, payload: Any, usage: Usage, *, settles: int | None = None) -> None:
        """Commit an effect in place of the failure that an older version of this program kept under its key."""
        columns = "round = ?, payload = ?, prompt = ?, generated = ?, judge = ?, trained = ?, at = ?"
        row = (self.round, _COMPACT.encode(payload))
        row += (usage.prompt, usage.generated, usage.judge, usage.trained, self._now(), key)
        booking = None if settles is None else self.bookings.take(settles)
        with self._linking, self._transaction((key,)):
            self._db.execute(f"UPDATE effects SET {columns} WHERE key = ?", row)
            if booking is not None:
                self._db.execute(SETTLE, (booking,))
            (number,) = self._db.execute("SELECT id FROM effects WHERE key = ?", (key,)).fetchone()
            self._link = relink(self._db, number)
        self._ahead.forget(key)

    def _commit(self, statement: str, row: tuple[Any, ...], settles: int | None) -> None:
        """One statement; with it, in one transaction, the end of a booking."""
        booking = None if settles is None else self.bookings.take(settles)
        if booking is not None:
            self._run_together([(statement, row), (SETTLE, (booking,))])
        else:
            self._run(statement, row)

    def _run_counted(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        rows = self._run(statement, values)
        self._count_commit()
        return rows

    def _count_commit(self) -> None:
        self._since += 1
        if self._since >= CHECKPOINT_EVERY:
            self._checkpoint()

    def record_time(self, engine: float, learn: float, peak_rss_mb: float) -> None:
        """Record this session's seconds in the engine and in training, and its peak memory in MB."""
        values = (self._now(), engine, learn, peak_rss_mb, self._session)
        self._run("UPDATE sessions SET last = ?, engine = ?, learn = ?, peak_rss_mb = ? WHERE id = ?", values)

    def close(self) -> None:
        """Close the file and let others write; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(BadInput, sqlite3.Error):  # full, or locked: the log stays, and says the same
                self.set_meta("log", COMPLETE)
        try:
            super().close()
        finally:
            self._lock.close()


class _WriterLock:
    """Locks a folder until it is closed or the process ends, and remembers in its file that there was a journal.

    Attributes:
        begun: whether the file said so when it was opened.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = (folder / LOCK_FILE).open("a+", encoding="utf-8")
        except OSError as error:
            reason = f"cannot create the run folder ({error.strerror or error})"
            raise disk_full_error(error, folder) or BadInput(
                reason, where=str(folder), fix="use another folder"
            ) from None
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._stream.close()
            raise BadInput(
                "another process is using this run folder", where=str(folder), fix="wait for it, or use another folder"
            ) from None
        self._stream.seek(0)
        self.begun = bool(self._stream.read(1))

    def mark(self) -> None:
        """Remember that there is a journal."""
        if not self.begun:
            self._stream.write("there is a journal here\n")
            self._stream.flush()
            self.begun = True

    def close(self) -> None:
        """Give the lock back; closing twice is harmless."""
        self._stream.close()
