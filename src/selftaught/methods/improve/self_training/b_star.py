"""B-STaR: self-training that balances exploration and exploitation."""

from collections.abc import Sequence

from selftaught import Baseline, Claim, Policy, Problem, Run, Task, recipe, routines, sft
from selftaught.control import balance, tuning

THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(-10, 11))

CLAIM = Claim(
    "Choosing temperature and reward threshold anew each round, to keep exploration and exploitation in balance, beats"
    " online rejection-sampling fine-tuning at a fixed temperature and threshold, and the model it began with.",
    baselines=("greedy", Baseline("online-rft", method="online-rft", options={"samples": 8, "target": 4, "epochs": 2})),
    options={"rounds": 2, "samples": 8, "probe": 24, "num_temperatures": 3, "target": 4, "epochs": 2},
    ablations={
        "temperature only": {"threshold": 0.5},
        "threshold only": {"min_temperature": 1.0, "num_temperatures": 1},
        "exact verdicts on steps": {"step_reward": "exact"},
        "no process reward": {"step_reward": "none"},
    },
)


@recipe(paper="2412.17256", needs=("verifier",), claim=CLAIM)
def b_star(
    run: Run,
    base: Policy,
    task: Task,
    *,
    rounds: int = 9,
    samples: int = 64,
    probe: int = 600,
    target: int = 8,
    num_temperatures: int = 8,
    min_temperature: float = 0.5,
    max_temperature: float = 1.2,
    threshold: float | None = None,
    step_reward: routines.StepReward = "model",
    epochs: int = 1,
) -> Policy:
    """Self-train online, tuning temperature, sample count and reward threshold each round by a balance score.

    Source: Zeng et al., B-STaR: Monitoring and Balancing Exploration and Exploitation in Self-Taught Reasoners,
    2412.17256, Algorithm 1. Each round the setting with the highest mean balance score on a probe of training problems
    is used for all of them; distinct answers whose reward is above the threshold, the best of each problem, train the
    current policy. The reward is 1 for a right answer plus 0.2 times that of its worst step, -1..1.

    Differs from the paper: temperatures compete by successive halving and, after the first round, among neighbors,
    where the paper searches a grid; the number of samples is tuned too. Steps are scored by the prompted starting
    model, or exactly where the task can, in place of a process reward model trained on Monte Carlo labels. There is no
    SFT on reference solutions first. The optimizer state is kept between rounds (not with adapters), the learning-rate
    schedule restarts. n* is 8 as in the authors' code, whose target size amounts to 6; reference solutions do not count
    among right selections, as they do there.

    Costs `rounds` times up to `samples` answers a problem, 4 and later 2.5 probes a round for 8 temperatures, scores
    for each distinct answer, and one fine-tuning a round.

    Args:
        rounds: rounds of tuning, sampling, training and measuring.
        samples: most answers per problem; `samples`, `samples/2`, … down to `target` are tried.
        probe: training problems on which the setting is chosen.
        target: n* in the paper, right answers wanted per problem.
        num_temperatures: number of temperatures tried.
        min_temperature: lowest temperature tried.
        max_temperature: highest temperature tried.
        threshold: reward above which an answer is trained on (0.5 keeps the right ones); none tunes it.
        step_reward: who judges steps: the starting "model", the task's "exact" verdicts, or "none".
        epochs: passes over each round's selected answers.
    """
    temperatures = tuning.linspace(min_temperature, max_temperature, num_temperatures)
    thresholds = THRESHOLDS if threshold is None else (threshold,)
    tuner = tuning.BalanceTuner(temperatures, tuning.halving_grid(samples, target), thresholds, target)
    shuffled = sorted(task.train, key=lambda problem: problem.id)  # ids are hashes
    policy, choice = base, None
    for _ in run.rounds(rounds):

        def sample(
            problems: Sequence[Problem], temperature: float, n: int, policy: Policy = policy
        ) -> list[balance.ScoredAttempt]:
            tried = run.attempt(policy, problems, samples=n, temperature=temperature)
            return routines.score_attempts(run, base, task, tried, step_reward)

        choice = tuner.choose(shuffled[:probe], sample, choice and choice.config)
        config = choice.config
        rest = balance.group_by_problem(sample(shuffled[probe:], config.temperature, config.samples))
        groups = balance.first_samples({**choice.groups, **rest}, config.samples)
        run.log_metrics("balance", choice.metrics(target))
        demos = routines.selected_demos(balance.select(groups, config.threshold, target))
        policy = run.learn(
            policy, sft(), demos, epochs=epochs, keep_optimizer_state=not run.settings.training.lora_rank
        )
        run.measure(policy)
    return run.champion
