"""B-STaR: self-training that keeps exploration and exploitation in balance."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from selftaught.check.claim import Claim, Rival
from selftaught.control.balance import Balance, Choice, Rewarded, dynamics, first, grouped, halvings, select, spread
from selftaught.curate.keep import lineage
from selftaught.errors import BadInput, suggest
from selftaught.learn import Training, sft
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Problem, Verdict
from selftaught.refine import mark_steps, marks
from selftaught.run.run import Run
from selftaught.tasks import Task

TUNES = ("both", "temperature", "threshold", "nothing")
PROCESSES = ("policy", "exact", "none")
THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(-10, 11))

CLAIM = Claim(
    "Choosing temperature and reward threshold anew each round, to keep exploration and exploitation in balance, beats"
    " online rejection-sampling fine-tuning at a fixed temperature and threshold, and the model it began with.",
    baselines=("greedy", Rival("fixed configuration", options={"tune": "nothing"})),
    options={"rounds": 2, "samples": 8, "probe": 24, "temperatures": 3, "target": 4, "epochs": 2},
    ablations={
        "temperature only": {"tune": "temperature"},
        "threshold only": {"tune": "threshold"},
        "exact verdicts on steps": {"process": "exact"},
        "no process reward": {"process": "none"},
    },
)


@recipe(paper="2412.17256", needs=("verifier",), claim=CLAIM)
def b_star(
    run: Run, base: Policy, task: Task, *, rounds: int = 9, samples: int = 64, probe: int = 600, target: int = 8,
    temperatures: int = 8, coolest: float = 0.5, hottest: float = 1.2, temperature: float = 1.0,
    threshold: float = 0.5, tune: str = "both", process: str = "policy", weight: float = 0.2, epochs: int = 1,
) -> Policy:  # fmt: skip
    """Re-choose temperature, samples and reward threshold each round by a balance score; learn online what passes.

    Source: Zeng et al., B-STaR: Monitoring and Balancing Exploration and Exploitation in Self-Taught Reasoners,
    2412.17256, Algorithm 1. Each round the setting of the highest mean balance score on a probe of training problems
    is used for all of them; distinct answers whose reward is above the threshold, the best of each problem, are learnt
    on top of the current policy. The reward is 1 for a right answer plus `weight` times that of its worst step, -1..1.

    Differs from the paper: temperatures compete by successive halving and, after the first round, among neighbours,
    where the paper goes through a grid; the number of samples is chosen too. Steps are marked by the starting model,
    asked to, or exactly where the task can, in place of a process reward model that was trained on Monte-Carlo labels.
    There is no SFT on reference solutions first. The optimiser's state is carried on (not with
    adapters), its schedule starts anew. n* is 8 as in the authors' code, whose target size comes to 6; reference
    solutions are not counted among right selections, as they are there.

    Costs `rounds` times up to `samples` answers a problem, 4 and later 2.5 probes a round for 8 temperatures, marks
    for each distinct answer, and one fine-tuning a round.

    Args:
        rounds: how often to choose, sample, learn and measure.
        samples: most answers per problem; its halves down to `target` are tried too.
        probe: training problems that the choice rests on.
        target: n*, right answers wanted per problem.
        temperatures: how many are tried from `coolest` to `hottest`.
        coolest: lowest temperature tried.
        hottest: highest temperature tried.
        temperature: of sampling, where it is not tuned.
        threshold: reward above which an answer is learnt, where it is not tuned; 0.5 keeps the right answers.
        tune: "both", "temperature", "threshold" or "nothing".
        process: who marks steps: the starting "policy", the task's "exact" verdicts, or "none".
        weight: of the process reward; in the authors' code a fifth.
        epochs: passes over what a round selects.
    """
    for name, value, known in (("tune", tune, TUNES), ("process", process, PROCESSES)):
        if value not in known:
            raise BadInput(f"unknown {value!r}", where=name, fix=suggest(value, known))
    balance = Balance(
        temperatures=spread(coolest, hottest, temperatures) if tune in ("both", "temperature") else (temperature,),
        samples=(samples,) if tune == "nothing" else halvings(samples, target),
        thresholds=THRESHOLDS if tune in ("both", "threshold") else (threshold,),
        target=target,
    )
    shuffled = sorted(task.train, key=lambda problem: problem.id)  # ids are hashes
    policy, choice = base, None
    for _ in run.rounds(rounds):

        def draw(problems: Sequence[Problem], heat: float, n: int, policy: Policy = policy) -> list[Rewarded]:
            tried = run.attempt(policy, problems, samples=n, temperature=heat)
            worst = STEPS[process](run, base, task, tried)
            return [Rewarded(one, float(one.right) + weight * worst[one.problem.id, one.text]) for one in tried]

        choice = balance.choose(shuffled[:probe], draw, choice and choice.setting)
        now = choice.setting
        groups = {**choice.groups, **grouped(draw(shuffled[probe:], now.temperature, now.samples))}
        chosen = select(first(groups, now.samples), now.threshold, target)
        run.log_metrics("balance", told(choice, target))
        policy = run.learn(policy, sft(), demos(chosen.values()), epochs=epochs, **carried(run.settings.training))
        run.measure(policy)
    return run.champion


def carried(training: Training) -> dict[str, bool]:
    """Has the optimiser's state go on from round to round: with full weights."""
    return {"carry": not training.lora_rank}


def told(choice: Choice, target: int) -> dict[str, float]:
    """What was chosen, and exploration and exploitation under it, for the line of the round."""
    seen = dynamics(first(choice.groups, choice.setting.samples), choice.setting.threshold, target)
    return {**asdict(choice.setting), **asdict(seen)}


def demos(chosen: Iterable[Sequence[Rewarded]]) -> list[Demo]:
    """What was selected, to imitate."""
    attempts = [one.attempt for answers in chosen for one in answers]
    return [Demo(a.problem.prompt, a.text, attempts=lineage(a)) for a in attempts]


Worst = dict[tuple[str, str], float]  # (problem id, text) -> the reward of its worst step, -1..1; 0 where unknown


def marked(run: Run, judge: Policy, task: Task, tried: Sequence[Attempt]) -> Worst:
    """As the judge marks the steps; each text is read once."""
    del task
    texts = {(one.problem.id, one.text): one for one in tried}
    notes = run.attempt(judge, list(texts.values()), solver=mark_steps, temperature=0.0)
    return {text: 2 * min(said) - 1 if (said := marks(note)) else 0.0 for text, note in zip(texts, notes, strict=True)}


def exact(run: Run, judge: Policy, task: Task, tried: Sequence[Attempt]) -> Worst:
    """As the task's verdicts on steps have it."""
    del run, judge
    worst: Worst = {}
    for one in tried:
        if (steps := task.step_verdicts(one.problem, one.text)) is None:
            raise BadInput("this task has no verdicts on steps", where="process", fix='use "policy" or "none"')
        worst[one.problem.id, one.text] = 1.0 if all(step is Verdict.RIGHT for step in steps) else -1.0
    return worst


def none(run: Run, judge: Policy, task: Task, tried: Sequence[Attempt]) -> Worst:
    """Nothing is known of steps."""
    del run, judge, task
    return dict.fromkeys(((one.problem.id, one.text) for one in tried), 0.0)


STEPS: dict[str, Callable[[Run, Policy, Task, Sequence[Attempt]], Worst]] = {
    "policy": marked,
    "exact": exact,
    "none": none,
}
