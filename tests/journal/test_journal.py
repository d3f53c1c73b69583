"""The journal: nothing doubled, nothing lost, one writer, and every disk trouble one line."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.errors import BadInput
from selftaught.journal import Journal, JournalReader, Ledger, Usage

HOLDER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from selftaught.journal import Journal
    journal = Journal(Path(sys.argv[1]))
    journal.put("k", "sample", "kept")
    print("held", flush=True)
    sys.stdin.read()
""")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder)
    try:
        yield journal
    finally:
        journal.close()


def fill(journal: Journal, count: int, stored: list[str]) -> None:
    """Put so many effects, noting each that was."""
    for i in range(count):
        journal.put(f"{i:05}", "sample", "x" * 1000)
        stored.append(f"{i:05}")


def read_all(journal: Journal, stored: list[str]) -> list[object]:
    return [journal.get(key) for key in stored]


def test_what_is_put_is_there_after_reopening(tmp_path: Path) -> None:
    usage = Usage(prompt=7, generated=3, judge=2, trained=1)
    payload = {"text": "höh? \ud800 \x00 <b>", "tokens": [1, 2], "none": None, "x": 0.1}
    with opened(tmp_path) as journal:
        journal.round = 4
        journal.put("key", "sample", payload, usage)
        journal.set_meta("config", "{}")
    with opened(tmp_path) as journal:
        assert journal.get("key") == (payload, usage)
        assert journal.get("other") is None
        assert list(journal.effects("sample")) == [("key", 4, payload, usage)]
        assert (journal.count("sample"), journal.count("verify")) == (1, 0)
        assert journal.usage() == usage
        assert journal.meta("config") == "{}"
        assert journal.meta("nothing") is None


def test_no_effect_is_doubled(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.put("key", "sample", 1, Usage(generated=5))
        with pytest.raises(RuntimeError, match="effect key was journaled twice"):
            journal.put("key", "sample", 1, Usage(generated=5))
        assert journal.usage() == Usage(generated=5)


def test_the_digest_sees_every_field_but_neither_order_nor_time(tmp_path: Path) -> None:
    def digest(name: str, rows: list[tuple[str, str, int, object, Usage]]) -> str:
        with opened(tmp_path / name) as journal:
            for key, kind, number, payload, usage in rows:
                journal.round = number
                journal.put(key, kind, payload, usage)
            return journal.digest()

    one, two = ("a", "sample", 1, "x", Usage(1, 2, 3, 4)), ("b", "verify", 1, "y", Usage())
    same = digest("same", [one, two])
    assert digest("turned", [two, one]) == same
    others = [
        ("c", "sample", 1, "x", Usage(1, 2, 3, 4)),
        ("a", "learn", 1, "x", Usage(1, 2, 3, 4)),
        ("a", "sample", 2, "x", Usage(1, 2, 3, 4)),
        ("a", "sample", 1, "z", Usage(1, 2, 3, 4)),
        *[("a", "sample", 1, "x", usage) for usage in (Usage(9, 2, 3, 4), Usage(1, 9, 3, 4), Usage(1, 2, 9, 4))],
        ("a", "sample", 1, "x", Usage(1, 2, 3, 9)),
    ]
    digests = {digest(f"other{i}", [other, two]) for i, other in enumerate(others)} | {digest("less", [one])}
    assert len(digests) == len(others) + 1
    assert same not in digests


def test_another_process_is_refused_until_the_first_one_ends_even_if_it_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BadInput, match="another process is using this run folder"):
        Journal(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with opened(tmp_path) as journal:
        assert journal.get("k") == ("kept", Usage())


def test_seconds_are_summed_over_sessions_and_memory_is_the_greatest(tmp_path: Path) -> None:
    for engine, learn, peak in ((2.0, 1.0, 300.0), (4.0, 0.5, 200.0)):
        with opened(tmp_path) as journal:
            journal.record_time(1.0, 0.1, 10.0)
            journal.record_time(engine, learn, peak)
            seconds = journal.seconds()
    assert (seconds["engine"], seconds["learn"], seconds["peak_rss_mb"]) == (6.0, 1.5, 300.0)
    assert 0 <= seconds["total"] < 60


def test_a_session_that_does_nothing_new_takes_no_time(tmp_path: Path) -> None:
    def session(busy: float = 0.0, effect: str = "") -> float:
        with opened(tmp_path) as journal:
            time.sleep(0.05)
            if effect:
                journal.put(effect, "kind", {})
            journal.record_time(busy, 0.0, 1.0)
            return journal.seconds()["total"]

    first = session(effect="one")
    assert first >= 0.05
    assert session() == first  # whatever it read
    assert session(effect="two") >= first + 0.05
    before = session()
    assert session(busy=0.01) >= before + 0.05  # it may have been cut off before its first effect


def test_a_file_that_is_no_journal_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(BadInput, match=r"journal\.sqlite: not a journal, or a damaged one"):
        Journal(tmp_path)
    (tmp_path / "journal.sqlite").unlink()
    with opened(tmp_path):
        pass  # and the lock was given back


def test_a_page_damaged_in_the_middle_is_one_line(tmp_path: Path) -> None:
    stored: list[str] = []
    with opened(tmp_path) as journal:
        fill(journal, 1000, stored)
    size = (tmp_path / "journal.sqlite").stat().st_size
    with (tmp_path / "journal.sqlite").open("r+b") as file:
        file.seek(4096 * 8)
        file.write(os.urandom(size - 4096 * 8))
    with pytest.raises(BadInput, match="damaged one"), opened(tmp_path) as journal:
        read_all(journal, stored)


def test_a_journal_of_the_first_schema_is_read_and_written_as_the_second(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)) as journal:
        journal.put("a", "sample", {"tokens": [1, 2]})
        journal.set_meta("schema", "1")
    with closing(JournalReader(tmp_path)) as reader:
        assert reader.get("a") == ({"tokens": [1, 2]}, Usage())
        assert reader.meta("schema") == "1"
    with closing(Journal(tmp_path)) as journal:
        assert journal.get("a") == ({"tokens": [1, 2]}, Usage())
        assert journal.meta("schema") == "2"


def test_another_schema_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.set_meta("schema", "99")
    with pytest.raises(BadInput, match="its schema is version 99, this program writes 2"):
        Journal(tmp_path)


def test_a_place_that_cannot_hold_a_run_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInput, match="cannot create the run folder"):
            Journal(place)


def test_full_to_the_limit_it_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal._db.execute("PRAGMA max_page_count = 40")
        stored: list[str] = []
        with pytest.raises(BadInput, match=r"the disk is full .*; free some space and run the same command again"):
            fill(journal, 1000, stored)
        assert 10 < len(stored) < 1000
    with opened(tmp_path) as journal:
        assert [key for key, *_ in journal.effects("sample")] == stored
        journal.put("more", "sample", "x" * 1000)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root")
def test_a_really_full_disk_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        stored: list[str] = []
        with opened(disk) as journal, pytest.raises(BadInput, match="the disk is full"):
            fill(journal, 10_000, stored)
        assert stored
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        with opened(disk) as journal:
            assert [key for key, *_ in journal.effects("sample")] == stored
            journal.put("more", "sample", "x" * 1000)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_file_is_plain_sqlite_that_others_can_read_meanwhile(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.put("key", "sample", {"a": 1}, Usage(generated=2))
        reader = sqlite3.connect(f"file:{journal.path}?mode=ro", uri=True)
        assert reader.execute("SELECT key, payload, generated FROM effects").fetchall() == [("key", '{"a":1}', 2)]
        reader.close()


usages = st.builds(Usage, *[st.integers(0, 10**9)] * 4)


@given(st.lists(st.tuples(st.sampled_from("abcde"), usages)))
def test_the_ledger_counts_each_effect_once_in_any_order(effects: list[tuple[str, Usage]]) -> None:
    ledger, first = Ledger(), {}
    for key, usage in effects:
        ledger.count(key, usage)
        first.setdefault(key, usage)
    assert ledger.usage == sum(first.values(), Usage())
    assert ledger.usage.spent == sum(u.generated + u.judge + u.trained for u in first.values())


# --- what a crash, an old version or a clock may do to it ---


def test_an_empty_file_lost_all_and_is_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").touch()
    with pytest.raises(BadInput, match=r"journal\.sqlite: the journal is empty: what it held is lost; put a copy"):
        Journal(tmp_path)
    (tmp_path / "journal.sqlite").unlink()
    (tmp_path / "lock").unlink()
    with opened(tmp_path) as journal:
        journal.put("k", "sample", 1)


def test_no_moment_of_its_birth_leaves_an_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)  # the last step before there is a file
        with pytest.raises(KeyboardInterrupt):
            Journal(tmp_path)
    assert not (tmp_path / "journal.sqlite").exists()
    with opened(tmp_path) as journal:
        journal.put("k", "sample", 1)


@pytest.mark.parametrize(
    ("damage", "read", "said"),
    [
        ("UPDATE effects SET payload = '{\"a\": '", lambda j: j.get("k"), "effect k is no JSON"),
        ("UPDATE effects SET payload = '[' ", lambda j: j.entry("k"), "effect k is no JSON"),
        ("UPDATE effects SET payload = ''", lambda j: list(j.effects("sample")), "effect k is no JSON"),
        ("UPDATE effects SET payload = x'ff00'", lambda j: j.get("k"), "effect k is no JSON"),
        ("UPDATE meta SET value = 'x' WHERE name = 'config'", lambda j: j.meta_object("config"), "its config is no J"),
        ("UPDATE meta SET value = '[]' WHERE name = 'config'", lambda j: j.meta_object("config"), "its config is no J"),
    ],
)
def test_what_is_no_json_is_one_line(tmp_path: Path, damage: str, read: Any, said: str) -> None:
    with opened(tmp_path) as journal:
        journal.put("k", "sample", {"a": 1})
        journal.set_meta("config", "{}")
    with closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as file:
        file.execute(damage)
    with opened(tmp_path) as journal, pytest.raises(BadInput, match=said) as caught:
        read(journal)
    assert str(caught.value).startswith(f"{tmp_path / 'journal.sqlite'}: a damaged journal, ")
    assert str(caught.value).endswith("; put a copy of the file back, or use another run folder")


def test_a_clock_that_steps_back_makes_no_negative_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    with opened(tmp_path) as journal:
        journal.put("one", "round", 1)
        monkeypatch.setattr(time, "time", lambda: now - 3600)  # an hour back, in the middle of a session
        time.sleep(0.02)
        journal.put("two", "round", 2)
        journal.record_time(0.01, 0.0, 1.0)
        first = journal.seconds()["total"]
    assert 0.02 <= first < 10
    with opened(tmp_path) as journal:  # and before the next one
        time.sleep(0.02)
        journal.put("three", "round", 3)
        journal.record_time(0.01, 0.0, 1.0)
        total, until = journal.seconds()["total"], journal.seconds_until("round")
    assert first + 0.02 <= total < 10
    assert 0 <= until["one"] < until["two"] <= first < until["three"] <= total


def test_sessions_of_an_earlier_version_whose_clock_stepped_back_count_for_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.put("one", "round", 1)
        journal._run("UPDATE sessions SET last = started - 3600, engine = -1.0")
        assert (journal.seconds()["total"], journal.seconds()["engine"]) == (0.0, 0.0)
        assert journal.seconds_until("round") == {"one": 0.0}


# --- what has gone missing ---


def journal_of_a_killed_run(folder: Path, effects: int) -> None:
    """A process that writes effects and is killed before it can close the file."""
    code = (
        "import os, sys; from pathlib import Path; from selftaught.journal import Journal"
        "\nj = Journal(Path(sys.argv[1]))"
        "\nfor i in range(int(sys.argv[2])): j.put(f'k{i}', 'sample', 'x' * 100)"
        "\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), str(effects)], check=False)


@pytest.mark.parametrize("effects", [1, 700, 1700], ids=["one effect", "less than a checkpoint", "more than one"])
def test_a_lost_write_ahead_log_is_told(tmp_path: Path, effects: int) -> None:
    journal_of_a_killed_run(tmp_path, effects)
    log = tmp_path / "journal.sqlite-wal"
    held = log.read_bytes()
    log.unlink()
    (tmp_path / "journal.sqlite-shm").unlink()
    with pytest.raises(BadInput, match=r"journal\.sqlite-wal: the journal's write-ahead log is missing: what the last"):
        Journal(tmp_path)
    log.write_bytes(held)  # put back
    with opened(tmp_path) as journal:
        assert journal.get(f"k{effects - 1}") is not None


def test_the_loss_of_a_write_ahead_log_may_be_accepted(tmp_path: Path) -> None:
    journal_of_a_killed_run(tmp_path, 5)
    (tmp_path / "journal.sqlite-wal").write_bytes(b"")
    with opened(tmp_path) as journal:
        assert journal.get("k0") is None
        journal.put("k0", "sample", 1)


@pytest.mark.parametrize("ended", ["closed", "killed", "merged by another program"])
def test_a_journal_whose_log_is_where_it_belongs_opens(tmp_path: Path, ended: str) -> None:
    journal_of_a_killed_run(tmp_path, 5)
    if ended == "closed":
        with opened(tmp_path):
            pass
    if ended == "merged by another program":
        with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as file:
            file.execute("SELECT * FROM effects").fetchall()
    assert (tmp_path / "journal.sqlite-wal").exists() is (ended == "killed")
    with opened(tmp_path) as journal:
        assert journal.get("k4") is not None


def test_a_journal_that_is_missing_is_not_begun_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.put("k", "sample", 1)
    (tmp_path / "journal.sqlite").unlink()
    with pytest.raises(BadInput, match=r"the journal is missing, and what it held is lost \(its lock says so\); put a"):
        Journal(tmp_path)
    (tmp_path / "lock").unlink()  # as it says
    with opened(tmp_path) as journal:
        assert journal.get("k") is None


@pytest.mark.parametrize("left", ["policies", "summary.json", "journal.sqlite-wal"])
def test_a_journal_that_is_missing_beside_what_it_made_is_not_begun_anew(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir()
    with pytest.raises(BadInput, match=rf"the journal is missing, and what it held is lost \({left} is still here\)"):
        Journal(tmp_path)
    assert not (tmp_path / "journal.sqlite").exists()
