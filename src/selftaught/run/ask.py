"""`ask`: what a solver asks the policy with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from selftaught.engines.base import Sampling
from selftaught.errors import BadInput
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Feedback, Message, Problem, Prompt, as_prompt, content_hash
from selftaught.run.settings import override

if TYPE_CHECKING:
    from selftaught.tasks import Task

SampleFn = Callable[["JournaledRequest"], Awaitable[Attempt]]
VerifyFn = Callable[[Attempt], Awaitable[Feedback]]
LogFn = Callable[[str, str, Any], None]


@dataclass(frozen=True, slots=True)
class JournaledRequest:
    """One request on its way to the journal.

    Attributes:
        given: what the answer goes on from, behind `prefix` (see `Request.given`).
        begun: the text of that; the answer's text begins with it.
        forced: the end of it that no model wrote.
        content: hash of everything the engine and the reader of the answer are told: prompt, sampling, prefix,
            role, parent, and what is forced upon it.
        occurrence: which solving asks, and the question's place among the equal ones of that solving.
    """

    policy: Policy
    problem: Problem
    prompt: Prompt
    sampling: Sampling
    role: str
    parent: Attempt | None
    prefix: str
    content_key: str
    occurrence: str
    prefix_tokens: tuple[int | str, ...] = ()
    prefix_text: str = ""
    injected_text: str = ""

    def key(self, seed: int) -> str:
        """Content key of the effect: policy, problem, what is asked and how, seed, occurrence."""
        return content_hash("sample", self.policy.version, self.problem.id, self.content_key, seed, self.occurrence)


class Ask:
    """Asks one policy on behalf of one solving of one problem.

    The same question asked again is a new sample; its place among the equal questions of this solving
    is part of its key, so that a rerun finds it whatever else ran beside it.

    Attributes:
        tokens: sampled so far in this solving.
        made: all that was sampled so far in this solving, in the order in which it was asked for.
        turn: see `Task.turn`.
        steps: the form in which the task's answers go step by step.
        policy: version of the policy that is asked.
    """

    def __init__(
        self, sampler: SampleFn, policy: Policy, problem: Problem, sampling: Sampling, name: str, task: Task, *,
        judge: VerifyFn | None = None, note: LogFn | None = None,
    ) -> None:  # fmt: skip
        self._sampler, self._policy, self._problem, self._sampling = sampler, policy, problem, sampling
        self._name, self._judge, self._note = name, judge, note
        self.with_turn, self.steps, self.policy = task.turn, task.steps, policy.version
        self._phrases, self._extract = task.phrases, task.extract
        self._asked: Counter[str] = Counter()
        self.tokens = 0
        self._made: list[Attempt | None] = []  # None of what is still on its way

    @property
    def attempts(self) -> list[Attempt]:
        """See above."""
        return [attempt for attempt in self._made if attempt]

    async def __call__(
        self, prompt: Any, *, role: str = "solve", parent: Attempt | None = None, prefix: str = "",
        policy: Policy | None = None, **sampling: Any,
    ) -> Attempt:  # fmt: skip
        """One answer to `prompt` (messages, or the text of a user message).

        Args:
            role: "solve" and "revise" count as generated tokens on the ledger, "critique" and "judge" as judge tokens.
            parent: the attempt this one builds on. Where its request failed there is nothing to build on, and it is
                what comes back.
            prefix: text the answer is made to begin with.
            policy: who is asked, where it is not the policy that solves.
            sampling: fields of `Sampling` to change for this question.

        Raises:
            BadInput: `Sampling` has no such field, or a value is out of its range.
        """
        messages, how = as_prompt(prompt), override(self._sampling, sampling)
        if parent and parent.failed:
            return parent
        numbers = float(how.temperature), float(how.top_p), int(how.top_k), int(how.max_tokens)
        content = content_hash(_hash(messages), numbers, how.stop, role, prefix, _built_on(parent))
        who = policy or self._policy
        return await self._put(JournaledRequest(who, self._problem, messages, how, role, parent, prefix, content, ""))

    async def continue_from(self, attempt: Attempt, text: str = "", *, role: str = "solve", **sampling: Any) -> Attempt:
        """More of an answer: sampling goes on from the very tokens of `attempt`, behind `text` forced upon it.

        Of an endpoint, which tells no tokens, it goes on from the text.

        Args:
            attempt: a partial answer, or one to be taken up again: an end of sequence that it has is left out. One
                whose request failed comes back as it is.
            role: see `__call__`.
            sampling: fields of `Sampling` to change; `max_tokens` counts what is added.

        Returns:
            An attempt whose text is all of the answer, `text` included, whose tokens and cost are those added, and
            whose parent is `attempt`.

        Raises:
            BadInput: `Sampling` has no such field, or a value is out of its range.
        """
        how = override(self._sampling, sampling)
        if attempt.failed:
            return attempt
        numbers = float(how.temperature), float(how.top_p), int(how.top_k), int(how.max_tokens)
        content = content_hash("go on", numbers, how.stop, role, _built_on(attempt), text)
        said = attempt.text + attempt.stop_text
        if not text:
            said = said.rstrip("\ufffd")  # a character cut in two is completed by what is added
        own: tuple[int | str, ...] = attempt.token_ids or (said[attempt.prefix_chars :],)
        given = (*attempt.prefix_tokens, *own, *((text,) if text else ()))
        asked = (self._policy, self._problem, attempt.prompt, how, role, attempt, "", content, "")
        return await self._put(JournaledRequest(*asked, given, said + text, text))

    async def inject(self, attempt: Attempt, phrase: str, text: str, **how: Any) -> Attempt:
        """`go_on` behind a sentence of the method's, in words that the task's model understands.

        A task that has words of its own for `phrase` puts them as a user's turn between `attempt` and a new answer;
        what comes back is then that answer alone.

        Args:
            phrase: what the task's phrases call the sentence ("reflect").
            text: the sentence in English, with the white space that sets it off.
            how: as for `go_on`.
        """
        if attempt.failed or phrase not in self._phrases:
            return await self.continue_from(attempt, text, **how)
        history = (*attempt.prompt, Message("assistant", attempt.text))
        return await self(self.with_turn(history, phrase, text), parent=attempt, **how)

    def extract_answer(self, text: str) -> str | None:
        """The final answer in a text, as the task extracts it; None where there is none."""
        return self._extract(self._problem, text)

    async def verify(self, attempt: Attempt) -> Feedback:
        """The task's verdict on an attempt, for solvers that search with it. Journalled like any other.

        Raises:
            BadInput: there is none to be had: the problem is not one to learn from, or the method does not declare
                that it needs a verifier. What answers a test problem never sees its verdict.
        """
        if self._judge is None:
            raise BadInput(
                "it asks for a verdict where none may be seen",
                where=self._name,
                fix='declare needs=("verifier",), and attempt training problems only',
            )
        return await self._judge(attempt)

    def log(self, kind: str, payload: Any) -> str:
        """Keep plain data in the journal, as an effect of that kind that costs nothing: once, however often rerun.

        Other data of the same name has another key: what a rerun finds once a failed request got its answer.

        Returns:
            The effect's key.
        """
        number = self._asked[kind]
        self._asked[kind] += 1
        key = content_hash(kind, self.policy, self._problem.id, f"{self._name}#{number}", payload)
        if self._note:
            self._note(key, kind, {"problem": self._problem.id, "policy": self.policy, **payload})
        return key

    async def _put(self, question: JournaledRequest) -> Attempt:
        """Put a question: the next among the equal ones of this solving."""
        number = self._asked[question.content_key]
        self._asked[question.content_key] += 1
        place = len(self._made)
        self._made.append(None)
        attempt = await self._sampler(replace(question, occurrence=f"{self._name}#{number}"))
        self.tokens += attempt.num_tokens
        self._made[place] = attempt
        return attempt

    async def sample(self, prompt: Any, samples: int, **how: Any) -> list[Attempt]:
        """`n` independent answers to `prompt`, sampled together; `how` is as for a single one."""
        return list(await asyncio.gather(*(self(prompt, **how) for _ in range(samples))))


def _built_on(attempt: Attempt | None) -> list[str] | None:
    """What a question's key holds of the attempt it builds on: its text too, which another answer may replace."""
    return [attempt.id, content_hash(attempt.text, attempt.stop_text)] if attempt else None


@lru_cache(maxsize=8192)
def _hash(prompt: Prompt) -> str:
    """Hash of a prompt, computed once for the many samples that share it."""
    return content_hash(prompt)
