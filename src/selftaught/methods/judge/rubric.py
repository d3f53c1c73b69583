"""Rubric: a score in points, sampled several times."""

import re
from statistics import fmean

from selftaught import Ask, Attempt, Claim, Feedback, Verdict, judge, refine
from selftaught.check.claim import VOTE_AT_EQUAL_COMPUTE

POINTS = 5
PROMPT = """Score the answer above with points that add up, one for each of these that holds:
1. It is relevant to the question, though it may be incomplete.
2. It covers a good part of the question.
3. It answers the question in its essentials.
4. It is complete, correct and clearly written.
5. It could not be better: no error, and nothing that is beside the point.
Give your reasons in at most 100 words. Then write the sum as the last line, in this form: Score: 3"""

CLAIM = Claim(
    "The one of four samples that the model itself scores highest is right more often than a sample, and at equal"
    " compute than a vote of samples.",
    baselines=("sample", VOTE_AT_EQUAL_COMPUTE),
    ablations={"one judgment": {"judgments": 1}},
)


@judge(paper="2401.10020", claim=CLAIM)
async def rubric(ask: Ask, attempt: Attempt, *, judgments: int = 3, temperature: float = 0.7) -> Feedback:
    """Ask for a score of up to 5 points several times; the mean counts, from 0 to 1.

    Source: Yuan et al., Self-Rewarding Language Models, 2401.10020, figure 2: points for five criteria are added up,
    reasons come first, and the scores of several samples are averaged.

    Differs from the paper: the criteria are worded for questions with a right answer, and the answer is the turn before
    the request, not quoted in it. A model with a word of its own for this request, such as the tiny world's, replies
    right or wrong, which is all of the points or none. The number of judgments is that of the paper as we recall it,
    and the temperature our choice, unconfirmed.

    Costs `judgments` judgments of an answer. A reply without a score is left out; without any the verdict is unknown.

    Args:
        judgments: how often to ask.
        temperature: of sampling.
    """
    prompt = ask.with_turn(refine.answer_turn(attempt), "judge", PROMPT)
    replies = await ask.sample(prompt, judgments, role="judge", parent=attempt, temperature=temperature)
    scores = [score for reply in replies if (score := parse_score(reply)) is not None]
    if not scores:
        return Feedback(Verdict.UNKNOWN, text=f"no score in: {replies[-1].text}")
    mean = fmean(scores)
    verdict = Verdict.RIGHT if mean > 0.5 else Verdict.WRONG if mean < 0.5 else Verdict.UNKNOWN
    return Feedback(verdict, mean, replies[0].text)


def parse_score(reply: Attempt) -> float | None:
    """The last score of a reply, 0..1; without one, 1 or 0 if it begins with right or wrong; else None."""
    found = re.findall(r"\bscore:\W*(\d+(?:\.\d+)?)(?:\s*/\s*5)?\W*$", reply.text, re.IGNORECASE | re.MULTILINE)
    if found:
        return float(found[-1]) / POINTS if float(found[-1]) <= POINTS else None
    said = refine.parse_verdict(reply)
    return None if said is None else float(said)
