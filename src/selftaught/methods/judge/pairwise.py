"""Pairwise comparison: which of two answers is better, asked in both orders."""

import asyncio
import re
from typing import Literal

from selftaught import Ask, Attempt, Claim, Feedback, Message, Verdict, judge
from selftaught.check.claim import VOTE_AT_EQUAL_COMPUTE

PROMPT = """Above are two answers, A and B, to the same question. Judge impartially which one is better: the one that
is correct, to the point and complete. Neither their order nor their length may influence you. Give your reasons
briefly. Then write your verdict as the last line: [[A]] if A is better, [[B]] if B is better, [[C]] if they are
equally good."""
TIE = 0.5

CLAIM = Claim(
    "The one of four samples that wins most comparisons by the model itself is right more often than a sample, and at"
    " equal compute than a vote of samples.",
    baselines=("sample", VOTE_AT_EQUAL_COMPUTE),
    options={"compared": "answer"},
    ablations={"one order": {"both_orders": False}},
)


@judge(paper="2306.05685", claim=CLAIM)
async def pairwise(
    ask: Ask,
    pair: tuple[Attempt, Attempt],
    *,
    both_orders: bool = True,
    compared: Literal["text", "answer"] = "text",
    temperature: float = 0.0,
) -> tuple[Feedback, Feedback]:
    """Ask which of two answers is better, in both orders; a preference that flips with the order is a tie.

    Source: Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, 2306.05685, figure 5 (the prompt) and
    section 3.4 (swapped positions: an answer wins only if it is preferred in both orders).

    Differs from the paper: the two answers are the turn before the request, not quoted in it, and the request names
    correctness first.

    Costs two judgments of a pair, or one. The better answer scores 1, the other 0, both 0.5 in a tie; a reply without
    a verdict makes the comparison unknown.

    Args:
        both_orders: ask again with the answers swapped.
        compared: show the whole "text" of both, or only the final "answer" where both have one.
        temperature: of sampling.
    """
    a, b = (one.answer if compared == "answer" and all(x.answer for x in pair) else one.text for one in pair)
    orders = [(a, b), (b, a)] if both_orders else [(a, b)]
    replies = await asyncio.gather(*(compare(ask, pair[0], *order, temperature) for order in orders))
    scores = [parse_preference(reply.text) for reply in replies]
    if None in scores:
        unread = replies[scores.index(None)]
        unknown = Feedback(Verdict.UNKNOWN, text=f"no verdict in: {unread.text}")
        return unknown, unknown
    first = [score if i == 0 else 1 - score for i, score in enumerate(scores) if score is not None]
    won = first[0] if len(set(first)) == 1 else TIE
    return feedback(won, replies), feedback(1 - won, replies)


async def compare(ask: Ask, parent: Attempt, a: str | None, b: str | None, temperature: float) -> Attempt:
    """Ask once, with `a` shown as answer A."""
    shown = (*parent.problem.prompt, Message("assistant", f"A: {a}\nB: {b}"))
    return await ask(ask.with_turn(shown, "choose", PROMPT), role="judge", parent=parent, temperature=temperature)


def parse_preference(text: str) -> float | None:
    """1 if a reply prefers A, 0 if B, 0.5 for a tie; None if it says neither."""
    found = re.findall(r"\[\[([ABC])\]\]", text) or re.findall(r"^\s*([AB])\s*$", text)
    return {"A": 1.0, "B": 0.0, "C": TIE}[found[-1]] if found else None


def feedback(score: float, replies: list[Attempt]) -> Feedback:
    """Feedback of a comparison: RIGHT for the better answer, WRONG for the other, UNKNOWN in a tie."""
    verdict = Verdict.UNKNOWN if score == TIE else Verdict.RIGHT if score > TIE else Verdict.WRONG
    return Feedback(verdict, score, "\n\n".join(reply.text for reply in replies))
