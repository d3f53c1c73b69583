"""The roles of the kit on `paths`: what is asked is understood, and distributions are exact."""

from __future__ import annotations

import math
import random
from itertools import islice

import pytest

from selftaught.records import Message, Prompt
from selftaught.worlds.kit.conversation import parse_critique, read_prompt
from selftaught.worlds.kit.family import Correction, split_reply
from selftaught.worlds.kit.language import PHRASES, WAIT, tokenize, vocabulary
from selftaught.worlds.kit.lessons import LessonMaker, lessons
from selftaught.worlds.kit.process import END, Choice, as_written, draw, greedy, read, tempered, write
from selftaught.worlds.kit.writer import is_held_out
from selftaught.worlds.tiny.build import mix_of, writer_of
from selftaught.worlds.tiny.skills import BASE
from selftaught.worlds.tiny.writer import paths_writer

WRITER = paths_writer()
QUESTION = "paths 3: 54 1) +8 2) *2 3) -3"
SLIP = "1) A 54 +8 1\n2) B 1 *2 3\n3) C 3 -3 0\nAnswer: 0"


def chat(*texts: str) -> Prompt:
    """Messages, the user first."""
    return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))


def opening(*texts: str) -> dict[str, float]:
    """The distribution of the first token of a reply, after the number of its first step."""
    writing = WRITER.reply(chat(*texts))
    assert writing is not None
    step = next(writing)
    if step == "1) ":
        step = writing.send("1) ")
    return {step: 1.0} if isinstance(step, str) else dict(step.distribution())


def beliefs(draft: str) -> list[float]:
    family = WRITER.families[0]
    return [
        b.right for b in family.beliefs(family.read(QUESTION), split_reply(draft)[0], lambda _key, options: options)
    ]


def glances(draft: str) -> list[float]:
    family = WRITER.families[0]
    return [belief.glance for belief in family.beliefs(family.read(QUESTION), split_reply(draft)[0], as_written)]


def test_prompts_are_understood() -> None:
    asked = read_prompt(chat(QUESTION, SLIP, "critique", "1) +2) -\nstep 2) 1 *2 2", "revise"), WRITER.families)
    assert asked is not None
    assert (asked.role, asked.draft, asked.correction) == ("revise", SLIP, Correction(2, " 2", " 1 *2"))
    again = read_prompt(chat("paths 1: 5 1) +3", "1) A 5 +3 8\nAnswer: 8", QUESTION), WRITER.families)
    assert again is not None
    assert (again.role, len(again.demonstrations), again.draft) == ("solve", 1, None)
    hinted = read_prompt((*chat(QUESTION), Message("user", "hint 60")), WRITER.families)
    assert hinted is not None
    assert hinted.hint == " 60"


@pytest.mark.parametrize("texts", [("judge",), ("What is 2 + 2?",), (QUESTION, "x"), (QUESTION, SLIP, "do it better")])
def test_other_prompts_are_not(texts: tuple[str, ...]) -> None:
    assert WRITER.reply(chat(*texts)) is None


def test_critiques_are_read() -> None:
    assert parse_critique("1) +2) -\nstep 2) 1 *2 2") == Correction(2, " 2", " 1 *2")
    assert parse_critique("1) +2) +3) +\nstep 4) 60") == Correction(4, " 60", "")
    assert parse_critique("1) +2) +3) +\nno mistakes") is None


def test_a_judge_goes_by_the_most_doubtful_line_and_is_right_as_often_as_it_says() -> None:
    table = WRITER.families[0].table  # type: ignore[attr-defined]
    assert opening(QUESTION, SLIP, "judge")["right"] == pytest.approx(table.overall(glances(SLIP)))
    rng, names = random.Random(5), list(table.facts)
    said: dict[float, list[bool]] = {}
    for _ in range(20_000):
        felt, right = [], []
        for name in rng.choices(names, k=3):
            ways, results = tempered(table.facts[name].ways, 0.7), table.facts[name].results
            way = draw(ways, rng)
            felt.append(table.feeling(name, way))
            right.append(draw(tempered(results[way], 0.7), rng) == table.facts[name].right)
        said.setdefault(table.overall(felt), []).append(all(right))
    assert len(said) == 3  # levels of doubt
    for p, truly in said.items():
        assert sum(truly) / len(truly) == pytest.approx(p, abs=0.01 + 3 * math.sqrt(0.25 / len(truly)))
    broken = SLIP.replace("Answer: 0", "Answer: 5")  # not what its steps lead to
    assert opening(QUESTION, broken, "judge")["right"] == BASE.judges_broken


def located(*said: str) -> list[Choice | str]:
    """What the writer has in each place of a reply to "locate"."""
    writing = WRITER.reply(chat(QUESTION, SLIP, "locate"))
    assert writing is not None
    return read(writing, said)


def test_locating_quotes_and_marks_lines_at_a_glance_up_to_the_first_error() -> None:
    b1, b2, _ = glances(SLIP)
    one, two, three = (["1) ", "A", " 54 +8"], ["2) ", "B", " 1 *2"], ["3) ", "C", " 3 -3"])
    steps = located(*one, "+", *two, "-", "step", " 2)")
    assert [step for step in steps if isinstance(step, str)] == [*one, *two, "step", " 2)", END]
    assert [step.distribution()["+"] for step in steps if isinstance(step, Choice)] == pytest.approx([b1, b2])
    assert located(*one, "+", *two, "+", *three, "+", "none")[-2:] == ["none", END]


def test_marks_are_one_a_line_each_with_its_belief() -> None:
    writing = WRITER.reply(chat(QUESTION, SLIP, "verify"))
    assert writing is not None
    table = WRITER.families[0].table  # type: ignore[attr-defined]
    own = [table.facts[name].believed or " ?" for name in ((" +8", 54), (" *2", 1), (" -3", 3))]
    given = [
        token for i, (result, mark) in enumerate(zip(own, "+-+", strict=True), 1) for token in (f"{i}) ", result, mark)
    ]
    steps = read(writing, given)
    assert [step for step in steps if isinstance(step, str)] == [
        *(x for i in range(3) for x in (f"{i + 1}) ", own[i])),
        END,
    ]
    marks = [step for step in steps if isinstance(step, Choice)]
    assert [mark.distribution()["+"] for mark in marks] == pytest.approx(beliefs(SLIP))
    assert [mark.right for mark in marks] == ["+", "-", "+"]


def test_a_reviser_keeps_what_came_before_and_follows_a_critique() -> None:
    writing = WRITER.reply(chat(QUESTION, SLIP, "critique", "1) +2) -\nstep 2) 1 *2 2", "revise"))
    assert writing is not None
    steps = read(writing, ["1) ", "A", " 54 +8", " 1", "\n", "2) ", "C", " 1 *2", " 2"])
    assert list(map(sure, steps[:5])) == ["1) ", "A", " 54 +8", " 1", "\n"]
    follow = steps[8]
    assert isinstance(follow, Choice)
    assert follow.distribution()[" 2"] >= BASE.follows >= 0.85


def sure(step: Choice | str) -> str:
    """The token of a step that has but one."""
    if isinstance(step, str):
        return step
    (token,) = step.distribution()
    return token


def test_a_blind_reviser_keeps_its_answer_at_once_or_solves_anew() -> None:
    assert opening(QUESTION, SLIP, "revise") == pytest.approx({"Answer:": BASE.keeps, "1) ": 1 - BASE.keeps})
    kept = WRITER.reply(chat(QUESTION, SLIP, "revise"))
    fresh, anew = WRITER.reply(chat(QUESTION)), WRITER.reply(chat(QUESTION, SLIP, "revise"))
    assert kept is not None
    assert fresh is not None
    assert anew is not None
    _, answer, end = read(kept, ["Answer:", " 0"])
    assert (sure(answer), sure(end)) == (" 0", END)  # type: ignore[arg-type]
    solution = ["1) ", "B", " 54 +8", " 1", "\n"]
    assert list(map(seen, read(anew, solution)))[1:] == list(map(seen, read(fresh, solution)))[1:]


def seen(step: Choice | str | None) -> object:
    """A step as plain data."""
    return step if step is None or isinstance(step, str) else step.distribution()


def test_a_draft_is_kept_without_the_steps_that_it_took_back() -> None:
    waited = SLIP.replace("2) B", "2) C 1 *2 5\nwait\n2) B")
    approved = WRITER.reply(chat(QUESTION, waited, "critique", "no mistakes", "revise"))
    corrected = WRITER.reply(chat(QUESTION, waited, "critique", "step 5) 3 -3 0", "revise"))
    assert approved is not None
    assert corrected is not None
    steps = read(approved, tokenize(SLIP))
    assert list(map(sure, steps[2:])) == [*tokenize(SLIP)[2:], END]  # type: ignore[arg-type]
    assert {steps[i].skill for i in (3, 6, 8)} == {"revise:copy"}  # where a new reply has a choice  # type: ignore[union-attr]
    kept = tokenize(SLIP)[: tokenize(SLIP).index("3) ")]
    follow = read(corrected, [*kept, "3) ", "A", " 3 -3", " 0"])
    assert list(map(sure, follow[: len(kept)])) == kept  # type: ignore[arg-type]
    assert isinstance(follow[-2], Choice)
    assert follow[-2].skill == "follow"


def test_the_better_of_two_answers_is_chosen_with_a_bias_to_the_first() -> None:
    table = WRITER.families[0].table  # type: ignore[attr-defined]
    known = next(
        name
        for name, fact in table.facts.items()
        if {"sure", "blind"} <= set(fact.kinds.values()) and not fact.ignorant
    )
    ways = {kind: way for way, kind in table.facts[known].kinds.items()}
    result = table.facts[known].right
    good, bad = (f"1) {ways[kind]} {known[1]}{known[0]}{result}\nAnswer:{result}" for kind in ("sure", "blind"))
    asked = f"paths 1: {known[1]} 1){known[0]}"
    lines = [["1) ", ways[kind], f" {known[1]}{known[0]}"] for kind in ("sure", "blind")]
    writing = WRITER.reply(chat(asked, f"A: {good}\nB: {bad}", "choose"))
    assert writing is not None
    steps = read(writing, ["A", *lines[0], "+", "\n", "B", *lines[1], "-", "\n", "[", "[", "A"])
    felt = [step.distribution()["+"] for step in steps if isinstance(step, Choice) and "+" in step.distribution()]
    assert felt[0] > felt[1]  # of the way that is sure, and of the one that is blind
    assert chosen(steps) == {"A": 1.0, "B": 0.0}
    writing = WRITER.reply(chat(asked, f"A: {good}\nB: {good}5", "choose"))
    assert writing is not None
    assert chosen(read(writing, ["A", *lines[0], "+", "\n", "B", "-", "\n", "[", "[", "A"]))["A"] == 1.0
    writing = WRITER.reply(chat(asked, f"A: {good}\nB: {good}", "choose"))
    assert writing is not None
    alike = chosen(read(writing, ["A", *lines[0], "+", "\n", "B", *lines[0], "+", "\n", "[", "[", "A"]))
    assert alike["A"] == pytest.approx(1 / (1 + math.exp(-BASE.position_bias)))


def chosen(steps: list[Choice | str]) -> dict[str, float]:
    """The distribution over the letter."""
    return dict(next(dict(s.distribution()) for s in steps if isinstance(s, Choice) and s.skill == "choose"))


def test_proposals_are_questions_and_easier_ones_shorter() -> None:
    family, rng = WRITER.families[0], random.Random(0)
    for role in ("propose", "easier"):
        made = [WRITER.write(chat_of(role), rng).text for _ in range(300)]
        read_back = [chain for chain in map(family.read, made) if chain is not None]
        assert len(read_back) / 300 >= 0.95 - 2 * (0.05 * 0.95 / 300) ** 0.5
        assert all(len(chain.operations) < 3 for chain in read_back) is (role == "easier")


def chat_of(role: str) -> Prompt:
    return (*chat(QUESTION), Message("user", PHRASES[role]))


def test_greedy_replies_do_not_depend_on_chance() -> None:
    made = {write(WRITER.reply(chat(QUESTION)), greedy).text for _ in range(3)}  # type: ignore[arg-type]
    assert len(made) == 1


# --- lessons ---


def test_lessons_have_a_distribution_for_every_token_of_every_reply() -> None:
    ids = vocabulary()
    for lesson in islice(lessons(WRITER, 0), 300):
        encoded = lesson.encoded()
        assert encoded.ids[-1] == ids[END]
        places = [target.position for target in encoded.targets]
        assert places == sorted(set(places))
        if lesson.role not in ("facts", "lines"):  # of facts, neither operation nor result is learned
            assert places[-1] == len(encoded.ids) - 1
            assert set(range(encoded.start, len(encoded.ids))) <= set(places)
        for target in encoded.targets:
            assert sum(target.probs) == pytest.approx(1.0)
            assert len(set(target.ids)) == len(target.ids)
            assert target.right in (-1, *ids.values())
        asked = lesson.messages[0].content
        assert lesson.role in ("facts", "lines", "again") or not is_held_out(WRITER.families[0].plain(asked))


def test_lessons_are_the_same_for_the_same_seed() -> None:
    one, same, other = ([lesson.messages for lesson in islice(lessons(WRITER, seed), 20)] for seed in (1, 1, 2))
    assert one == same != other


def test_the_text_of_the_control_has_no_second_looks() -> None:
    def with_wait(kin: str) -> int:
        texts = islice(lessons(writer_of(kin), 0, mix_of(kin)), 2000)
        return sum(any(WAIT in message.content for message in lesson.messages) for lesson in texts)

    assert with_wait("no-wait") == 0 < with_wait("base")


def test_the_targets_of_a_lesson_are_those_of_its_text() -> None:
    maker = LessonMaker(WRITER, random.Random(3))
    for role in ("solve", "revise", "critique", "verify", "locate", "judge", "choose", "rationalize", "direct"):
        lesson = maker.lesson(role)
        assert lesson.role == role
        writing = WRITER.reply(lesson.prompt)
        assert writing is not None
        again = read(writing, tokenize(lesson.reply))
        said = [step if isinstance(step, str) else dict(step.distribution()) for step in lesson.steps[-1]]
        assert said == [step if isinstance(step, str) else dict(step.distribution()) for step in again]
