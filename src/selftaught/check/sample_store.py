"""Samples of starting models in a file, shared by the checks of all methods."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from selftaught.engines import Request, Sample
from selftaught.errors import BadInput
from selftaught.records import content_hash
from selftaught.samples import sample_from_json, sample_to_json

STORE_FILE = "samples.sqlite"
WAIT_SECONDS = 60.0  # for other processes that write


class SampleStore:
    """Samples by policy version and request, in one SQLite file that several processes may use at a time.

    It holds nothing that cannot be sampled again: a power cut may lose the last samples, and the file may be removed.

    Args:
        folder: made if absent; holds the file.
        engine: name and number format of the engine, which are part of the key.

    Raises:
        BadInput: the file is damaged or cannot be written.
    """

    def __init__(self, folder: Path, engine: str) -> None:
        self.path, self._engine = folder / STORE_FILE, engine
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=WAIT_SECONDS)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute("CREATE TABLE IF NOT EXISTS samples (key TEXT PRIMARY KEY, payload TEXT NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            fix = "remove it: what it holds is sampled again"
            raise BadInput(f"samples cannot be kept there ({error})", where=str(self.path), fix=fix) from None

    def get(self, policy: str, request: Request) -> Sample | None:
        """The sample that a policy, by its version, gave to a request; None if it is not known."""
        row = self._db.execute("SELECT payload FROM samples WHERE key = ?", (self._key(policy, request),)).fetchone()
        if row is None:
            return None
        try:
            payload, prompt_tokens = json.loads(row[0])
            return sample_from_json(payload, policy, prompt_tokens)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            fix = "remove it: what it holds is sampled again"
            raise BadInput(f"a sample in it is damaged ({error})", where=str(self.path), fix=fix) from None

    def put(self, policy: str, request: Request, sample: Sample) -> None:
        """Keep a sample; the first one of a request stays."""
        row = (self._key(policy, request), json.dumps([sample_to_json(sample), sample.prompt_tokens]))
        self._db.execute("INSERT OR IGNORE INTO samples VALUES (?, ?)", row)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _key(self, policy: str, request: Request) -> str:
        return content_hash(self._engine, policy, request)
