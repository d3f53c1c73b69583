"""The family `paths`: questions, verdicts, annotations, and what its writer knows."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

import selftaught as st
from selftaught.errors import BadInput
from selftaught.records import Message, Verdict
from selftaught.refine.turns import error_step, finds_no_error
from selftaught.samples import Sample
from selftaught.worlds import problem_worlds, world_of_task
from selftaught.worlds.kit.annotator import right_critique
from selftaught.worlds.kit.family import Context, split_reply
from selftaught.worlds.kit.process import Choice, greedy, read, sampled, write
from selftaught.worlds.kit.writer import is_held_out
from selftaught.worlds.tiny.family import Paths
from selftaught.worlds.tiny.question import Chain, read_chain
from selftaught.worlds.tiny.skills import BASE, NO_WAIT, OTHER, TEACHER, WEAK
from selftaught.worlds.tiny.table import make_table
from selftaught.worlds.tiny.writer import paths_writer

PATHS = Paths()
R, W = Verdict.RIGHT, Verdict.WRONG
QUESTION = "paths 3: 54 1) +8 2) *2 3) -3"  # 62 = 1, 2, -1 = 60 (mod 61)
CHAIN = read_chain(QUESTION, 61)
assert CHAIN is not None
GOOD = "1) A 54 +8 1\n2) B 1 *2 2\n3) C 2 -3 60\nAnswer: 60"
SLIP = "1) A 54 +8 1\n2) B 1 *2 3\n3) C 3 -3 0\nAnswer: 0"


@pytest.mark.parametrize(
    "question",
    [
        QUESTION,
        "start 2: 5 then 1) +3 then 2) *4",
        "from 2: 5 do 1) +3 (-2) 2) *4",
        "paths 1: 5 (+3) 1) +4 by C",
        "paths 1: 0 1) *8",
    ],
)
def test_questions_are_read_back(question: str) -> None:
    chain = read_chain(question, 61)
    assert chain is not None
    assert str(chain) == question


@pytest.mark.parametrize(
    "text", ["", "paths 1: 61 1) +3", "paths 5", "paths 5 +9", "start 1: 5 1) +3", "paths 1: 5 1) +3 by D", "judge"]
)
def test_other_texts_are_no_questions(text: str) -> None:
    assert read_chain(text, 61) is None


def test_an_operation_in_parentheses_does_not_count() -> None:
    assert Chain(5, (" +3",), (" *4",)).value(61) == 8


def test_an_operation_in_parentheses_is_at_times_done_in_the_place_of_a_step() -> None:
    question = "paths 2: 5 (+3) 1) *4 2) -2"
    choice = read(PATHS.solve(PATHS.read(question), Context()), ["1) ", "A"])[2]  # type: ignore[arg-type]
    assert isinstance(choice, Choice)
    assert (choice.right, set(choice.distribution())) == (" 5 *4", {" 5 *4", " 5 +3"})
    strayed = ["1) ", "A", " 5 +3", " 8", "\n"]
    after = read(PATHS.solve(PATHS.read(question), Context()), strayed)[5]  # type: ignore[arg-type]
    assert (after if isinstance(after, str) else greedy(after)) == "2) "
    checked = PATHS.check(PATHS.read(question), None, ("1) A 5 +3 8", "2) A 8 -2 6"), "6")
    assert (checked.steps, checked.answer) == ((Verdict.WRONG, Verdict.RIGHT), Verdict.WRONG)


@pytest.mark.parametrize(
    ("text", "steps", "answer", "first"),
    [
        (GOOD, (R, R, R), R, None),
        (SLIP, (R, W, R), W, 2),
        ("1) A 54 +8 1\n2) B 1 *2 3\nwait\n2) C 1 *2 2\n3) C 2 -3 60\nAnswer: 60", (R, W, R, R, R), R, None),
        ("1) A 54 +8 1\n2) B 2 *2 4\nAnswer: 4", (R, W), W, 2),  # takes another value than it reached
        ("1) A 54 +8 1\nnonsense\nAnswer: 60", (R, W), R, 2),
    ],
)
def test_steps_are_judged_given_those_before(
    text: str, steps: tuple[Verdict, ...], answer: Verdict, first: int | None
) -> None:
    checked = PATHS.check(CHAIN, None, *split_reply(text))
    assert (checked.steps, checked.answer, checked.first_error) == (steps, answer, first)


def test_the_annotator_mends_from_the_first_error_on() -> None:
    assert right_critique(PATHS, CHAIN, None, SLIP) == "1)  1+2)  2-\nstep 2) 1 *2 2"
    assert PATHS.mended(CHAIN, None, SLIP) == GOOD
    assert right_critique(PATHS, CHAIN, None, GOOD) == "1)  1+2)  2+3)  60+\nno mistakes"
    assert PATHS.mended(CHAIN, None, GOOD) == GOOD
    unfinished = "1) A 54 +8 1\n2) B 1 *2 2"
    assert right_critique(PATHS, CHAIN, None, unfinished) == "1)  1+2)  2+\nstep 3) 2 -3 60"
    misread = GOOD.replace("Answer: 60", "Answer: 59")
    assert right_critique(PATHS, CHAIN, None, misread) == "1)  1+2)  2+3)  60+\nstep 4) 60"
    assert PATHS.mended(CHAIN, None, misread) == GOOD


def test_methods_read_the_annotators_critiques() -> None:
    task = st.load_task("tiny:level=3", train=1, dev=0, test=0)
    problem = task.train[0]
    good = task.annotator.solution(problem)
    assert task.verify(problem, good).verdict is R
    first, rest = good.split("\n", 1)
    wrong = f"{first.rpartition(' ')[0]} {(int(first.rpartition(' ')[2]) + 1) % 61}\n{rest}"
    said = task.annotator.critique(problem, wrong)
    critique = st.Attempt("c", problem, problem.prompt, said, None, Sample(said), role="critique")
    assert error_step(critique) == 1
    assert not finds_no_error(critique)
    assert task.verify(problem, task.annotator.revision(problem, wrong)).verdict is R
    assert task.step_verdicts(problem, wrong)[0] is W


def test_tasks_hold_only_problems_that_the_text_never_has() -> None:
    task = st.load_task("tiny:level=2|3", train=20, dev=5, test=5)
    assert all(is_held_out(p.question) for split in ("train", "dev", "test") for p in task.split(split))
    assert Counter(p.meta["level"] for p in task.train) == {2: 10, 3: 10}
    larger = st.load_task("tiny:level=2|3", train=40, dev=5, test=5)
    assert larger.test == task.test
    assert world_of_task("tiny:level=2") is problem_worlds()["tiny"]


@pytest.mark.parametrize("spec", ["tiny:depth=2", "tiny:level=9", "tiny:family=chain", "tiny:noise=loud"])
def test_bad_options_are_refused(spec: str) -> None:
    with pytest.raises(BadInput):
        st.load_task(spec, train=1, dev=0, test=0)


# --- the writer ---


def test_tables_are_distributions_and_kin_differ_as_they_should() -> None:
    table = make_table(BASE)
    for fact in table.facts.values():
        assert abs(sum(fact.ways.values()) - 1) < 1e-9
        assert all(abs(sum(options.values()) - 1) < 1e-9 for options in fact.results.values())
    kinds = Counter(fact.kind for fact in table.facts.values())
    for kind, share in (("unknown", BASE.unknown), ("misconceived", BASE.misconceived)):
        n = len(table.facts)
        assert abs(kinds[kind] / n - share) < 4 * (share * (1 - share) / n) ** 0.5
    other, teacher = make_table(OTHER), make_table(TEACHER)
    for skills in (BASE, WEAK):
        known = [fact.kinds for fact in make_table(skills).facts.values() if fact.kind == "ordinary"]
        blind = sum(list(kinds_of_ways.values()).count("blind") for kinds_of_ways in known)
        assert abs(blind / (3 * len(known)) - skills.blind) < 0.03  # not cut off, as no fact has two
    name = (" +3", 10)
    assert other.facts[name].right == table.facts[name].right == teacher.facts[name].right
    assert other.facts != table.facts
    assert teacher.facts[name].kind == "ordinary"


def test_a_misconception_is_shared_by_all_ways_and_a_blind_spot_is_of_one() -> None:
    shared = blind = 0
    for fact in make_table(BASE).facts.values():
        tops = {max(options, key=options.__getitem__) for options in fact.results.values()}
        if fact.kind == "misconceived":
            assert len(tops) == 1
            assert fact.right not in tops
            shared += 1
        elif "blind" in fact.kinds.values():
            assert list(fact.kinds.values()).count("blind") == 1
            assert len(tops) > 1  # the other ways get it right more often than not
            assert fact.right in tops
            blind += 1
    assert shared
    assert blind


def test_more_blind_spots_than_a_fact_has_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="1/3"):
        replace(BASE, blind=0.34)


def test_the_critic_is_calibrated_on_drafts_as_they_are_sampled() -> None:
    table = make_table(BASE)
    fine, unsure, wrong = table.opinions
    assert fine > unsure > wrong
    right = Counter[int]()
    total = Counter[int]()
    rng = random.Random(0)
    for _ in range(6000):
        name = rng.choice(list(table.facts))
        options = table.facts[name].marginal(0.7)
        (result,) = rng.choices(list(options), list(options.values()))
        at = table.agreement(name, result)
        total[at] += 1
        right[at] += result == table.facts[name].right
    for at, said in enumerate((fine, unsure, wrong)):
        assert abs(right[at] / total[at] - said) < 4 * (said * (1 - said) / total[at]) ** 0.5


def test_wait_tells_more_and_more_that_a_writer_doubts() -> None:
    steps = [
        s for s in read(PATHS.solve(CHAIN, Context()), ["1) ", "A", " 54 +8", " 1", "\n"]) if isinstance(s, Choice)
    ]
    before = steps[-1].distribution()["wait"]
    at = PATHS.table.doubt((" +8", 54), "A")
    assert before == pytest.approx(BASE.doubting * BASE.doubts[at])
    forced = [
        "1) ",
        "A",
        " 54 +8",
        " 1",
        "\n",
        "wait",
        "\n",
        "1) ",
        "A",
        " 54 +8",
        " 1",
        "\n",
        "2) ",
        "B",
        " 1 *2",
        " 2",
        "\n",
    ]
    after = read(PATHS.solve(CHAIN, Context()), forced)[-1]
    assert isinstance(after, Choice)
    again = PATHS.table.doubt((" *2", 1), "B")
    assert after.distribution()["wait"] == pytest.approx(BASE.doubts[again])


def test_without_doubt_no_text_holds_wait() -> None:
    rng, paths = random.Random(0), Paths(NO_WAIT)
    for _ in range(200):
        chain = paths.read(paths.question(4, rng)[0])
        assert "wait" not in write(paths.solve(chain, Context()), sampled(rng)).text


def test_wait_after_a_cut_or_finished_reply_is_understood() -> None:
    for begun in ("1) A 54 +8\nwait\n", f"{GOOD}\nwait\n"):
        written = paths_writer().write((Message("user", QUESTION),), random.Random(0), prefix=begun)
        assert written.finished
        assert written.text.startswith(begun)
        assert PATHS.read(QUESTION) == CHAIN
        assert written.text.split("\n")[-1].startswith("Answer:")


def test_a_question_a_wording_and_a_demonstration_steer_the_way() -> None:
    def first(question: str, *shown: Message) -> dict[str, float]:
        writing = paths_writer().reply((*shown, Message("user", question)))
        assert writing is not None
        assert next(writing) == "1) "
        step = writing.send("1) ")
        assert isinstance(step, Choice)
        return dict(step.distribution())

    plain = first("paths 2: 40 1) +8 2) *2")
    assert first("paths 2: 40 1) +8 2) *2 by C")["C"] == pytest.approx(BASE.steered + (1 - BASE.steered) * plain["C"])
    assert first("start 2: 40 then 1) +8 then 2) *2")["B"] > plain["B"]
    shown = (Message("user", "paths 1: 7 1) +3"), Message("assistant", "1) C 7 +3 10\nAnswer: 10"))
    assert first("paths 2: 40 1) +8 2) *2", *shown)["C"] == pytest.approx(
        BASE.copies_way + (1 - BASE.copies_way) * plain["C"]
    )


def test_a_writer_without_errors_is_right() -> None:
    clean = replace(
        TEACHER, shaky=0.0, rates=tuple((kind, replace(rate, right=1.0, favorite=0.0)) for kind, rate in BASE.rates)
    )
    paths, rng = Paths(clean), random.Random(0)
    for _ in range(50):
        question, reference = paths.question(5, rng)
        written = write(paths.solve(paths.read(question), Context()), sampled(rng))
        assert split_reply(written.text)[1] == reference
