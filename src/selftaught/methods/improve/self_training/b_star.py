"""B-STaR: self-training that balances exploration and exploitation."""

from dataclasses import asdict

from selftaught import Baseline, Claim, Policy, Precondition, Run, Task, recipe, routines, sft
from selftaught.control import balance, tuning
from selftaught.learn import round_schedule
from selftaught.routines.plateau import late_gain, pass_at_k_change

SCALE = {"rounds": 8, "samples": 16, "steps": 64, "step_solutions": 4, "step_rollouts": 4}
# 0 as in the names of the authors' runs (infer_gsm8k1.sh): all right answers, and wrong ones whose steps look right
FIXED = Baseline("online-rft", method="online-rft", options={**SCALE, "step_reward": "trained", "threshold": 0.0})

CLAIM = Claim(
    "Choosing temperature and reward threshold anew each round, to keep exploration and exploitation in balance, beats"
    " as many rounds and optimizer steps of online rejection-sampling fine-tuning on the same reward at a fixed"
    " temperature and threshold, and the model it began with.",
    baselines=("greedy", FIXED),
    preconditions=(
        Precondition("the fixed arm levels off (gain in its last 3 rounds)", late_gain, at_most=0.01, of=FIXED),
        Precondition("the fixed arm loses pass@16 (change since half time)", pass_at_k_change, at_most=0.0, of=FIXED),
    ),
    options={**SCALE, "probe": 128, "num_temperatures": 5},
    train=256,
    variant="hard",
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
    tune_samples: bool = False,
    probe: int = 600,
    target: int = 8,
    selected: int = 6,
    num_temperatures: int = 15,
    min_temperature: float = 0.5,
    max_temperature: float = 1.2,
    threshold: float | None = None,
    step_reward: routines.StepReward = "trained",
    step_solutions: int = 8,
    step_rollouts: int = 8,
    steps: int = 500,
) -> Policy:
    """Self-train online, tuning sampling temperature and reward threshold each round by a balance score.

    Source: Zeng et al., B-STaR: Monitoring and Balancing Exploration and Exploitation in Self-Taught Reasoners,
    2412.17256, Algorithm 1, and the authors' code (hkust-nlp/B-STaR). Each round the temperature with the highest mean
    balance score on a probe of training problems is used for all of them, and the threshold is chosen anew on all
    answers; of each problem's answers whose reward is above it, equally many of the best are kept, and the current
    policy is trained on them for a fixed number of steps. The reward is 1 for a right answer plus the process reward of
    its worst step (see `routines.score_attempts`), from a process reward model trained once on Monte Carlo labels. One
    learning-rate schedule and one optimizer go through all rounds.

    Differs from the paper: temperatures compete by successive halving and, after the first round, among neighbors,
    where the authors' code searches a grid. The probe is a part of the training problems, whose samples are trained on,
    too. Solutions for the process reward model are the starting model's own. There is no SFT on reference solutions
    first; one a problem counts among the answers, as in the authors' code, but is not trained on. A batch is the run's
    (128 in the authors' script). With adapters each round has a fresh optimizer.

    Costs `step_solutions` answers and `step_rollouts` continuations of each of their steps a problem once, and one
    training; then `rounds` times `samples` answers a problem, about 5 and later 2.5 probes a round for 15 temperatures,
    a reading of each distinct answer, and `steps` optimizer steps.

    Args:
        rounds: rounds of tuning, sampling, training and measuring.
        samples: answers per problem.
        tune_samples: choose the number of answers, too: `samples`, `samples/2`, … down to `target` are tried.
        probe: training problems on which the temperature is chosen.
        target: n* in the paper, right answers wanted per problem.
        selected: answers per problem to select, on average, a reference solution included.
        num_temperatures: number of temperatures tried.
        min_temperature: lowest temperature tried.
        max_temperature: highest temperature tried.
        threshold: reward above which an answer is trained on; none tunes it.
        step_reward: who judges steps: a "trained" process reward model, the starting "model", prompted, the task's
            "exact" verdicts, or "none".
        step_solutions: solutions per problem whose steps are labeled to train the process reward model.
        step_rollouts: continuations of each step that label it.
        steps: optimizer steps per round, for which the selected answers are cycled through.
    """
    temperatures = tuning.linspace(min_temperature, max_temperature, num_temperatures)
    thresholds = tuning.THRESHOLDS if threshold is None else (threshold,)
    counts = tuning.halving_grid(samples, target) if tune_samples else (samples,)
    tuner = tuning.BalanceTuner(temperatures, counts, thresholds, target, selected, reference=True)
    judge = routines.step_judge(run, base, task, step_reward, step_solutions, step_rollouts)
    shuffled = sorted(task.train, key=lambda problem: problem.id)  # ids are hashes
    policy, near = base, None
    for number in run.rounds(rounds):
        sample = routines.scored_sampler(run, policy, judge, task, step_reward)
        choice = tuner.choose(shuffled[:probe], sample, near)
        rest = balance.group_by_problem(sample(shuffled[probe:], choice.config.temperature, choice.config.samples))
        groups = balance.first_samples({**choice.groups, **rest}, choice.config.samples)
        near = tuner.rechoose_threshold(choice.config, groups)
        run.log_metrics("balance", asdict(near) | routines.balance_metrics(groups, near.threshold, target, selected))
        demos = routines.selected_demos(balance.select(groups, near.threshold, selected, reference=True))
        how = round_schedule(run.settings.training, number, rounds)
        # the lowest rate is 2e-7 of 4.12e-6 in the authors' script
        policy = run.learn(policy, sft(), demos, steps=steps, min_lr_ratio=0.05, **how)
        run.measure(policy)
    return run.champion
