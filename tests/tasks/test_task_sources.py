"""Tasks from the `datasets` library, from users' own Python files, and ready-made ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from selftaught.errors import BadInput
from selftaught.feedback import Exact, UserFunction
from selftaught.records import Verdict, make_problem
from selftaught.tasks import Kind, Task, load_task

SMALL = {"train": 4, "dev": 2, "test": 2}
ROWS = [{"question": f"What is {i} + 1?", "answer": f"So it is.\n#### {i + 1}"} for i in range(20)]


def test_a_saved_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    task = load_task(f"hf:{tmp_path}/saved", **SMALL)
    assert [len(task.split(s)) for s in ("train", "dev", "test")] == [4, 2, 2]
    assert task.test[0].meta["where"].startswith(f"hf:{tmp_path}/saved[train]:")
    assert task.verify(task.test[0], f"Answer: {task.test[0].reference}").verdict is Verdict.RIGHT


def test_a_saved_data_set_with_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    splits = {"train": ROWS[:10], "validation": ROWS[10:13], "test": ROWS[13:]}
    data = datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in splits.items()})
    data.save_to_disk(str(tmp_path / "saved"))
    task = load_task(f"hf:{tmp_path}/saved", **SMALL)
    assert {p.meta["question"] for p in task.test} <= {r["question"] for r in splits["test"]}
    assert {p.meta["question"] for p in task.dev} <= {r["question"] for r in splits["validation"]}
    swapped = load_task(f"hf:{tmp_path}/saved:test_split=train,split=test", **SMALL)
    assert {p.meta["question"] for p in swapped.test} <= {r["question"] for r in splits["train"]}
    assert swapped.name == f"hf:{tmp_path}/saved:split=test,test_split=train"
    with pytest.raises(BadInput, match="no split 'tset'; did you mean 'test'"):
        load_task(f"hf:{tmp_path}/saved:test_split=tset", **SMALL)
    with pytest.raises(BadInput, match="no option 'spilt=test'; did you mean"):
        load_task(f"hf:{tmp_path}/saved:spilt=test", **SMALL)


def test_a_folder_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list(ROWS[:12]).to_parquet(str(tmp_path / "data" / "train.parquet"))
    datasets.Dataset.from_list(ROWS[12:]).to_parquet(str(tmp_path / "data" / "test.parquet"))
    task = load_task(f"hf:{tmp_path}/data", **SMALL)
    assert {p.meta["question"] for p in task.test} <= {r["question"] for r in ROWS[12:]}
    assert {p.meta["question"] for p in task.train} <= {r["question"] for r in ROWS[:12]}


def test_floats_of_single_precision_are_the_decimals_that_were_written(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "answer": datasets.Value("float32"),
            "choices": datasets.Sequence(datasets.Value("float32")),
        }
    )
    rows = [{"question": f"Q{i}?", "answer": i + 0.45, "choices": [] if i % 2 else None} for i in range(123, 133)]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    with load_task(f"hf:{tmp_path}/saved", **SMALL) as task:
        for problem in task.train:
            number = problem.meta["question"][1:-1]
            assert problem.reference == float(number) + 0.45
            assert task.verify(problem, f"Answer: {number}.45").verdict is Verdict.RIGHT


def test_choices_of_a_data_set_with_named_classes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "choices": datasets.Sequence(datasets.Value("string")),
            "answer": datasets.ClassLabel(names=["A", "B"]),
        }
    )
    rows = [{"question": f"Which {i}?", "choices": ["no", "this"], "answer": 1} for i in range(9)]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    task = load_task(f"hf:{tmp_path}/saved", **SMALL)
    assert task.kind is Kind.CHOICE
    assert task.test[0].reference == "B"
    assert "\n(A) no\n(B) this\n" in task.test[0].question


def test_a_data_set_without_questions_says_what_it_has(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([{"x": 1, "y": 2}]).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(BadInput, match=r"saved\[train\]:0: no question: the fields are x, y"):
        load_task(f"hf:{tmp_path}/saved", **SMALL)


def test_no_such_data_set_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://no-such-host.invalid")
    with pytest.raises(BadInput, match=r"hf:nobody/nothing-of-the-kind: cannot load it: .*check the name") as caught:
        load_task("hf:nobody/nothing-of-the-kind", **SMALL)
    assert "\n" not in str(caught.value)
    assert not constants.HF_HUB_OFFLINE


def test_without_the_library_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from selftaught.tasks import load_task; from selftaught.errors import BadInput\n"
        "try: load_task('hf:a/b')\n"
        "except BadInput as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "hf:a/b: the library `datasets` is not installed; pip install 'selftaught[data]'"


SCRIPT = """
from selftaught.records import make_problem
from selftaught.tasks import Task, Kind
from selftaught.feedback import Exact

def rows(seed):
    return [{"question": f"What is {i} + {seed}?", "answer": i + seed} for i in range(30)]

def lazily(train, test):
    for i in range(train + test + 5):
        yield make_problem(f"Problem {i}", str(i), {"note": "kept"})

def splits():
    return {"train": rows(1), "test": rows(100)}

def ready():
    return Task("mine", [], [], [make_problem("q", "a")], verifier=Exact(), kind=Kind.TEXT)

def breaks():
    return [1 / 0]

def number():
    return 3

def odd():
    return ["just text"]

def other_splits():
    return {"training": []}
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "my_task.py").write_text(SCRIPT)
    return f"{tmp_path}/my_task.py"


def test_a_function_of_rows(script: str) -> None:
    task = load_task(f"{script}:rows", seed=3, **SMALL)
    assert task.kind is Kind.NUMBER
    assert all(p.meta["question"].endswith("+ 3?") for p in task.train)
    assert task.train[0].question.endswith(task.instruction)
    assert task.verify(task.test[0], f"Answer: {task.test[0].reference}").verdict is Verdict.RIGHT


def test_a_function_of_problems_is_asked_as_it_says(script: str) -> None:
    task = load_task(f"{script}:lazily", **SMALL)
    assert task.train[0].question == f"Problem {task.train[0].reference}"
    assert task.train[0].meta["note"] == "kept"


def test_a_function_of_splits(script: str) -> None:
    task = load_task(f"{script}:splits", **SMALL)
    assert all(p.meta["question"].endswith("+ 100?") for p in task.test)
    assert all(p.meta["question"].endswith("+ 1?") for p in task.train + task.dev)


def test_a_function_that_makes_the_task_itself(script: str) -> None:
    task = load_task(f"{script}:ready")
    assert task.name == "mine"
    assert load_task(task) is task


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("row", r"my_task\.py: no function 'row' in the task's file; did you mean 'rows'"),
        ("breaks", r"my_task\.py:20: the task's function raised ZeroDivisionError: division by zero"),
        ("number", r"the task's function returned a int; return a list"),
        ("odd", r"my_task\.py:odd\[train\]:0: expected an object, got text"),
        ("other_splits", r"the task's function returned the splits training; return 'train'"),
    ],
)
def test_what_a_script_gets_wrong_is_one_clear_line(script: str, function: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        load_task(f"{script}:{function}", **SMALL)
    assert "\n" not in str(caught.value)


def raises(problem: object, text: str) -> bool:
    raise RuntimeError("broken verifier")


def test_a_verifier_that_raises_never_stops_a_run() -> None:
    problem = make_problem("q", "a")
    with Task("mine", [problem], [], [], verifier=UserFunction(raises), kind=Kind.TEXT) as task:
        feedback = task.verify(problem, "Answer: a")
    assert feedback.verdict is Verdict.UNKNOWN
    assert feedback.text == "verifier raised: RuntimeError: broken verifier"
    assert feedback.source == task.verifier.version


class Breaks(Exact):
    """A verifier object that raises in our own process."""

    def judge(self, problem: object, answer: object, reference: object) -> object:  # pyright: ignore
        raise KeyError("oops")


def test_not_even_a_verifier_object_that_raises() -> None:
    problem = make_problem("q", "a")
    task = Task("mine", [problem], [], [], verifier=Breaks(), kind=Kind.TEXT)
    assert task.verify(problem, "Answer: a").text == "verifier raised: KeyError: 'oops'"


def test_a_problem_from_elsewhere_is_judged_by_its_own_reference() -> None:
    task = Task("mine", [make_problem("q", "a")], [], [], verifier=Exact(), kind=Kind.TEXT)
    assert task.verify(make_problem("new", "b"), "Answer: b").verdict is Verdict.RIGHT
    assert task.verify(make_problem("q", "z"), "Answer: a").verdict is Verdict.RIGHT  # the id decides


def test_the_fingerprint_follows_content_verifier_and_instruction() -> None:
    def make(reference: str = "a", verifier: object = None, **other: str) -> str:
        problem = make_problem("q", reference)
        kind = Kind(other.pop("kind", "text"))
        return Task("x", [problem], [], [], verifier=verifier or Exact(), kind=kind, **other).fingerprint  # pyright: ignore

    prints = [make(), make("b"), make(verifier=UserFunction(raises)), make(instruction="Go."), make(kind="string")]
    assert len(set(prints)) == len(prints)
    assert make() == prints[0]
