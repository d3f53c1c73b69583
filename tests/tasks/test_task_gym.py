"""reasoning-gym tasks: splits, configuration, and verdicts where its own scorers are lenient."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import reasoning_gym

from selftaught.errors import BadInput
from selftaught.feedback import ReasoningGym
from selftaught.records import HIDDEN, Problem, ReferenceHidden, Verdict
from selftaught.tasks import Kind, Task, load_task

SPEC = "chain_sum:min_terms=2,max_terms=2,min_digits=2,max_digits=2"


PRODUCTS = "products:min_terms=2,max_terms=2,min_digits=4,max_digits=4"
SPECS = [SPEC, PRODUCTS, "gcd", "caesar_cipher", "countdown", "dice", "graph_color", "number_sorting"]
SIZES = {"train": 30, "dev": 10, "test": 20}


@pytest.fixture(scope="module")
def loaded() -> Iterator[Callable[[str], Task]]:
    """Tasks by specification, each loaded once."""
    tasks: dict[str, Task] = {}

    def get(spec: str) -> Task:
        if spec not in tasks:
            tasks[spec] = load_task(spec, **SIZES)
        return tasks[spec]

    yield get
    for task in tasks.values():
        task.close()


Loaded = Callable[[str], Task]


@pytest.fixture
def task(loaded: Loaded) -> Task:
    return loaded(SPEC)


def ids(problems: tuple[Problem, ...]) -> list[str]:
    return [p.id for p in problems]


def oracle_scores(task: Task) -> list[float]:
    """What the dataset's own scorer, in the worker, says of the known answers."""
    verifier = task.verifier
    assert isinstance(verifier, ReasoningGym)
    return [verifier.workers.call((verifier.entries[p.id], [p.reference])).value for p in task.test]


def started(task: Task) -> int:
    assert isinstance(task.verifier, ReasoningGym)
    return task.verifier.workers.started


@pytest.mark.parametrize("spec", SPECS)
def test_splits_are_disjoint_and_without_duplicates(loaded: Loaded, spec: str) -> None:
    task = loaded(spec)
    assert {s: len(task.split(s)) for s in SIZES} == SIZES
    problems = [p for s in SIZES for p in task.split(s)]
    assert len({p.id for p in problems}) == 60
    assert len({" ".join(p.meta["question"].split()).casefold() for p in problems}) == 60


def test_the_trap_that_is_avoided_exists_and_is_avoided(loaded: Loaded) -> None:
    """Neighbouring seeds of reasoning-gym share items; neighbouring seeds here do not."""
    one, two = (reasoning_gym.create_dataset("gcd", size=50, seed=s) for s in (7, 8))
    assert len({e["question"] for e in one} & {e["question"] for e in two}) == 49
    first, second = loaded("gcd"), load_task("gcd", **SIZES, seed=1)
    shared = {p.id for s in SIZES for p in first.split(s)} & {p.id for s in SIZES for p in second.split(s)}
    assert len(shared) <= 2  # chance only
    assert first.fingerprint != second.fingerprint


def test_test_and_dev_stay_when_train_grows(task: Task) -> None:
    bigger = load_task(SPEC, train=100, dev=10, test=20)
    assert bigger.test == task.test
    assert bigger.dev == task.dev
    assert bigger.train[:30] == task.train


def test_two_processes_see_the_same_task_whatever_their_hash_seed() -> None:
    """This generator iterates over sets."""
    code = "from selftaught.tasks import load_task; print(load_task('ransom_note', train=9, dev=9, test=9).fingerprint)"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_problems_as_they_are_asked(task: Task) -> None:
    problem = task.train[0]
    assert problem.question == (
        f"{problem.meta['question']}\nThink step by step, then finish with 'Answer:' and the result."
    )
    assert task.name == "chain_sum:max_digits=2,max_terms=2,min_digits=2,min_terms=2"
    assert task.kind is Kind.NUMBER
    assert problem.meta["where"].startswith("chain_sum[seed=0,index=")
    expression = problem.meta["question"].split(":")[1].strip(" =")
    assert eval(expression) == int(problem.reference)
    bare = load_task(SPEC, **SIZES, instruction="")
    assert bare.fingerprint != task.fingerprint
    assert [p.meta["question"] for p in bare.test] == [p.meta["question"] for p in task.test]
    assert bare.train[0].question == bare.train[0].meta["question"]


def test_integer_answers_are_compared_exactly_and_without_a_process(task: Task) -> None:
    for problem in task.test:
        right = int(problem.reference)
        assert task.verify(problem, f"Well, it is {right}.\n\n**Answer:** {right}.").verdict is Verdict.RIGHT
        assert task.verify(problem, f"Answer: {right}.0").verdict is Verdict.RIGHT
        assert task.verify(problem, f"Answer: {right + 1}").verdict is Verdict.WRONG
        assert task.verify(problem, f"Answer: {right}0").verdict is Verdict.WRONG
        assert task.verify(problem, "I do not know.").text == "no answer"
    assert started(task) == 0


def test_part_of_the_answer_and_near_misses_are_wrong(loaded: Loaded) -> None:
    """The base scorer gives part of the credit to substrings, some scorers accept a near miss."""
    gcd = load_task("gcd:min_value=100,max_value=600", train=1, dev=1, test=100)
    long = [p for p in gcd.test if len(p.reference) > 1]
    assert long
    for problem in long:
        assert gcd.verify(problem, f"Answer: {problem.reference[0]}").verdict is Verdict.WRONG
        assert gcd.verify(problem, f"Answer: {problem.reference}1").verdict is Verdict.WRONG
    products = loaded(PRODUCTS)
    for problem in products.test:
        near = int(problem.reference) * 1005 // 1000
        assert products.verify(problem, f"Answer: {near}").verdict is Verdict.WRONG
        assert products.verify(problem, f"Answer: {problem.reference}").verdict is Verdict.RIGHT


def test_text_answers_without_a_scorer_of_their_own_need_no_process(loaded: Loaded) -> None:
    task = loaded("caesar_cipher")
    for problem in task.test:
        assert task.verify(problem, f"Answer: {problem.reference}").verdict is Verdict.RIGHT
        assert task.verify(problem, f"Answer: {problem.reference[:-2]}").verdict is Verdict.WRONG
    assert started(task) == 0


def test_the_datasets_own_scorer_decides_where_answers_differ(loaded: Loaded) -> None:
    task = loaded("countdown")
    for problem in task.test[:3]:
        assert task.verify(problem, f"Answer: ({problem.reference})").verdict is Verdict.RIGHT
        wrong = task.verify(problem, f"Answer: {problem.reference} + 1")
        assert wrong.verdict is Verdict.WRONG
        assert wrong.score is not None
        assert wrong.score < 1
    assert task.verify(task.test[0], f"Answer: {task.test[1].reference}").verdict is Verdict.WRONG


@pytest.mark.parametrize("spec", ["countdown", "dice", "number_sorting"])
def test_radix_cache_answers_are_right_and_score_fully(loaded: Loaded, spec: str) -> None:
    task = loaded(spec)
    for problem in task.test:
        for reply in (f"Answer: {problem.reference}", f"So:\n\n**Answer:**\n{problem.reference}\n"):
            assert task.verify(problem, reply).verdict is Verdict.RIGHT
    assert oracle_scores(task) == [1.0] * 20


def test_a_dataset_without_a_known_answer_is_scored_by_its_rules(loaded: Loaded) -> None:
    task = loaded("graph_color")
    assert task.test[0].reference is None
    assert task.verify(task.test[0], 'Answer: {"0": 1}').verdict is Verdict.WRONG
    with pytest.raises(BadInput, match=r"graph_color\[seed=.*no reference"):
        task.require(reference=True)
    task.require(reference=task.verifier.needs_reference)


def test_hidden_references_stay_hidden_and_verify_still_works(task: Task, loaded: Loaded) -> None:
    hidden = task.hidden()
    assert hidden.fingerprint == task.fingerprint
    assert ids(hidden.train) == ids(task.train)
    for open_, problem in zip(task.test[:20], hidden.test, strict=False):
        assert problem.reference is HIDDEN
        with pytest.raises(ReferenceHidden):
            str(problem.reference)
        assert open_.reference not in map(str, [problem.meta.get("solution"), problem.meta.get("answer")])
        assert hidden.verify(problem, f"Answer: {open_.reference}").verdict is Verdict.RIGHT
        assert task.verify(problem, f"Answer: {open_.reference}").verdict is Verdict.RIGHT
        assert hidden.verify(problem, "Answer: 12345678").verdict is Verdict.WRONG
    hidden.require(reference=True)
    stranger = loaded("gcd").hidden().test[0]
    assert task.verify(stranger, "Answer: 1").text == "the problem does not belong to this task"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("chain_sun", "no task 'chain_sun'.*did you mean .*'chain_sum'"),
        ("chain_sum:max_term=2", "no option 'max_term'; did you mean 'max_terms'"),
        ("chain_sum:max_terms", "'max_terms' is not key=value"),
        ("chain_sum:max_terms=two", "expected a whole number; its default is 6"),
        ("chain_sum:max_terms=2.5", "expected a whole number"),
        ("chain_sum:allow_negation=2", "expected true or false"),
        (
            "chain_sum:min_terms=9",
            "reasoning-gym rejects this configuration of chain_sum: AssertionError: max_terms must be >= min_terms",
        ),
    ],
)
def test_bad_specifications_are_one_clear_line(spec: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        load_task(spec)
    assert "\n" not in str(caught.value)


def test_too_few_distinct_problems_says_how_many_there_are_and_what_fits() -> None:
    with pytest.raises(BadInput) as caught:
        load_task("chain_sum:min_terms=1,max_terms=1,min_digits=1,max_digits=1", train=50, dev=50, test=100)
    says = str(caught.value)
    assert "only 10 distinct problems" in says
    assert "train=2, dev=2, test=5" in says


def test_option_values_are_literals() -> None:
    spec = "complex_arithmetic:operations=+|-,operations_weights=0.5|0.5,max_real=5"
    task = load_task(spec, train=1, dev=1, test=20)
    assert task.name == "complex_arithmetic:max_real=5,operations=+|-,operations_weights=0.5|0.5"
    assert not any(word in p.question for p in task.test for word in ("Multiply", "Divide"))


def test_another_verifier_may_judge_a_reasoning_gym_task() -> None:
    with load_task(SPEC, train=1, dev=1, test=2, verifier=lambda text, reference: reference in text) as task:
        assert task.verify(task.test[0], f"perhaps {task.test[0].reference} or so").verdict is Verdict.RIGHT
        assert task.verify(task.test[0], "perhaps").verdict is Verdict.WRONG
