"""Methods played on a tabular twin: self-training, criticism, search and votes, each in a few lines.

They show what a method can gain in a world before a network is trained; the same names are methods of the framework.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from selftaught.records import Message, Problem, Prompt, Verdict
from selftaught.worlds.kit.annotator import right_critique
from selftaught.worlds.kit.conversation import parse_critique
from selftaught.worlds.kit.family import Checked, Family, split_reply
from selftaught.worlds.kit.language import NEWLINE, PHRASES, RIGHT, SOUND, UNSOUND
from selftaught.worlds.kit.process import Choice
from selftaught.worlds.kit.twin import Demonstration, Twin

Label = Literal["right", "majority", "all", "wrong"]
Critic = Literal["true", "own", "none"]


@dataclass(frozen=True)
class Ladder:
    """What a policy reaches on some problems, each in 0..1.

    Attributes:
        greedy: accuracy of the most likely reply.
        sample: accuracy of a sample.
        majority: accuracy of the vote of all samples.
        passed: share of problems that some sample solves.
        rates: share of right samples of each problem.
    """

    greedy: float
    sample: float
    majority: float
    passed: float
    rates: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.greedy:.3f}  {self.sample:.3f}  {self.majority:.3f}  {self.passed:.3f}"


class Player:
    """Plays methods on twins of one world.

    Args:
        families: of the world, for its verdicts.
        seed: of all chance.
    """

    def __init__(self, families: Sequence[Family], seed: int = 0) -> None:
        self._families, self.rng = tuple(families), random.Random(f"play/{seed}")

    def family(self, problem: Problem) -> Family:
        """The family of a problem."""
        question = question_of(problem)
        return next(family for family in self._families if family.read(question) is not None)

    def check(self, problem: Problem, text: str) -> Checked:
        """All true verdicts on a reply."""
        family = self.family(problem)
        return family.check(family.read(question_of(problem)), problem.reference, *split_reply(text))

    def right(self, problem: Problem, text: str) -> bool:
        """Whether a reply's answer is right."""
        return self.check(problem, text).answer is Verdict.RIGHT

    def ladder(self, twin: Twin, problems: Sequence[Problem], samples: int = 16, temperature: float = 0.7) -> Ladder:
        """Greedy, sampled, voted and pass@k accuracy."""
        greedy, rates, voted = [], [], []
        for problem in problems:
            greedy.append(self.right(problem, twin.answer(problem.prompt, self.rng, 0.0)))
            texts = twin.sample_many(problem.prompt, samples, self.rng, temperature)
            rates.append(mean(self.right(problem, text) for text in texts))
            voted.append(self.right(problem, self.elected(texts)))
        return Ladder(mean(greedy), mean(rates), mean(voted), mean(rate > 0 for rate in rates), tuple(rates))

    def elected(self, texts: Sequence[str], weights: Sequence[float] | None = None) -> str:
        """A reply with the most frequent answer, or the one of most weight; ties go to the first."""
        votes: Counter[str | None] = Counter()
        for text, weight in zip(texts, weights or [1.0] * len(texts), strict=True):
            votes[split_reply(text)[1]] += weight  # type: ignore[assignment]
        best = votes.most_common(1)[0][0]
        return next(text for text in texts if split_reply(text)[1] == best)

    # --- self-training ---

    def self_train(
        self,
        base: Twin,
        problems: Sequence[Problem],
        *,
        label: Label = "right",
        rounds: int = 1,
        samples: int = 8,
        temperature: float = 0.7,
        carry: bool = False,
    ) -> Iterator[Twin]:
        """The policy after each round of sampling, selecting and learning from the base.

        Args:
            base: the starting policy.
            problems: sampled in every round.
            label: which samples are learned: those with the right answer, the majority's, all, or the wrong ones.
            rounds: number of rounds.
            samples: of each problem.
            temperature: of sampling.
            carry: learn from the last policy instead of the base.
        """
        policy = base
        before: list[Demonstration] = []
        for _ in range(rounds):
            kept: list[Demonstration] = []
            for problem in problems:
                texts = policy.sample_many(problem.prompt, samples, self.rng, temperature)
                kept += [(problem.prompt, text) for text in self._selected(problem, texts, label)]
            policy = policy.learn(kept) if carry else base.learn(kept + before)
            before = kept
            yield policy

    def _selected(self, problem: Problem, texts: Sequence[str], label: Label) -> list[str]:
        if label == "all":
            return list(texts)
        if label == "majority":
            answer = split_reply(self.elected(texts))[1]
            return [text for text in texts if split_reply(text)[1] == answer]
        return [text for text in texts if self.right(problem, text) is (label == "right")]

    # --- criticism ---

    def critique(self, critic: Twin, problem: Problem, draft: str, by: Critic, temperature: float = 0.0) -> str:
        """A critique of a draft: the right one, or the critic's."""
        if by == "true":
            family = self.family(problem)
            return right_critique(family, family.read(question_of(problem)), problem.reference, draft)
        return critic.answer(asked(problem, draft, "critique"), self.rng, temperature)

    def revision(
        self, twin: Twin, problem: Problem, draft: str, by: Critic, critic: Twin | None = None, temperature: float = 0.7
    ) -> str:
        """A draft revised once: by a critique, or blindly."""
        if by == "none":
            return twin.answer(asked(problem, draft, "revise"), self.rng, temperature)
        critique = self.critique(critic or twin, problem, draft, by)
        return twin.answer(revising(problem, draft, critique), self.rng, temperature)

    def critic_lessons(self, twin: Twin, problems: Iterable[Problem], samples: int = 1) -> list[Demonstration]:
        """Right critiques of a policy's drafts."""
        drafts = ((p, text) for p in problems for text in twin.sample_many(p.prompt, samples, self.rng))
        return [(asked(p, text, "critique"), self.critique(twin, p, text, "true")) for p, text in drafts]

    def located(self, critic: Twin, problem: Problem, draft: str) -> tuple[int | None, int | None]:
        """The first wrong step that a critic names, and the true one; None for no mistakes."""
        said = parse_critique(self.critique(critic, problem, draft, "own"))
        return (said.step if said else None), self.check(problem, draft).first_error

    def acceptance(self, twin: Twin, problem: Problem, draft: str) -> float:
        """A judge's probability that a draft is right."""
        return dict(first_choice(twin, asked(problem, draft, "judge")).distribution())[RIGHT]

    # --- search ---

    def beam(
        self, twin: Twin, problem: Problem, width: int = 4, each: int = 2, score: Callable[[str], float] | None = None
    ) -> list[str]:
        """Beam search over steps by a score of each line; the replies left, best first.

        Args:
            twin: writes and, unless `score` is given, marks the steps.
            problem: the problem.
            width: replies kept after each step.
            each: continuations of each.
            score: text -> probability that its last step is right.
        """
        score = score or (lambda text: self.step_mark(twin, problem, text))
        beams = [("", 0.0)]
        for _ in range(24):
            if all(split_reply(text)[1] is not None for text, _ in beams):
                break
            grown: dict[str, float] = {}
            for text, total in beams:
                for _ in range(each * (width if not text else 1)):
                    longer = self.next_line(twin, problem, text)
                    done = split_reply(longer)[1] is not None
                    grown[longer] = total + (0.0 if done else math.log(max(1e-6, score(longer))))
            beams = sorted(grown.items(), key=lambda found: -found[1])[:width]
        return [text for text, _ in beams]

    def next_line(self, twin: Twin, problem: Problem, text: str, temperature: float = 0.7) -> str:
        """A reply with one more line; a complete one as it is."""
        if split_reply(text)[1] is not None:
            return text
        rest = twin.answer(problem.prompt, self.rng, temperature, text).removeprefix(text)
        return text + rest.partition(NEWLINE)[0] + (NEWLINE if NEWLINE in rest else "")

    def step_mark(self, twin: Twin, problem: Problem, text: str) -> float:
        """A critic's probability that the last line is right."""
        choices = twin.write(asked(problem, text, "evaluate"), self.rng, 0.0).steps
        last = [step for step in choices if not isinstance(step, str) or step in (SOUND, UNSOUND)][-1]
        return float(last == SOUND) if isinstance(last, str) else dict(last.distribution()).get(SOUND, 0.0)


def question_of(problem: Problem) -> str:
    """The question itself, whatever follows it in the prompt."""
    return str(problem.meta.get("question", problem.question))


def asked(problem: Problem, draft: str, role: str) -> Prompt:
    """A request about a draft."""
    return (*problem.prompt, Message("assistant", draft), Message("user", PHRASES[role]))


def revising(problem: Problem, draft: str, critique: str) -> Prompt:
    """A request to revise a draft after a critique."""
    return (*asked(problem, draft, "critique"), Message("assistant", critique), Message("user", PHRASES["revise"]))


def first_choice(twin: Twin, prompt: Prompt) -> Choice:
    """The first decision of a reply.

    Raises:
        ValueError: there is none.
    """
    step = next(twin.reply(prompt))
    if isinstance(step, str):
        raise ValueError("the reply begins with a certain token")
    return step


def mean(values: Iterable[float]) -> float:
    """The mean of some numbers; 0 of none."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
