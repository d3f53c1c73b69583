"""A solver that searches: sample steps in the task's own format, evaluate them, answer with the path of its roots."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from selftaught.records import Attempt, Problem, Solution, Verdict
from selftaught.run.ask import Ask
from selftaught.samples import Sample
from selftaught.search.mcts import mcts
from selftaught.search.p_true import p_true
from selftaught.search.preferences import preferences, to_pair, to_record
from selftaught.search.reference import next_reference_step, reference_attempt, solution_steps
from selftaught.search.tree import Decision, Node, step_prior

OUTCOME_REWARD = {Verdict.RIGHT: 1.0, Verdict.WRONG: -1.0, Verdict.UNKNOWN: 0.0}
OWN_WAY_REWARD = 1.25  # of a right answer that leaves the written solution's way, where that is known
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
        first_factor: multiplies the iterations from the first root.
        diversity: whether the next root is chosen by `decide`'s gap too, not by visits alone.
        reference_branch: whether the problem's written solution (`meta["solution"]`) is a branch of the tree; a right
            answer that departs from it earns 1.25. For methods that need "reference".
        hinted: whether `p_true` is shown the written solution. For methods that need "reference".
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
    first_factor: int = 4
    diversity: bool = True
    reference_branch: bool = False
    hinted: bool = False


@dataclass(frozen=True, slots=True)
class SearchTree:
    """A finished search: its first root, and the choice of each next one."""

    root: Node
    decisions: list[Decision]

    @property
    def line(self) -> list[Node]:
        """The steps of the answer that the search settled on; empty where every request was refused."""
        return [made.chosen for made in self.decisions]


@dataclass(frozen=True)
class MCTSSolver:
    """A solver that searches a tree for each problem and answers with the path of its roots.

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

    async def search(self, ask: Ask, problem: Problem) -> SearchTree:
        """Search one problem.

        Raises:
            BadInput: the written solution is wanted, and the problem has none.
        """
        how = self.config
        steps = solution_steps(problem, ask.steps) if how.reference_branch or how.hinted else []
        root, expand = Node(), Expander(ask, problem, how, tuple(steps))
        decisions = await mcts(
            root, expand, iterations=how.iterations, c_puct=how.c_puct, gamma=how.gamma, first_factor=how.first_factor,
            diversity=how.diversity and how.width > 1,
        )  # fmt: skip
        return SearchTree(root, decisions)

    async def to_solution(self, ask: Ask, problem: Problem, tree: SearchTree) -> Solution:
        """The answer that a search settled on as an attempt, with the tree's preferences as data."""
        found = preferences(tree.decisions)
        pairs = [to_pair(problem, one) for one in found]
        rows = [[pair.chosen, pair.rejected, pair.label_smoothing, list(pair.attempts)] for pair in pairs]
        data = {"tree": ask.log("tree", to_record(tree.root, tree.decisions, found)), "pairs": rows}
        if not tree.line:  # every request was refused
            return Solution(await ask(problem.prompt), data)
        last = tree.line[-1]
        refused = [one for one in ask.attempts if one.failed and one.parent == last.id and not last.verdict]
        whole = prefix_attempt(problem, ask, last)
        return Solution(refused[0] if refused else replace(whole, answer=ask.extract_answer(whole.text)), data)


@dataclass(frozen=True, slots=True)
class Expander:
    """Expands a node: samples the steps that may follow it, and evaluates each."""

    ask: Ask
    problem: Problem
    config: MCTSConfig
    solution: tuple[str, ...] = ()  # steps of the written solution, where it is used

    async def __call__(self, node: Node) -> list[Node]:
        """Sample `width` steps and merge equal ones; beyond `depth`, sample the rest of the answer as one step."""
        last = node.depth + 1 > self.config.depth
        before = prefix_attempt(self.problem, self.ask, node) if node.parent else None
        drawn = await asyncio.gather(
            *(self._sample_step(before, last) for _ in range(1 if last else self.config.width))
        )
        different = {attempt.text.strip(): attempt for attempt in reversed(drawn) if not attempt.failed}
        if self.config.reference_branch:
            different |= await self._reference_step(node, before, last, different)
        return list(
            await asyncio.gather(*(self._evaluate(node, attempt, last) for attempt in reversed(different.values())))
        )

    async def _reference_step(
        self, node: Node, before: Attempt | None, last: bool, drawn: Mapping[str, Attempt]
    ) -> dict[str, Attempt]:
        """The written solution's next step by its text, unless the node has left its way or the step was sampled."""
        text = next_reference_step(self.solution, node.answer, last)
        if not text or (node.answer + text).strip() in drawn:
            return {}
        return {(node.answer + text).strip(): await reference_attempt(self.ask, self.problem, before, text)}

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
        pieces = (*attempt.prefix_tokens[given:], *attempt.token_ids)
        whole = bool(attempt.token_ids) and all(isinstance(piece, int) for piece in pieces)
        tokens = pieces if whole else (text,)  # an endpoint reports no tokens, and a written step has none
        unfinished = attempt.stop_text or attempt.finish_reason in ("length", "unfinished")
        ended = last or not unfinished or self.ask.steps.finishes(text)
        truncated = ended and attempt.truncated
        verdict = (await self.ask.verify(attempt)).verdict if ended else None
        hint = "".join(self.solution) if self.config.hinted else ""
        confidence = await p_true(self.ask, attempt, "evaluate", hint) if self.config.self_eval else None
        unscored = parent.value if self.config.self_eval else 0.0
        value = confidence / max(1, parent.depth - 3) if confidence else unscored
        value += self._outcome(verdict, attempt) if verdict else 0.0
        prior = step_prior(attempt.logprobs, self.config.length_penalty)
        return Node(
            attempt.id, text, tokens, prior, value, ended=ended, verdict=verdict, p_true=confidence, truncated=truncated
        )

    def _outcome(self, verdict: Verdict, attempt: Attempt) -> float:
        """The outcome reward O(s); a right answer that is not the beginning of the written solution earns more."""
        own_way = self.solution and not "".join(self.solution).strip().startswith(attempt.text.strip())
        return OWN_WAY_REWARD if own_way and verdict is Verdict.RIGHT else OUTCOME_REWARD[verdict]


def prefix_attempt(problem: Problem, ask: Ask, node: Node) -> Attempt:
    """The answer up to a node as an attempt that can be continued; the final answer is not read from it."""
    *before, step = node.path
    prefix = "".join(earlier.text for earlier in before)
    tokens = tuple(token for earlier in before for token in earlier.tokens)
    own = tuple(token for token in step.tokens if isinstance(token, int))
    text = prefix + step.text
    finish = "unfinished" if not step.ended else "length" if step.truncated else "stop"
    sample = Sample(step.text, own, finish_reason=finish, policy=ask.policy)
    return Attempt(
        step.id, problem, problem.prompt, text, None, sample,
        parent=before[-1].id if before else None, prefix_tokens=tokens, prefix_chars=len(prefix),
    )  # fmt: skip
