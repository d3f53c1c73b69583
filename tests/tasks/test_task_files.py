"""Tasks from JSONL files: formats, splits, and one clear line for everything that can be wrong with a file."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.errors import BadInput
from selftaught.records import HIDDEN, Message, Verdict
from selftaught.tasks import Kind, Task, load_task

SMALL = {"train": 2, "dev": 1, "test": 1}


def write(file: Path, rows: Iterable[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def sums(n: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {"question": f"What is {i} + 1?", "answer": f"{i} + 1 = {i + 1}.\n#### {i + 1:,}"}
        for i in range(start, start + n)
    ]


def ids(task: Task, split: str) -> list[str]:
    return [p.id for p in task.split(split)]


def test_gsm8k_style(tmp_path: Path) -> None:
    file = write(tmp_path / "sums.jsonl", sums(2000))
    task = load_task(str(file), train=50, dev=20, test=30, instruction="")
    assert [len(task.split(s)) for s in ("train", "dev", "test")] == [50, 20, 30]
    assert task.kind is Kind.NUMBER
    for problem in task.test:
        n = int(problem.question.split()[2])
        assert problem.reference == f"{n + 1:,}"
        assert problem.meta["solution"].startswith(f"{n} + 1 = ")
        assert problem.meta["where"] == f"{file}:{n + 1}"
        assert task.verify(problem, f"Answer: {n + 1}").verdict is Verdict.RIGHT
        assert task.verify(problem, f"Answer: {n}").verdict is Verdict.WRONG
    assert task.name == str(file)
    assert task.notes == ()


@pytest.mark.parametrize(
    ("rows", "kind", "question", "reference"),
    [
        ([{"prompt": "Two?", "answer": 2}], Kind.NUMBER, "Two?", 2),
        ([{"question": "Two?", "target": "2"}], Kind.NUMBER, "Two?", "2"),
        ([{"problem": "Half?", "solution": "So $\\boxed{\\frac{\\sqrt{1}}{2}}$."}], Kind.MATH, "Half?",
         "\\frac{\\sqrt{1}}{2}"),
        ([{"input": "not ( True ) is", "target": "False"}], Kind.CHOICE, "not ( True ) is", "False"),
        ([{"input": "Which?\n(A) x\n(B) y", "target": "(B)"}], Kind.CHOICE, "Which?\n(A) x\n(B) y", "(B)"),
        ([{"Body": "Dan had 3.", "Question": "How many?", "Answer": 3.0}], Kind.NUMBER, "Dan had 3.\nHow many?", 3.0),
        ([{"question": "Is it?", "reference": True}], Kind.CHOICE, "Is it?", True),
        ([{"question": "Who?", "answer": "  Ada "}], Kind.TEXT, "Who?", "Ada"),
        ([{"question": "Who?", "answer": None}], Kind.TEXT, "Who?", None),
    ],
)  # fmt: skip
def test_field_names(tmp_path: Path, rows: list[Any], kind: Kind, question: str, reference: Any) -> None:
    task = load_task(str(write(tmp_path / "a.jsonl", rows)), train=1, dev=0, test=0)
    assert task.kind is kind
    assert task.train[0].meta["question"] == question
    assert task.train[0].question == f"{question}\n{task.instruction}"
    assert task.train[0].reference == reference
    if reference is not None:
        shown = rows[0].get("target", reference)
        assert task.verify(task.train[0], f"Answer: {shown}").verdict is Verdict.RIGHT
    task.close()


def test_messages(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Two?"}]
    task = load_task(str(write(tmp_path / "a.jsonl", [{"messages": messages, "answer": "2"}])), train=1, dev=0, test=0)
    assert task.train[0].prompt == (Message("system", "Be terse."), Message("user", f"Two?\n{task.instruction}"))


def test_a_folder_with_some_splits_carves_the_others(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", sums(100))
    write(tmp_path / "test.jsonl", sums(20, start=1000))
    task = load_task(str(tmp_path), train=40, dev=30, test=15)
    assert [len(task.split(s)) for s in ("train", "dev", "test")] == [40, 30, 15]
    assert {Path(p.meta["where"].rpartition(":")[0]).name for p in task.test} == {"test.jsonl"}
    assert {Path(p.meta["where"].rpartition(":")[0]).name for p in task.train + task.dev} == {"train.jsonl"}
    write(tmp_path / "validation.jsonl", sums(5, start=2000))
    task = load_task(str(tmp_path), train=40, dev=30, test=15)
    assert len(task.dev) == 5
    assert task.notes == ("dev: 5 problems, 30 were requested",)


def test_splits_named_in_the_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jsonl", sums(10))
    write(tmp_path / "b.jsonl", sums(10, start=100))
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as f:
        f.write("".join(json.dumps(row) + "\n" for row in sums(10, start=200)))
    spec = f"{tmp_path}/a.jsonl:test=b.jsonl,dev={tmp_path}/c.jsonl.gz"
    task = load_task(spec, train=10, dev=10, test=10)
    starts = {s: sorted(int(p.question.split()[2]) // 100 for p in task.split(s)) for s in ("train", "test", "dev")}
    assert starts == {"train": [0] * 10, "test": [1] * 10, "dev": [2] * 10}
    monkeypatch.chdir(tmp_path)
    near = load_task("a.jsonl:test=b.jsonl,dev=c.jsonl.gz", train=10, dev=10, test=10)
    assert near.name == "a.jsonl:dev=c.jsonl.gz,test=b.jsonl"
    assert near.fingerprint == task.fingerprint


def test_one_file_is_split_by_content_not_by_order(tmp_path: Path) -> None:
    rows = sums(60)
    one = load_task(str(write(tmp_path / "a.jsonl", rows)), train=30, dev=10, test=20)
    two = load_task(str(write(tmp_path / "b.jsonl", rows[::-1])), train=30, dev=10, test=20)
    assert one.fingerprint == two.fingerprint
    grown = load_task(str(write(tmp_path / "a.jsonl", rows)), train=5, dev=10, test=20, instruction="")
    where = {s: [p.meta["question"] for p in one.split(s)] for s in ("dev", "test")}
    assert {s: [p.meta["question"] for p in grown.split(s)] for s in ("dev", "test")} == where
    other = load_task(str(tmp_path / "a.jsonl"), train=30, dev=10, test=20, seed=1)
    assert ids(other, "test") != ids(one, "test")


@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 60), min_size=12, max_size=80),
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30)),
    seed=st.integers(0, 5),
)
def test_splits_never_share_a_problem(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], sizes: tuple[int, int, int], seed: int
) -> None:
    file = write(tmp_path_factory.mktemp("any") / "a.jsonl", [{"question": f"Q {n}", "answer": n} for n in numbers])
    try:
        task = load_task(str(file), train=sizes[0], dev=sizes[1], test=sizes[2], seed=seed)
    except BadInput as e:
        assert "too few to split" in str(e) or "are the same one" in str(e)  # noqa: PT017
        return
    every = Counter(i for s in ("train", "dev", "test") for i in ids(task, s))
    assert set(every.values()) == {1}
    assert all(0 < len(task.split(s)) <= n for s, n in zip(("train", "dev", "test"), sizes, strict=True))
    if len(set(numbers)) >= sum(sizes):
        assert tuple(len(task.split(s)) for s in ("train", "dev", "test")) == sizes


def test_too_few_problems_are_shared_out_with_a_note(tmp_path: Path) -> None:
    task = load_task(str(write(tmp_path / "a.jsonl", sums(100))))
    assert [len(task.split(s)) for s in ("train", "dev", "test")] == [41, 17, 42]
    assert task.notes[0].startswith("100 problems, 556 were requested: test 42 of 300, dev 17 of 128, train 41 of 128")
    more = load_task(str(tmp_path / "a.jsonl"), train=1000)
    assert (more.test, more.dev) == (task.test, task.dev)  # they do not depend on the size of train


def test_duplicates_in_a_file_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [*sums(10), {"question": "what is 3   + 1?", "answer": "4"}, {"question": "What is 4 + 1?", "answer": "6"}]
    task = load_task(str(write(tmp_path / "a.jsonl", rows)), train=5, dev=2, test=3)
    assert sum(len(task.split(s)) for s in ("train", "dev", "test")) == 10
    assert task.notes == ("train: 2 duplicate problems dropped, 1 of them with another answer than the first",)


BAD = [
    ('{"question": "a", "answer": "1"}\n{"question": "b", ', r"a\.jsonl:2: malformed JSON: .* column"),
    ('{"question": "a", "answer": "1"}\n\n[1, 2]\n', r"a\.jsonl:3: expected an object, got a list"),
    ('"text"\n', r"a\.jsonl:1: expected an object, got text"),
    ('{"q": "a", "answer": "1"}\n', r"a\.jsonl:1: no question: the fields are q, answer; .*messages, prompt, question"),
    ("{}\n", r"a\.jsonl:1: no question: the fields are none"),
    ('{"question": 3}\n', r"a\.jsonl:1: 'question' is a number, expected text"),
    ('{"Question": "  "}\n', r"a\.jsonl:1: 'Question' is empty"),
    ('{"messages": []}\n', r"a\.jsonl:1: 'messages' is not a list of messages"),
    ('{"messages": [{"role": "user"}]}\n', r"a\.jsonl:1: 'messages' is not a list of messages"),
    ('{"messages": [{"role": "assistant", "content": "x"}]}\n',
     r"a\.jsonl:1: the last of 'messages' is by 'assistant'"),
    ("", r"a\.jsonl: the file is empty"),
    ("\n \n", r"a\.jsonl: the file is empty"),
    ('{"question": "a"}\n{"question": " A "}\n', r"a\.jsonl:1: all 2 problems are the same one"),
    ('{"question": "a", "answer": "1"}\n', "1 distinct problem is too few to split"),
    ('{"question": "a", "answer": [1]}\n{"question": "b"}\n{"question": "c"}\n{"question": "d"}\n',
     r"a\.jsonl:1: the answer is a list, expected text or a number; .*verifier"),
    ('{"question": "half \\ud800"}\n', r"a\.jsonl:1: unpaired surrogate"),
    ('{"question": ' + "[" * 100_000 + "\n", r"a\.jsonl:1: malformed JSON"),
    ('{"question": "a", "answer": ' + "9" * 5000 + "}\n", r"a\.jsonl:1: malformed JSON: Exceeds the limit"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), BAD)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(BadInput, match=says) as caught:
        load_task(f"{tmp_path}/a.jsonl", **SMALL)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_utf8_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"question": "a"}\n{"question": "caf\xe9"}\n')
    with pytest.raises(BadInput, match=r"a\.jsonl:2: not UTF-8 at byte 18 of the line"):
        load_task(f"{tmp_path}/a.jsonl", **SMALL)


def test_a_broken_archive_names_the_line(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"question": "a"}\n' * 5_000)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"a\.jsonl\.gz:\d+: cannot read further"):
        load_task(f"{tmp_path}/a.jsonl.gz", **SMALL)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("{}/sum.jsonl", r"sum\.jsonl: cannot read it: No such file.*did you mean 'sums\.jsonl'"),
        ("{}/nowhere/sums.jsonl", r"nowhere/sums\.jsonl: cannot read it: No such file"),
        ("{}/sums.jsonl:tst=x.jsonl", "no option 'tst=x.jsonl'; write FILE.jsonl:test="),
        ("{}/sums.jsonl:test=gone.jsonl", r"gone\.jsonl: cannot read it"),
        ("{}/sums.csv", r"sums\.csv: not a \.jsonl file"),
        ("{}", r"the folder has no train\.jsonl, but sums\.csv, sums\.jsonl"),
        ("sums.jsnl", r"sums\.jsnl: cannot read it"),
    ],
)
def test_a_bad_specification_is_one_clear_line(tmp_path: Path, spec: str, says: str) -> None:
    write(tmp_path / "sums.jsonl", sums(9))
    (tmp_path / "sums.csv").write_text("question,answer\n")
    with pytest.raises(BadInput, match=says) as caught:
        load_task(spec.format(tmp_path), **SMALL)
    assert "\n" not in str(caught.value)


def test_train_and_test_that_overlap_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", sums(10))
    write(tmp_path / "b.jsonl", [*sums(3, start=50), *sums(4, start=8)])
    with pytest.raises(BadInput) as caught:
        load_task(f"{tmp_path}/a.jsonl:test=b.jsonl", **SMALL)
    says = str(caught.value)
    assert says.startswith(f"{tmp_path}/b.jsonl:4: 2 problems of test also in train, the first at {tmp_path}/a.jsonl:9")


def test_a_huge_line_is_fine(tmp_path: Path) -> None:
    rows = [{"question": f"{i} " + "long " * 100_000, "answer": str(i)} for i in range(4)]
    task = load_task(str(write(tmp_path / "a.jsonl", rows)), **SMALL)
    assert len(task.train[0].question) > 500_000


def test_a_missing_reference_is_found_only_when_it_is_needed(tmp_path: Path) -> None:
    rows = [*sums(9), {"question": "Unknown?"}]
    task = load_task(str(write(tmp_path / "a.jsonl", rows)), train=6, dev=2, test=2)
    task.require(reference=False)
    with pytest.raises(BadInput, match=r"a\.jsonl:10: the problem has no reference: 'Unknown\?"):
        task.require(reference=True)
    problem = next(p for s in ("train", "dev", "test") for p in task.split(s) if p.reference is None)
    assert task.verify(problem, "Answer: 1").text == "no reference"
    assert task.hidden().verify(problem, "Answer: 1").verdict is Verdict.UNKNOWN


def test_what_tells_the_answer_is_withheld_with_it(tmp_path: Path) -> None:
    rows = [
        {"question": f"{i} + 1?", "answer": f"so\n#### {i + 1}", "Equation": f"{i} + 1 = {i + 1}"} for i in range(9)
    ]
    task = load_task(str(write(tmp_path / "a.jsonl", rows)), **SMALL)
    hidden = task.hidden().train[0]
    assert hidden.reference is HIDDEN
    assert set(hidden.meta) == {"source", "where", "question"}
    assert {"solution", "Equation", "answer"} <= set(task.train[0].meta)


def test_negative_sizes_and_unknown_verifiers(tmp_path: Path) -> None:
    file = str(write(tmp_path / "a.jsonl", sums(9)))
    with pytest.raises(BadInput, match="test=-1: expected a size of 0 or more"):
        load_task(file, test=-1)
    with pytest.raises(BadInput, match="no verifier 'exakt'; did you mean 'exact'"):
        load_task(file, verifier="exakt", **SMALL)
    with pytest.raises(BadInput, match="'rg' scores reasoning-gym tasks only"):
        load_task(file, verifier="rg", **SMALL)


def test_a_verifier_of_ones_own_may_use_references_of_any_shape(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def any_of(text, reference):\n    return text.strip() in reference\n")
    rows = [{"question": f"Q{i}?", "answer": [f"a{i}", f"b{i}"]} for i in range(4)]
    file = write(tmp_path / "a.jsonl", rows)
    with load_task(str(file), verifier=f"{tmp_path}/mine.py:any_of", **SMALL) as task:
        problem = task.test[0]
        n = problem.meta["question"][1]
        assert task.verify(problem, f"b{n}").verdict is Verdict.RIGHT
        assert task.hidden().verify(task.hidden().test[0], f"a{n}").verdict is Verdict.RIGHT
        assert task.verify(problem, "c").verdict is Verdict.WRONG
        assert task.verify(problem, "b").source.startswith("any_of@")
