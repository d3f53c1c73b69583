"""A solver that searches: sample steps in the task's own format, evaluate them, answer with the most visited path."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from selftaught.records import Attempt, Problem, Solution, Verdict
from selftaught.run.ask import Ask
from selftaught.samples import Sample
from selftaught.search.mcts import mcts
from selftaught.search.p_true import p_true
from selftaught.search.preferences import preferences, to_pair, to_record
from selftaught.search.tree import Node, most_visited_path, step_prior

OUTCOME_REWARD = {Verdict.RIGHT: 1.0, Verdict.WRONG: -1.0, Verdict.UNKNOWN: 0.0}
MAX_EMPTY_STEPS = 4  # end marks in a row with nothing between them, after which a step is accepted as it is


@dataclass(frozen=True, slots=True)
class MCTSConfig:
    """Settings of the tree search; the defaults are those of the authors' scripts (2405.00451).

    Attributes:
        iterations: search iterations from each root.
        width: steps sampled at each node; equal ones are merged.
        depth: branching depth in steps; the rest of an answer is sampled as one step.
        max_step_tokens: token limit of a step.
        temperature: of sampling steps.
        c_puct: exploration constant of PUCT.
        gamma: discount of later rewards.
        length_penalty: exponent of the prior's length normalization, see `step_prior`.
        self_eval: whether each step is also scored by `p_true`.
    """

    iterations: int = 64
    width: int = 2
    depth: int = 3
    max_step_tokens: int = 128
    temperature: float = 1.0
    c_puct: float = 1.0
    gamma: float = 1.0
    length_penalty: float = 1.25
    self_eval: bool = True


@dataclass(frozen=True)
class MCTSSolver:
    """A solver that searches a tree for each problem and answers with its most visited path.

    The data of its `Solution` is `{"tree": ..., "pairs": [...]}`: the journal key of the tree, and the tree's
    preferences, which `pairs_from` reads.
    """

    config: MCTSConfig = field(default_factory=MCTSConfig)
    id = "mcts"

    @property
    def options(self) -> dict[str, Any]:
        """The settings that differ from the defaults, for the solver's name."""
        usual = asdict(MCTSConfig())
        return {name: value for name, value in asdict(self.config).items() if value != usual[name]}

    async def __call__(self, ask: Ask, problem: Problem) -> Solution:
        """Search for an answer to one problem, and journal the tree."""
        return await self.to_solution(ask, problem, await self.search(ask, problem))

    async def search(self, ask: Ask, problem: Problem) -> Node:
        """Search one problem; return the root of its tree."""
        root = Node()
        expand = Expander(ask, problem, self.config)
        await mcts(root, expand, iterations=self.config.iterations, c_puct=self.config.c_puct, gamma=self.config.gamma)
        return root

    async def to_solution(self, ask: Ask, problem: Problem, root: Node) -> Solution:
        """The most visited path of a tree as an attempt, with the tree's preferences as data."""
        found = preferences(root)
        pairs = [to_pair(problem, one) for one in found]
        rows = [[pair.chosen, pair.rejected, pair.label_smoothing, list(pair.attempts)] for pair in pairs]
        data = {"tree": ask.log("tree", to_record(root, found)), "pairs": rows}
        path = most_visited_path(root)
        if not path:  # every request was refused
            return Solution(await ask(problem.prompt), data)
        last = path[-1]
        refused = [one for one in ask.attempts if one.failed and one.parent == last.id and not last.verdict]
        whole = prefix_attempt(problem, ask, last)
        return Solution(refused[0] if refused else replace(whole, answer=ask.extract_answer(whole.text)), data)


@dataclass(frozen=True, slots=True)
class Expander:
    """Expands a node: samples the steps that may follow it, and evaluates each."""

    ask: Ask
    problem: Problem
    config: MCTSConfig

    async def __call__(self, node: Node) -> list[Node]:
        """Sample `width` steps and merge equal ones; beyond `depth`, sample the rest of the answer as one step."""
        last = node.depth + 1 > self.config.depth
        before = prefix_attempt(self.problem, self.ask, node) if node.parent else None
        drawn = await asyncio.gather(
            *(self._sample_step(before, last) for _ in range(1 if last else self.config.width))
        )
        different = {attempt.text.strip(): attempt for attempt in reversed(drawn) if not attempt.failed}
        return list(
            await asyncio.gather(*(self._evaluate(node, attempt, last) for attempt in reversed(different.values())))
        )

    async def _sample_step(self, before: Attempt | None, last: bool) -> Attempt:
        """Sample one step in the task's format; the last step runs to the end of the answer."""
        form = self.ask.steps
        how: dict[str, Any] = {"temperature": self.config.temperature}
        how |= {} if last else {"max_tokens": self.config.max_step_tokens, "stop": (form.end,)}
        if before is None:
            step = await self.ask(self.problem.prompt, **how)
        else:
            step = await self.ask.continue_from(before, **how)
        start = step.prefix_chars
        for _ in range(MAX_EMPTY_STEPS):
            if not step.stop_text or form.says(step.text[start:]):
                break
            step = await self.ask.continue_from(step, **how)
        return step

    async def _evaluate(self, parent: Node, attempt: Attempt, last: bool) -> Node:
        """The step as a node of value R(s) = O(s) + C(s): outcome reward plus `p_true` (2405.00451, equation 2).

        As in the authors' code, `p_true` is divided by 2 at the sixth step, by 3 at the seventh, and so on, and a step
        without it inherits its parent's value. An UNKNOWN verdict adds 0.
        """
        text = (attempt.text + attempt.stop_text).removeprefix(parent.answer.rstrip("\ufffd"))
        given = sum(len(step.tokens) for step in parent.path)
        tokens = (*(piece for piece in attempt.prefix_tokens[given:] if isinstance(piece, int)), *attempt.token_ids)
        ended = last or not (attempt.stop_text or attempt.finish_reason == "length") or self.ask.steps.finishes(text)
        truncated = ended and attempt.truncated
        verdict = (await self.ask.verify(attempt)).verdict if ended else None
        confidence = await p_true(self.ask, attempt, "evaluate") if self.config.self_eval else None
        unscored = parent.value if self.config.self_eval else 0.0
        value = confidence / max(1, parent.depth - 3) if confidence else unscored
        value += OUTCOME_REWARD[verdict] if verdict else 0.0
        prior = step_prior(attempt.logprobs, self.config.length_penalty)
        return Node(
            attempt.id, text, tokens, prior, value, ended=ended, verdict=verdict, p_true=confidence, truncated=truncated
        )


def prefix_attempt(problem: Problem, ask: Ask, node: Node) -> Attempt:
    """The answer up to a node as an attempt that can be continued; the final answer is not read from it."""
    *before, step = node.path
    prefix = "".join(earlier.text for earlier in before)
    tokens = tuple(token for earlier in before for token in earlier.tokens)
    text = prefix + step.text
    finish = "unfinished" if not step.ended else "length" if step.truncated else "stop"
    sample = Sample(step.text, step.tokens, finish_reason=finish, policy=ask.policy)
    return Attempt(
        step.id, problem, problem.prompt, text, None, sample,
        parent=before[-1].id if before else None, prefix_tokens=tokens, prefix_chars=len(prefix),
    )  # fmt: skip
