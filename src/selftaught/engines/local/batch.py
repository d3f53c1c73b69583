"""The requests that decode together under one policy's weights, and the memory they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from selftaught.engines.base import RequestRefused
from selftaught.engines.local.decoder import Decoder
from selftaught.engines.local.kv_cache import CHUNK, rounded
from selftaught.engines.local.paged_cache import Ends, Tails
from selftaught.engines.local.passes import Stepping
from selftaught.engines.local.prefill import Reader, Text, stems
from selftaught.engines.local.prefix_attention import Level
from selftaught.engines.local.radix_cache import Known
from selftaught.engines.local.sequence import Job, Outcome, finished, given_tokens, uniforms
from selftaught.engines.local.shared_prefixes import Trunk, apart
from selftaught.engines.sampler import Chooser, survey
from selftaught.models.chat import ChatTokenizer
from selftaught.models.policy import Policy

KNOWN_SHARE = 4  # one part in this many of the memory goes to what is known but not in use
NAN = "the model returned NaN logits; try --dtype float32"


@dataclass(slots=True)
class _Plan:
    """What stays the same from step to step while the same requests are active.

    Attributes:
        begins: how many tokens each request goes on from.
    """

    levels: list[Level]
    ends: Ends
    begins: list[int]
    chooser: Chooser | None = None


class Batch:
    """Requests decoding together under one policy: every step adds a token to each of them.

    A request's beginning is a stem, shared with all that go on from it; its tail holds what it sampled.

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
        self._tails, self._trunk = Tails(decoder.rows()), Trunk(decoder.rows)
        tokens = budget // self.bytes_per_token
        self.most_rows, self._room = rows, tokens - tokens // KNOWN_SHARE
        self._known = Known(tokens // KNOWN_SHARE)
        self._reader = Reader(decoder, self._known)
        self._plan: _Plan | None = None  # for the active rows; None once they have changed
        # Many samples are asked of one prompt.
        self._encoded = lru_cache(1024)(lambda prompt, prefix: tuple(tokenizer.encode_prompt(prompt, prefix)))

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values."""
        return self._tails.store.bytes_per_token

    def rest(self) -> None:
        """Give back all memory but the weights'; for a batch without active requests."""
        self._tails, self._trunk = Tails(self._decoder.rows()), Trunk(self._decoder.rows)
        self._plan = None
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
        job.given = given_tokens(request.given, self._tokenizer)
        ids = self._encoded(request.prompt, request.prefix)
        ids = (*ids, *job.given) if job.given else ids
        if not ids:
            raise RequestRefused("the prompt is empty")
        context = self._decoder.max_context
        if job.scored is not None:
            job.tokens = self._tokenizer.encode_answer(job.scored)
            if len(ids) + len(job.tokens) > context:
                size = len(ids) + len(job.tokens)
                raise RequestRefused(f"{size} tokens to score and the model's context holds {context}")
        job.room = min(request.sampling.max_tokens, context - len(ids))
        if job.room < 1 and job.scored is None:
            raise RequestRefused(f"the prompt has {len(ids)} tokens and the model's context holds {context}")
        job.ids, job.uniforms = ids, uniforms(request.seed, len(job.given))

    def fitting(self, waiting: Sequence[Job]) -> int:
        """How many of `waiting`, all prepared, fit beside the active requests if all run to their limits.

        Where none is active, one always does.
        """
        count, own, stem = len(self.active), 0, 0
        beginnings: set[object] = set()
        for job in self.active:
            own, stem = max(own, job.room), max(stem, len(job.ids))
            beginnings.add(job.stem)
        for taken, job in enumerate(waiting):
            count, own, stem = count + 1, max(own, job.room), max(stem, len(job.ids))
            beginnings.add(self._trunk.get(job.ids) or job.ids)
            tokens = count * rounded(own) + len(beginnings) * rounded(stem)
            if count > 1 and (count > self.most_rows or tokens > self._room):
                return taken
        return len(waiting)

    def enter(self, new: list[Job]) -> None:
        """Give each of `new` its stem, and choose its first token."""
        if not new:
            return
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
        every = {*missing, *(job.stem.ids for job in self.active if job.stem)} if missing else set()
        shared = [ids for ids in stems(list(every)) if any(new[: len(ids)] == ids for new in missing)]
        held, placed = set(apart(list(every), shared)), []
        for ids in shared:
            for read in self._reader.read([Text(ids)]):
                if read.sound and ids in held:
                    placed.append(self._trunk.place(ids, read.rows, read.row, apart=True))
        for read in self._reader.read([Text(ids, last=True) for ids in missing]):
            if read.sound and not bool(read.found.isnan().any()):
                self._trunk.place(read.text.ids, read.rows, read.row).logits = read.found[0].clone()
        for stem in reversed(placed):
            if stem.logits is None:
                self._trunk.prune(stem)

    def _lengthen(self) -> None:
        """Blocks for the tails that their next token does not fit into."""
        full = [job.tail for job in self.active if job.place >= job.tail.room]
        if full:
            self._tails.lengthen(full, (self._room - self._trunk.tokens) // CHUNK)
            self._plan = None
            self._count()

    def _count(self) -> None:
        self.most_tokens = max(self.most_tokens, self._tails.tokens + self._trunk.tokens + self._known.tokens)

    # --- decoding ---

    def step(self) -> None:
        """Decode one token for every active request."""
        self._retire([job for job in self.active if job.future.cancelled()])
        if not self.active:
            return
        self._lengthen()
        plan = self._plan = self._plan or self._arrange()
        places = [len(job.tokens) - 1 for job in self.active]
        positions = [begin + place for begin, place in zip(plan.begins, places, strict=True)]
        ids = torch.tensor([[job.tokens[-1]] for job in self.active], device=self._decoder.device)
        logits = self._decoder.forward(ids, Stepping(plan.ends, places, plan.levels, positions))
        plan.chooser = plan.chooser or self._chooser(self.active, logits)
        self._accept(logits, list(self.active), plan.chooser)

    def _arrange(self) -> _Plan:
        levels = self._trunk.levels([job.stem for job in self.active if job.stem])
        ends = Ends(self._tails, [job.tail for job in self.active])
        return _Plan(levels, ends, [len(job.ids) for job in self.active])

    def _chooser(self, jobs: Sequence[Job], logits: Tensor) -> Chooser:
        return Chooser([job.request.sampling for job in jobs], logits.shape[1], logits.device)

    def _accept(self, logits: Tensor, jobs: list[Job], chooser: Chooser) -> None:
        """Choose a token for each of `jobs`, and settle those that are done."""
        tokens, logprobs = chooser(logits, [next(job.uniforms) for job in jobs])
        self._detail(logits, jobs)
        done, sound = [], []
        for job, token, logprob in zip(jobs, tokens.tolist(), logprobs.tolist(), strict=True):
            job.tokens.append(token)
            job.logprobs.append(logprob)
            if logprob != logprob:
                self._outbox.append((job, None, RequestRefused(NAN)))
                self._tails.wipe(job.tail)
                done.append(job)
            elif (sample := finished(job, self._tokenizer)) is not None:
                self._outbox.append((job, sample, None))
                done.append(job)
                sound.append(job)
        self._learn([job for job in sound if job.place])
        self._retire(done)

    def _detail(self, logits: Tensor, jobs: list[Job]) -> None:
        """Note the distributions of those who asked for them."""
        curious = [i for i, job in enumerate(jobs) if job.request.top is not None]
        if curious:
            for i, detail in zip(
                curious, survey(logits[curious], [jobs[i].request.top or 0 for i in curious]), strict=True
            ):
                jobs[i].details.append(detail)

    def _learn(self, jobs: Sequence[Job]) -> None:
        """Keep what finished answers computed, for those that go on from them."""
        if not jobs:
            return
        spans = self._tails.take([job.tail for job in jobs], [job.place for job in jobs])
        for job, span in zip(jobs, spans, strict=True):
            if bool(torch.isfinite(span.sum(dtype=torch.float32))):
                self._known.add((*job.ids, *job.tokens[:-1]), len(job.ids), span)
            else:
                self._tails.wipe(job.tail)

    def _retire(self, done: Sequence[Job]) -> None:
        """Free what `done` held."""
        if not done:
            return
        gone = {id(job) for job in done}
        self.active = [job for job in self.active if id(job) not in gone]
        self._tails.drop([job.tail for job in done])
        for job in done:
            if job.stem:
                self._trunk.leave(job.stem)
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
