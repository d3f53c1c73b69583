"""Progress of a run: lines where there is no terminal, and nothing where none is wanted."""

from __future__ import annotations

import itertools
import re

import pytest

from selftaught.console import Console, training_progress


def test_a_line_goes_to_stderr_and_control_characters_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Console(lines=True).print("round 1 \x1b[31m")
    assert capsys.readouterr() == ("", "round 1 ⟨U+001B⟩[31m\n")


def test_a_quiet_console_shows_neither_lines_nor_progress(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True, every=0.0)
    console.print("round 1")
    with console.meter("sampling", 3) as meter:
        meter.advance(3)
    assert capsys.readouterr() == ("", "")


def test_progress_is_a_line_with_what_is_done_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(lines=True, every=0.0).meter("sampling", 4) as meter:
        meter.advance()
        meter.advance(3, "loss 0.100")
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"  sampling: 1/4, \d+ s left", first)
    assert last == "  sampling: 4/4, 0 s left, loss 0.100"


def test_between_two_lines_passes_the_time_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(lines=True, every=3600.0).meter("sampling", 100) as meter:
        for _ in range(100):
            meter.advance()
    assert capsys.readouterr().err == ""


def test_nothing_to_do_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(lines=True, every=0.0).meter("sampling", 0) as meter:
        meter.advance(0)
    assert capsys.readouterr().err == ""


def test_training_progress_turns_numbers_of_steps_into_advances(capsys: pytest.CaptureFixture[str]) -> None:
    ticks: list[float] = []
    with training_progress(Console(lines=True, every=0.0), "training", 10, ticks.append) as progress:
        progress(4, 10, 1.23456)
        progress(10, 10, 0.5)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["  training: 4/10", "  training: 10/10"]
    assert [line.rpartition(", ")[2] for line in lines] == ["loss 1.235", "loss 0.500"]
    assert len(ticks) == 3  # one for each step, one at the end
    assert all(0 <= a <= b for a, b in itertools.pairwise(ticks))


def test_time_is_taken_too_where_training_fails() -> None:
    ticks: list[float] = []
    with (
        pytest.raises(ValueError, match="diverged"),
        training_progress(Console(quiet=True), "training", 1, ticks.append),
    ):
        raise ValueError("diverged")
    assert len(ticks) == 1
