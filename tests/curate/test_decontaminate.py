"""Held-out problems are found in other words, and other problems are not taken for them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from selftaught.curate import Decontaminator, decontaminate
from selftaught.curate.decontaminate import tokens
from selftaught.records import make_problem

HELD_OUT = [
    "A baker fills 14 trays with 9 rolls on each tray. In the morning 35 rolls are sold. How many rolls are left?",
    "Mira reads 12 pages every evening. After 8 evenings, she has 50 pages of her novel left. How long is the novel?",
    "A farm has 23 goats and twice as many hens. A fox scares away 7 hens. How many animals stay on the farm?",
    "Tickets to the museum cost $4.50 for children and $11 for adults. What does a family with 2 adults and 3 children"
    " pay?",
    "A cyclist rides 18 km to the lake and back home on the same road, 5 days a week. How far does he ride in a week?",
    "Olga had 1,250 stamps. She gave 130 stamps to her cousin and bought 75 new ones at a fair. How many has she now?",
    "The tank holds 640 liters of water. Every hour 45 liters leak out of a crack. How much is left after 6 hours?",
    "In a class of 28 pupils, 13 play chess and 11 play football; 4 play both games. How many pupils play neither?",
    "A printer makes 22 copies a minute. It needs a break of 3 minutes after every 100 copies. How long do 300 take?",
    "Leo saves 15 dollars a week, and his sister saves 6 dollars more than he does. What do they save in 10 weeks?",
]
DISTINCT = [
    "A tailor sews 6 shirts a day. Each shirt takes 8 buttons. How many buttons does she need for 5 days?",
    "Two trains leave the station at noon. One goes 80 km an hour, the other 95. How far apart are they at 3 o'clock?",
    "A recipe for 4 people takes 300 grams of flour. How much flour does a cook need for 14 people?",
    "An orchard has 9 rows of 23 apple trees. A storm fells 14 trees. How many are still standing?",
    "Nadia reads 50 pages on Monday and 12 on Tuesday. Her book has 208 pages. How many pages are left?",
]
FILLERS = [
    "It was a cold and windy day.",
    "Everybody in the street knew about it.",
    "Nothing like it had happened before.",
]
SYNONYMS = {
    "left": "remaining", "How many": "What number of", "every": "each", "sold": "bought by customers", "pay": "spend",
    "has": "owns", "gave": "handed", "needs": "requires", "week": "week", "stay": "remain", "pupils": "students",
}  # fmt: skip


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!])\s+", text)


def notation(text: str, rng: random.Random) -> str:
    text = text.replace("1,250", "1250").replace("12 ", "twelve ").replace("4.50", "4.5").replace("'", "’")
    return "  " + re.sub(r"(?<=\w)[.?,](?=\s|$)", " ;", text).upper().replace(" ", " \u00a0")


def reordered(text: str, rng: random.Random) -> str:
    *facts, question = sentences(text)
    rng.shuffle(facts)
    return " ".join([question, *facts])


def filled(text: str, rng: random.Random) -> str:
    parts = sentences(text)
    for filler in rng.sample(FILLERS, 2):
        parts.insert(rng.randrange(len(parts)), filler)
    return " ".join(parts)


def reworded(text: str, rng: random.Random) -> str:
    for word, other in SYNONYMS.items():
        text = re.sub(rf"\b{word}\b", other, text)
    return text


def everything(text: str, rng: random.Random) -> str:
    return notation(filled(reordered(reworded(text, rng), rng), rng), rng)


def inside_a_page(text: str, rng: random.Random) -> str:
    return " ".join([*DISTINCT, filled(text, rng), *reversed(DISTINCT)])


REWORDINGS = [notation, reordered, filled, reworded, everything, inside_a_page]


@pytest.mark.parametrize("rewording", REWORDINGS)
def test_a_problem_is_found_in_other_words(rewording: Callable[[str, random.Random], str]) -> None:
    find, rng = Decontaminator({"dev": HELD_OUT[:5], "test": HELD_OUT[5:]}, DISTINCT).find, random.Random(0)
    found = [find(rewording(text, rng)) for text in HELD_OUT]
    assert [re.sub(" in other words", "", one) for one in found] == ["a dev problem"] * 5 + ["a test problem"] * 5


def test_other_problems_are_not_taken_for_held_out_ones() -> None:
    held_out = Decontaminator({"test": HELD_OUT}, DISTINCT)
    assert [held_out.find(text) for text in DISTINCT] == [""] * 5
    other_numbers = [re.sub(r"\d+", lambda m: str(int(m[0]) + 2), text) for text in HELD_OUT]
    assert [held_out.find(text) for text in other_numbers] == [""] * 10
    assert held_out.find("How many are left?") == held_out.find("") == ""


def test_short_problems_are_found_by_their_tokens_alone() -> None:
    held_out = Decontaminator({"dev": ["What is 12 - 5?", "add 270 239"]})
    assert held_out.find("WHAT IS 12 − 5") == "a dev problem"
    assert held_out.find(" Add  270, 239. ") == "a dev problem"
    assert {held_out.find(t) for t in ("What is 12 + 5?", "What is 5 - 12?", "What is 12 - 6?", "add 239 270")} == {""}


def test_problems_of_one_template_are_only_found_by_what_is_more_alike_than_usual() -> None:
    names = [(a, b) for a in ("Alice", "Boris", "Clara", "David") for b in ("Erika", "Felix", "Greta")]
    template = (
        "{} and {} play a game in which each of them holds one ball and swaps it. Who holds the red ball at the end?"
    )
    texts = [template.format(*pair) for pair in names]
    held_out = Decontaminator({"test": texts[:6]}, texts[6:])
    assert [held_out.find(text) for text in texts[6:]] == [""] * 6
    assert held_out.find(texts[0].upper()) == "a test problem"
    assert Decontaminator({"test": texts[:6]}).find(texts[7]) == "a test problem in other words"  # without background


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Janet’s 1,250 ducks – twenty-five of forty", "janet 1250 ducks - 25 of 40"),
        ("a 10-year loan of $4.50", "a 10 year loan of 4.5"),
        ("3×4÷2 = ６", "3 * 4 / 2 = 6"),
        ("three of 03 and 1,2", "3 of 03 and 1 2"),
        ("(2+3)*4", "( 2 + 3 ) * 4"),
    ],
)
def test_tokens_are_normalized(text: str, expected: str) -> None:
    assert " ".join(tokens(text)) == expected


def test_candidates_are_dropped_with_the_reason() -> None:
    old, new = make_problem(f"{DISTINCT[0]}\nBe brief."), [*DISTINCT[:3], DISTINCT[1].upper(), HELD_OUT[0], "?"]
    candidates = [make_problem(f"{text}\nBe brief.") for text in new]
    held_out = Decontaminator({"dev": HELD_OUT})
    kept, dropped = decontaminate(candidates, held_out, known=[old], instruction="Be brief.")
    assert kept == candidates[1:3]
    assert [reason for _, reason in dropped] == ["not new", "not new", "a dev problem", "empty"]
