"""Code tasks: rows with tests, the code in a reply, and the verdict of the tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.feedback.code import saying_result
from selftaught.records import Verdict
from selftaught.tasks import Kind, load_task
from selftaught.tasks.code import INSTRUCTION, find_code

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
DOCUMENTED = 'def f():\n    """\n    ```\n    x\n    ```\n    """\n    return 1'
HUMANEVAL = {
    "task_id": "T/0",
    "prompt": 'import math\n\ndef helper(x):\n    return x + 1\n\ndef area(r: float) -> float:\n    """Of a disc."""\n',
    "entry_point": "area",
    "canonical_solution": "    return math.pi * r * r\n",
    "test": "def check(candidate):\n    assert abs(candidate(1) - 3.14159) < 1e-3\n    assert helper(1) == 2\n",
}
MBPP = {
    "text": "Write a function that adds.",
    "question": "Write a function that adds.",
    "code": "def add(a, b):\n    return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(-1, 1) == zero"],
    "test_setup_code": "zero = 0",
}
PAIRS = {"question": "Print the sum of two lines.", "tests": [{"input": "1\n2\n", "output": "3"}]}


def task_of(tmp_path: Path, *rows: dict[str, Any], **how: Any) -> Any:
    (tmp_path / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_task(str(tmp_path / "code.jsonl"), train=0, dev=0, test=len(rows), **how)


def verdict(task: Any, reply: str) -> tuple[Verdict, float | None]:
    found = task.verify(task.test[0], reply)
    return found.verdict, found.score


def test_humaneval(tmp_path: Path) -> None:
    with task_of(tmp_path, HUMANEVAL) as task:
        assert (task.kind, task.instruction) == (Kind.CODE, INSTRUCTION)
        problem = task.test[0]
        assert problem.prompt[-1].content == f"{HUMANEVAL['prompt'].strip()}\n{INSTRUCTION}"
        assert "def area" in problem.meta["solution"]
        whole = "Here:\n```python\ndef area(r):\n    return math.pi * r ** 2\n```\nThat is all."
        assert verdict(task, whole) == (Verdict.RIGHT, 1.0)  # with the imports of the prompt
        assert verdict(task, HUMANEVAL["canonical_solution"]) == (Verdict.RIGHT, 1.0)  # as a continuation
        assert verdict(task, "```python\ndef area(r): return r\n```") == (Verdict.WRONG, 0.0)
        assert verdict(task, "I do not know.") == (Verdict.UNKNOWN, None)
        own = "```python\nclass E(float): pass\ndef area(r): return E(3.14159)\n```"
        assert verdict(task, own)[0] is Verdict.RIGHT  # a float of a class of its own is a float


def test_mbpp_scores_the_share_of_its_tests(tmp_path: Path) -> None:
    with task_of(tmp_path, MBPP) as task:
        assert verdict(task, "```python\ndef add(a, b): return a + b\n```") == (Verdict.RIGHT, 1.0)
        found, score = verdict(task, "```python\ndef add(a, b): return 0\n```")
        assert (found, score) == (Verdict.WRONG, pytest.approx(2 / 3))
        assert task.test[0].meta["solution"] == MBPP["code"]


def test_programs_by_input_and_output(tmp_path: Path) -> None:
    with task_of(tmp_path, PAIRS) as task:
        assert verdict(task, "```python\nprint(int(input()) + int(input()))\n```") == (Verdict.RIGHT, 1.0)
        assert verdict(task, "```python\nprint(2)\n```") == (Verdict.WRONG, 0.0)
        found = task.verify(task.test[0], "```python\nprint(1 / 0)\n```")
        assert found.verdict is Verdict.WRONG
        assert "ZeroDivisionError" in found.text


def test_tests_are_withheld_like_references(tmp_path: Path) -> None:
    with task_of(tmp_path, MBPP) as task:
        hidden = task.hidden().test[0]
        assert "assert" not in repr(hidden)
        assert "zero" not in repr(hidden)
        assert task.hidden().verify(hidden, "```python\ndef add(a, b): return a + b\n```").verdict is Verdict.RIGHT


def test_an_answer_stands_before_tests_where_it_is_named_or_a_users_verifier_judges(tmp_path: Path) -> None:
    row = {**MBPP, "answer": "42"}
    with task_of(tmp_path, row, answer_field="answer") as task:
        assert (task.kind, task.test[0].reference) == (Kind.NUMBER, "42")
    with task_of(tmp_path, row, verifier=lambda problem, text: True) as task:
        assert task.test[0].reference == "42"


def test_rows_without_tests_among_others_are_refused_by_the_verifier(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"code\.jsonl:1.*expected text or a number"):
        task_of(tmp_path, MBPP, {"question": "What?", "answer": "4"})
    with pytest.raises(BadInput, match="not every row has some"):
        task_of(tmp_path, {"question": "What?", "answer": "4"}, verifier="tests")
    with pytest.raises(BadInput, match="no entry point"):
        task_of(tmp_path, {"question": "What?", "tests": "def check(c):\n    assert c(1) == 2"})
    with pytest.raises(BadInput, match="is no text"):
        task_of(tmp_path, {"question": "What?", "tests": [{"input": [1], "output": "2"}]})


def test_fields_of_other_tasks_are_no_tests(tmp_path: Path) -> None:
    rows = [
        {"question": "Diagnosis?", "answer": "anemia", "tests": "Lab tests raise suspicion."},
        {"question": "And this?", "answer": "gout", "tests": ["CBC", "MRI"]},
        {"question": "And that?", "answer": "flu", "test": "They raise money", "entry_point": "door"},
    ]
    with task_of(tmp_path, *rows) as task:
        assert task.kind is Kind.TEXT
        assert {p.reference for p in task.test} == {"anemia", "gout", "flu"}


def test_mbpp_tells_what_to_define_and_has_its_imports(tmp_path: Path) -> None:
    row = {
        "text": "Volume of a ball.",
        "code": "def volume(r): return r",
        "test_list": ["assert volume(1) == 4 * math.pi / 3"],
    }
    with task_of(tmp_path, {**row, "test_imports": ["import math"]}) as task:
        assert "The tests call volume(r)." in task.test[0].question
        right = "```python\nimport math\ndef volume(r): return 4 * math.pi * r ** 3 / 3\n```"
        assert verdict(task, right) == (Verdict.RIGHT, 1.0)
    named = {"question": "Add.", "code": "def sum(a, b): return a + b", "test_list": ["assert sum(1, 2) == 3"]}
    with task_of(tmp_path, named) as task:
        assert verdict(task, "```python\ndef sum(a, b): return a + b\n```") == (Verdict.RIGHT, 1.0)


def test_inputs_and_outputs_as_columns(tmp_path: Path) -> None:
    with task_of(
        tmp_path, {"question": "Sum.", "tests": {"input": ["1\n2\n", "2\n2\n"], "output": ["3", "4"]}}
    ) as task:
        assert verdict(task, "```python\nprint(int(input()) + int(input()))\n```") == (Verdict.RIGHT, 1.0)
        assert verdict(task, "```python\nprint(3)\n```") == (Verdict.WRONG, 0.5)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("First\n```python\nx = 1\n```\nbetter\n```py\nx = 2\n```\nok", "x = 2"),
        ("```\nx = 1\n```", "x = 1"),
        ("```python\nx = 1\n```\n```bash\npip install x\n```", "x = 1"),
        ("<think>```python\nx = 1\n```</think>```python\nx = 2\n```", "x = 2"),
        ("<think>```python\nx = 1\n```</think>\n```python\nx = 2\n```", "x = 2"),
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("    return 1\n", "    return 1"),
        ("```python\nx = 1", "x = 1"),
        ("```python\ndef f(:", None),
        ("```bash\nls\n```", None),
        ("The answer is 42.", None),
        ("42", None),
        ("```python\ndef f(): pass\n```\nOutput:\n```\n6\n```", "def f(): pass"),
        ("```python\ndef f(): pass\n```\nExample:\n```python\nprint(f())\n```", "def f(): pass"),
        ("1. So:\n   ```python\n   def f(x):\n       return x\n   ```", "def f(x):\n    return x"),
        ('```python\ndef f():\n    """\n    ```\n    x\n    ```\n    """\n    return 1\n```', DOCUMENTED),
        ("```python\ndef f(): pass\n```\n```python\ndef f(x", "def f(): pass"),
        ("Use `x = 1` or ```y``` here.", None),
        ("", None),
    ],
)
def test_the_code_in_a_reply(reply: str, code: str | None) -> None:
    from selftaught.tasks.extract import find_answer

    found = find_answer(reply, Kind.CODE)
    assert (found and found.raw) == code


def test_the_last_block_wins_even_in_a_long_reply() -> None:
    assert find_code("```python\na = 1\n```\n" * 2000 + "```python\nb = 2\n```") == "b = 2"


# --- tests that solvers may see ---

EXAMPLES = '''
from typing import List

def helper(x):
    """
    >>> helper(1)
    3
    """

def area(sides: List[int], unit=1) -> float:
    """The product.

    >>> area([2, 3])  # of two
    6
    >>> area([2], helper(4))
    8
    >>> area(sides)
    5
    >>> helper(2)
    2
    >>> area([])
    None of them
    """
'''
IN_PROSE = '''
def area(sides):
    """The product; area(1) = 1 by convention, and area(x) == 2.

    area([2, 3]) ➞ 6
    * area([4]) => 4
    1. area([5]) == 5
    """
'''


def visible(task: Any) -> Any:
    return task.test[0].meta.get("visible_tests")


def humaneval(prompt: str) -> dict[str, Any]:
    return HUMANEVAL | {"prompt": prompt, "test": "def check(candidate):\n    assert candidate([7]) == 7\n"}


def test_the_examples_of_humaneval_are_visible(tmp_path: Path) -> None:
    with task_of(tmp_path, humaneval(EXAMPLES)) as task:
        assert visible(task)["tests"] == ["assert area([2, 3]) == 6", "assert area([2], helper(4)) == 8"]
        right = task.verify_shown(task.test[0], "```python\ndef area(sides, unit=1): return 6 if sides[1:] else 8\n```")
        assert (right.verdict, right.kind) == (Verdict.RIGHT, "shown")
        assert "it is 5" in task.verify_shown(task.test[0], "```python\ndef area(*_): return 5\n```").text
        assert task.verify(task.test[0], "```python\ndef area(*_): return 7\n```").verdict is Verdict.RIGHT
    with task_of(tmp_path, humaneval(IN_PROSE)) as task:
        assert visible(task)["tests"] == ["assert area([2, 3]) == 6", "assert area([4]) == 4", "assert area([5]) == 5"]


@pytest.mark.parametrize(
    "prompt", ["def area(x):\n    pass", 'def area(x):\n    """\n    >>>area(1)\n    1\n    """\n']
)
def test_without_examples_there_are_no_visible_tests(tmp_path: Path, prompt: str) -> None:
    with task_of(tmp_path, humaneval(prompt)) as task:
        assert (visible(task), task.shown) == (None, None)


def test_the_first_test_of_mbpp_is_visible(tmp_path: Path) -> None:
    with task_of(tmp_path, MBPP, MBPP | {"test_list": [], "tests": MBPP["test_list"], "question": "Add."}) as task:
        shown = [problem.meta.get("visible_tests") for problem in task.test]
        assert [one and one["tests"] for one in shown] == [["assert add(1, 2) == 3"], None]
        two = [task.verify_shown(problem, "```python\ndef add(a, b): return 3\n```") for problem in task.test]
        assert [(one.verdict, one.text) for one in two] == [(Verdict.RIGHT, ""), (Verdict.UNKNOWN, "no tests")]


def test_visible_inputs_and_outputs_are_named_in_the_text(tmp_path: Path) -> None:
    row = PAIRS | {"public_tests": {"input": ["2\n2\n"], "output": ["4"]}}
    with task_of(tmp_path, row) as task:
        found = task.verify_shown(task.test[0], "```python\nprint(5)\n```")
        assert found.verdict is Verdict.WRONG
        assert found.text.splitlines()[1:] == ["input: 2", "2", "expected: 4", "printed: 5"]


def test_hidden_tests_do_not_become_visible(tmp_path: Path) -> None:
    whole = "assert add(1, 2) == 3\nassert add(0, 0) == 0"
    rows = [HUMANEVAL | {"test_list": MBPP["test_list"]}, MBPP | {"test_list": [whole]}, MBPP | {"test_list": whole}]
    for row in rows:
        with task_of(tmp_path, row) as task:
            assert (visible(task), task.shown) == (None, None)


def test_public_tests_of_another_form_are_left_alone(tmp_path: Path) -> None:
    for other in ('[{"input": "1", "output": "2"}]', ["add(1, 2)"], [{"input": 1, "output": 2}]):
        with task_of(tmp_path, PAIRS | {"public_tests": other}) as task:
            assert task.shown is None
    with task_of(tmp_path, MBPP | {"visible_tests": []}) as task:
        assert visible(task)["tests"] == MBPP["test_list"][:1]


def test_only_a_call_is_said_to_come_to_something() -> None:
    assert "it is" in saying_result("assert f(1) == 2")
    for other in ("assert 2 == f(1)", "assert 0 < f(1) < 9", "assert f(1)", "assert f(1) == 2, 'two'"):
        assert "it is" not in saying_result(other)


def test_visible_tests_that_cannot_fail_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"code.jsonl:1.*'visible_tests' is neither Python that can fail nor inputs"):
        task_of(tmp_path, MBPP | {"visible_tests": ["add(1, 2)"]})
