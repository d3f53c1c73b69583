"""The requests that decode together under one policy's weights, and the memory they take."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from selftaught.engines.base import RequestRefused
from selftaught.engines.choose import Chooser, survey
from selftaught.engines.decoder import Decoder
from selftaught.engines.jobs import Job, Outcome, finished, uniforms
from selftaught.engines.known import Known
from selftaught.engines.passes import Stepping
from selftaught.engines.reader import Reader, Text, stems
from selftaught.engines.rows import rounded
from selftaught.engines.sharing import Level
from selftaught.engines.trunk import Trunk
from selftaught.models.chat import ChatTokenizer
from selftaught.models.policy import Policy

KNOWN_SHARE = 4  # one part in this many of the memory goes to what is known but not in use
NAN = "the model returned NaN logits; try --dtype float32"


class Batch:
    """Requests decoding together under one policy: every step adds a token to each of them.

    A request's beginning is a stem, shared with all that go on from it; its own row holds what it sampled.

    Args:
        policy: the policy whose weights `decoder` holds.
        rows: most requests decoded together.
        budget: most bytes for keys and values.
        outbox: where results and errors are put.
    """

    def __init__(
        self, policy: Policy, decoder: Decoder, tokenizer: ChatTokenizer, *, rows: int, budget: int,
        outbox: list[Outcome],
    ) -> None:  # fmt: skip
        self.policy, self._decoder, self._tokenizer = policy, decoder, tokenizer
        self.active: list[Job] = []
        self.source: Any = None  # the live model whose tensors `decoder` reads, if it does
        self.most_tokens = 0  # the most for which there was memory at one time
        self._outbox = outbox
        self._own, self._trunk = decoder.rows(), Trunk(decoder.rows)
        tokens = budget // self._own.bytes_per_token
        self.most_rows, self._room = rows, tokens - tokens // KNOWN_SHARE
        self._known = Known(tokens // KNOWN_SHARE)
        self._reader = Reader(decoder, self._known)
        self._plan: tuple[list[Level], Chooser] | None = None  # for the active rows; None once they have changed
        self._encoded = lru_cache(1024)(tokenizer.encode_prompt)  # many samples are asked of one prompt

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values."""
        return self._own.bytes_per_token

    def rest(self) -> None:
        """Give back all memory but the weights'; for a batch without active requests."""
        self._own, self._trunk, self._plan = self._decoder.rows(), Trunk(self._decoder.rows), None
        self._known.clear()

    # --- taking requests in ---

    def prepare(self, job: Job) -> None:
        """Tokenise a request.

        Raises:
            RequestRefused: it cannot be served.
            BadInput: the chat template cannot render it.
        """
        if job.ids:
            return
        request = job.request
        job.given = self._tokens_of(request.given)
        ids = (*self._encoded(request.prompt, request.prefix), *job.given)
        if not ids:
            raise RequestRefused("the prompt is empty")
        context = self._decoder.max_context
        if job.scored is not None:
            job.tokens = self._tokenizer.encode(job.scored)
            if len(ids) + len(job.tokens) > context:
                size = len(ids) + len(job.tokens)
                raise RequestRefused(f"{size} tokens to score and the model's context holds {context}")
        job.room = min(request.sampling.max_tokens, context - len(ids))
        if job.room < 1 and job.scored is None:
            raise RequestRefused(f"the prompt has {len(ids)} tokens and the model's context holds {context}")
        job.ids, job.uniforms = ids, uniforms(request.seed, len(job.given))

    def _tokens_of(self, given: Sequence[int | str]) -> tuple[int, ...]:
        """What an answer goes on from, as tokens: text tokenised, and no end of sequence."""
        ids: list[int] = []
        for piece in given:
            ids += self._tokenizer.encode(piece) if isinstance(piece, str) else [piece]
        return tuple(token for token in ids if token not in self._tokenizer.eos_ids)

    def fitting(self, waiting: Sequence[Job]) -> int:
        """How many of `waiting`, all prepared, fit beside the active requests if all run to their limits.

        Where none is active, one always does.
        """
        count, own, stem = len(self.active), 0, 0
        beginnings: set[tuple[int, ...]] = set()
        for job in self.active:
            own, stem = max(own, job.room), max(stem, len(job.ids))
            beginnings.add(job.ids)
        for taken, job in enumerate(waiting):
            count, own, stem = count + 1, max(own, job.room), max(stem, len(job.ids))
            beginnings.add(job.ids)
            tokens = count * rounded(own) + len(beginnings) * rounded(stem)
            if count > 1 and (count > self.most_rows or tokens > self._room):
                return taken
        return len(waiting)

    def enter(self, new: list[Job]) -> None:
        """Give each of `new` a row and its stem, and choose its first token."""
        if not new:
            return
        self._grow(len(self.active) + len(new), max([1, *(job.place + 1 for job in self.active)]))
        self._read({job.ids for job in new})
        entered = []
        for job in new:
            stem = self._trunk.get(job.ids)
            if stem is None or stem.logits is None:
                self._outbox.append((job, None, RequestRefused(NAN)))
                continue
            stem.users += 1
            job.stem = stem
            self.active.append(job)
            entered.append(job)
        self._plan = None
        self._count()
        if entered:
            logits = torch.stack([job.stem.logits for job in entered])
            self._accept(logits, entered, self._chooser(entered, logits))

    def _read(self, beginnings: set[tuple[int, ...]]) -> None:
        """Make a stem of each of `beginnings`, with its logits, unless the model gives NaN for it."""
        missing = [ids for ids in beginnings if (s := self._trunk.get(ids)) is None or s.logits is None]
        placed = []
        for ids in stems(missing):
            found = self._reader.read([Text(ids)])
            placed += [self._trunk.place(read.text.ids, read.rows, read.row) for read in found if read.sound]
        for read in self._reader.read([Text(ids, last=True) for ids in missing]):
            if read.sound and not bool(read.found.isnan().any()):
                self._trunk.place(read.text.ids, read.rows, read.row).logits = read.found[0].clone()
        for stem in reversed(placed):
            if stem.logits is None:
                self._trunk.prune(stem)

    def _grow(self, rows: int, tokens: int) -> None:
        """Memory for own rows of `tokens`. Attention reads all of it, so there is little to spare in length."""
        have_rows, have_tokens = self._own.size
        need = rounded(tokens)
        if rows > have_rows or need > have_tokens or 2 * need < have_tokens:
            fits = max(rows, have_rows) * need + self._trunk.tokens <= self._room
            self._own.resize(max(rows, have_rows) if fits else rows, need)
            self._count()

    def _count(self) -> None:
        rows, tokens = self._own.size
        self.most_tokens = max(self.most_tokens, rows * tokens + self._trunk.tokens + self._known.tokens)

    # --- decoding ---

    def step(self) -> None:
        """Decode one token for every active request."""
        self._retire([job for job in self.active if job.future.cancelled()])
        if not self.active:
            return
        places = [len(job.tokens) - 1 for job in self.active]
        self._grow(len(places), max(places) + 1)
        positions = [len(job.ids) + place for job, place in zip(self.active, places, strict=True)]
        ids = torch.tensor([[job.tokens[-1]] for job in self.active], device=self._decoder.device)
        levels = self._plan[0] if self._plan else self._trunk.levels([job.stem for job in self.active if job.stem])
        logits = self._decoder.forward(ids, Stepping(self._own, places, levels, positions))
        self._plan = self._plan or (levels, self._chooser(self.active, logits))
        self._accept(logits, list(self.active), self._plan[1])

    def _chooser(self, jobs: Sequence[Job], logits: Tensor) -> Chooser:
        return Chooser([job.request.sampling for job in jobs], logits.shape[1], logits.device)

    def _accept(self, logits: Tensor, jobs: list[Job], chooser: Chooser) -> None:
        """Choose a token for each of `jobs`, and settle those that are done."""
        tokens, logprobs = chooser(logits, [next(job.uniforms) for job in jobs])
        self._detail(logits, jobs)
        done = []
        for job, token, logprob in zip(jobs, tokens.tolist(), logprobs.tolist(), strict=True):
            job.tokens.append(token)
            job.logprobs.append(logprob)
            if logprob != logprob:
                self._outbox.append((job, None, RequestRefused(NAN)))
                self._own.wipe(self.active.index(job))
                done.append(job)
            elif (sample := finished(job, self._tokenizer)) is not None:
                self._outbox.append((job, sample, None))
                self._learn(job)
                done.append(job)
        if done:
            self._retire(done)

    def _detail(self, logits: Tensor, jobs: list[Job]) -> None:
        """Note the distributions of those who asked for them."""
        curious = [i for i, job in enumerate(jobs) if job.request.top is not None]
        if curious:
            for i, detail in zip(
                curious, survey(logits[curious], [jobs[i].request.top or 0 for i in curious]), strict=True
            ):
                jobs[i].details.append(detail)

    def _learn(self, job: Job) -> None:
        """Keep what a finished answer computed, for those that go on from it."""
        if job.place:
            row = self.active.index(job)
            span = self._own.take(row, 0, job.place)
            if bool(torch.isfinite(span).all()):
                self._known.add((*job.ids, *job.tokens[:-1]), len(job.ids), span)
            else:
                self._own.wipe(row)

    def _retire(self, done: Sequence[Job]) -> None:
        """Free the rows of `done`: the last row moves into each gap, so that the active rows stay the first ones."""
        for row in sorted((self.active.index(job) for job in done), reverse=True):
            gone, last = self.active[row], self.active.pop()
            if last is not gone:
                self._own.move(len(self.active), row, last.place + 1)
                self.active[row] = last
            if gone.stem:
                self._trunk.leave(gone.stem)
            self._plan = None

    # --- scoring ---

    def score(self, jobs: Sequence[Job]) -> None:
        """Settle requests for log-probabilities, all prepared; each prompt is read once."""
        if not jobs:
            return
        by_text: dict[int, Job] = {}
        texts = []
        for job in jobs:
            if not job.tokens:
                self._outbox.append((job, (), None))
                continue
            text = Text((*job.ids, *job.tokens[:-1]), after=tuple(job.tokens), at=len(job.ids) - 1)
            by_text[id(text)] = job
            texts.append(text)
        before = {text.ids[: text.at] for text in texts if text.at}
        for ids in stems(list(before)):
            list(self._reader.read([Text(ids)]))
        if len(before) < len(texts):
            list(self._reader.read([Text(ids) for ids in before]))
        for read in self._reader.read(texts):
            found: list[Any] = read.found.tolist()
            bad = any(value != value for value in found)
            error = RequestRefused(NAN) if bad else None
            self._outbox.append((by_text[id(read.text)], tuple(found), error))
