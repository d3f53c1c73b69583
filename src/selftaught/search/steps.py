"""Growing a tree with a model: steps in the task's own format, what they are worth, and pairs of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from selftaught.learn.objectives.steps import visit_softness
from selftaught.records import Attempt, Pair, Problem, Solution, Verdict
from selftaught.run.ask import Ask
from selftaught.search.belief import belief
from selftaught.search.mcts import mcts
from selftaught.search.tree import Node, main_line, prior_of

OUTCOME = {Verdict.RIGHT: 1.0, Verdict.WRONG: -1.0, Verdict.UNKNOWN: 0.0}
BLANKS = 4  # end marks in a row, with nothing between them, after which a step is taken as it is
DIGITS = 6  # of the figures in a tree's record


@dataclass(frozen=True, slots=True)
class Growth:
    """How trees grow.

    Attributes:
        iterations: of the search, from every root.
        width: steps sampled to follow a step; equal ones count once.
        depth: steps that are told apart; what follows is one.
        step_tokens: most tokens of a step.
        temperature: of sampling steps.
        explore: c of PUCT.
        gamma: discount of what follows.
        length_penalty: of the prior, see `prior_of`.
        believes: whether the model judges each of its steps.
    """

    iterations: int = 64
    width: int = 2
    depth: int = 3
    step_tokens: int = 128
    temperature: float = 1.0
    explore: float = 1.0
    gamma: float = 1.0
    length_penalty: float = 1.25
    believes: bool = True


@dataclass(frozen=True)
class Grower:
    """A solver that grows a tree for each problem, and answers with its main line.

    The data of its `Solution` is `{"tree": ..., "pairs": [...]}`: the key of the tree in the journal, and what the tree
    prefers, which `pairs_of` reads.

    Attributes:
        how: see `Growth`.
    """

    how: Growth = field(default_factory=Growth)
    id = "mcts"

    @property
    def options(self) -> dict[str, Any]:
        """What is other than usual, for the solver's name."""
        usual = asdict(Growth())
        return {name: value for name, value in asdict(self.how).items() if value != usual[name]}

    async def __call__(self, ask: Ask, problem: Problem) -> Solution:
        """Search for an answer to one problem; the tree goes into the journal."""
        return await self.solution(ask, problem, await self.grow(ask, problem))

    async def grow(self, ask: Ask, problem: Problem) -> Node:
        """The root of a tree for one problem."""
        root = Node()
        expand = Expansion(ask, problem, self.how)
        await mcts(root, expand, iterations=self.how.iterations, explore=self.how.explore, gamma=self.how.gamma)
        return root

    async def solution(self, ask: Ask, problem: Problem, root: Node) -> Solution:
        """What a tree amounts to: its main line as an attempt, and its pairs."""
        found = preferences(root)
        pairs = [as_pair(problem, *pair) for pair in found]
        told = [[pair.chosen, pair.rejected, pair.softness, list(pair.attempts)] for pair in pairs]
        data = {"tree": ask.log("tree", record(root, found)), "pairs": told}
        line = main_line(root)
        if not line:  # every request was refused
            return Solution(await ask(problem.prompt), data)
        last = line[-1]
        refused = [one for one in ask.attempts if one.failed and one.parent == last.id and not last.verdict]
        return Solution(refused[0] if refused else stem(problem, ask, last), data)


def pairs_of(solution: Solution) -> list[Pair]:
    """The pairs that a `Grower`'s tree came to."""
    prompt = solution.attempt.problem.prompt
    return [
        Pair(prompt, chosen, rejected, softness=softness, attempts=tuple(attempts))
        for chosen, rejected, softness, attempts in solution.data["pairs"]
    ]


@dataclass(frozen=True, slots=True)
class Expansion:
    """Samples the steps that may follow a step, and says what each is worth."""

    ask: Ask
    problem: Problem
    how: Growth

    async def __call__(self, node: Node) -> list[Node]:
        """`width` steps sampled together, equal ones counted once; beyond the last step the rest, in one piece."""
        last = node.depth + 1 > self.how.depth
        before = stem(self.problem, self.ask, node) if node.parent else None
        drawn = await asyncio.gather(*(self._step(before, last) for _ in range(1 if last else self.how.width)))
        different = {attempt.text.strip(): attempt for attempt in reversed(drawn) if not attempt.failed}
        return list(
            await asyncio.gather(*(self._valued(node, attempt, last) for attempt in reversed(different.values())))
        )

    async def _step(self, before: Attempt | None, last: bool) -> Attempt:
        """One step to follow those before, in the task's format; the last one goes on to the end of the answer."""
        form = self.ask.steps
        how: dict[str, Any] = {"temperature": self.how.temperature}
        how |= {} if last else {"max_tokens": self.how.step_tokens, "stop": (form.end,)}
        if before is None:
            said = await self.ask(self.problem.prompt, **how)
        else:
            said = await self.ask.continue_from(before, **how)
        begun = said.prefix_chars
        for _ in range(BLANKS):
            if not said.stop_text or form.says(said.text[begun:]):
                break
            said = await self.ask.continue_from(said, **how)
        return said

    async def _valued(self, parent: Node, attempt: Attempt, last: bool) -> Node:
        """The step as a node: R(s) = O(s) + C(s), outcome and the model's own belief (2405.00451, equation 2).

        As in the authors' code, belief counts less from the fifth step on, and where there is none the step is worth
        what its beginning was. An UNKNOWN verdict is worth nothing, for or against.
        """
        text = (attempt.text + attempt.stop_text).removeprefix(parent.answer.rstrip("\ufffd"))
        given = sum(len(step.tokens) for step in parent.path)
        tokens = (*(piece for piece in attempt.prefix_tokens[given:] if isinstance(piece, int)), *attempt.token_ids)
        ended = last or not (attempt.stop_text or attempt.finish_reason == "length") or self.ask.steps.finishes(text)
        truncated = ended and attempt.truncated
        verdict = (await self.ask.verify(attempt)).verdict if ended else None
        sure = await belief(self.ask, attempt, "evaluate") if self.how.believes else None
        value = sure / max(1, parent.depth - 3) if sure else parent.value if self.how.believes else 0.0
        value += OUTCOME[verdict] if verdict else 0.0
        prior = prior_of(attempt.logprobs, self.how.length_penalty)
        return Node(
            attempt.id, text, tokens, prior, value, ended=ended, verdict=verdict, belief=sure, truncated=truncated
        )


def stem(problem: Problem, ask: Ask, node: Node) -> Attempt:
    """The answer up to a node as an attempt, to be gone on from."""
    *before, step = node.path
    begun = "".join(earlier.text for earlier in before)
    given = tuple(token for earlier in before for token in earlier.tokens)
    text = begun + step.text
    finish = "unfinished" if not step.ended else "length" if step.truncated else "stop"
    return Attempt(
        step.id, problem, problem.prompt, text, ask.extract_answer(text), step.tokens, (), finish, ask.policy,
        parent=before[-1].id if before else None, prefix_tokens=given, prefix_chars=len(begun),
    )  # fmt: skip


Preference = tuple[Node, Node, float]
"""The chosen step, the rejected one, and how unsure the search is of it."""


def preferences(root: Node) -> list[Preference]:
    """At each depth of the main line the child of the highest Q over that of the lowest, as far as they differ.

    Label smoothing is 1 / (N(chosen) / N(rejected) + 1), at most a half; a step never visited counts as visited once.
    A step without any alternative goes on to where there is one, as in the authors' code. Where one answer is the
    beginning of the other, nothing is preferred.
    """
    found: list[Preference] = []
    for node in [root, *main_line(root)]:
        if len(node.children) < 2:
            continue
        best, worst = max(node.children, key=lambda c: c.q), min(node.children, key=lambda c: c.q)
        chosen, rejected = _only(best).answer, _only(worst).answer
        if best.q > worst.q and not chosen.startswith(rejected) and not rejected.startswith(chosen):
            found.append((best, worst, visit_softness(max(1, best.visits), max(1, worst.visits))))
    return found


def _only(node: Node) -> Node:
    """The last of the steps that follow `node` without an alternative."""
    while len(node.children) == 1:
        node = node.children[0]
    return node


def as_pair(problem: Problem, chosen: Node, rejected: Node, softness: float) -> Pair:
    """A preference between two steps as a record to learn from, both with the answer before them.

    Their end is learned only where both answers are whole.
    """
    best, worst = sides = _only(chosen), _only(rejected)
    ids = tuple(dict.fromkeys(step.id for side in sides for step in side.path))
    ends = all(side.ended and not side.truncated for side in sides)
    return Pair(problem.prompt, best.answer, worst.answer, softness=softness, attempts=ids, ends=ends)


def record(root: Node, pairs: Sequence[Preference]) -> dict[str, Any]:
    """A tree as plain data, for the journal: its nodes with what the search knows of them, and the pairs."""
    nodes = list(root)
    place = {id(node): i for i, node in enumerate(nodes)}
    rows = [
        {
            "id": node.id,
            "parent": place[id(node.parent)] if node.parent else None,
            "text": node.text,
            "prior": round(node.prior, DIGITS),
            "value": round(node.value, DIGITS),
            "belief": None if node.belief is None else round(node.belief, DIGITS),
            "visits": node.visits,
            "q": round(node.q, DIGITS),
            "verdict": node.verdict,
            "ended": node.ended,
        }
        for node in nodes
    ]
    chosen = [[place[id(best)], place[id(worst)], round(softness, DIGITS)] for best, worst, softness in pairs]
    return {"nodes": rows, "pairs": chosen, "line": [place[id(node)] for node in main_line(root)]}
