"""Self-consistency: sample many reasoning paths and take the vote of their answers."""

from dataclasses import replace
from math import fsum, inf

from selftaught.check.claim import Claim
from selftaught.curate import vote
from selftaught.method import solver
from selftaught.records import Attempt, Feedback, Problem, Verdict
from selftaught.run.ask import Ask

CLAIM = Claim(
    "The vote of many sampled answers beats the most probable answer, and beats picking of equally many samples the one"
    " of the highest mean log-probability.",
    baselines=("greedy", "best-logprob"),
    options={"samples": 16},
    ablations={"4 samples": {"samples": 4}},
)


@solver(paper="2203.11171", claim=CLAIM)
async def self_consistency(
    ask: Ask, problem: Problem, *, samples: int = 40, temperature: float = 0.7, top_k: int = 40
) -> Attempt:
    """Sample many reasoning paths and return one that reaches the most frequent answer.

    Source: Wang et al., Self-Consistency Improves Chain of Thought Reasoning in Language Models,
    2203.11171, section 2 (unweighted vote; Table 1 finds it on a par with weighting by probability).
    The vote's share is left on the returned attempt as a score: its confidence (section 3.5).

    Differs from the paper: zero-shot through the model's chat template; of equally frequent answers the
    first given wins; where no sample has an answer to vote for, the most probable one is returned, and says so.

    Costs `samples` answers.

    Args:
        samples: reasoning paths.
        temperature: of sampling.
        top_k: of sampling; 0 is no truncation.
    """
    paths = await ask.sample(problem.prompt, samples, temperature=temperature, top_k=top_k)
    won = vote(paths)
    if won is None:
        why = f"none of {samples} samples has a final answer that can be read: the most probable of them, not a vote"
        return _noted(max(paths, key=_promise), Feedback(Verdict.UNKNOWN, text=why, source="vote"))
    return _noted(won.voters[0], Feedback(Verdict.UNKNOWN, won.share, f"{len(won.voters)} of {samples} votes", "vote"))


def _noted(attempt: Attempt, feedback: Feedback) -> Attempt:
    return attempt if attempt.finish_reason == "error" else replace(attempt, feedback=(feedback,))


def _promise(attempt: Attempt) -> tuple[bool, bool, float]:
    """What of several samples without an answer is best: one that ended by itself, of the highest mean probability."""
    mean = fsum(attempt.logprobs) / len(attempt.logprobs) if attempt.logprobs else -inf
    return attempt.finish_reason != "error", attempt.finish_reason == "stop", mean
