"""What the commands share: exit status, reports of requests, results as tables or JSON."""

from __future__ import annotations

import json

import pytest

from selftaught.cli.common import Call, exit_status, print_outcome, require_split
from selftaught.cli.main import main
from selftaught.cli.parsing import SHAPES, Parser, method_of, parse, with_default_method
from selftaught.errors import BadInput
from selftaught.testing.sums import make_task


def test_the_exit_status_is_0_where_anything_was_answered_and_else_one_line() -> None:
    assert exit_status("", "tiny") == 0
    with pytest.raises(BadInput) as refused:
        exit_status("none of 3 requests got an answer (timed out)", "openai:gpt")
    line = "openai:gpt: none of 3 requests got an answer (timed out); fix it and run the same command again"
    assert str(refused.value) == line


OUTCOME = {"test_accuracy": 1 / 3, "ci95": [0.25, 1.0], "tokens": {"generated": 1_234_567, "judge": 0}, "ok": True}


def test_an_outcome_is_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome({**OUTCOME, "spent": {}, "name": "a_b"}, as_json=False)
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [" ".join(row).split() for row in rows] == [
        ["test", "accuracy", "0.3333"],
        ["ci95", "[0.25,", "1]"],
        ["tokens", "generated", "1,234,567,", "judge", "0"],
        ["ok", "True"],
        ["spent", "-"],
        ["name", "a_b"],
    ]


def test_an_outcome_as_json_keeps_every_digit(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(OUTCOME, as_json=True)
    assert json.loads(capsys.readouterr().out) == OUTCOME


def test_a_split_without_problems_is_asked_for() -> None:
    task = make_task(train=2, dev=0, test=1)
    require_split(task, "train")
    with pytest.raises(BadInput, match=r"^--dev: .* has no dev problems; ask for some \(--dev 128\)$"):
        require_split(task, "dev")


def command(name: str) -> Parser:
    parser = Parser(prog=f"selftaught {name}")
    parser.add_argument("--solver")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int)
    return parser


@pytest.mark.parametrize(
    ("name", "words", "method"),
    [
        ("run", ["rest-em", "--json"], "rest-em"),
        ("run", ["--json", "rest_em"], "rest-em"),  # a switch takes no word
        ("run", ["--out", "star", "rest-em"], "rest-em"),  # an unknown option takes one
        ("run", ["--out=star", "rest-em"], "rest-em"),
        ("run", ["--help"], None),
        ("solve", ["self-refine", "What is 1 + 1?"], "self-refine"),
        ("eval", ["--solver", "self-consistency"], "self-consistency"),
        ("eval", ["--solver=self-consistency"], "self-consistency"),
        ("eval", ["rest-em"], None),
    ],
)
def test_the_method_is_found_among_the_words(name: str, words: list[str], method: str | None) -> None:
    found = method_of(command(name), words)
    assert (found and found.id) == method
    assert found is None or found.shape == SHAPES[name]


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("run", ["--json"], "run needs a method; choose one of "),
        ("run", ["self-refine"], "run: self-refine is a solver, not a recipe; choose one of "),
        ("eval", ["--solver", "rest-em"], "eval: rest-em is a recipe, not a solver; choose one of "),
        ("solve", [], "solve needs a question; write it in quotes: "),
        ("run", ["rest-emm"], "method: unknown method 'rest-emm'; did you mean 'rest-em'"),
    ],
)
def test_a_missing_or_wrong_method_is_one_line(name: str, words: list[str], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        method_of(command(name), words)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["What is 1 + 1?"], ["star", "What is 1 + 1?"]),
        (["--json", "Why?"], ["star", "--json", "Why?"]),
        (["self-refine"], ["self-refine"]),  # a method without its question is refused later
        (["self-refin"], ["self-refin"]),  # misspelled, not a question
        (["my.py:solve"], ["my.py:solve"]),
        (["self-refine", "Why?"], ["self-refine", "Why?"]),
        ([], []),
    ],
)
def test_a_question_alone_gets_the_default_method(words: list[str], completed: list[str]) -> None:
    assert with_default_method(command("solve"), words, "star") == completed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jsn"], "eval: unknown option '--jsn'; did you mean '--json'?"),
        (["--jso=1"], "eval: unknown option '--jso'; did you mean '--json' or '--solver'?"),
        (["--threads", "0"], "--threads: must be ≥ 1, got 0; use the number of cores"),
        (["--threads", "two"], "eval: argument --threads: invalid int value: 'two'; see selftaught eval --help"),
        (["extra"], "eval: unexpected argument 'extra'; see selftaught eval --help"),
        (["--", "--jsn"], "eval: unexpected argument '--jsn'; see selftaught eval --help"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(command("eval"), words)
    assert str(refused.value) == message


@pytest.mark.parametrize("words", [["-2 + 5 = ?"], ["--json", "-x = 3, what is x?"], ["--json", "--", "-2+5=?"]])
def test_a_question_may_begin_with_a_minus(words: list[str]) -> None:
    parser = command("solve")
    parser.add_argument("method")
    parser.add_argument("question")
    whole = with_default_method(parser, words, "self-refine")
    assert whole == ["self-refine", *words]
    found = method_of(parser, whole)
    assert found is not None
    args = parse(parser, whole)
    assert (found.id, args.method, args.question, args.json) == (
        "self-refine",
        "self-refine",
        words[-1],
        "--json" in words,
    )


def test_a_call_without_a_method_has_none_to_choose() -> None:
    with pytest.raises(AssertionError):
        _ = Call(command("eval").parse_args([]), "selftaught eval").chosen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["methods", "--family", "voing"], "--family: unknown family 'voing'; did you mean 'voting'?"),
        (["methods", "star"], "methods: unexpected argument 'star'; see selftaught run star --help"),
        (["methods", "best_of_n"], "methods: unexpected argument 'best_of_n'; see selftaught solve best_of_n --help"),
        (["methods", "rubric"], "methods: unexpected argument 'rubric'; see selftaught eval --help"),
        (["methods", "self-training"], "methods: unexpected argument 'self-training'; use --family self_training"),
        (["methods", "qqq"], "methods: unexpected argument 'qqq'; see selftaught methods --help"),
        (["worlds", "destroy", "tiny"], "worlds: unknown action 'destroy'; known: build, examine"),
        (["worlds", "build", "tny"], "worlds: unknown world 'tny'; did you mean 'tiny'?"),
        (["evall"], "unknown command 'evall'; did you mean 'eval'"),
    ],
)
def test_bad_input_of_a_command_is_one_line_on_stderr_and_exits_with_2(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
