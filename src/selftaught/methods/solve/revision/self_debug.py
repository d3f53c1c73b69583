"""Self-Debug: run a program on the visible tests, read what fails, and fix it."""

from statistics import fmean
from typing import Literal

from selftaught import Ask, Attempt, Baseline, Claim, Ordered, Precondition, Problem, solver
from selftaught.check.legs import SystemResult
from selftaught.records import Verdict
from selftaught.refine.turns import judge_answer, parse_verdict, transcript

WRONG = "The code above is wrong."
FAILS = "The code above does not pass the visible tests:"
FIX = "Fix the code, and answer the question again in full. Keep the form the question asks for."
EXPLAIN = "Explain the code above line by line: what it does, and where that is not what the question asks for."
TRACE = "Trace the code above on the test that fails: line by line, with the values of the variables."
TURNS = "debugging"


def tested(result: SystemResult) -> float | None:
    """The share of test problems whose first program the visible tests judged; None without any."""
    mine = {problem.id for problem in result.run.task.test}
    rows = [payload for _, _, payload, _ in result.run.journal.effects(TURNS) if payload["problem"] in mine]
    first = [row["tested"] for row in rows if row["turn"] == 0]
    return fmean(first) if first else None


CLAIM = Claim(
    "Fixing a program by what visible tests say of it passes the hidden tests more often than the first program, and"
    " than the first of as many independent programs that passes the visible tests; and an explanation of the program"
    " before it is fixed helps more than to be told that it is wrong.",
    baselines=(
        "greedy",
        Baseline(
            "samples filtered by the visible tests", options={"feedback": "none", "temperature": 0.7}, fit_with="turns"
        ),
    ),
    legs=(
        Ordered(
            (
                Baseline("explanation", options={"feedback": "explanation"}, contrasts=("as published",)),
                Baseline("bare verdict", options={"feedback": "simple"}, contrasts=("as published",)),
            )
        ),
    ),
    preconditions=(Precondition("visible tests judge the first program (share of problems)", tested, at_least=0.9),),
    options={"turns": 3},
    ablations={"explanation": {"feedback": "explanation"}, "trace": {"feedback": "trace"}},
)

Feedback = Literal["tests", "explanation", "trace", "simple", "none"]


@solver(paper="2304.05128", claim=CLAIM)
async def self_debug(
    ask: Ask,
    problem: Problem,
    *,
    turns: int = 10,
    feedback: Feedback = "tests",
    temperature: float = 0.0,
) -> Attempt:
    """Write a program, run the visible tests, and let the model fix it until they pass.

    Source: Chen, Lin, Schärli & Zhou, Teaching Large Language Models to Self-Debug, 2304.05128, sections 3 and 4. The
    visible tests are those that the task shows (`Task.shown`): the examples in a question of HumanEval, the first test
    of MBPP, `visible_tests` of a row. Where it shows none, as in the paper's text-to-SQL, the model itself says after
    each program whether it is right. The last program is the answer.

    Differs from the paper: the prompts are zero-shot, where the paper shows examples of debugging. The first program
    is a single one, not the one that most samples agree with by execution.

    Costs up to `1 + turns` answers, with an explanation or a trace twice that, each reading all that came before it;
    where the task shows no tests, a judgment of each.

    Args:
        turns: programs after the first, at most; most of the gain in the paper comes in three.
        feedback: what the model gets before it fixes a program: what the "tests" say of it; in addition its own
            "explanation" of the program or "trace" of its execution; in the "simple" form only that it is wrong.
            "none" writes another program from the question alone (sample at a temperature): filtering by the tests.
        temperature: of every sample.
    """
    attempt = await ask(problem.prompt, temperature=temperature)
    for turn in range(turns):
        done, why = await look(ask, attempt)
        ask.log(TURNS, {"turn": turn, "tested": ask.shows_verdicts and done is not None, "passed": bool(done)})
        if done is not False:
            break
        if feedback == "none":
            attempt = await ask(problem.prompt, temperature=temperature)
        else:
            attempt = await debug(ask, attempt, WRONG if feedback == "simple" else why, feedback, temperature)
    return attempt


async def look(ask: Ask, attempt: Attempt) -> tuple[bool | None, str]:
    """Whether the visible tests pass, or without any whether the model finds the program right, and what is wrong.

    None where neither says anything of a program that is there.
    """
    if not ask.shows_verdicts:
        return parse_verdict(await judge_answer(ask, attempt)), WRONG
    said = await ask.verify_shown(attempt)
    if said.verdict is Verdict.UNKNOWN:
        return (None if attempt.answer else False), "There is no complete code in the answer above."
    return said.verdict is Verdict.RIGHT, f"{FAILS}\n{said.text}"


async def debug(ask: Ask, attempt: Attempt, why: str, feedback: Feedback, temperature: float) -> Attempt:
    """Fix a program, after an explanation or a trace of it where one is asked for."""
    history = transcript(attempt)
    if feedback in ("explanation", "trace"):
        request = "{why}\n" + (EXPLAIN if feedback == "explanation" else TRACE)
        prompt = ask.with_turn(history, "critique", request, why=why)
        explained = await ask(prompt, role="critique", parent=attempt, temperature=temperature)
        fix = ask.with_turn(transcript(explained), "revise", FIX)
        return await ask(fix, role="revise", parent=explained, temperature=temperature)
    prompt = ask.with_turn(history, "revise", "{why}\n" + FIX, why=why)
    return await ask(prompt, role="revise", parent=attempt, temperature=temperature)
