"""The families beside `paths`: questions, verdicts, annotations, roles and lessons; references are reckoned anew."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

import selftaught as st
from selftaught.records import Message, Prompt, Verdict
from selftaught.worlds.kit.annotator import right_critique
from selftaught.worlds.kit.conversation import parse_critique
from selftaught.worlds.kit.family import Context, Correction, Family, split_reply
from selftaught.worlds.kit.language import PHRASES, UNSURE, WAIT, tokenize, vocabulary
from selftaught.worlds.kit.lessons import MIX, LessonMaker, Mix
from selftaught.worlds.kit.play import asked, mean
from selftaught.worlds.kit.process import END, Choice, as_written, greedy, read, sampled, write
from selftaught.worlds.kit.twin import Twin
from selftaught.worlds.kit.writer import is_held_out
from selftaught.worlds.tiny.families import CORE, NAMES, make_families
from selftaught.worlds.tiny.simulate_families import FamilySimulation
from selftaught.worlds.tiny.skills import BASE, TEACHER, WEAK
from selftaught.worlds.tiny.strategy import strategy_of
from selftaught.worlds.tiny.writer import paths_writer

MODULUS = BASE.modulus
R, W = Verdict.RIGHT, Verdict.WRONG
FAMILIES = {family.name: family for family in make_families()}
OTHERS = [name for name in NAMES if name not in CORE]
CASES = [(name, level) for name in OTHERS for level in FAMILIES[name].levels]
ROLES = [role for role in MIX.roles if role[0] in ("solve", *PHRASES)]  # those that every family has
WRITERS = {name: paths_writer(BASE, (name,)) for name in OTHERS}


def done(value: int, path: str) -> int:
    """Do operations such as "+3 *4", by Python's own arithmetic."""
    for sign, operand in re.findall(r"([-+*])(\d)", path):
        value = {"+": value + int(operand), "-": value - int(operand), "*": value * int(operand)}[sign] % MODULUS
    return value


def posed(name: str, level: int, count: int) -> Iterator[tuple[str, Any, str]]:
    """Questions with problem and reference."""
    family, rng = FAMILIES[name], random.Random(f"{name}{level}")
    for _ in range(count):
        question, reference = family.question(level, rng)
        yield question, family.read(question), reference


def drafts(name: str, count: int, skills: Any = BASE, temperature: float = 1.0) -> Iterator[tuple[Family, Any, str]]:
    """Problems of all levels, with a sampled draft."""
    family = paths_writer(skills, (name,)).families[0]
    rng = random.Random(name)
    for i in range(count):
        problem = family.read(family.question(family.levels[i % len(family.levels)], rng)[0])
        yield family, problem, write(family.solve(problem, Context()), sampled(rng, temperature)).text


def chat(*texts: str) -> Prompt:
    """Messages, the user first."""
    return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))


# --- any family ---


@pytest.mark.parametrize(("name", "level"), CASES)
def test_right_solutions_are_right_in_every_step(name: str, level: int) -> None:
    family = FAMILIES[name]
    for question, problem, reference in posed(name, level, 25):
        text = family.solution(problem, reference)
        checked = family.check(problem, reference, *split_reply(text))
        assert (checked.answer, checked.first_error) == (R, None), (question, text)
        assert family.check(problem, reference, (), family.answer(problem)).answer is R
        assert family.locate(problem, reference, text) is None
        assert family.mended(problem, reference, text) == text
        assert family.concludes(problem, *split_reply(text))
        assert right_critique(family, problem, reference, text).endswith("no mistakes")


@pytest.mark.parametrize("name", OTHERS)
def test_questions_are_read_back_in_all_wordings(name: str) -> None:
    family, rng = FAMILIES[name], random.Random(1)
    for level in family.levels:
        for question, problem, reference in posed(name, level, 10):
            assert str(problem) == question
            assert "".join(tokenize(question)) == question
            assert all(token in vocabulary() for token in tokenize(question))
            other = family.reworded(question, rng, wording=1.0, aside=1.0, way=1.0)
            assert other != question
            assert family.plain(other) == question
            assert family.check(family.read(other), reference, (), family.answer(problem)).answer is R
            assert [f.name for f in make_families() if f.read(other) is not None] == [name]


@pytest.mark.parametrize("name", OTHERS)
def test_mended_drafts_are_right_and_keep_what_was_right(name: str) -> None:
    wrong = 0
    for family, problem, text in drafts(name, 300):
        found = family.locate(problem, None, text)
        if found is None:
            continue
        wrong += 1
        lines, mended = split_reply(text)[0], family.mended(problem, None, text)
        checked = family.check(problem, None, *split_reply(mended))
        assert (checked.answer, checked.first_error) == (R, None), (str(problem), text, mended)
        assert split_reply(mended)[0][: found.step - 1] == lines[: found.step - 1]
        critique = right_critique(family, problem, None, text)  # is read back, or fails
        revised = WRITERS[name].write(chat(str(problem), text, "critique", critique, "revise"), random.Random(0))
        assert revised.finished
        withdrawn = family.check(problem, None, *split_reply(text)).withdrawn
        standing = (line for i, line in enumerate(lines, 1) if i < found.step and i not in withdrawn and line != WAIT)
        assert revised.text.startswith("\n".join(standing))
    assert wrong > 60


@pytest.mark.parametrize("name", OTHERS)
def test_lessons_of_all_roles_have_distributions_for_every_token(name: str) -> None:
    ids, writer = vocabulary(), WRITERS[name]
    maker = LessonMaker(writer, random.Random(5))
    for role, _ in ROLES:
        for _ in range(25):
            lesson = maker.lesson(role)
            encoded = lesson.encoded()
            assert encoded.ids[-1] == ids[END]
            places = [target.position for target in encoded.targets]
            assert places == sorted(set(places))
            assert set(range(encoded.start, len(encoded.ids))) <= set(places)
            for target in encoded.targets:
                assert sum(target.probs) == pytest.approx(1.0)
                assert min(target.probs) >= 0
                assert len(set(target.ids)) == len(target.ids)
            assert not is_held_out(writer.families[0].plain(lesson.messages[0].content))


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_writer_writes_is_what_it_reads(name: str) -> None:
    """Every token of every role has a probability above 0 where the writer reads its own text."""
    writer, rng = WRITERS[name], random.Random(9)
    maker = LessonMaker(writer, rng)
    for role, _ in ROLES:
        for _ in range(10):
            prompt = maker.lesson(role).prompt
            written = writer.write(prompt, rng)
            assert written.finished, (role, prompt, written.text)
            tokens = [*tokenize(written.text), END]
            steps = read(writer.reply(prompt), tokens[:-1])  # type: ignore[arg-type]
            for token, step in zip(tokens, steps, strict=True):
                options = {step: 1.0} if isinstance(step, str) else step.distribution()
                assert options.get(token, 0.0) > 0, (role, prompt, written.text, token)


@pytest.mark.parametrize("name", OTHERS)
def test_a_critic_is_calibrated_on_the_drafts_of_its_writer(name: str) -> None:
    said, truly = [], []
    for family, problem, text in drafts(name, 900, temperature=0.7):
        for belief in family.beliefs(problem, split_reply(text)[0], as_written):
            if belief.key is not None:
                said.append(belief.right)
                truly.append(belief.truly)
    bins = [[(s, t) for s, t in zip(said, truly, strict=True) if low <= s < low + 0.25] for low in (0, 0.25, 0.5, 0.75)]
    for some in (one for one in bins if len(one) > 100):
        mean_said, share = sum(s for s, _ in some) / len(some), sum(t for _, t in some) / len(some)
        assert abs(mean_said - share) < 0.02 + 3 * (0.25 / len(some)) ** 0.5, (mean_said, share, len(some))


@pytest.mark.parametrize("name", OTHERS)
def test_proposals_are_questions(name: str) -> None:
    family, writer, rng = FAMILIES[name], WRITERS[name], random.Random(0)
    for role in ("propose", "easier"):
        made = []
        for i in range(200):
            question = family.question(family.levels[i % len(family.levels)], rng)[0]
            made.append(writer.write((*chat(question), Message("user", PHRASES[role])), rng).text)
        assert sum(family.read(text) is not None for text in made) >= 0.95 * 200 - 2 * (0.05 * 0.95 * 200) ** 0.5


@pytest.mark.parametrize("name", OTHERS)
def test_a_second_look_is_understood_anywhere(name: str) -> None:
    rng = random.Random(3)
    for family, problem, text in drafts(name, 60):
        lines = text.split("\n")
        begun = "\n".join([*lines[: rng.randint(1, len(lines))], "wait", ""])
        written = WRITERS[name].write(chat(str(problem)), rng, prefix=begun)
        assert written.finished
        assert written.text.startswith(begun)
        family.check(problem, None, *split_reply(written.text))


@pytest.mark.parametrize("name", OTHERS)
def test_a_hint_leads_to_the_answer(name: str) -> None:
    writer, rng = WRITERS[name], random.Random(2)
    plain, hinted = [], []
    for question, problem, reference in posed(name, FAMILIES[name].levels[2], 150):
        hint = PHRASES["rationalize"].format(answer=FAMILIES[name].answer(problem))
        for prompt, found in ((chat(question), plain), ((*chat(question), Message("user", hint)), hinted)):
            answer = split_reply(writer.write(prompt, rng).text)
            found.append(FAMILIES[name].check(problem, reference, *answer).answer is R)
    assert sum(hinted) >= sum(plain) + 15


@pytest.mark.parametrize("name", OTHERS)
def test_kin_are_ordered(name: str) -> None:
    rates = []
    for skills in (TEACHER, BASE, WEAK):
        found = [
            f.check(problem, None, *split_reply(text)).answer is R for f, problem, text in drafts(name, 250, skills)
        ]
        rates.append(sum(found) / len(found))
    assert rates[0] > rates[1] + 0.1
    assert rates[1] > rates[2] + 0.03
    assert strategy_of(TEACHER) != strategy_of(BASE) != strategy_of(WEAK)


@pytest.mark.parametrize("name", OTHERS)
def test_a_twin_learns_from_right_answers(name: str) -> None:
    family, writer, rng = FAMILIES[name], WRITERS[name], random.Random(4)
    cases = list(posed(name, family.levels[2], 10))
    base = Twin(writer, 2.0)
    taught = base.learn([(chat(q), family.solution(problem, ref)) for q, problem, ref in cases] * 30)

    def rate(policy: Twin) -> float:
        found = [
            family.check(problem, reference, *split_reply(text)).answer is R
            for question, problem, reference in cases
            for text in policy.sample_many(chat(question), 20, rng)
        ]
        return sum(found) / len(found)

    assert rate(taught) > rate(base) + 0.1


@pytest.mark.parametrize("name", OTHERS)
def test_tasks_hold_problems_of_the_family_that_the_text_never_has(name: str) -> None:
    level = FAMILIES[name].levels[1]
    with st.load_task(f"tiny:family={name},level={level}", train=8, dev=4, test=4) as task:
        for problem in (*task.train, *task.dev, *task.test):
            assert is_held_out(problem.question)
            assert problem.meta["family"] == name
            assert task.verify(problem, task.annotator.solution(problem)).verdict is R
            assert task.verify(problem, str(problem.meta["solution"])).score == 1.0


@pytest.mark.parametrize("name", OTHERS)
def test_every_role_of_the_text_has_lessons(name: str) -> None:
    maker = LessonMaker(WRITERS[name], random.Random(8))
    for role, _ in MIX.roles:
        assert maker.lesson(role).encoded().targets


def test_a_task_without_families_is_of_the_core_alone() -> None:
    with st.load_task("tiny:level=2", train=4, dev=0, test=0) as task:
        assert {problem.meta["family"] for problem in task.train} == {"paths"}
        assert task.name == "tiny:family=paths,level=2"


def test_a_writer_of_all_families_mixes_them_by_weight() -> None:
    writer = paths_writer(BASE, NAMES)
    weights = tuple((name, float(i + 1)) for i, name in enumerate(NAMES))
    maker = LessonMaker(writer, random.Random(0), Mix(family_weights=weights))
    firsts = [maker.lesson("judge").messages[0].content for _ in range(600)]
    for i, name in enumerate(NAMES):
        count = sum(next(f.name for f in writer.families if f.read(text) is not None) == name for text in firsts)
        expected = (i + 1) / sum(w for _, w in weights)
        assert abs(count / 600 - expected) < 4 * (expected * (1 - expected) / 600) ** 0.5


# --- equation ---


@pytest.mark.parametrize("level", [1, 4, 8])
def test_the_root_of_an_equation_solves_it_and_no_other_number_does(level: int) -> None:
    for question, _, reference in posed("equation", level, 30):
        left, _, result = question.partition(" x")[2].partition(" = ")
        assert [x for x in range(MODULUS) if done(x, left) == int(result)] == [int(reference)]


EQUATION = "equation 2: x 2) +3 1) -5 = 2"  # x = 2 + 5 - 3
BACK = "1) A 2 +5 7\n2) B 7 -3 4\nAnswer: 4"


@pytest.mark.parametrize(
    ("text", "steps", "answer", "found"),
    [
        (BACK, (R, R), R, None),
        (
            f"1) A 2 -5 {MODULUS - 3}\n2) B {MODULUS - 3} -3 {MODULUS - 6}\nAnswer: {MODULUS - 6}",
            (W, R),
            W,
            Correction(1, " 7", " 2 +5"),
        ),
        ("1) A 2 +5 8\n2) B 8 -3 5\nAnswer: 5", (W, R), W, Correction(1, " 7", " 2 +5")),
        ("1) A 2 +5 8\nwait\n1) B 2 +5 7\n2) B 7 -3 4\nAnswer: 4", (W, R, R, R), R, None),
    ],
)
def test_equations_are_judged_step_by_step(
    text: str, steps: tuple[Verdict, ...], answer: Verdict, found: Correction | None
) -> None:
    family = FAMILIES["equation"]
    checked = family.check(family.read(EQUATION), None, *split_reply(text))
    assert (checked.steps, checked.answer) == (steps, answer)
    assert parse_critique(right_critique(family, family.read(EQUATION), None, text)) == found


@pytest.mark.parametrize(
    "text",
    ["equation 1: x = 3", "equation 1: x 1) *3 = 5", f"equation 1: x 1) +3 = {MODULUS}", "equation 2: x 1) +3 = 5"],
)
def test_other_texts_are_no_equations(text: str) -> None:
    assert FAMILIES["equation"].read(text) is None


def test_a_step_that_is_not_inverted_is_plainly_wrong_and_one_that_is_is_done_back() -> None:
    family = FAMILIES["equation"]
    problem = family.read(EQUATION)
    slipped = family.beliefs(problem, ("1) A 2 -5 58",), as_written)
    assert (slipped[0].right, slipped[0].key) == (0.0, None)
    back = family.beliefs(problem, ("1) A 2 +5 9",), as_written)[0]
    assert re.fullmatch(r" 9 -5 (\d+|\?)", back.restated)
    assert "".join(family.restated(problem, ("1) A 2 +5 9",))) == " 9 -5 4"
    found, degrees = [], set[float]()
    for operand, value in itertools.product(range(2, 9), range(0, MODULUS, 8)):
        problem = family.read(f"equation 1: x 1) -{operand} = {value}")
        if family.table.facts[f" -{operand}", 0].ignorant:  # type: ignore[attr-defined]
            continue
        said = [family.beliefs(problem, (f"1) A {value} +{operand} {x}",), as_written)[0].right for x in range(MODULUS)]
        found.append(max(range(MODULUS), key=said.__getitem__) == (value + operand) % MODULUS)
        degrees |= set(said)
    assert len(degrees) == 3  # what it finds, nothing, or something else
    assert sum(found) > 0.8 * len(found)


def test_inverting_is_a_decision_and_a_critique_settles_it() -> None:
    writer = WRITERS["equation"]
    choice = read(writer.reply(chat(EQUATION)), ["1) ", "A"])[2]  # type: ignore[arg-type]
    assert isinstance(choice, Choice)
    assert (choice.skill, choice.right, set(choice.distribution())) == ("invert", " 2 +5", {" 2 +5", " 2 -5"})
    assert choice.distribution()[" 2 -5"] in strategy_of(BASE).slips
    draft = f"1) A 2 -5 {MODULUS - 3}\nAnswer: 1"
    family = WRITERS["equation"].families[0]
    critique = right_critique(family, family.read(EQUATION), None, draft)
    told = chat(EQUATION, draft, PHRASES["critique"], critique, PHRASES["revise"])
    steps = read(writer.reply(told), ["1) ", "A", " 2 +5", " 7"])  # type: ignore[arg-type]
    assert steps[2] == " 2 +5"
    assert isinstance(steps[3], Choice)
    assert steps[3].distribution()[" 7"] >= BASE.follows


# --- target ---


@pytest.mark.parametrize("level", FAMILIES["target"].levels)
def test_the_reference_of_a_search_is_the_shortest_of_all_sequences(level: int) -> None:
    for question, _, reference in posed("target", level, 15):
        start, goal, *tools = question.removeprefix("target ").replace("= ", "").replace("with ", "").split()
        lengths = [
            n
            for n in range(len(tools) + 1)
            for path in itertools.permutations(tools, n)
            if done(int(start), " ".join(path)) == int(goal)
        ]
        assert min(lengths) == len(reference.split())
        assert done(int(start), reference) == int(goal)


SEARCH = "target 5 = 14 with +3 *2 -2"  # (5 + 3) * 2 - 2, or 5 * 2 ... never


@pytest.mark.parametrize(
    ("text", "steps", "answer"),
    [
        ("1) A 5 +3 8\n2) B 8 *2 16\n3) A 16 -2 14\nAnswer: +3 *2 -2", (R, R, R), R),
        ("1) A 5 *2 10\n2) A 10 +3 13\n3) A 13 -2 11\nAnswer: *2 +3 -2", (W, R, R), W),  # a dead end, and then no worse
        ("1) A 5 +3 8\n2) B 8 +3 11\nAnswer: +3 +3", (R, W), W),  # twice
        ("1) A 5 +3 9\n2) B 9 *2 18\n3) A 18 -2 16\nAnswer: +3 *2 -2", (W, W, R), R),  # 9 -2 *2 would have done
        ("1) A 5 *2 10\nwait\n1) A 5 +3 8\n2) B 8 *2 16\n3) A 16 -2 14\nAnswer: +3 *2 -2", (W, R, R, R, R), R),
        ("Answer: +3 *2", (), W),
        ("Answer: +3 *2 -2 *7", (), W),
        ("Answer:", (), W),
    ],
)
def test_searches_are_judged_by_what_can_still_be_reached(
    text: str, steps: tuple[Verdict, ...], answer: Verdict
) -> None:
    family = FAMILIES["target"]
    checked = family.check(family.read(SEARCH), None, *split_reply(text))
    assert (checked.steps, checked.answer) == (steps, answer)


@pytest.mark.parametrize(
    "text",
    [
        "target 5 = 5 with +3 *2",
        "target 5 = 11 with +3 +3",
        "target 5 = 9 with +3",
        "target 5 = 9 with +4",
        "target 5 = 8",
    ],
)
def test_other_texts_are_no_searches(text: str) -> None:
    assert FAMILIES["target"].read(text) is None


def test_a_search_mostly_takes_what_leads_straight_to_the_goal() -> None:
    family, rng = FAMILIES["target"], random.Random(0)
    seen = 0
    for _ in range(200):
        problem = family.read(family.question(1, rng)[0])
        choice = read(family.solve(problem, Context()), ["1) ", "A"])[2]  # type: ignore[union-attr]
        assert isinstance(choice, Choice)
        if choice.skill == "search:seen" and choice.right is not None:
            seen += 1
            options = choice.distribution()
            assert greedy(choice) == choice.right or options[choice.right] < 0.2  # a misconception
    assert seen > 60


# --- program ---


def test_the_reference_of_a_program_does_both_runs() -> None:
    for question, _, reference in posed("program", 4, 40):
        shown, tested = (
            [int(x) for x in run.split() if x.isdigit()] for run in question.partition(": ")[2].split(" with ")
        )
        for run in (shown, tested):
            for i, operation in enumerate(reference.split()):
                assert done(run[i], operation) == run[i + 1]


PROGRAM = "program 2: 1 1) 2 2) 5 with 5 1) 10 2) 13"  # *2, then +3; on 1 alone no other tool does the first


@pytest.mark.parametrize(
    ("text", "steps", "answer", "found"),
    [
        ("1) A 1 *2 2\n2) B 2 +3 5\nAnswer: *2 +3", (R, R), R, None),
        ("1) A 1 *2 2\n2) B 2 *3 5\nAnswer: *2 *3", (R, W), W, Correction(2, " 5", " 2 +3")),
        ("1) A 1 *2 2\n2) B 2 +3 6\nAnswer: *2 +3", (R, W), R, Correction(2, " 5", " 2 +3")),  # not what the run shows
        ("1) A 1 *2 2\nAnswer: *2", (R,), W, Correction(2, " 5", " 2 +3")),
        ("1) A 1 *2 2\n2) B 2 +3 5\nAnswer: *2 +7", (R, R), W, Correction(3, " +3", " *2")),
        ("1) A 1 *3 2\nwait\n1) A 1 *2 2\n2) B 2 +3 5\nAnswer: *2 +3", (W, R, R, R), R, None),
    ],
)
def test_programs_are_judged_by_running_them(
    text: str, steps: tuple[Verdict, ...], answer: Verdict, found: Correction | None
) -> None:
    family = FAMILIES["program"]
    problem = family.read(PROGRAM)
    checked = family.check(problem, None, *split_reply(text))
    assert (checked.steps, checked.answer) == (steps, answer)
    assert parse_critique(right_critique(family, problem, None, text)) == found


def test_a_second_run_tells_apart_what_the_first_cannot() -> None:
    family = FAMILIES["program"]
    one, both = family.read("program 1: 3 1) 6"), family.read("program 1: 3 1) 6 with 4 1) 7")
    assert [family.check(one, None, (), answer).answer for answer in ("*2", "+3")] == [R, R]
    assert [family.check(both, None, (), answer).answer for answer in ("*2", "+3")] == [W, R]
    assert family.read("program 1: 3 1) 6 with 4 1) 11") is None  # no tool does both


def test_what_is_known_forwards_is_known_backwards() -> None:
    family, writer = FAMILIES["program"], WRITERS["program"]
    facts = family.table.facts  # type: ignore[attr-defined]
    (value,) = [v for v in range(MODULUS) if facts[" *2", v].kinds["A"] == "sure" and v not in (3, 7)][:1]
    question = f"program 1: {value} 1) {2 * value % MODULUS}"
    choice = read(writer.reply(chat(question)), ["1) ", "A"])[2]  # type: ignore[arg-type]
    assert isinstance(choice, Choice)
    assert choice.skill == "infer:sure"
    others = family.read(question).tools(0, MODULUS)  # type: ignore[union-attr]
    assert choice.distribution()[f" {value} *2"] == pytest.approx(BASE.rate("sure").right / len(others))


# --- lists ---

LIST = "list 3: 1) 5 *4 2) 7 +3 3) 1 +2 not 11"  # 20, 10, 3


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("20 10 3", 1.0),
        ("3 20 10", 1.0),  # in any order
        ("20 10", 3 / 4),
        ("20 11 3", 2 / 4),
        ("20 20 20", 2 / 4),
        ("1 2", 1 / 4),
        ("20 10 3 4", 0.0),  # longer than what is asked for
        ("twenty", 0.0),
        ("", 0.0),
    ],
)
def test_lists_are_graded_by_the_share_of_constraints_that_they_meet(answer: str, score: float) -> None:
    family = FAMILIES["lists"]
    checked = family.check(family.read(LIST), None, (), answer)
    assert checked.score == pytest.approx(score)
    assert (checked.answer is R) is (score == 1.0)


def test_scores_reach_the_feedback_without_a_reference() -> None:
    with st.load_task("tiny:family=lists,level=2", train=1, dev=0, test=0) as task:
        (problem,) = task.train
        held = str(problem.reference).split()
        assert task.verify(problem, f"Answer: {' '.join(held[:-1])}").score == pytest.approx(3 / 4)
        assert task.verify(problem, "Answer:").score in (0.0, None)
        assert problem.meta["family"] == "lists"


@pytest.mark.parametrize("text", ["list not 3", "list 1: 1) 5 *4 not 20", "list 1: 1) 5 *9", "list 3: 1) 5 *4 2) 7 +3"])
def test_other_texts_are_no_lists(text: str) -> None:
    assert FAMILIES["lists"].read(text) is None


def test_a_list_may_end_too_early_and_a_critique_says_what_is_missing() -> None:
    family = FAMILIES["lists"]
    problem = family.read(LIST)
    choice = read(family.solve(problem, Context()), ["1) ", "A", " 5 *4", " 20", "\n"])[-1]
    assert isinstance(choice, Choice)
    share = 1 - choice.distribution()["wait"] if "wait" in choice.distribution() else 1.0
    assert choice.distribution()["Answer:"] == pytest.approx(strategy_of(BASE).forgets * share)
    short = "1) A 5 *4 20\n2) B 7 +3 10\nAnswer: 20 10"
    assert parse_critique(right_critique(family, problem, None, short)) == Correction(3, " 3", " 1 +2")


# --- what families are for ---


def test_a_critic_that_believes_nothing_restates_nothing() -> None:
    family, rng = FAMILIES["recall"], random.Random(4)
    for _ in range(50):
        question, _ = family.question(3, rng)
        problem = family.read(question)
        lines = split_reply(family.solution(problem, None))[0]
        assert {belief.restated for belief in family.beliefs(problem, lines, as_written)} == {UNSURE}


def test_where_there_is_nothing_to_check_by_judging_selects_nothing() -> None:
    found = FamilySimulation("recall", BASE, problems=150).rungs(2)
    assert (found.area, found.gap) == (0.5, 0.0)


@pytest.mark.parametrize("name", ["equation", "program", "lists"])
def test_votes_beat_greedy(name: str) -> None:
    found = FamilySimulation(name, BASE, problems=150).rungs(FAMILIES[name].levels[2])
    assert found.majority > found.greedy + 0.02
    assert found.passed > found.majority + 0.1


@pytest.mark.parametrize("name", ["equation", "target"])
def test_checking_is_easier_than_solving(name: str) -> None:
    found = FamilySimulation(name, BASE, problems=400).rungs(3)
    assert found.gap > 0.15
    assert found.area > 0.7
    assert found.passed > found.majority > found.sample - 0.05


def test_checking_a_program_step_by_step_is_easier_than_writing_it() -> None:
    sim = FamilySimulation("program", BASE, problems=60)
    judged = [
        (sim.player.right(problem, text), "-" not in re.sub(r" [-+*]\d", "", marks))
        for problem in sim.problems(3)
        for text in sim.base.sample_many(problem.prompt, 2, sim.player.rng)
        for marks in [sim.base.answer(asked(problem, text, "verify"), sim.player.rng, 0.0)]
    ]
    accepted = [right for right, found_fine in judged if found_fine]
    assert mean(accepted) - mean(right for right, _ in judged) > 0.15
    rungs = sim.rungs(3)
    assert rungs.passed > rungs.majority > rungs.sample - 0.05
