"""Iterated DPO: preferences between answers of the last policy, as the verifier judges them, round after round."""

from typing import Literal

from selftaught import Claim, Pair, Policy, Preset, Run, Task, curate, recipe, routines, rpo

CLAIM = Claim(
    "Training on preferences for the model's right over its wrong answers, round after round, beats the model it began"
    " with.",
    baselines=("greedy",),
    options={"rounds": 2, "samples": 8, "per_problem": 4, "lr_scale": 0.2},
    ablations={"without the likelihood term": {"nll_coef": 0.0}, "one round": {"rounds": 1}},
)

SPIN = Preset(
    paper="2401.01335",
    options={
        "samples": 1, "temperature": 1.0, "source": "reference", "per_problem": 1, "past_rounds": 1, "nll_coef": 0.0,
        "epochs": 3, "lr_scale": 0.025,
    },
    differs="Prefer each written solution to the policy's own answer, train by DPO against itself, and repeat."
    " No verdict is read. Differs from the paper (Chen et al., Self-Play Fine-Tuning): beta and learning rate are the"
    " same in every round, where the authors' scripts change them in later ones; the starting model need not have been"
    " fine-tuned on the solutions. Temperature and number of epochs are our choice.",
    claim=Claim(
        "Preferring written solutions to the model's own answers, round after round, beats the model it began with.",
        baselines=("greedy",),
        options={"rounds": 2, "lr_scale": 1 / 3},
        ablations={"one round": {"rounds": 1}},
    ),
    needs=("reference",),
)  # fmt: skip


@recipe(paper="2404.19733", needs=("verifier",), claim=CLAIM, presets={"spin": SPIN})
def preferences(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 4,
    samples: int = 30,
    temperature: float = 0.8,
    source: Literal["verifier", "vote", "reference"] = "verifier",
    per_problem: int = 10,
    past_rounds: int = 0,
    start: Literal["last", "champion", "base"] = "last",
    loss_type: Literal["sigmoid", "robust", "hinge", "ipo", "sppo"] = "sigmoid",
    beta: float = 0.1,
    nll_coef: float = 1.0,
    epochs: int = 1,
    lr_scale: float = 0.035,
) -> Policy:
    """Sample answers, prefer right to wrong ones, train the policy by DPO against itself, and repeat.

    Source: Pang et al., Iterative Reasoning Preference Optimization, 2404.19733, section 2. Each round samples from
    the last policy, pairs every right answer with wrong ones in turn, and trains that policy by DPO with itself as the
    reference, plus the likelihood of the chosen answer; `nll_coef=0` is iterated DPO as in Xu et al., 2312.16682.

    Differs from the paper: answers with the same text count once; the temperature is the same in every round, where
    the paper raises it to 1.3 from the third; one pass over a round's pairs, where the paper picks the number of steps
    on held-out data; zero-shot prompts. Samples, pairs, temperature, beta and learning rate are recalled of the paper,
    unconfirmed.

    Costs `rounds * samples` answers a problem, and one training a round on `per_problem` pairs a problem at most.

    Args:
        rounds: how often to sample, learn and measure.
        samples: answers per problem and round.
        temperature: of sampling.
        source: prefer answers that the verifier calls right, the most voted to the least voted, weighted by the gap
            (2411.04109), or written solutions to samples (2401.01335).
        per_problem: pairs per problem and round, at most.
        past_rounds: earlier rounds whose pairs are trained on again.
        start: what a round trains and is kept close to: the last policy, the champion, or the starting model.
        loss_type: form of the preference loss.
        beta: of DPO.
        nll_coef: weight of the negative log-likelihood per token of the chosen answer (alpha).
        epochs: passes over each round's pairs.
        lr_scale: multiplies the run's learning rate; 0.035 of the default 2e-5 is the paper's 7e-7.
    """
    objective, policy = rpo(beta, loss_type=loss_type, nll_coef=nll_coef), base  # the reference: where a round starts
    made: list[list[Pair]] = []
    solutions = curate.written_solutions(task.train) if source == "reference" else {}
    for _ in run.rounds(rounds):
        sampler = run.champion if start == "champion" else policy
        tried = run.attempt(sampler, task.train, samples=samples, temperature=temperature)
        if source == "reference":
            made.append(curate.solution_pairs(tried, solutions, per_problem=per_problem))
        elif source == "vote":
            how = {"select": curate.most_and_least_voted, "weight": curate.vote_gap(tried)}
            made.append(curate.pairs(tried, per_problem=per_problem, **how))
        else:
            distinct = routines.deduplicate(curate.finished(tried))
            made.append(curate.pairs(distinct, per_problem=per_problem, select=curate.right_times_wrong))
        recent = [pair for pairs in made[-1 - past_rounds :] for pair in pairs]
        policy = run.learn(base if start == "base" else sampler, objective, recent, epochs=epochs, lr_scale=lr_scale)
        run.measure(policy)
    return run.champion
