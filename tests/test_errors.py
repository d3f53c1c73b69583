"""Messages to the user: one line, and the name that was probably meant."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.cli.engine_options import add_engine_options
from selftaught.cli.options import add_options
from selftaught.cli.parsing import Parser
from selftaught.cli.run import add_arguments
from selftaught.engines import Sampling
from selftaught.errors import BadInput, suggest
from selftaught.learn import TrainConfig
from selftaught.method import methods
from selftaught.renamed import RENAMED


def test_a_message_is_one_line_however_it_is_made() -> None:
    assert str(BadInput("it is\nwrong", where="a.jsonl:3", fix="drop\n it")) == "a.jsonl:3: it is wrong; drop it"
    assert str(BadInput("it is wrong")) == "it is wrong"


WORDS = st.text("ab:; \n\r\t\x1c\x85\u2028\u3000é")


@settings(max_examples=50)
@given(WORDS, WORDS, WORDS)
def test_a_message_stays_one_line_and_loses_no_letter(what: str, where: str, fix: str) -> None:
    error = BadInput(what, where=where, fix=fix)
    assert (error.what, error.where, error.fix) == (what, where, fix)
    assert len(str(error).splitlines()) <= 1
    assert "  " not in str(error)
    letters = "".join((where, what, fix)).translate({ord(mark): " " for mark in ":;"})
    assert "".join(str(error).translate({ord(mark): " " for mark in ":;"}).split()) == "".join(letters.split())


NAMES = st.text("abcdefgh", min_size=4, max_size=12).filter(lambda name: name not in RENAMED)


@settings(max_examples=50)
@given(NAMES, st.sets(NAMES, min_size=1, max_size=20), st.integers(1, 3))
def test_only_known_names_are_suggested_and_at_most_as_many_as_asked_for(
    name: str, known: set[str], limit: int
) -> None:
    close = re.findall("'([a-h]+)'", suggest(name, known, limit=limit))
    assert set(close) <= known
    assert len(set(close)) == len(close) <= limit
    assert suggest(name, {*known, name}, limit=1) == f"did you mean {name!r}?"
    typo = name[1:] + name[0] if len(set(name)) > 1 else name + "x"
    assert suggest(typo, [name]) == f"did you mean {name!r}?"


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("stra", ("star", "rest-em"), "did you mean 'star'?"),
        ("--heat", ("--temperature", "--heads"), "use '--temperature'"),
        ("pace", ("lr_scale", "page"), "use 'lr_scale'"),
        ("--lora", ("--lora-rank", "--out"), "did you mean '--lora-rank'"),
        ("pace", ("space", "rounds"), "did you mean 'space'?"),  # the new name is unknown here
        ("x", ("a", "b"), "known: a, b"),
        ("x", tuple(f"name{i}" for i in range(20)), "known: name0, name1, name10, name11, name12, name13, name14,"),
    ],
)
def test_a_name_that_was_probably_meant_is_suggested(name: str, known: tuple[str, ...], said: str) -> None:
    assert suggest(name, known).startswith(said)


def test_new_names_of_renamed_ones_exist_and_old_ones_are_written_as_looked_up() -> None:
    parser = Parser(prog="selftaught run")
    add_arguments(parser)
    flags = {flag.removeprefix("--").replace("-", "_") for flag in vars(parser)["_option_string_actions"]}
    known = flags | set(Sampling.__dataclass_fields__) | set(TrainConfig.__dataclass_fields__)
    known |= {option.name for method in methods().values() for option in method.options}
    known |= {"attempts", "solver"}  # of eval
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", old) for old in RENAMED)
    assert {old: new for old, new in RENAMED.items() if not known.issuperset(new)} == {}


def test_a_solver_takes_over_the_temperature_of_the_command_and_no_other_flag() -> None:
    parser = Parser(prog="selftaught eval")
    parser.set_defaults(temperature=0.0)
    parser.add_argument("--temperature", type=float, default=0.0)
    add_engine_options(parser)
    add_options(parser, methods()["self-refine"])
    args = parser.parse_args(["--temperature", "0.3"])
    assert (args.temperature, args.option_temperature) == (0.0, 0.3)
