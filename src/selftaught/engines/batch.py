"""The requests that decode together under one policy's weights, and the memory they take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selftaught.engines.base import Request, RequestRefused, Sample, cut_at_stop
from selftaught.engines.choose import choose
from selftaught.engines.decoder import Decoder
from selftaught.engines.rows import Rows
from selftaught.models.chat import ChatTokenizer
from selftaught.models.policy import Policy

PREFILL_TOKENS = 2048  # most padded prompt tokens in one forward pass
PREFIX_SHARE = 4  # one part in this many of the memory goes to prompts kept for the next request that has them


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way through the engine; while it decodes it owns the cache row of its index.

    Attributes:
        policy: what to sample or to score with.
        request: what is asked.
        future: a `Sample`, or the log-probabilities of `scored`.
        since: when it came, in seconds of a monotonic clock.
        scored: text to score instead of sampling, or None.
        ids: prompt tokens, once it is prepared.
        tokens: tokens sampled so far, with their `logprobs`.
        room: most tokens it may sample.
    """

    policy: Policy
    request: Request
    future: Future[Any]
    since: float
    scored: str | None = None
    ids: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    uniforms: Iterator[float] = field(default_factory=lambda: iter(()))
    room: int = 0

    @property
    def position(self) -> int:
        """Where the newest token goes in the cache row."""
        return len(self.ids) + len(self.tokens) - 1

    def settle(self, result: Any = None, error: Exception | None = None) -> None:
        """Hand over the result or the error; nobody listens where the request was cancelled."""
        try:
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)
        except InvalidStateError:
            pass


class Batch:
    """Requests decoding together under one policy: every step adds a token to each of them.

    Args:
        policy: the policy whose weights `decoder` holds.
        rows: most requests decoded together.
        budget: most bytes for keys and values.
    """

    def __init__(self, policy: Policy, decoder: Decoder, tokenizer: ChatTokenizer, *, rows: int, budget: int) -> None:
        self.policy, self._decoder, self._tokenizer = policy, decoder, tokenizer
        self.active: list[Job] = []
        self._cache = decoder.rows()
        tokens = budget // self._cache.bytes_per_token
        self._most_rows, self._prefix_tokens = rows, tokens // PREFIX_SHARE
        self._row_tokens = tokens - self._prefix_tokens
        self._prefixes: OrderedDict[tuple[int, ...], tuple[Rows, Tensor]] = OrderedDict()

    def rest(self) -> None:
        """Give back all memory but the weights'; for a batch without active requests."""
        self._cache = self._decoder.rows()
        self._prefixes.clear()

    # --- taking requests in ---

    def prepare(self, job: Job) -> None:
        """Tokenise a request.

        Raises:
            RequestRefused: it cannot be served.
            BadInput: the chat template cannot render it.
        """
        if job.ids:
            return
        ids = self._tokenizer.encode_prompt(job.request.prompt, job.request.prefix)
        if not ids:
            raise RequestRefused("the prompt is empty")
        context = self._decoder.max_context
        job.room = min(job.request.sampling.max_tokens, context - len(ids))
        if job.room < 1:
            raise RequestRefused(f"the prompt has {len(ids)} tokens and the model's context holds {context}")
        job.ids, job.uniforms = ids, uniforms(job.request.seed)

    def has_room(self, new: Sequence[Job]) -> bool:
        """Whether `new`, all prepared, fit beside the active requests if all run to their limits; one always does."""
        jobs = [*self.active, *new]
        longest = max(len(job.ids) + job.room for job in jobs)
        return len(jobs) == 1 or (len(jobs) <= self._most_rows and len(jobs) * longest <= self._row_tokens)

    def enter(self, new: list[Job]) -> None:
        """Give each of `new` a row holding its prompt, and choose its first token."""
        known = self._known({tuple(job.ids) for job in new})
        self._grow(len(self.active) + len(new), max(len(job.ids) for job in new) + 1)
        for job in new:
            self._cache.copy_row(known[tuple(job.ids)][0], 0, len(self.active), len(job.ids))
            self.active.append(job)
        self._accept(torch.stack([known[tuple(job.ids)][1] for job in new]), new)

    def _known(self, prompts: set[tuple[int, ...]]) -> dict[tuple[int, ...], tuple[Rows, Tensor]]:
        """Cache row and last logits of each prompt; each is computed once for all that share it."""
        found = {ids: self._prefixes[ids] for ids in prompts if ids in self._prefixes}
        unknown = sorted((ids for ids in prompts if ids not in found), key=len)
        while unknown:
            count = max(1, PREFILL_TOKENS // len(unknown[-1]))
            chunk, unknown = unknown[-count:], unknown[:-count]
            found.update(zip(chunk, self._prompts(chunk), strict=True))
        for ids, prefix in found.items():
            self._prefixes[ids] = prefix
            self._prefixes.move_to_end(ids)
        held = sum(map(len, self._prefixes))
        while held > self._prefix_tokens:
            held -= len(self._prefixes.popitem(last=False)[0])
        return found

    def _prompts(self, prompts: Sequence[Sequence[int]]) -> list[tuple[Rows, Tensor]]:
        """Cache row and last logits of each prompt, each in memory of its own."""
        last = torch.tensor([[len(ids) - 1] for ids in prompts], device=self._decoder.device)
        rows, logits = self._forward(prompts, last)
        found = []
        for i, ids in enumerate(prompts):
            own = self._decoder.rows()
            own.resize(1, len(ids))
            own.copy_row(rows, i, 0, len(ids))
            found.append((own, logits[i, 0].clone()))
        return found

    def _forward(self, prompts: Sequence[Sequence[int]], wanted: Tensor) -> tuple[Rows, Tensor]:
        """Whole prompts in one pass over a fresh cache, padded on the right, where causal rows never look."""
        longest, device = max(len(ids) for ids in prompts), self._decoder.device
        padded = torch.tensor([[*ids, *[ids[-1]] * (longest - len(ids))] for ids in prompts], device=device)
        positions = torch.arange(longest, device=device).expand(len(prompts), -1)
        rows = self._decoder.rows()
        rows.resize(len(prompts), longest)
        return rows, self._decoder.forward(padded, positions, rows, longest, wanted)

    def _grow(self, rows: int, tokens: int) -> None:
        """Room for `rows` of `tokens`: by some more than needed, since growing copies, but within the budget."""
        have_rows, have_tokens = self._cache.size
        if rows <= have_rows and tokens <= have_tokens:
            return
        roomy = (max(rows, have_rows), max(have_tokens, -(-tokens // 64) * 64))
        fits = roomy[0] * roomy[1] <= self._row_tokens
        self._cache.resize(*(roomy if fits else (rows, max(tokens, self._longest))))

    @property
    def _longest(self) -> int:
        return max((job.position + 1 for job in self.active), default=0)

    # --- decoding ---

    def step(self) -> None:
        """Decode one token for every active request."""
        self._retire([job for job in self.active if job.future.cancelled()])
        if not self.active:
            return
        device = self._decoder.device
        ids = torch.tensor([[job.tokens[-1]] for job in self.active], device=device)
        positions = torch.tensor([[job.position] for job in self.active], device=device)
        self._grow(len(self.active), self._longest)
        wanted = torch.zeros_like(ids)
        logits = self._decoder.forward(ids, positions, self._cache, self._longest, wanted)
        self._accept(logits[:, 0], list(self.active))

    def _accept(self, logits: Tensor, jobs: list[Job]) -> None:
        """Choose a token for each of `jobs`, and settle those that are done."""
        settings = [job.request.sampling for job in jobs]
        tokens, logprobs = choose(logits, settings, [next(job.uniforms) for job in jobs])
        done = []
        for job, token, logprob in zip(jobs, tokens.tolist(), logprobs.tolist(), strict=True):
            job.tokens.append(token)
            job.logprobs.append(logprob)
            if logprob != logprob:
                job.settle(error=RequestRefused("the model returned NaN logits; try --dtype float32"))
                self._prefixes.pop(tuple(job.ids), None)
                self._cache.wipe(self.active.index(job))
                done.append(job)
            elif (sample := self._finished(job)) is not None:
                job.settle(sample)
                done.append(job)
        self._retire(done)

    def _finished(self, job: Job) -> Sample | None:
        """The sample, where the request ends with its newest token."""
        stop, ended = job.request.sampling.stop, job.tokens[-1] in self._tokenizer.eos_ids
        text = self._tokenizer.decode(job.tokens) if stop else ""
        cut = cut_at_stop(text, stop)
        if not ended and cut is None and len(job.tokens) < job.room:
            return None
        if cut is None:
            cut = self._tokenizer.decode(job.tokens[:-1] if ended else job.tokens)
            reason = "stop" if ended else "length"
        else:
            reason = "stop"
        return Sample(cut, tuple(job.tokens), tuple(job.logprobs), reason, len(job.ids), job.policy.version)

    def _retire(self, done: Sequence[Job]) -> None:
        """Free the rows of `done`: the last row moves into each gap, so that the active rows stay the first ones."""
        for row in sorted((self.active.index(job) for job in done), reverse=True):
            last = self.active.pop()
            if row < len(self.active):
                self._cache.copy_row(self._cache, len(self.active), row, last.position + 1)
                self.active[row] = last

    # --- scoring ---

    def score(self, job: Job) -> tuple[float, ...]:
        """Natural-log probability of each token of `job.scored` after its prompt.

        Raises:
            RequestRefused: it cannot be served.
            BadInput: the chat template cannot render it.
        """
        before = self._tokenizer.encode_prompt(job.request.prompt)
        after = self._tokenizer.encode(job.scored or "")
        context = self._decoder.max_context
        if not before:
            raise RequestRefused("the prompt is empty")
        if len(before) + len(after) > context:
            raise RequestRefused(f"{len(before) + len(after)} tokens to score and the model's context holds {context}")
        if not after:
            return ()
        steps = torch.arange(len(before) - 1, len(before) + len(after) - 1, device=self._decoder.device)
        logits = self._forward([before + after], steps[None])[1][0]
        chosen = logits.gather(1, torch.tensor(after, device=logits.device)[:, None])[:, 0]
        found = chosen - torch.logsumexp(logits, -1)
        if bool(found.isnan().any()):
            raise RequestRefused("the model returned NaN logits; try --dtype float32")
        return tuple(found.tolist())


def uniforms(seed: int) -> Iterator[float]:
    """The random numbers in [0, 1) of a request, decided by its seed alone."""
    import numpy as np

    stream = np.random.Generator(np.random.Philox(key=seed))
    while True:
        yield from stream.random(64).tolist()
