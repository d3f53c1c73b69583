"""`selftaught new`: what it writes conforms as it is, and it overwrites nothing."""

from __future__ import annotations

import inspect
import json
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from selftaught.cli.main import main
from selftaught.method import find
from selftaught.testing import checks_of

ROOT = Path(__file__).parents[2]
SHAPES = ("solver", "judge", "recipe", "study")
PAPER = ["--paper", "2312.06585"]
LONG = "a-name-as-long-as-one-may-be-in-this-fit"


def new(*words: str) -> int:
    return main(["new", *words])


def run_tests(file: Path, folder: Path) -> int:
    """Call the tests of a file as pytest would; how many there are."""
    tests = [value for name, value in runpy.run_path(str(file)).items() if name.startswith("test_")]
    for number, test in enumerate(tests):
        place = folder / f"{file.stem}-{number}"
        place.mkdir()
        test(place) if inspect.signature(test).parameters else test()
    return len(tests)


def checked(*command: str, cwd: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("shape", SHAPES)
def test_a_method_of_one_s_own_conforms_unedited_and_its_test_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shape: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert new(shape, f"my-{shape}", *PAPER, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {"method": f"my-{shape}", "shape": shape, "files": [f"my_{shape}.py", f"test_my_{shape}.py"]}
    method = find(f"my_{shape}.py:my-{shape}")
    assert (method.shape, method.paper) == (shape, "2312.06585")
    assert len(checks_of(method)) >= 6
    assert run_tests(tmp_path / f"test_my_{shape}.py", tmp_path) == 2  # conformance among them


@pytest.mark.parametrize(
    ("shape", "family"),
    [("solver", "solve/voting"), ("judge", "judge"), ("recipe", "improve/rl"), ("study", "study")],
)
def test_in_a_checkout_it_goes_into_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, family: str
) -> None:
    methods = checkout(tmp_path)
    monkeypatch.chdir(methods.parent)
    where = ["--family", family.rpartition("/")[2]] if "/" in family else []
    assert new(shape, "in-house", *PAPER, *where) == 0
    assert new(shape, "in-house", *PAPER, "--folder", str(tmp_path / "own")) == 0
    made = (methods / family / "in_house.py").read_text("utf-8")
    assert made == (tmp_path / "own" / "in_house.py").read_text("utf-8")  # which conforms
    test = (tmp_path / "tests" / "methods" / "test_in_house.py").read_text("utf-8")
    assert 'METHOD = find_method("in-house")' in test
    assert "conformance" not in test  # the table of all methods has it


def checkout(folder: Path) -> Path:
    """The folders of a checkout that matter; where its methods are."""
    methods = folder / "src" / "selftaught" / "methods"
    for family in ("solve/voting", "solve/revision", "improve/rl"):
        (methods / family).mkdir(parents=True)
        (methods / family / "__init__.py").touch()
    (methods / "study").mkdir()
    (methods / "judge").mkdir()
    (folder / "pyproject.toml").touch()
    return methods


@pytest.mark.parametrize("settings", [[], ["--config", str(ROOT / "pyproject.toml"), "--ignore", "D103"]])
def test_ruff_finds_nothing_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str]) -> None:
    """In a project of one's own, and in this one, where tests need no docstrings."""
    monkeypatch.chdir(tmp_path)
    for shape in SHAPES:
        assert new(shape, f"my-{shape}", *PAPER) == 0
        assert new(shape, f"{shape}-{LONG}"[:40], "--paper", "https://example.org/" + 40 * "x") == 0
    checked("ruff", "check", *settings, ".", cwd=tmp_path)
    checked("ruff", "format", "--check", *settings[:2], ".", cwd=tmp_path)


@pytest.mark.slow
def test_pyright_finds_nothing_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for shape in SHAPES:
        assert new(shape, f"my-{shape}", *PAPER) == 0
    checked("pyright", "--pythonpath", sys.executable, str(tmp_path), cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["juge", "mine", *PAPER], "unknown method shape 'juge'; did you mean 'judge'?"),
        (["solvr", "mine", *PAPER], "did you mean 'solver'?"),
        (["solver", "mine"], "--paper"),
        (["solver", "mine", "--paper", "12"], "--paper: got '12'; write an arXiv number"),
        (["solver", "mine", "--paper", 'https://a.org/"'], "--paper: got"),
        (["solver", "mine", "--paper", "http://a.org"], "--paper: got"),
        (["solver", "mine", "--paper", "https://a.org/" + 80 * "x"], "at most 80 characters"),
        (["solver", "Best of N", *PAPER], "'Best of N' cannot name a method"),
        (["solver", "../up", *PAPER], "cannot name a method"),
        (["solver", 41 * "x", *PAPER], "at most 40"),
        (["solver", "class", *PAPER], "'class' means something else in Python or in selftaught; add a word"),
        (["solver", "random", *PAPER], "means something else"),
        (["recipe", "keep-right", *PAPER], "means something else"),
        (["solver", "mine", *PAPER, "--family", "voting"], "--family: families are folders of the package"),
        (["solver", "mine", *PAPER, "--folder", "taken"], "taken/mine.py: cannot be written (File exists)"),
    ],
)
def test_wrong_uses_are_one_line_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    assert_refused(words, said, capsys)
    assert list(tmp_path.rglob("*")) == [tmp_path / "taken"]


def assert_refused(words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(*words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize("taken", ["mine.py", "test_mine.py"])
def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / taken).write_text("precious")
    assert_refused(["solver", "mine", *PAPER], f"{taken}: it exists already", capsys)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "precious")]


def test_in_a_checkout_names_and_families_are_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    (methods / "solve" / "voting" / "mine.py").touch()
    before = sorted(tmp_path.rglob("*"))
    assert_refused(["recipe", "mine", *PAPER, "--family", "rl"], "there is a method of this name already", capsys)
    assert_refused(["solver", "other", *PAPER], "which family of solvers?; known: revision, voting", capsys)
    assert_refused(["solver", "other", *PAPER, "--family", "vote"], "did you mean 'voting'?", capsys)
    assert_refused(["study", "other", *PAPER, "--family", "rl"], "study methods have no families", capsys)
    assert sorted(tmp_path.rglob("*")) == before
    assert new("solver", "other", *PAPER, "--folder", "mine") == 0  # a folder that is named is one's own
    assert (tmp_path / "mine" / "other.py").is_file()
