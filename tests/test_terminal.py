"""The door to the terminal: nothing printed acts on it, and everything can be printed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selftaught.cli.main import main
from selftaught.console import Console
from selftaught.terminal import make_printable, print_json, print_table, print_text, print_wrapped

NASTY = "\x1b]0;mine\x07 \x1b[31mred\x9b \u202egnp \ud83d é 数"
ACTING = ("\x1b", "\x07", "\x9b", "\u202e", "\ud83d")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("how", ["put", "table", "wrapped", "say", "error"])
def test_what_is_printed_never_acts_and_never_fails(monkeypatch: pytest.MonkeyPatch, encoding: str, how: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stderr" if how in ("say", "error") else "stdout", stream)
    if how == "put":
        print_text(NASTY)
    elif how == "table":
        print_table([("name", NASTY)], columns=("", NASTY))
    elif how == "wrapped":
        print_wrapped(NASTY)
    elif how == "say":
        Console().print(NASTY)
    else:
        assert main([NASTY]) == 2
    said = raw.getvalue().decode(encoding)
    assert "red" in said
    assert not any(character in said for character in ACTING)
    assert ("数" if encoding == "utf-8" else "\\u6570") in said


def test_json_for_programs_is_ascii_and_holds_the_very_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({NASTY: [NASTY]})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {NASTY: [NASTY]}


def test_a_stream_without_an_encoding_is_written_to_as_it_is() -> None:
    stream = io.StringIO()
    make_printable(stream)
    print_text("é", to=stream)
    assert stream.getvalue() == "é\n"


def test_names_of_fields_and_files_are_made_visible(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = tmp_path / "da\x1bta.jsonl"
    rows.write_text('{"na\\u001bme": "x"}\n')
    assert main(["eval", "--task", str(rows), "--test", "1"]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "na⟨U+001B⟩me" in err
    assert "da⟨U+001B⟩ta" in err


def test_a_command_prints_under_an_ascii_terminal(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from selftaught import solver\n@solver()\nasync def mine(ask, problem):\n    '''Übt – 数.'''\n", "utf-8"
    )
    env = os.environ | {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"}
    words = [sys.executable, "-m", "selftaught", "solve", f"{own}:mine", "--help"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xdcbt" in done.stdout
