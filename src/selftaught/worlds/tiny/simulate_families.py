"""Print what the writer of each family of the tiny world reaches, without a model.

`python -m selftaught.worlds.tiny.simulate_families` takes about two minutes; `--family NAME` prints one family.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from selftaught.records import Problem
from selftaught.tasks.source import TaskRequest
from selftaught.worlds.kit.family import Family
from selftaught.worlds.kit.play import Critic, Player, mean
from selftaught.worlds.kit.task import load_kit_task
from selftaught.worlds.kit.twin import Twin
from selftaught.worlds.kit.writer import Writer
from selftaught.worlds.tiny.families import NAMES
from selftaught.worlds.tiny.simulate import STRENGTH, area_under_curve, parser_of
from selftaught.worlds.tiny.skills import KIN, Skills
from selftaught.worlds.tiny.task import LEVEL, VERSION
from selftaught.worlds.tiny.writer import paths_writer

SAMPLES = 16


class Rungs(NamedTuple):
    """What a policy reaches on problems of one level, each in 0..1.

    Attributes:
        sample: accuracy of a sample at temperature 0.7.
        greedy: accuracy of the most likely reply.
        majority: accuracy of the vote of 16 samples.
        passed: share of problems that one of 16 samples solves.
        score: mean score of a sample; the accuracy where answers are right or wrong.
        judged: share of samples on which the judge's more likely verdict is right.
        area: area under the judge's curve.
        gap: accuracy of the samples that the judge accepts less that of all.
    """

    sample: float
    greedy: float
    majority: float
    passed: float
    score: float
    judged: float
    area: float
    gap: float

    def __str__(self) -> str:
        return "  ".join(f"{value:.3f}" for value in self)


class FamilySimulation:
    """Problems of one family, and the twin of their writer.

    Args:
        name: of the family.
        skills: of the writer.
        problems: number of problems of each measurement.
        seed: of problems and chance.
        strength: of the twin.
    """

    def __init__(
        self, name: str, skills: Skills, problems: int = 300, seed: int = 0, strength: float = STRENGTH
    ) -> None:
        self.writer: Writer = paths_writer(skills, (name,))
        self.family: Family = self.writer.families[0]
        self.base, self.player = Twin(self.writer, strength), Player(self.writer.families, seed)
        self._count, self._seed = problems, seed

    def problems(self, level: int, count: int = 0, seed: int | None = None) -> Sequence[Problem]:
        """Held-out problems of a level."""
        request = TaskRequest(0, 0, count or self._count, self._seed if seed is None else seed, "")
        spec = f"tiny:family={self.family.name},level={level}"
        return load_kit_task("tiny", (self.family,), spec, request, level=LEVEL, version=VERSION).test

    def rungs(self, level: int, policy: Twin | None = None) -> Rungs:
        """All figures of a level."""
        twin, problems = policy or self.base, self.problems(level)
        ladder = self.player.ladder(twin, problems, SAMPLES)
        drafts = [(p, text) for p in problems for text in twin.sample_many(p.prompt, 2, self.player.rng)]
        checked = [self.player.check(p, text) for p, text in drafts]
        right = [self.player.right(p, text) for p, text in drafts]
        said = [self.player.acceptance(twin, p, text) for p, text in drafts]
        accepted = [truly for truly, p in zip(right, said, strict=True) if p > 0.5]
        judged = mean((p > 0.5) == truly for truly, p in zip(right, said, strict=True))
        gap = mean(accepted) - mean(right) if accepted else 0.0
        score = mean(one.score for one in checked)
        head = (ladder.sample, ladder.greedy, ladder.majority, ladder.passed)
        return Rungs(*head, score, judged, area_under_curve(said, right), gap)

    def revisions(self, level: int) -> dict[Critic, float]:
        """Accuracy of drafts revised once, less that of the drafts, by the source of the critique."""
        found: dict[Critic, float] = {}
        drafts = [(p, self.base.answer(p.prompt, self.player.rng)) for p in self.problems(level)]
        before = mean(self.player.right(p, text) for p, text in drafts)
        for by in ("none", "own", "true"):
            after = (self.player.right(p, self.player.revision(self.base, p, text, by)) for p, text in drafts)
            found[by] = mean(after) - before
        return found

    def trained(self, level: int, count: int = 384, rounds: int = 2) -> Iterator[Twin]:
        """The policy after each round of rejection sampling at a level."""
        train = self.problems(level, count, self._seed + 1)
        return self.player.self_train(self.base, train, rounds=rounds)


def main() -> None:
    """Print the tables."""
    parser = parser_of(__doc__, "--family", NAMES, "family to print (default all)", problems=300)
    parser.add_argument("--train", type=int, default=0, help="level of two rounds of rejection sampling (default none)")
    args = parser.parse_args()
    for name in args.family or NAMES:
        sim = FamilySimulation(name, KIN[args.skills], args.problems, args.seed)
        print(f"\n{name}\n  level   {'  '.join(Rungs._fields)}")
        for level in sim.family.levels:
            print(f"  {level:<8}{sim.rungs(level)}", flush=True)
        middle = sim.family.levels[len(sim.family.levels) // 2 - 1]
        revised = "  ".join(f"{by} {gain:+.3f}" for by, gain in sim.revisions(middle).items())
        print(f"  revision at level {middle} by critique: {revised}")
        for number, policy in enumerate(sim.trained(args.train) if args.train else (), 1):
            print(f"  level {args.train}, round {number}: {sim.rungs(args.train, policy)}", flush=True)


if __name__ == "__main__":
    main()
