"""Outcome reward model: learn to tell right solutions from wrong ones, and return the best of several."""

from selftaught import Attempt, Claim, Label, Policy, Run, Task, Verdict, orm, recipe
from selftaught.curate import finished
from selftaught.measure import auroc
from selftaught.methods.solve.voting.best_of_n import best_of_n

CLAIM = Claim(
    "A vote among the solutions that a trained outcome reward model scores highest is right more often than the"
    " starting model's most probable one, than a sample of it, and than a vote that spends as much, where the model's"
    " training is spread over 100,000 questions (readings of the head are not counted).",
    baselines=("greedy", "sample", "majority"),
    options={"samples": 8, "candidates": 8, "voters": 4, "top_k": 40},
    ablations={"no language modeling loss": {"lm_coef": 0.0}},
    solver=best_of_n.with_options(samples=8, voters=4, top_k=40),
    amortized_over=100_000,
)


@recipe(paper="2110.14168", needs=("verifier",), claim=CLAIM)
def outcome_reward_model(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 1,
    samples: int = 100,
    candidates: int = 100,
    voters: int = 1,
    temperature: float = 0.7,
    top_k: int = 0,
    lm_coef: float = 1.0,
) -> Policy:
    """Train a policy to judge its own solutions by their outcome, and to return the best of several.

    Source: Cobbe et al., Training Verifiers to Solve Math Word Problems, 2110.14168, section 4.2. Sampled solutions
    are labeled by their final answer; a value head learns to predict the label jointly with language modeling, both
    losses unweighted. At test time `candidates` solutions are sampled, and the one of the highest score is returned
    (`best-of-n`, through which the champion is measured and meant to be used).

    Differs from the paper: one policy writes and scores, where the paper trains two of equal size. Its language
    modeling loss is on its own right solutions, as there are no reference solutions. The head is linear in the last
    hidden state and predicts at the end of a solution, not after each token. The paper has one round; further ones
    sample from the champion. Solutions that are cut off, or that could not be verified, are left out.

    Costs `samples` answers a problem and one training a round, and `candidates` answers a dev problem to measure.

    Args:
        rounds: times that solutions are sampled, labeled and learned.
        samples: solutions per problem and round.
        candidates: solutions of which one is returned where the policy is measured.
        voters: how many of the best solutions vote there; 1 returns the best.
        temperature: of sampling solutions.
        top_k: sample solutions from the k most probable tokens; 0 for no limit.
        lm_coef: weight of the language modeling loss of right solutions.
    """
    chooser = best_of_n.with_options(samples=candidates, voters=voters, temperature=temperature, top_k=top_k)
    for _ in run.rounds(rounds):
        tried = judged(run.attempt(run.champion, task.train, samples=samples, temperature=temperature, top_k=top_k))
        labels = [Label(a.prompt, a.text, a.right, (a.id,)) for a in tried]
        policy = run.learn(base, orm(lm_coef), labels)
        scores, rights = run.score(policy, tried), [a.right for a in tried]
        if len(set(rights)) > 1:
            run.log_metrics("reward model", {"train AUROC": auroc(scores, rights)})
        run.measure(policy, solver=chooser, gated=True)
    return run.champion


def judged(attempts: list[Attempt]) -> list[Attempt]:
    """The complete attempts that the verifier could judge."""
    return [attempt for attempt in finished(attempts) if attempt.verdict is not Verdict.UNKNOWN]
