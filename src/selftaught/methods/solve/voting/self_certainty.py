"""Self-certainty: rank samples by how far their token distributions are from uniform, and let the ranks vote."""

from math import fsum, inf

from selftaught import Ask, Attempt, Baseline, Claim, Problem, solver
from selftaught.curate import elect, with_confidence

CLAIM = Claim(
    "A vote weighted by the rank of self-certainty beats the most probable answer, the plain vote of as many samples,"
    " and picking of them the one of the highest mean log-probability.",
    baselines=(
        "greedy",
        Baseline("self-consistency", "self-consistency", options={"samples": 16, "temperature": 0.7, "top_k": 40}),
        "best-logprob",
    ),
    options={"samples": 16, "temperature": 0.7, "top_k": 40},
    ablations={"the most certain sample alone": {"p": 100.0}, "plain vote": {"p": 0.0}},
)


@solver(paper="2502.18581", claim=CLAIM)
async def self_certainty(
    ask: Ask,
    problem: Problem,
    *,
    samples: int = 64,
    p: float = 0.5,
    temperature: float = 0.7,
    top_k: int = 0,
) -> Attempt:
    """Sample many answers, rank them by self-certainty, and return one that wins the Borda vote of the ranks.

    Source: Kang, Zhao & Song, Scalable Best-of-N Selection for Large Language Models via Self-Certainty, 2502.18581.
    The self-certainty of an answer of n tokens is the mean KL divergence of its next-token distributions from the
    uniform one over the V tokens of the vocabulary, -1/(nV) sum_i sum_j log(V p(j | x, y_<i)). The answer ranked r-th
    of N votes with weight (N - r + 1)^p (Borda voting); where no answer can be voted for, as in open-ended tasks, the
    most certain sample is returned. Samples and p are the defaults of the authors' code (backprop07/Self-Certainty).

    Differs from the paper: the end of sequence, if sampled, counts as a token; temperature and prompt are the task's
    own (unconfirmed there).

    Costs `samples` answers, on an engine that returns token distributions (not an endpoint).

    Args:
        samples: N in the paper, answers sampled.
        p: p in the paper, power of a rank's vote; 0 is the plain vote, a large one picks the most certain answer.
        temperature: of sampling; self-certainty is measured at 1.
        top_k: sample from the k most probable tokens; 0 for no limit.
    """
    paths = await ask.sample(problem.prompt, samples, temperature=temperature, top_k=top_k, top_logprobs=0)
    ranked = sorted(range(samples), key=lambda i: certainty(paths[i]), reverse=True)
    weights = dict(zip(ranked, ((samples - rank) ** p for rank in range(samples)), strict=True))
    return elect(paths, [weights[i] for i in range(samples)]) or most_certain(paths[ranked[0]], samples)


def certainty(attempt: Attempt) -> float:
    """Mean self-certainty of the attempt's tokens, in nats; -inf where its request failed."""
    values = attempt.self_certainties
    return fsum(values) / len(values) if values else -inf


def most_certain(best: Attempt, samples: int) -> Attempt:
    """The most certain of samples without an answer, with a note that nothing was voted on."""
    why = f"none of {samples} samples has a final answer that can be read: the most certain of them, not a vote"
    return best if best.failed else with_confidence(best, None, "vote", why)
