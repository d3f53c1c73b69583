"""Play the known effects of self-improvement on the tabular twin of the tiny world's writer and print the tables.

`python -m selftaught.worlds.tiny.simulate` takes about a minute; `--section NAME` prints one table. Its problems are
those of the seeds given; nothing here trains a network.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from selftaught.records import Message, Problem, Verdict
from selftaught.tasks.source import TaskRequest
from selftaught.tasks.task import Task
from selftaught.worlds.kit.family import split_reply
from selftaught.worlds.kit.language import NEWLINE, PHRASES, WAIT
from selftaught.worlds.kit.play import Critic, Label, Ladder, Player, mean
from selftaught.worlds.kit.task import load_kit_task
from selftaught.worlds.kit.twin import Twin
from selftaught.worlds.tiny.family import Paths
from selftaught.worlds.tiny.skills import KIN, Skills
from selftaught.worlds.tiny.task import LEVEL, VERSION
from selftaught.worlds.tiny.writer import paths_writer

STRENGTH = 2.0
"""What an entry of the base weighs in demonstrations, so that a round gains about what a network gains in it."""

Row = tuple[str, str]
Section = Callable[["Simulation"], Iterator[Row]]


class Simulation:
    """Problems, a twin and a player.

    Args:
        skills: of the writer.
        problems: number of problems of each measurement.
        seed: of problems and chance.
        strength: of the twin.
    """

    def __init__(self, skills: Skills, problems: int = 400, seed: int = 0, strength: float = STRENGTH) -> None:
        self.writer = paths_writer(skills)
        self.family: Paths = self.writer.families[0]  # type: ignore[assignment]
        self.base, self.player = Twin(self.writer, strength), Player(self.writer.families, seed)
        self._count, self._seed = problems, seed

    def test(self, level: int = 4, noise: str = "none") -> Sequence[Problem]:
        """Held-out problems of a level."""
        return self._task(f"tiny:level={level},noise={noise}", 0).test

    def train(self, count: int = 384, level: int = 4) -> Sequence[Problem]:
        """Problems to train on."""
        return self._task(f"tiny:level={level}", count).train

    def _task(self, spec: str, train: int) -> Task:
        request = TaskRequest(train, 0, self._count, self._seed, "")
        return load_kit_task("tiny", self.writer.families, spec, request, level=LEVEL, version=VERSION)

    def drafts(self, level: int = 4) -> list[tuple[Problem, str]]:
        """A sampled draft for each problem of a level."""
        return [(p, self.base.answer(p.prompt, self.player.rng)) for p in self.test(level)]


def ladder(sim: Simulation) -> Iterator[Row]:
    """Greedy, sampled, voted and covered problems by length; spread of p."""
    yield "level", "greedy sample majority@16 pass@16 | sd of p, p < 0.1, p > 0.9"
    for level in (2, 3, 4, 6, 8):
        found = sim.player.ladder(sim.base, sim.test(level))
        yield str(level), f"{found} | {_spread(found)}"


def _spread(found: Ladder) -> str:
    rates, center = found.rates, found.sample
    deviation = mean((rate - center) ** 2 for rate in rates) ** 0.5
    return f"{deviation:.3f}  {mean(rate < 0.1 for rate in rates):.3f}  {mean(rate > 0.9 for rate in rates):.3f}"


def temperature(sim: Simulation) -> Iterator[Row]:
    """Coverage rises and accuracy falls with temperature."""
    yield "temperature", "greedy sample majority@8 pass@8"
    for heat in (0.3, 0.5, 0.7, 1.0, 1.2):
        yield str(heat), str(sim.player.ladder(sim.base, sim.test(), 8, heat))


def area_under_curve(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Probability that a right one scores higher than a wrong one; ties count half."""
    good, bad = ([s for s, truly in zip(scores, right, strict=True) if truly is which] for which in (True, False))
    return mean((a > b) + 0.5 * (a == b) for a in good for b in bad)


def judging(sim: Simulation) -> Iterator[Row]:
    """The judge's calibration, and the area under its curve."""
    found = [(sim.player.acceptance(sim.base, p, text), sim.player.right(p, text)) for p, text in sim.drafts()]
    yield "judge: AUC", f"{area_under_curve([s for s, _ in found], [r for _, r in found]):.3f}"
    yield "judge: mean P(right), true share", f"{mean(s for s, _ in found):.3f}  {mean(r for _, r in found):.3f}"
    edges = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.01)
    for low, high in pairwise(edges):
        of = [(score, right) for score, right in found if low <= score < high]
        yield (
            f"  P in {low}..{min(1.0, high)}",
            f"{mean(s for s, _ in of):.3f}  {mean(r for _, r in of):.3f}  n={len(of)}",
        )


def revising(sim: Simulation) -> Iterator[Row]:
    """Blind, own, trained and true critiques; how well critics locate the first error."""
    trained = sim.base.learn(sim.player.critic_lessons(sim.base, sim.train(512), 2))
    drafts = sim.drafts()
    for name, critic in (("own", sim.base), ("trained", trained)):
        yield f"locate, {name} critic: F1", f"{location_f1(sim.player, critic, drafts):.3f}"
    ways: tuple[tuple[str, Critic, Twin], ...] = (
        ("blind", "none", sim.base),
        ("own critique", "own", sim.base),
        ("trained critic", "own", trained),
        ("true critique", "true", sim.base),
    )
    for name, by, critic in ways:
        yield f"revision: {name}: net, fixed, broken", "  ".join(f"{x:+.3f}" for x in flips(sim, drafts, by, critic))


def flips(
    sim: Simulation, drafts: Sequence[tuple[Problem, str]], by: Critic, critic: Twin
) -> tuple[float, float, float]:
    """Net change of accuracy by a revision, share of wrong drafts fixed, share of right ones broken."""
    play = sim.player
    after = [(play.right(p, d), play.right(p, play.revision(sim.base, p, d, by, critic))) for p, d in drafts]
    fixed, broken = mean(b for a, b in after if not a), mean(not b for a, b in after if a)
    return mean(b - a for a, b in after), fixed, broken


def location_f1(player: Player, critic: Twin, drafts: Sequence[tuple[Problem, str]]) -> float:
    """F1 of naming the first wrong step of a draft."""
    found = [player.located(critic, p, text) for p, text in drafts]
    hits = sum(said == true for said, true in found if true is not None)
    named, wrong = sum(said is not None for said, _ in found), sum(true is not None for _, true in found)
    return 2 * hits / max(1, named + wrong)


def doubting(sim: Simulation) -> Iterator[Row]:
    """A forced `wait` after a right and after a wrong step."""
    fixed, spoiled = forced_waits(sim)
    yield "forced wait: fixes, spoils", f"{fixed:.3f}  {spoiled:.3f}"
    rng = sim.player.rng
    written = [(p, sim.base.answer(p.prompt, rng, 1.0)) for p in sim.test() for _ in range(4)]
    yield "share of solutions with wait", f"{mean(WAIT in text for _, text in written):.3f}"


def forced_waits(sim: Simulation) -> tuple[float, float]:
    """Shares of wrong steps that a forced `wait` fixes, and of right ones that it spoils."""
    wrong, right = [], []
    for problem, text in sim.drafts() + sim.drafts():
        lines = split_reply(text)[0]
        at = sim.player.rng.randrange(len(lines))
        if WAIT in lines:
            continue
        prefix = NEWLINE.join([*lines[: at + 1], WAIT, ""])
        again = sim.base.answer(problem.prompt, sim.player.rng, 0.7, prefix)
        steps = sim.player.check(problem, again).steps
        (right if steps[at] is Verdict.RIGHT else wrong).append(steps[at + 2] is Verdict.RIGHT)
    return mean(wrong), 1 - mean(right)


def prompting(sim: Simulation) -> Iterator[Row]:
    """Other words, an aside, a way asked for, demonstrations of good ways, hints."""
    yield "questions", "greedy sample majority@8 pass@8"
    yield "plain", str(sim.player.ladder(sim.base, sim.test(), 8))
    for noise in ("wording", "aside", "way"):
        yield noise, str(sim.player.ladder(sim.base, sim.test(noise=noise), 8))
    shown = [_with_prompt(p, (*sim.family.good_example(), *p.prompt)) for p in sim.test()]
    yield "after a demonstration of good ways", str(sim.player.ladder(sim.base, shown, 8))
    hints = (Message("user", PHRASES["rationalize"].format(answer=p.reference)) for p in sim.test())
    hinted = [_with_prompt(p, (*p.prompt, hint)) for p, hint in zip(sim.test(), hints, strict=True)]
    yield "with the answer as a hint", str(sim.player.ladder(sim.base, hinted, 4))


def _with_prompt(problem: Problem, prompt: tuple[Message, ...]) -> Problem:
    return replace(problem, prompt=prompt)


def self_training(sim: Simulation) -> Iterator[Row]:
    """Rounds of self-training on right answers, the majority's, all and wrong ones; transfer to longer problems."""
    yield "labels", "greedy sample majority@8 pass@8 | greedy at level 6"
    yield "start", _trained(sim, sim.base)
    plans: tuple[tuple[Label, int, bool], ...] = (
        ("right", 5, False),
        ("majority", 3, False),
        ("all", 3, True),
        ("wrong", 1, False),
    )
    for label, rounds, carry in plans:
        policies = sim.player.self_train(sim.base, sim.train(), label=label, rounds=rounds, carry=carry)
        for number, policy in enumerate(policies, 1):
            yield f"{label}, round {number}", _trained(sim, policy)


def _trained(sim: Simulation, policy: Twin) -> str:
    longer = mean(sim.player.right(p, policy.answer(p.prompt, sim.player.rng, 0.0)) for p in sim.test(6))
    return f"{sim.player.ladder(policy, sim.test(), 8)} | {longer:.3f}"


def search(sim: Simulation) -> Iterator[Row]:
    """A beam by marks of steps against the best of 8 samples by the judge, at short and long problems."""
    yield "level", "sample, best of 8, majority of 8, beam 4 x 2"
    for level in (3, 8):
        yield str(level), "  ".join(f"{score:.3f}" for score in searched(sim, sim.test(level)[:200]))


def searched(sim: Simulation, problems: Sequence[Problem]) -> tuple[float, float, float, float]:
    """Accuracy of a sample, of the best of 8 by the judge, of their vote, and of a beam."""
    play, rows = sim.player, []
    for problem in problems:
        texts = sim.base.sample_many(problem.prompt, 8, play.rng)
        scores = [play.acceptance(sim.base, problem, text) for text in texts]
        best = texts[max(range(len(texts)), key=scores.__getitem__)]
        kept = play.beam(sim.base, problem)[0]
        rows.append([play.right(problem, text) for text in (texts[0], best, play.elected(texts), kept)])
    sample, best, vote, beam = (mean(column) for column in zip(*rows, strict=True))
    return sample, best, vote, beam


SECTIONS: Mapping[str, Section] = {
    "ladder": ladder,
    "temperature": temperature,
    "judging": judging,
    "revising": revising,
    "doubting": doubting,
    "prompting": prompting,
    "self-training": self_training,
    "search": search,
}


def parser_of(about: str | None, part: str, parts: Iterable[str], shown: str, *, problems: int) -> ArgumentParser:
    """The options of a simulation: `part` names what it prints, which `shown` explains, one of `parts`."""
    parser = ArgumentParser(description=about)
    parser.add_argument(part, choices=parts, action="append", help=shown)
    parser.add_argument("--skills", choices=KIN, default="base", help="writer (default %(default)s)")
    parser.add_argument("--problems", type=int, default=problems, help="problems of each figure (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of problems and chance (default %(default)s)")
    return parser


def main() -> None:
    """Print the tables."""
    args = parser_of(__doc__, "--section", SECTIONS, "table to print (default all)", problems=400).parse_args()
    sim = Simulation(KIN[args.skills], args.problems, args.seed)
    for name in args.section or SECTIONS:
        print(f"\n{name}: {(SECTIONS[name].__doc__ or '').splitlines()[0]}")
        for label, row in SECTIONS[name](sim):
            print(f"  {label:<44} {row}", flush=True)


if __name__ == "__main__":
    main()
