"""Verdicts: exact, mathematical, and by users' functions."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftaught.errors import BadInput
from selftaught.feedback.user import UserFunction, call_form, user_verifier
from selftaught.feedback.verdicts import parse_verifier_result
from selftaught.feedback.verifiers import Exact, ExtractedAnswer, Math
from selftaught.records import Feedback, Verdict, make_problem
from selftaught.tasks.extract import Kind, canonical_answer, find_answer

RIGHT, WRONG, UNKNOWN = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def judged(verifier: Exact | Math, kind: Kind, reference: str, text: str) -> Feedback:
    answer = ExtractedAnswer(text, *(find_answer(text, kind) or (None, None)))
    return verifier.judge(make_problem("q", reference), answer, canonical_answer(reference, kind))


@pytest.fixture(scope="module")
def math() -> Iterator[Math]:
    verifier = Math()
    yield verifier
    verifier.close()


@pytest.mark.parametrize(
    ("kind", "reference", "text", "verdict"),
    [
        (Kind.TEXT, "Paris", "Answer: paris.", RIGHT),
        (Kind.TEXT, "Paris", "Answer: Rome", WRONG),
        (Kind.TEXT, "Paris", "no marker here", UNKNOWN),
        (Kind.CHOICE, "(B)", "Answer: B", RIGHT),
        (Kind.CHOICE, "(B)", "Answer: (A)", WRONG),
        (Kind.CHOICE, "Yes", "Answer: yes", RIGHT),
        (Kind.NUMBER, "42", "Answer: 42.0", RIGHT),
        (Kind.NUMBER, "42", "Answer: 4", WRONG),
        (Kind.NUMBER, "0.5", "Answer: 1/2", RIGHT),
    ],
)
def test_exact(kind: Kind, reference: str, text: str, verdict: Verdict) -> None:
    assert judged(Exact(), kind, reference, text).verdict is verdict


@pytest.mark.parametrize(
    ("reference", "text", "verdict"),
    [
        ("42", "Answer: 42", RIGHT),
        ("42", "Answer: 4", WRONG),
        ("4", "Answer: 42", WRONG),
        ("1000", "Answer: 1005", WRONG),
        ("7", "Answer: 7.0000001", WRONG),
        ("7", "Answer: 7.00", RIGHT),
        ("1000", "Answer: 1,000 dollars", RIGHT),
        ("153", "Answer: 60 + 93", WRONG),  # a sum left undone is no number
        ("3", "Answer: 3 or 4", WRONG),
        ("153", "no answer in here", UNKNOWN),
        ("1/3", "Answer: 0.333333", RIGHT),
    ],
)
def test_plain_numbers_are_compared_in_process(math: Math, reference: str, text: str, verdict: Verdict) -> None:
    before = math.workers.started
    assert judged(math, Kind.NUMBER, reference, text).verdict is verdict
    assert math.workers.started == before


def test_ten_thousand_integers_take_less_than_a_second_and_no_process() -> None:
    verifier = Math()
    start = time.process_time()
    verdicts = {judged(verifier, Kind.NUMBER, str(i), f"so {i} it is.\n\nAnswer: {i}").verdict for i in range(10_000)}
    assert time.process_time() - start < 1.5
    assert verdicts == {RIGHT}
    assert verifier.workers.started == 0


TABLE = [
    ("\\frac{1}{2}", "0.5"),
    ("\\frac{1}{2}", "\\frac{2}{4}"),
    ("\\sqrt{2}/2", "\\frac{1}{\\sqrt{2}}"),
    ("\\sqrt{2}/2", "\\frac{1}{\\sqrt{3}}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("x^2+2x+1", "(x-1)^2"),
    ("(1,2)", "(1, 2)"),
    ("(1,2)", "(2,1)"),
    ("\\{1,2\\}", "\\{2,1\\}"),
    ("[0,1)", "[0, 1)"),
    ("[0,1)", "[0,1]"),
    ("10", "10.0"),
    ("10", "11"),
    ("1/3", "0.333333"),
    ("1/3", "0.33"),
    ("50", "50\\%"),
    ("2\\pi", "2*\\pi"),
    ("1024", "2^{10}"),
    ("1000", "1005"),
    ("42", "4"),
    ("x=5", "5"),
    ("5", "x=5"),
    ("1,234", "1234"),
    ("90", "90^\\circ"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}"),
    ("\\infty", "\\infty"),
    ("3+4i", "4i+3"),
    ("e^{2}", "e^2"),
    ("\\sqrt{16}", "4"),
    ("4", "\\sqrt{16}"),
    ("840840", "840840"),
    ("16", "16**"),
    ("\\text{Evelyn}", "Evelyn"),
]


@pytest.mark.parametrize(("gold", "answer"), TABLE)
def test_math_agrees_with_math_verify_itself(math: Math, gold: str, answer: str) -> None:
    from math_verify import parse, verify

    expected = RIGHT if verify(parse(f"${gold}$"), parse(f"${answer}$")) else WRONG
    assert judged(math, Kind.MATH, gold, f"Let us see.\nAnswer: ${answer}$").verdict is expected


def test_math_works_off_the_main_thread_where_math_verify_alone_cannot(math: Math) -> None:
    results: list[Verdict] = []
    thread = threading.Thread(
        target=lambda: results.append(judged(math, Kind.MATH, "\\sqrt{2}/2", "\\boxed{\\frac{1}{\\sqrt{2}}}").verdict)
    )
    thread.start()
    thread.join(60)
    assert results == [RIGHT]


def test_an_answer_that_takes_for_ever_is_unknown() -> None:
    verifier = Math(timeout=1.0)
    try:
        feedback = judged(verifier, Kind.MATH, "\\sqrt{2}", "Answer: $9^{9^{9^{9^{9}}}}!$")
        assert feedback.verdict is UNKNOWN
        assert feedback.text.split(":")[0] in ("timeout", "verifier raised", "verifier died")
        assert judged(verifier, Kind.MATH, "\\sqrt{2}/2", "Answer: $1/\\sqrt{2}$").verdict is RIGHT
    finally:
        verifier.close()


def test_what_does_not_parse_is_unknown(math: Math) -> None:
    feedback = judged(math, Kind.MATH, "\\sqrt{2}", "Answer: $\\frac{}{$")
    assert (feedback.verdict, feedback.text) == (UNKNOWN, "unparseable answer")


@pytest.mark.parametrize(
    ("result", "verdict", "score"),
    [
        (True, RIGHT, 1.0),
        (False, WRONG, 0.0),
        (1, RIGHT, 1.0),
        (1.0, RIGHT, 1.0),
        (0.999, WRONG, 0.999),
        (0, WRONG, 0.0),
        (-3.0, WRONG, 0.0),
        (7.5, RIGHT, 1.0),
        (float("nan"), UNKNOWN, None),
        (None, UNKNOWN, None),
        ("yes", UNKNOWN, None),
        ([1], UNKNOWN, None),
        (np.bool_(True), RIGHT, 1.0),
        (np.float32(0.5), WRONG, 0.5),
        (Feedback(RIGHT, 0.9, "well done"), RIGHT, 0.9),
    ],
)
def test_what_a_function_may_return(result: Any, verdict: Verdict, score: float | None) -> None:
    got = parse_verifier_result(result)
    assert got[0] == verdict
    assert got[1] == (pytest.approx(score) if score is not None else None)


def by_problem(problem: Any, text: str) -> bool:
    return problem.reference in text


def by_reference(text: str, reference: str) -> bool:
    return reference in text


@pytest.mark.parametrize("function", [by_problem, by_reference, lambda problem, text: problem.reference in text])
def test_both_signatures(function: Callable[..., Any]) -> None:
    verifier = UserFunction(function)
    try:
        problem = make_problem("What is 6 * 7?", "42")
        assert verifier.judge(problem, ExtractedAnswer("it is 42", None, None), None).verdict is RIGHT
        feedback = verifier.judge(problem, ExtractedAnswer("it is 41", None, None), None)
        assert feedback == Feedback(WRONG, 0.0, "", verifier.version)
    finally:
        verifier.close()


def test_the_signature_is_told_by_the_names() -> None:
    assert call_form(by_reference, "f") == "reference"
    assert call_form(by_problem, "f") == "problem"
    assert call_form(lambda answer, gold: True, "f") == "reference"
    assert call_form(lambda p, t: True, "f") == "problem"
    assert call_form(lambda problem, text, strict=True: True, "f") == "problem"
    assert call_form(functools.partial(by_reference), "f") == "reference"


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda text: True, r"takes \(text\)"),
        (lambda a, b, c: True, r"takes \(a, b, c\)"),
        (lambda gold, target: True, r"takes \(gold, target\)"),
        (lambda text, problem: True, r"takes \(text, problem\)"),
    ],
)
def test_other_signatures_are_refused(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        UserFunction(function)


def test_what_cannot_be_shipped_is_refused() -> None:
    lock = threading.Lock()

    def check(problem: Any, text: str) -> bool:
        return lock.locked()

    with pytest.raises(BadInput, match="cannot be sent to a worker process"):
        UserFunction(check)


def test_the_version_follows_the_code() -> None:
    def make(limit: int) -> Callable[..., bool]:
        def check(problem: Any, text: str) -> bool:
            return len(text) < limit

        return check

    def check(problem: Any, text: str) -> bool:
        return len(text) > 3

    versions = [UserFunction(f).version for f in (make(3), make(3), make(4), check)]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3
    first = eval("lambda problem, text: len(text) == 1")
    second = eval("lambda problem, text: len(text) == 2")
    assert UserFunction(first).version != UserFunction(second).version


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def test_a_function_from_a_file_with_its_helpers_and_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "neighbour_of_mine.py", "WORD = 'please'\n")
    file = write(
        tmp_path / "mine.py",
        "import neighbour_of_mine\n"
        "def tidy(text):\n    return text.strip().lower()\n"
        "def polite(problem, text):\n    return neighbour_of_mine.WORD in tidy(text)\n",
    )
    verifier = user_verifier(f"{file}:polite")
    try:
        problem = make_problem("q")
        assert verifier.judge(problem, ExtractedAnswer("Yes PLEASE", None, None), None).verdict is RIGHT
        assert verifier.judge(problem, ExtractedAnswer("Yes", None, None), None).verdict is WRONG
        before = verifier.version
    finally:
        verifier.close()
    file.write_text(file.read_text().replace("lower", "casefold"))  # a helper changed
    assert user_verifier(f"{file}:polite").version != before


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("{}/mine.py:polte", "no function 'polte'.*did you mean 'polite'"),
        ("{}/mine.py", "which function.*mine.py:polite"),
        ("{}/min.py:polite", "No such file.*did you mean 'mine.py'"),
        ("{}/broken.py:f", "broken.py:2: not valid Python"),
        ("{}/raises.py:f", "raises.py:3: the file raises ZeroDivisionError"),
    ],
)
def test_a_misspelt_file_or_function_is_one_clear_line(tmp_path: Path, spec: str, says: str) -> None:
    write(tmp_path / "mine.py", "def polite(problem, text):\n    return True\n")
    write(tmp_path / "broken.py", "x = 1\ndef f(:\n")
    write(tmp_path / "raises.py", "def f(problem, text):\n    pass\n1 / 0\n")
    with pytest.raises(BadInput, match=says) as caught:
        user_verifier(spec.format(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}", WRONG),  # six decimal places tell nothing of small numbers
        ("\\sqrt{\\frac{1}{n}}", "\\frac{1}{\\sqrt{n}}", RIGHT),
        ("x", "\\sqrt{x^2}", WRONG),
        ("11_8", "11_{16}", WRONG),
        ("9", "11_8", UNKNOWN),
        ("1, 2, \\ldots, n", "1, 2, \\dots, n", RIGHT),
        ("1, 2, \\ldots, n", "1, 3, \\ldots, 2n-1", WRONG),
        ("n \\equiv 1 \\pmod{4}", "n \\equiv 5 \\pmod 4", RIGHT),
        ("n \\equiv 1 \\pmod{4}", "n \\equiv 1 \\pmod 8", WRONG),
        ("2 \\text{ or } 4", "x=4 \\text{ or } x=2", RIGHT),
        ("(-\\infty, 3) \\cup (5, \\infty)", "x<3 \\text{ or } x>5", RIGHT),
        ("(-\\infty, 3) \\cup (5, \\infty)", "x<3 \\text{ or } x>6", WRONG),
        ("12", "12 \\text{ or more}", UNKNOWN),
        ("12", "12 \\star 3", UNKNOWN),
        ("x<1", "y<1", UNKNOWN),
        ("x<1 \\text{ or } x>2", "x<1 \\text{ or } y>2", UNKNOWN),
        ("(-\\infty, 1)", "y<1", RIGHT),
        ("\\pi", "3.14159", UNKNOWN),  # a decimal near it: whether that will do, the question alone tells
    ],
)
def test_forms_that_math_verify_does_not_know(math: Math, gold: str, answer: str, verdict: Verdict) -> None:
    assert judged(math, Kind.MATH, gold, f"\\boxed{{{answer}}}").verdict is verdict
