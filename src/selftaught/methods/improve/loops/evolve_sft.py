"""Evolve by imitation: balanced sampling and a critic's repairs, learned by fine-tuning on right answers."""

from selftaught import Baseline, Claim, Policy, Run, Task, dpo, keep, recipe, routines, sft
from selftaught.control import tuning

CLAIM = Claim(
    "In a loop of balanced sampling and a critic's repairs, imitating the right answers of all rounds beats the model"
    " it began with on harder problems, and plain self-training on right answers.",
    baselines=("greedy", Baseline("rest-em", method="rest-em", options={"samples": 4, "per_problem": 4})),
    options={"rounds": 2, "samples": 8, "probe": 24, "num_temperatures": 3, "repairs": 2},
    ablations={"no critic": {"repairs": 0}, "then preferences": {"then_dpo": True}},
    generalization=True,
)
LR_SCALE = 0.25
"""DPO's learning rate as a multiple of the run's, as in `evolve`."""


@recipe(paper="2404.14387", needs=("verifier",), claim=CLAIM)
def evolve_sft(
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
    then_dpo: bool = False,
) -> Policy:
    """Sample at a balanced temperature, repair failures with a critic, and fine-tune on all right answers so far.

    Source: the cycle of Tao et al., A Survey on Self-Evolution of Large Language Models, 2404.14387, figure 2, filled
    as in `evolve` but for its update: the starting model is fine-tuned each round on the newest right answers of all
    rounds, as in ReST-EM (2312.06585).

    Differs from the paper: the survey names the phases and gives no algorithm; what fills them is our choice.

    Costs `drafts * 5` answers a problem once for the critic; per round up to `samples + 2 * repairs` answers a problem,
    the probes, and one training, or two with `then_dpo`.

    Args:
        rounds: rounds of the cycle.
        samples: most answers per problem and round; `samples`, `samples/2`, … down to `target` are tried.
        probe: training problems on which temperature and sample count are chosen.
        num_temperatures: number of temperatures tried.
        min_temperature: lowest temperature tried.
        max_temperature: highest temperature tried.
        target: right answers wanted per problem, and most answers trained on per problem.
        repairs: most repairs of failures at one problem; 0 trains without a critic.
        drafts: answers per problem that the critic's training set is made of.
        then_dpo: follow each fine-tuning with DPO on the round's right answers over its wrong ones.
    """
    temperatures = tuning.linspace(min_temperature, max_temperature, num_temperatures)
    tuner = tuning.BalanceTuner(temperatures, tuning.halving_grid(samples, target), (0.5,), target)
    acquired = routines.acquire_rounds(run, base, task, rounds, tuner, probe=probe, repairs=repairs, drafts=drafts)
    for found in acquired:
        policy = run.learn(base, sft(), keep(found.seen.newest(target)))
        if then_dpo and (pairs := found.new.pairs(target)):
            policy = run.learn(policy, dpo(reference=policy), pairs, lr_scale=LR_SCALE, epochs=1)
        run.measure(policy)
    return run.champion
