"""Evolve: balanced sampling, a critic and preference learning in one loop; start here to just improve a model."""

from selftaught import Baseline, Claim, Policy, Run, Task, dpo, recipe, routines
from selftaught.control import tuning

BALANCED = {"samples": 8, "probe": 24, "num_temperatures": 3}
FOUR_ROUNDS = {"rounds": 4, "steps": 48, "target": 4, "selected": 4, "step_reward": "model"}

CLAIM = Claim(
    "Joined in one loop, balanced sampling, a critic's repairs and preferences for right answers teach what carries"
    " over to harder problems better than each of four single methods.",
    baselines=(
        "greedy",
        Baseline("rest-em", method="rest-em", options={"samples": 4, "per_problem": 4}),
        Baseline("star", method="star", options={"samples": 4, "steps": 16}),
        Baseline("self", method="self", options={"samples": 2, "drafts": 2}),
        Baseline("b-star", method="b-star", options={**BALANCED, **FOUR_ROUNDS}),
    ),
    options={"rounds": 2, **BALANCED, "repairs": 2},
    ablations={
        "no critic": {"repairs": 0},
        "one temperature": {"min_temperature": 0.7, "num_temperatures": 1},
    },
    generalization=True,
)


@recipe(paper="2404.14387", needs=("verifier",), claim=CLAIM)
def evolve(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 3,
    samples: int = 16,
    probe: int = 128,
    num_temperatures: int = 4,
    min_temperature: float = 0.5,
    max_temperature: float = 1.1,
    target: int = 4,
    repairs: int = 4,
    drafts: int = 3,
    lr_scale: float = 0.25,
) -> Policy:
    """Sample at a balanced temperature, repair failures with a critic, and learn right over wrong answers by DPO.

    Source: the cycle of Tao et al., A Survey on Self-Evolution of Large Language Models, 2404.14387, figure 2: acquire,
    refine, update, evaluate. Acquire: sample the champion at the temperature and sample count with the highest balance
    score of B-STaR (2412.17256) on a probe. Refine: a critic, trained once on critiques that led to right revisions,
    repairs failures, most on hard problems (2411.16579). Update: DPO on the round's right answers over its wrong ones,
    with the champion as reference (2305.18290). Evaluate: the gate on dev decides whether the champion is replaced.

    Differs from the paper: the survey names the phases and gives no algorithm; what fills them is our choice.
    `evolve-sft` is the same loop with imitation as its update.

    Costs `drafts * 5` answers a problem once for the critic; per round up to `samples + 2 * repairs` answers a problem,
    the probes, and one training.

    Args:
        rounds: rounds of the cycle.
        samples: most answers per problem and round; `samples`, `samples/2`, … down to `target` are tried.
        probe: training problems on which temperature and sample count are chosen.
        num_temperatures: number of temperatures tried.
        min_temperature: lowest temperature tried.
        max_temperature: highest temperature tried.
        target: right answers wanted per problem, and most preference pairs per problem.
        repairs: most repairs of failures at one problem; 0 trains without a critic.
        drafts: answers per problem that the critic's training set is made of.
        lr_scale: DPO's learning rate as a multiple of the run's.
    """
    temperatures = tuning.linspace(min_temperature, max_temperature, num_temperatures)
    tuner = tuning.BalanceTuner(temperatures, tuning.halving_grid(samples, target), (0.5,), target)
    acquired = routines.acquire_rounds(run, base, task, rounds, tuner, probe=probe, repairs=repairs, drafts=drafts)
    for found in acquired:
        actor, pairs = found.actor, found.new.pairs(target)
        policy = run.learn(actor, dpo(reference=actor), pairs, lr_scale=lr_scale, epochs=1) if pairs else actor
        run.measure(policy)
    return run.champion
