"""Evolve: the systems at the centre joined into one loop; what to run so that a model just gets better."""

from collections.abc import Callable, Sequence
from functools import partial

from selftaught import refine, routines
from selftaught.check.claim import Claim, Rival
from selftaught.control.balance import Balance, Rewarded, grouped, halvings, spread
from selftaught.curate import Gathered, by_problem, keep
from selftaught.errors import BadInput, suggest
from selftaught.learn import sft
from selftaught.learn.objectives import dpo, reinforce
from selftaught.learn.online.two_turn_credit import Shaping
from selftaught.method import find, recipe
from selftaught.models import Policy
from selftaught.records import Problem
from selftaught.run.run import Run
from selftaught.search import Grower, Growth, pairs_of
from selftaught.tasks import Task

SAMPLERS = ("answers", "deepening", "search")
STEPS = 8  # of self-correction in a round

CLAIM = Claim(
    "Joined in one loop, balanced sampling, a critic's repairs and preferences for right answers teach what carries"
    " over to harder problems better than each of four single methods.",
    baselines=(
        "greedy",
        Rival("rest-em", method="rest-em", options={"samples": 4, "per_problem": 4}),
        Rival("star", method="star", options={"samples": 4}),
        Rival("self", method="self", options={"samples": 2, "drafts": 2}),
        Rival("b-star", method="b-star", options={"samples": 8, "probe": 24, "temperatures": 3, "target": 4}),
    ),
    options={"rounds": 2, "samples": 8, "probe": 24, "temperatures": 3, "repairs": 2},
    ablations={
        "no critic": {"repairs": 0},
        "one temperature": {"coolest": 0.7, "temperatures": 1},
        "imitation": {"update": "sft"},
        "imitation, then preferences": {"update": "sft+dpo"},
        "self-correction": {"update": "score"},
        "doubted answers": {"sampler": "deepening"},
        "searched answers": {"sampler": "search"},
    },
    harder=True,
)


@recipe(paper="2404.14387", needs=("verifier",), claim=CLAIM)
def evolve(
    run: Run, base: Policy, task: Task, *, rounds: int = 3, sampler: str = "answers", samples: int = 16,
    probe: int = 128, temperatures: int = 4, coolest: float = 0.5, hottest: float = 1.1, target: int = 4,
    repairs: int = 4, drafts: int = 3, update: str = "dpo", pace: float = 0.25,
) -> Policy:  # fmt: skip
    """Sample in balance, have a critic repair what failed, learn what is right over what is wrong, and again.

    Source: the cycle of Tao et al., A Survey on Self-Evolution of Large Language Models, 2404.14387, figure 2: acquire,
    refine, update, evaluate. Acquire: answers of the champion at the temperature and in the number that B-STaR's score
    (2412.17256) is highest for on a probe; or doubted ones (2502.05449), or trees of steps (2405.00451). Refine: a
    critic, trained once on critiques that led to right revisions, repairs failures, most on hard problems (2411.16579).
    Update: the champion learns this round's right answers over its wrong ones (DPO against itself, 2305.18290), or
    self-correction (SCoRe, 2409.12917); or the starting model imitates the newest right answers of all rounds first.
    Evaluate: the gate on dev; the champion goes on.

    Differs from the paper: the survey names the phases, and no algorithm; what they are filled with is our choice.

    Costs `drafts * 5` answers a problem once for the critic; per round up to `samples + 2 * repairs` answers a problem,
    the probes, and one training for each update.

    Args:
        rounds: of the cycle.
        sampler: "answers", "deepening" (each doubted once it has ended), or "search" (a tree for each problem).
        samples: most answers per problem and round; its halves down to `target` are tried too.
        probe: training problems that temperature and number are chosen on.
        temperatures: how many are tried from `coolest` to `hottest`.
        coolest: lowest temperature tried.
        hottest: highest temperature tried.
        target: right answers wanted per problem; no more of it are learnt.
        repairs: most repairs of failures at one problem; 0 for no critic.
        drafts: answers per problem that the critic learns from.
        update: "sft", "dpo" and "score", one after the other, joined by "+"; without "sft" the champion goes on.
        pace: learning rate of "dpo" and "score", as a multiple of the run's.
    """
    updates = update.split("+")
    for where, names, known in (("sampler", [sampler], SAMPLERS), ("update", updates, tuple(UPDATES))):
        for name in (name for name in names if name not in known):
            raise BadInput(f"unknown {name!r}", where=where, fix=suggest(name, known))
    balance = Balance(spread(coolest, hottest, temperatures), halvings(samples, target), (0.5,), target)
    lessons = routines.critic_lessons(run, base, base, task, drafts=drafts, checks=2) if repairs else []
    critic = run.learn(base, sft(), routines.critiques(lessons)) if lessons else base
    shuffled = sorted(task.train, key=lambda problem: problem.id)  # ids are hashes
    gathered, choice = Gathered(), None
    for _ in run.rounds(rounds):
        actor, fresh = run.champion, Gathered()
        draw = partial(drawn, run, actor, sampler, fresh)
        choice = balance.choose(shuffled[:probe], draw, choice and choice.setting)
        heat, amount = choice.setting.temperature, choice.setting.samples
        rest = grouped(draw(shuffled[probe:], heat, amount))
        tried = [one.attempt for group in {**choice.groups, **rest}.values() for one in group]
        mended = routines.repair(run, critic, actor, tried, repairs, heat) if repairs else []
        fresh.add([*tried, *mended])
        gathered.add([*tried, *mended])
        told = {"temperature": heat, "samples": amount, "solved": len(by_problem(a for a in tried if a.right))}
        run.log_metrics("gathered", told | {"solved in all": len(gathered.right), "of": len(task.train)})
        policy = base if "sft" in updates else actor
        for name in updates:
            some = gathered if name == "sft" else fresh
            policy = UPDATES[name](run, policy, task, some, target, pace * run.settings.training.learning_rate)
        run.measure(policy)
    return run.champion


def drawn(
    run: Run, actor: Policy, sampler: str, gathered: Gathered, problems: Sequence[Problem], temperature: float, n: int
) -> list[Rewarded]:
    """`n` answers to each problem; a tree counts as one."""
    if sampler == "search":
        grower = Grower(Growth(iterations=16, temperature=temperature))
        found = run.search(actor, problems, solver=grower, temperature=temperature)
        gathered.preferred += [pair for one in found for pair in pairs_of(one)]
        tried = [one.attempt for one in found]
    else:
        doubting = find("iterative-deepening").with_options(samples=1, temperature=temperature)
        solver = doubting if sampler == "deepening" else None
        tried = run.attempt(actor, problems, solver=solver, samples=n, temperature=temperature)
    return [Rewarded(one, float(one.right)) for one in tried]


def imitate(run: Run, policy: Policy, _task: Task, gathered: Gathered, most: int, _rate: float) -> Policy:
    """SFT on the newest right answers."""
    return run.learn(policy, sft(), keep(gathered.newest(most)))


def prefer(run: Run, policy: Policy, _task: Task, gathered: Gathered, most: int, rate: float) -> Policy:
    """DPO on right answers over wrong ones, against the policy as it comes; that policy where there are none."""
    pairs = gathered.pairs(most)
    return run.learn(policy, dpo(reference=policy), pairs, learning_rate=rate, epochs=1) if pairs else policy


def correct(run: Run, policy: Policy, task: Task, _gathered: Gathered, _most: int, rate: float) -> Policy:
    """Stage II of SCoRe, anchored to the policy as it comes."""
    stage = Shaping(1.0, 10.0, (0.01, 0.01))
    return run.learn_online(
        policy, task.train, solver=refine.two_turns, credit=stage.crediting,
        objective=reinforce(reference=policy), steps=STEPS, learning_rate=rate,
    )  # fmt: skip


UPDATES: dict[str, Callable[[Run, Policy, Task, Gathered, int, float], Policy]] = {
    "sft": imitate,
    "dpo": prefer,
    "score": correct,
}
