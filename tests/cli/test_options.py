"""Words of a command line as values of a method's options, and the options of the engine."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.cli.engine_options import CONFIG, add_engine_options, at_least, engine_config, engine_flags
from selftaught.cli.options import add_options, options_of, reader
from selftaught.cli.parsing import Parser
from selftaught.errors import BadInput
from selftaught.method import Method, methods, recipe
from selftaught.models import Policy


def read(kind: Any, word: str) -> Any:
    found = reader(kind)
    assert found is not None
    return found(word)


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (int, "-3", -3),
        (str, "none", "none"),
        (float, "1e-4", 1e-4),
        (float, "inf", math.inf),
        (Path, "a/b", Path("a/b")),
        (bool, "Yes", True),
        (bool, "off", False),
        (Literal["a", 2], "2", 2),
        (int | None, "None", None),
        (int | None, "4", 4),
        (Optional[bool], "no", False),  # noqa: UP045
        (tuple[int, ...], "1,2,", (1, 2)),
        (tuple[float, float], "0.5,1", (0.5, 1.0)),
        (list[str], "", []),
        (tuple[Literal["x", "y"], ...], "y,x", ("y", "x")),
        (tuple[int, ...] | None, "none", None),
        (list[int | None], "1,none", [1, None]),
        (str | Policy, "runs/mine/champion", "runs/mine/champion"),
    ],
)
def test_a_word_is_read_as_the_type_says(kind: Any, word: str, value: Any) -> None:
    found = read(kind, word)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (int, "1.5"),
        (float, "nan"),
        (float, ""),
        (bool, "maybe"),
        (bool, ""),
        (Literal["a", 2], "3"),
        (int | None, "never"),
        (tuple[int, ...], "1,x"),
        (tuple[float, ...], "1,nan"),
    ],
)
def test_any_other_word_is_refused(kind: Any, word: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(word.rpartition(',')[2])}'?$"):  # ends with the word
        read(kind, word)


@pytest.mark.parametrize("kind", [dict, object, int | str, tuple[int, str], dict[str, int], int | str | None, list])
def test_a_type_that_one_word_cannot_express_has_no_reader(kind: Any) -> None:
    assert reader(kind) is None


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int, "int"),
        (bool, "true|false"),
        (Literal["a", 2] | None, "a|2|none"),
        (tuple[float, ...], "float,..."),
    ],
)
def test_a_reader_is_named_by_what_it_expects(kind: Any, name: str) -> None:
    found = reader(kind)
    assert found is not None
    assert found.__name__ == name


NUMBERS = st.floats(allow_nan=False)


@settings(max_examples=40)
@given(st.lists(NUMBERS), st.lists(st.integers()), st.none() | st.integers())
def test_what_python_prints_is_read_back(floats: list[float], ints: list[int], maybe: int | None) -> None:
    assert read(list[float], ",".join(map(repr, floats))) == floats
    assert read(tuple[int, ...], ",".join(map(str, ints))) == tuple(ints)
    assert read(int | None, str(maybe)) == maybe


# --- options of a method ---


@recipe()
def train_well(
    run: Any,
    base: Any,
    task: Any,
    *,
    seed: int = 7,
    top_k: int = 3,
    hard: bool = True,
    must: float,
    hook: object = None,
) -> Any:
    """Learn 100 % of it.

    Args:
        must: given by hand.
    """
    del run, task, seed, top_k, hard, must, hook
    return base


@recipe()
def ask_for_object(run: Any, base: Any, task: Any, *, hook: object) -> Any:
    """Need what no word expresses."""
    del run, task, hook
    return base


def parsed(method: Method, *words: str) -> dict[str, Any]:
    parser = Parser(prog="selftaught run")
    parser.add_argument("--seed", type=int, default=0)
    add_options(parser, method)
    return options_of(parser.parse_args(words), method)


def test_options_have_their_defaults_and_give_way_to_the_command_s_own() -> None:
    defaults = {"seed": 7, "top_k": 3, "hard": True, "must": 0.5, "hook": None}
    assert parsed(train_well, "--must", "0.5") == defaults
    assert parsed(train_well, "--must", "0.5", "--seed", "1") == defaults  # the command's
    words = ("--must", "0.5", "--method-seed", "1", "--top-k", "9", "--no-hard")
    assert parsed(train_well, *words) == defaults | {"seed": 1, "top_k": 9, "hard": False}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "run: the following arguments are required: --must; see selftaught run --help"),
        (("--must", "nan"), "run: argument --must: invalid float value: 'nan'; see selftaught run --help"),
        (("--must", "1", "--hook", "x"), "run: unrecognized arguments: --hook x; see selftaught run --help"),
    ],
)
def test_a_wrong_option_is_one_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        parsed(train_well, *words)
    assert str(refused.value) == message


@recipe()
def choose_one(
    run: Any,
    base: Any,
    task: Any,
    *,
    kind: Literal["plain", "robust"] = "plain",
    several: tuple[Literal["x", "y"], ...] = ("x",),
    level: Literal[1, 2] | None = None,
    model: str = "",
    rate: float = 0.0,
) -> Any:
    """Choose.

    Args:
        model: a folder.
        rate: of something.
    """
    del run, task, kind, several, level, model, rate
    return base


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "foo"), "--kind: must be one of plain, robust, got 'foo'"),
        (("--kind", "robst"), "--kind: must be one of plain, robust, got 'robst'; did you mean 'robust'?"),
        (("--several", "x,z"), "--several: must be one of x, y, got 'z'"),
        (("--level", "3"), "--level: must be one of 1, 2, none, got '3'"),
    ],
)
def test_a_word_that_is_no_choice_is_answered_with_all(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        parsed(choose_one, *words)
    assert str(refused.value) == message


def test_the_help_shows_choices_as_they_are_written_and_empty_defaults_as_none() -> None:
    parser = Parser(prog="selftaught run")
    add_options(parser, choose_one)
    said = " ".join(parser.format_help().split())
    for shown in (
        "--kind plain|robust",
        "--several x|y,...",
        "--level 1|2|none",
        "--rate FLOAT of something (default 0.0)",
    ):
        assert shown in said
    assert "--model STR a folder (default none)" in said


def test_no_method_shows_an_empty_default() -> None:
    for method in methods().values():
        parser = Parser(prog="selftaught run")
        add_options(parser, method)
        assert not re.search(r"\(default\W*\)", parser.format_help()), method.id


def test_a_required_option_that_no_word_expresses_is_set_from_python_only() -> None:
    with pytest.raises(BadInput, match=r"test_options.py: option 'hook' of ask-for-object can be set from Python only"):
        parsed(ask_for_object)


# --- options of the engine ---


def engine_args(*words: str) -> argparse.Namespace:
    parser = Parser(prog="selftaught eval")
    parser.add_argument("--model", default="tiny")
    add_engine_options(parser)
    return parser.parse_args(words)


def test_engine_options_at_their_defaults_are_the_default_configuration() -> None:
    assert engine_config(engine_args()) == CONFIG
    assert list(engine_flags(engine_args())) == []


def test_batches_are_limited_by_default_for_endpoints_alone() -> None:
    assert engine_config(engine_args("--model", "openai:gpt")).max_batch_size == 128
    assert engine_config(engine_args("--model", "openai:gpt", "--max-batch-size", "5")).max_batch_size == 5
    assert engine_config(engine_args("--max-batch-size", "1")).max_batch_size == 1


@settings(max_examples=25)
@given(
    rate=st.integers(1, 10**9),
    price=st.floats(0, 1e6),
    name=st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1).filter(
        lambda name: not name.startswith("-")
    ),
)
def test_engine_flags_are_the_words_that_give_the_same_configuration(rate: int, price: float, name: str) -> None:
    words = ("--requests-per-minute", str(rate), "--max-cost", str(price), "--served-model-name", name)
    args = engine_args(*words, "--dtype", "float32")
    again = engine_args(*shlex.split(" ".join(engine_flags(args))))
    assert engine_config(again) == engine_config(args)


def test_integers_have_a_least_value() -> None:
    assert at_least(0)("0") == 0
    assert at_least(1).__name__ == "int"
    with pytest.raises(argparse.ArgumentTypeError, match="must be ≥ 1, got 0"):
        at_least(1)("0")
    with pytest.raises(ValueError, match="one"):
        at_least(1)("one")
    with pytest.raises(BadInput, match="argument --max-batch-size: must be ≥ 1, got 0; see selftaught eval --help"):
        engine_args("--max-batch-size", "0")
