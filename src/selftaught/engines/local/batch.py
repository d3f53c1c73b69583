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
from selftaught.engines.local.kv_cache import BLOCK_SIZE, round_to_blocks
from selftaught.engines.local.paged_cache import PagedAttention, PagedCache
from selftaught.engines.local.passes import DecodePass
from selftaught.engines.local.prefill import Prefiller, PrefillRequest, shared_prefixes
from selftaught.engines.local.prefix_attention import PrefixLevel
from selftaught.engines.local.radix_cache import RadixCache
from selftaught.engines.local.request_state import RequestOutput, RequestState, finish, prefix_token_ids, uniforms
from selftaught.engines.local.shared_prefixes import PrefixPool, choose_shared
from selftaught.engines.sampler import TokenSampler, top_logprobs_and_entropy
from selftaught.models.chat import ChatTokenizer
from selftaught.models.policy import Policy

RADIX_CACHE_SHARE = 4  # one part in this many of the memory goes to what is known but not in use
NAN_MESSAGE = "the model returned NaN logits; try --dtype float32"


@dataclass(slots=True)
class _DecodePlan:
    """What stays the same from step to step while the same requests are active.

    Attributes:
        begins: how many tokens each request goes on from.
    """

    levels: list[PrefixLevel]
    paged: PagedAttention
    prompt_lengths: list[int]
    sampler: TokenSampler | None = None


class ContinuousBatch:
    """Requests decoding together under one policy: every step adds a token to each of them.

    A request's beginning is a stem, shared with all that go on from it; its tail holds what it sampled.

    Args:
        policy: the policy whose weights `decoder` holds.
        rows: most requests decoded together.
        budget: most bytes for keys and values.
        outbox: where results and errors are put.
    """

    def __init__(
        self, policy: Policy, decoder: Decoder, tokenizer: ChatTokenizer, *, max_batch_size: int, cache_bytes: int,
        outbox: list[RequestOutput],
    ) -> None:  # fmt: skip
        self.policy, self._decoder, self._tokenizer = policy, decoder, tokenizer
        self.active: list[RequestState] = []
        self.live_model: Any = None  # the live model whose tensors `decoder` reads, if it does
        self.peak_tokens = 0  # the most for which there was memory at one time
        self._outbox = outbox
        self._paged_cache, self._prefix_pool = PagedCache(decoder.new_cache()), PrefixPool(decoder.new_cache)
        tokens = cache_bytes // self.bytes_per_token
        self.max_batch_size, self._max_cached_tokens = max_batch_size, tokens - tokens // RADIX_CACHE_SHARE
        self._radix_cache = RadixCache(tokens // RADIX_CACHE_SHARE)
        self._prefiller = Prefiller(decoder, self._radix_cache)
        self._plan: _DecodePlan | None = None  # for the active rows; None once they have changed
        # Many samples are asked of one prompt.
        self._encoded = lru_cache(1024)(lambda prompt, prefix: tuple(tokenizer.encode_prompt(prompt, prefix)))

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values."""
        return self._paged_cache.store.bytes_per_token

    def free_cache(self) -> None:
        """Give back all memory but the weights'; for a batch without active requests."""
        self._paged_cache, self._prefix_pool = (
            PagedCache(self._decoder.new_cache()),
            PrefixPool(self._decoder.new_cache),
        )
        self._plan = None
        self._radix_cache.clear()

    # --- taking requests in ---

    def tokenize(self, job: RequestState) -> None:
        """Tokenise a request.

        Raises:
            RequestRefused: it cannot be served.
            BadInput: the chat template cannot render it.
        """
        if job.prompt_ids:
            return
        request = job.request
        job.prefix_ids = prefix_token_ids(request.prefix_tokens, self._tokenizer)
        ids = self._encoded(request.prompt, request.prefix)
        ids = (*ids, *job.prefix_ids) if job.prefix_ids else ids
        if not ids:
            raise RequestRefused("the prompt is empty")
        context = self._decoder.max_context
        if job.score_text is not None:
            job.output_ids = self._tokenizer.encode_answer(job.score_text)
            if len(ids) + len(job.output_ids) > context:
                size = len(ids) + len(job.output_ids)
                raise RequestRefused(f"{size} tokens to score and the model's context holds {context}")
        job.max_new_tokens = min(request.sampling.max_tokens, context - len(ids))
        if job.max_new_tokens < 1 and job.score_text is None:
            raise RequestRefused(f"the prompt has {len(ids)} tokens and the model's context holds {context}")
        job.prompt_ids, job.uniforms = ids, uniforms(request.seed, len(job.prefix_ids))

    def admit_count(self, waiting: Sequence[RequestState]) -> int:
        """How many of `waiting`, all prepared, fit beside the active requests if all run to their limits.

        Where none is active, one always does.
        """
        count, own, stem = len(self.active), 0, 0
        beginnings: set[object] = set()
        for job in self.active:
            own, stem = max(own, job.max_new_tokens), max(stem, len(job.prompt_ids))
            beginnings.add(job.shared_prefix)
        for taken, job in enumerate(waiting):
            count, own, stem = count + 1, max(own, job.max_new_tokens), max(stem, len(job.prompt_ids))
            beginnings.add(self._prefix_pool.get(job.prompt_ids) or job.prompt_ids)
            tokens = count * round_to_blocks(own) + len(beginnings) * round_to_blocks(stem)
            if count > 1 and (count > self.max_batch_size or tokens > self._max_cached_tokens):
                return taken
        return len(waiting)

    def admit(self, new: list[RequestState]) -> None:
        """Give each of `new` its stem, and choose its first token."""
        if not new:
            return
        self._prefill_prompts({job.prompt_ids for job in new})
        entered = []
        for job in new:
            stem = self._prefix_pool.get(job.prompt_ids)
            if stem is None or stem.logits is None:
                self._outbox.append((job, None, RequestRefused(NAN_MESSAGE)))
                continue
            stem.ref_count += 1
            job.shared_prefix = stem
            self.active.append(job)
            entered.append(job)
        self._plan = None
        self._update_peak()
        if entered:
            logits = torch.stack([job.shared_prefix.logits for job in entered])
            self._append_tokens(logits, entered, self._token_sampler(entered, logits))

    def _prefill_prompts(self, beginnings: set[tuple[int, ...]]) -> None:
        """Make a stem of each of `beginnings`, with its logits, unless the model gives NaN for it."""
        missing = [ids for ids in beginnings if (s := self._prefix_pool.get(ids)) is None or s.logits is None]
        every = {*missing, *(job.shared_prefix.ids for job in self.active if job.shared_prefix)} if missing else set()
        shared = [ids for ids in shared_prefixes(list(every)) if any(new[: len(ids)] == ids for new in missing)]
        held, placed = set(choose_shared(list(every), shared)), []
        for ids in shared:
            for read in self._prefiller.run([PrefillRequest(ids)]):
                if read.finite and ids in held:
                    placed.append(self._prefix_pool.add(ids, read.cache, read.row, shareable=True))
        for read in self._prefiller.run([PrefillRequest(ids, last_logits=True) for ids in missing]):
            if read.finite and not bool(read.output.isnan().any()):
                self._prefix_pool.add(read.request.ids, read.cache, read.row).logits = read.output[0].clone()
        for stem in reversed(placed):
            if stem.logits is None:
                self._prefix_pool.free_unused(stem)

    def _allocate_blocks(self) -> None:
        """Blocks for the tails that their next token does not fit into."""
        full = [job.block_table for job in self.active if job.last_index >= job.block_table.capacity]
        if full:
            self._paged_cache.allocate(full, (self._max_cached_tokens - self._prefix_pool.capacity) // BLOCK_SIZE)
            self._plan = None
            self._update_peak()

    def _update_peak(self) -> None:
        self.peak_tokens = max(
            self.peak_tokens, self._paged_cache.capacity + self._prefix_pool.capacity + self._radix_cache.tokens
        )

    # --- decoding ---

    def step(self) -> None:
        """Decode one token for every active request."""
        self._remove([job for job in self.active if job.future.cancelled()])
        if not self.active:
            return
        self._allocate_blocks()
        plan = self._plan = self._plan or self._make_plan()
        places = [len(job.output_ids) - 1 for job in self.active]
        positions = [begin + place for begin, place in zip(plan.prompt_lengths, places, strict=True)]
        ids = torch.tensor([[job.output_ids[-1]] for job in self.active], device=self._decoder.device)
        logits = self._decoder.forward(ids, DecodePass(plan.paged, places, plan.levels, positions))
        plan.sampler = plan.sampler or self._token_sampler(self.active, logits)
        self._append_tokens(logits, list(self.active), plan.sampler)

    def _make_plan(self) -> _DecodePlan:
        levels = self._prefix_pool.levels([job.shared_prefix for job in self.active if job.shared_prefix])
        ends = PagedAttention(self._paged_cache, [job.block_table for job in self.active])
        return _DecodePlan(levels, ends, [len(job.prompt_ids) for job in self.active])

    def _token_sampler(self, jobs: Sequence[RequestState], logits: Tensor) -> TokenSampler:
        return TokenSampler([job.request.sampling for job in jobs], logits.shape[1], logits.device)

    def _append_tokens(self, logits: Tensor, jobs: list[RequestState], chooser: TokenSampler) -> None:
        """Choose a token for each of `jobs`, and settle those that are done."""
        tokens, logprobs = chooser(logits, [next(job.uniforms) for job in jobs])
        self._record_top_logprobs(logits, jobs)
        done, sound = [], []
        for job, token, logprob in zip(jobs, tokens.tolist(), logprobs.tolist(), strict=True):
            job.output_ids.append(token)
            job.logprobs.append(logprob)
            if logprob != logprob:
                self._outbox.append((job, None, RequestRefused(NAN_MESSAGE)))
                self._paged_cache.zero(job.block_table)
                done.append(job)
            elif (sample := finish(job, self._tokenizer)) is not None:
                self._outbox.append((job, sample, None))
                done.append(job)
                sound.append(job)
        self._cache_finished([job for job in sound if job.last_index])
        self._remove(done)

    def _record_top_logprobs(self, logits: Tensor, jobs: list[RequestState]) -> None:
        """Note the distributions of those who asked for them."""
        curious = [i for i, job in enumerate(jobs) if job.request.top_logprobs is not None]
        if curious:
            for i, detail in zip(
                curious,
                top_logprobs_and_entropy(logits[curious], [jobs[i].request.top_logprobs or 0 for i in curious]),
                strict=True,
            ):
                jobs[i].top_logprobs.append(detail)

    def _cache_finished(self, jobs: Sequence[RequestState]) -> None:
        """Keep what finished answers computed, for those that go on from them."""
        if not jobs:
            return
        spans = self._paged_cache.read([job.block_table for job in jobs], [job.last_index for job in jobs])
        for job, span in zip(jobs, spans, strict=True):
            if bool(torch.isfinite(span.sum(dtype=torch.float32))):
                self._radix_cache.insert((*job.prompt_ids, *job.output_ids[:-1]), len(job.prompt_ids), span)
            else:
                self._paged_cache.zero(job.block_table)

    def _remove(self, done: Sequence[RequestState]) -> None:
        """Free what `done` held."""
        if not done:
            return
        gone = {id(job) for job in done}
        self.active = [job for job in self.active if id(job) not in gone]
        self._paged_cache.free([job.block_table for job in done])
        for job in done:
            if job.shared_prefix:
                self._prefix_pool.release(job.shared_prefix)
        self._plan = None

    # --- scoring ---

    def score(self, jobs: Sequence[RequestState]) -> None:
        """Settle requests for log-probabilities, all prepared; each prompt is read once."""
        if not jobs:
            return
        by_text: dict[int, RequestState] = {}
        texts = []
        for job in jobs:
            if not job.output_ids:
                self._outbox.append((job, (), None))
                continue
            text = PrefillRequest(
                (*job.prompt_ids, *job.output_ids[:-1]),
                scored_ids=tuple(job.output_ids),
                score_start=len(job.prompt_ids) - 1,
            )
            by_text[id(text)] = job
            texts.append(text)
        before = {text.ids[: text.score_start] for text in texts if text.score_start}
        for ids in shared_prefixes(list(before)):
            list(self._prefiller.run([PrefillRequest(ids)]))
        if len(before) < len(texts):
            list(self._prefiller.run([PrefillRequest(ids) for ids in before]))
        for read in self._prefiller.run(texts):
            found: list[Any] = read.output.tolist()
            bad = any(value != value for value in found)
            error = RequestRefused(NAN_MESSAGE) if bad else None
            self._outbox.append((by_text[id(read.request)], tuple(found), error))
