"""Self-consistency: sample many reasoning paths and take the vote of their answers."""

from selftaught import Ask, Attempt, Claim, Problem, solver
from selftaught.curate import elect, with_confidence

CLAIM = Claim(
    "The vote of many sampled answers beats the most probable answer, and beats picking of equally many samples the one"
    " of the highest mean log-probability.",
    baselines=("greedy", "best-logprob"),
    options={"samples": 16},
    ablations={"4 samples": {"samples": 4}},
)


@solver(paper="2203.11171", claim=CLAIM)
async def self_consistency(
    ask: Ask,
    problem: Problem,
    *,
    samples: int = 40,
    temperature: float = 0.7,
    top_k: int = 40,
) -> Attempt:
    """Sample many reasoning paths and return one that reaches the most frequent answer.

    Source: Wang et al., Self-Consistency Improves Chain of Thought Reasoning in Language Models, 2203.11171, section 2
    (unweighted vote; Table 1 finds it on a par with weighting by probability). The vote's share is returned as the
    attempt's confidence score (section 3.5).

    Differs from the paper: zero-shot through the model's chat template; ties go to the answer given first; where no
    sample has an answer to vote for, the most probable sample is returned, with a note.

    Costs `samples` answers.

    Args:
        samples: reasoning paths.
        temperature: of sampling.
        top_k: sample from the k most probable tokens; 0 for no limit.
    """
    paths = await ask.sample(problem.prompt, samples, temperature=temperature, top_k=top_k)
    return elect(paths) or most_probable(paths)


def most_probable(paths: list[Attempt]) -> Attempt:
    """Of samples without an answer: one that ended by itself, if any, of the highest mean log-probability."""
    best = max(paths, key=lambda a: (a.finish_reason != "error", a.finish_reason == "stop", a.mean_logprob))
    why = f"none of {len(paths)} samples has a final answer that can be read: the most probable of them, not a vote"
    return best if best.finish_reason == "error" else with_confidence(best, None, "vote", why)
