"""Measure a model's abilities in every role of the underfit world's language, with intervals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selftaught.engines import Engine, Request, Sampling
from selftaught.measure import Interval, clustered_bootstrap, majority_at_k, pass_at_k, wilson
from selftaught.models import Policy
from selftaught.records import Message, Problem, Prompt, Verdict, content_hash, make_problem
from selftaught.worlds.underfit.families import FAMILIES, LEVELS, Checked, split_reply
from selftaught.worlds.underfit.language import NO_MISTAKES, PHRASES, RIGHT, parse_error_step, parse_step_marks
from selftaught.worlds.underfit.task import MIDDLE, check_reply
from selftaught.worlds.underfit.text import imperfect_writer, is_held_out

SAMPLES = 16
TEMPERATURE = 0.7
MAX_REPLY_TOKENS = 120


@dataclass(frozen=True, slots=True)
class AbilityScore:
    """A figure with its interval.

    Attributes:
        what: name of the measurement.
        value: a share in 0..1 (or -1..1 for a difference).
        ci95: its 95 % interval.
        n: number of problems or replies.
    """

    what: str
    value: float
    ci95: Interval
    n: int

    def __str__(self) -> str:
        return f"{self.what}: {self.value:.3f} [{self.ci95.low:.3f}, {self.ci95.high:.3f}] (n={self.n})"


class AbilityTest:
    """Examine a policy in every role.

    Args:
        engine: engine that samples.
        policy: policy to examine.
        problems: number per level, spread evenly over the families.
        seed: seed of problems and samples.
    """

    def __init__(self, engine: Engine, policy: Policy, *, problems: int = 210, seed: int = 0) -> None:
        self._engine, self._policy, self._count, self._seed = engine, policy, problems, seed

    def table(self, say: Callable[[str], None] = lambda _: None) -> list[AbilityScore]:
        """All scores; reports each one once it is known."""
        return asyncio.run(self._table(say))

    async def _table(self, say: Callable[[str], None]) -> list[AbilityScore]:
        found: list[AbilityScore] = []

        def note(*abilities: AbilityScore) -> None:
            found.extend(abilities)
            for one in abilities:
                say(str(one))

        for level in LEVELS:
            note(*await self._solving(level))
        problems = self.problems(MIDDLE)
        drafts = await self._drafts(problems)
        note(*await self._judging("others' drafts", self._written(problems)))
        note(*await self._judging("its own drafts", drafts), *await self._verifying(drafts))
        note(*await self._criticizing(drafts))
        note(*await self._revising(drafts))
        note(*await self._choosing(problems), *await self._proposing(problems))
        return found

    def problems(self, level: int) -> list[Problem]:
        """Problems that are never in the training text, alternating between families."""
        found: dict[str, Problem] = {}
        rngs = {name: random.Random(f"exam/{self._seed}/{name}/{level}") for name in FAMILIES}
        while len(found) < self._count:
            for name, rng in rngs.items():
                question, reference = FAMILIES[name].question(level, rng)
                if is_held_out(question):
                    problem = make_problem(question, reference, {"family": name})
                    found.setdefault(problem.id, problem)
        return list(found.values())[: self._count]

    async def _replies(self, prompts: Sequence[Prompt], n: int = 1, heat: float = 0.0) -> list[list[str]]:
        """`n` replies to each prompt."""
        sampling = Sampling(max_tokens=MAX_REPLY_TOKENS, temperature=heat)
        seeds = [int(content_hash(self._seed, i), 16) >> 1 for i in range(n)]
        wanted = [self._engine.sample(self._policy, Request(p, sampling, seed)) for p in prompts for seed in seeds]
        texts = [sample.text for sample in await asyncio.gather(*wanted)]
        return [texts[i : i + n] for i in range(0, len(texts), n)]

    async def _solving(self, level: int) -> list[AbilityScore]:
        problems = self.problems(level)
        prompts = [p.prompt for p in problems]
        greedy = [_right(p, texts[0]) for p, texts in zip(problems, await self._replies(prompts), strict=True)]
        passed, voted = [], []
        for problem, texts in zip(problems, await self._replies(prompts, SAMPLES, TEMPERATURE), strict=True):
            rights = [_right(problem, text) for text in texts]
            passed.append(pass_at_k(SAMPLES, sum(rights), SAMPLES))
            voted.append(majority_at_k([split_reply(text)[1] for text in texts], rights, SAMPLES))
        found = [
            _share(f"level {level}: greedy", greedy),
            _mean(f"level {level}: majority@{SAMPLES}", voted),
            _mean(f"level {level}: pass@{SAMPLES}", passed),
        ]
        if level == MIDDLE:
            for name in FAMILIES:
                mine = [ok for ok, p in zip(greedy, problems, strict=True) if p.meta["family"] == name]
                found.append(_share(f"level {level}, {name}: greedy", mine))
        return found

    async def _drafts(self, problems: Sequence[Problem]) -> list[JudgedDraft]:
        """Two sampled solutions per problem, with their true verdicts."""
        replies = await self._replies([p.prompt for p in problems], 2, TEMPERATURE)
        texts = [(p, text) for p, texts in zip(problems, replies, strict=True) for text in texts]
        return [JudgedDraft(p, text, check_reply(p, text)) for p, text in texts]

    def _written(self, problems: Sequence[Problem]) -> list[JudgedDraft]:
        """A right and a wrong solution per problem, by the imperfect writer of the training text."""
        found, rng = [], random.Random(f"exam/{self._seed}/written")
        for problem in problems:
            family = FAMILIES[problem.meta["family"]]
            asked = family.read(problem.question)
            texts = [family.write(asked, problem.reference, imperfect_writer(rng), rng).text for _ in range(16)]
            drafts = [JudgedDraft(problem, text, check_reply(problem, text)) for text in texts]
            found += [d for right in (True, False) if (d := next((d for d in drafts if d.right is right), None))]
        return found

    async def _judging(self, whose: str, drafts: Sequence[JudgedDraft]) -> list[AbilityScore]:
        said = [r[0] == RIGHT for r in await self._replies([d.asked("judge") for d in drafts])]
        right = [s for s, d in zip(said, drafts, strict=True) if d.right]
        wrong = [not s for s, d in zip(said, drafts, strict=True) if not d.right]
        return [
            _balanced(f"judge, {whose}: accuracy, balanced", right, wrong),
            _share(f"judge, {whose}: right ones accepted", right),
            _share(f"judge, {whose}: wrong ones refused", wrong),
        ]

    async def _verifying(self, drafts: Sequence[JudgedDraft]) -> list[AbilityScore]:
        sound, unsound = [], []
        for d, replies in zip(drafts, await self._replies([d.asked("verify") for d in drafts]), strict=True):
            marks = parse_step_marks(replies[0]) or []
            for step, truth in enumerate(d.truth.steps):
                says = marks[step] if step < len(marks) else None
                (sound if truth is Verdict.RIGHT else unsound).append(says is (truth is Verdict.RIGHT))
        return [_balanced("verify: accuracy on steps, balanced", sound, unsound)]

    async def _criticizing(self, drafts: Sequence[JudgedDraft]) -> list[AbilityScore]:
        found = []
        for role in ("locate", "critique"):
            said = [parse_error_step(r[0]) for r in await self._replies([d.asked(role) for d in drafts])]
            wrong = [s == d.truth.first_error for s, d in zip(said, drafts, strict=True) if d.truth.first_error]
            fine = [s is None for s, d in zip(said, drafts, strict=True) if not d.truth.first_error]
            found += [_share(f"{role}: first errors found", wrong), _share(f"{role}: sound solutions left alone", fine)]
        return found

    async def _revising(self, drafts: Sequence[JudgedDraft]) -> list[AbilityScore]:
        notes = [r[0] for r in await self._replies([d.asked("critique") for d in drafts])]
        told = [d.asked("critique", note) for d, note in zip(drafts, notes, strict=True)]
        true = [d.asked("critique", d.true_note()) for d in drafts]
        ways = {
            "revise: unasked": [d.asked("revise") for d in drafts],
            "revise: by its own critique": [(*p, _user("revise")) for p in told],
            "revise: by a true critique": [(*p, _user("revise")) for p in true],
        }
        found = []
        for what, prompts in ways.items():
            after = [_right(d.problem, r[0]) for d, r in zip(drafts, await self._replies(prompts), strict=True)]
            change = [float(a) - float(d.right) for a, d in zip(after, drafts, strict=True)]
            mended = [a for a, d in zip(after, drafts, strict=True) if not d.right]
            broken = [not a for a, d in zip(after, drafts, strict=True) if d.right]
            net = AbilityScore(f"{what}, net change", sum(change) / len(change), _normal(change), len(change))
            found += [net, _share(f"{what}, wrong to right", mended), _share(f"{what}, right to wrong", broken)]
        return found

    async def _choosing(self, problems: Sequence[Problem]) -> list[AbilityScore]:
        rng, asked, right = random.Random(self._seed), [], []
        replies = await self._replies([p.prompt for p in problems], 6, TEMPERATURE)
        for problem, texts in zip(problems, replies, strict=True):
            answers = list(dict.fromkeys(filter(None, (split_reply(text)[1] for text in texts))))[:3]
            good = [a for a in answers if _right(problem, f"Answer: {a}")]
            if len(answers) > 1 and len(good) == 1:
                rng.shuffle(answers)
                options = "\n".join(f"{letter}: {a}" for letter, a in zip("ABC", answers, strict=False))
                asked.append((*problem.prompt, Message("assistant", options), _user("choose")))
                right.append("ABC"[answers.index(good[0])])
        said = [r[0] for r in await self._replies(asked)]
        return [_share("choose: the right one of 2 or 3", [s == r for s, r in zip(said, right, strict=True)])]

    async def _proposing(self, problems: Sequence[Problem]) -> list[AbilityScore]:
        found = []
        for role in ("propose", "easier"):
            replies = await self._replies([(*p.prompt, _user(role)) for p in problems], 1, TEMPERATURE)
            sound = [any(f.read(r[0]) is not None for f in FAMILIES.values()) for r in replies]
            found.append(_share(f"{role}: well-formed problems", sound))
        return found


@dataclass(frozen=True, slots=True)
class JudgedDraft:
    """A sampled solution with its true verdicts."""

    problem: Problem
    text: str
    truth: Checked

    @property
    def right(self) -> bool:
        """Whether its answer is right."""
        return self.truth.answer is Verdict.RIGHT

    def asked(self, role: str, reply: str | None = None) -> Prompt:
        """The draft, followed by a request and, if given, its reply."""
        prompt = (*self.problem.prompt, Message("assistant", self.text), _user(role))
        return prompt if reply is None else (*prompt, Message("assistant", reply))

    def true_note(self) -> str:
        """The correct critique: its first wrong step, with the right one if it is determined."""
        at = self.truth.first_error
        if at is None:
            return NO_MISTAKES
        family = FAMILIES[self.problem.meta["family"]]
        before = split_reply(self.text)[0][: at - 1]
        better = family.proceed(family.read(self.problem.question), self.problem.reference, before)
        return f"step {at}: {better}" if better else NO_MISTAKES


def _right(problem: Problem, text: str) -> bool:
    return check_reply(problem, text).answer is Verdict.RIGHT


def _user(role: str) -> Message:
    return Message("user", PHRASES[role])


def _share(what: str, hits: Sequence[bool]) -> AbilityScore:
    if not hits:
        return AbilityScore(what, 0.0, Interval(0.0, 1.0), 0)
    return AbilityScore(what, sum(hits) / len(hits), wilson(sum(hits), len(hits)), len(hits))


def _balanced(what: str, one: Sequence[bool], other: Sequence[bool]) -> AbilityScore:
    """The mean of two shares; its interval is normal, from the variances of both."""
    shares = [sum(part) / max(1, len(part)) for part in (one, other)]
    spread = sum(p * (1 - p) / max(1, len(part)) for p, part in zip(shares, (one, other), strict=True)) / 4
    value, wide = sum(shares) / 2, 1.96 * spread**0.5
    return AbilityScore(what, value, Interval(value - wide, value + wide), len(one) + len(other))


def _mean(what: str, values: Sequence[float]) -> AbilityScore:
    return AbilityScore(what, sum(values) / len(values), clustered_bootstrap([[v] for v in values]), len(values))


def _normal(values: Sequence[float]) -> Interval:
    """Normal interval of a mean."""
    n = len(values)
    mean = sum(values) / n
    wide = 1.96 * (sum((v - mean) ** 2 for v in values) / max(1, n - 1) / n) ** 0.5
    return Interval(mean - wide, mean + wide)


def as_rows(abilities: Sequence[AbilityScore]) -> list[dict[str, Any]]:
    """The table as plain data."""
    return [asdict(a) | {"value": round(a.value, 4), "ci95": [round(x, 4) for x in a.ci95]} for a in abilities]
