"""The requests that decode together under one policy's weights, and the cache they use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from selftaught.engines.base import RequestRefused
from selftaught.engines.local.batch_invariance import FEWEST_ROWS
from selftaught.engines.local.decoder import Decoder
from selftaught.engines.local.kv_cache import BLOCK_SIZE, round_to_blocks
from selftaught.engines.local.paged_cache import PagedAttention, PagedCache
from selftaught.engines.local.passes import DecodePass
from selftaught.engines.local.prefill import Prefiller, PrefillRequest, find_shared_prefixes
from selftaught.engines.local.prefix_attention import PrefixLevel
from selftaught.engines.local.radix_cache import RadixCache
from selftaught.engines.local.request_state import NAN_MESSAGE, RequestOutput, RequestState, finish, tokenize
from selftaught.engines.local.scoring import ValueHead, read_heads, score_texts
from selftaught.engines.local.shared_prefixes import PrefixPool, choose_shared
from selftaught.engines.sampler import TokenSampler, summarize_distributions
from selftaught.errors import BadInput
from selftaught.models.chat import ChatTokenizer
from selftaught.models.policy import Policy

RADIX_CACHE_SHARE = 4  # one part in this many of the memory is for computed sequences that no request uses


@dataclass(slots=True)
class _DecodePlan:
    """What stays the same from step to step while the same requests are active."""

    levels: list[PrefixLevel]
    paged: PagedAttention
    prompt_lengths: list[int]
    sampler: TokenSampler | None = None


class ContinuousBatch:
    """Requests decoding together under one policy: every step adds a token to each of them.

    The prompt of a request is a `SharedPrefix`, common to all requests with that prompt; the keys and values of its
    sampled tokens are in blocks of the `PagedCache`.

    Args:
        policy: the policy whose weights `decoder` holds.
        max_batch_size: maximum number of requests decoded together.
        cache_bytes: maximum memory for keys and values.
        batch_invariant: a request's tokens and log-probabilities are, to the last bit, the same whatever else is in the
            batch (`batch_invariance` checks that this model's are): prompts are prefilled one by one, no computed
            sequence is used again, and a row attends to blocks of its own.

    Attributes:
        active: the requests.
        live_model: the model in training whose tensors `decoder` reads, if any.
        peak_tokens: maximum number of tokens that memory was allocated for.
    """

    def __init__(
        self, policy: Policy, decoder: Decoder, tokenizer: ChatTokenizer, *, max_batch_size: int, cache_bytes: int,
        batch_invariant: bool = False,
    ) -> None:  # fmt: skip
        self.policy, self._decoder, self._tokenizer = policy, decoder, tokenizer
        self.active: list[RequestState] = []
        self.live_model: Any = None
        self.peak_tokens = 0
        self._outputs: list[RequestOutput] = []
        self._paged_cache, self._prefix_pool = PagedCache(decoder.new_cache()), PrefixPool(decoder.new_cache)
        tokens = cache_bytes // self.bytes_per_token
        for_radix = 0 if batch_invariant else tokens // RADIX_CACHE_SHARE
        self.max_batch_size, self._max_cached_tokens = max_batch_size, tokens - for_radix
        self._invariant = batch_invariant
        self._radix_cache = RadixCache(for_radix)
        self._prefiller = Prefiller(decoder, self._radix_cache, alone=batch_invariant)
        self._head: ValueHead | None = None  # loaded for the first request that reads it
        self._plan: _DecodePlan | None = None  # None once the active requests have changed
        # Memoized, since many samples share a prompt.
        self._encode_prompt = lru_cache(1024)(lambda prompt, prefix: tuple(tokenizer.encode_prompt(prompt, prefix)))

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values."""
        return self._paged_cache.store.bytes_per_token

    def take_outputs(self) -> list[RequestOutput]:
        """Results and errors since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def free_cache(self) -> None:
        """Free all memory but the weights; for a batch without active requests."""
        new_cache = self._decoder.new_cache
        self._paged_cache, self._prefix_pool = PagedCache(new_cache()), PrefixPool(new_cache)
        self._plan = None
        self._radix_cache.clear()

    # --- admission ---

    def tokenize(self, state: RequestState) -> None:
        """Tokenize a request, unless that is done; see `request_state.tokenize`."""
        if not state.prompt_ids:
            tokenize(state, self._tokenizer, self._encode_prompt, self._decoder.max_context)

    def admit_count(self, waiting: Sequence[RequestState]) -> int:
        """How many of `waiting`, all tokenized, fit beside the active requests if all sample as much as they may.

        At least one if none is active.
        """
        count, longest_output, longest_prompt = len(self.active), 0, 0
        prompts: set[object] = set()
        for state in self.active:
            longest_output = max(longest_output, state.max_new_tokens)
            longest_prompt = max(longest_prompt, len(state.prompt_ids))
            prompts.add(state.shared_prefix)
        for admitted, state in enumerate(waiting):
            count += 1
            longest_output = max(longest_output, state.max_new_tokens)
            longest_prompt = max(longest_prompt, len(state.prompt_ids))
            prompts.add(self._prefix_pool.get(state.prompt_ids) or state.prompt_ids)
            stored = len(prompts) + (count if self._invariant else 0)
            tokens = count * round_to_blocks(longest_output) + stored * round_to_blocks(longest_prompt)
            if count > 1 and (count > self.max_batch_size or tokens > self._max_cached_tokens):
                return admitted
        return len(waiting)

    def admit(self, new: list[RequestState]) -> None:
        """Prefill the prompts of `new`, and sample the first token of each."""
        if not new:
            return
        self._prefill_prompts({state.prompt_ids for state in new})
        admitted, logits = [], []
        for state in new:
            prefix = self._prefix_pool.get(state.prompt_ids)
            if prefix is None or prefix.logits is None:
                self._outputs.append((state, None, RequestRefused(NAN_MESSAGE)))
                continue
            prefix.ref_count += 1
            state.shared_prefix = prefix
            if self._invariant:
                self._paged_cache.fill(state.block_table, self._prefix_pool.read(prefix), self._max_blocks)
            self.active.append(state)
            admitted.append(state)
            logits.append(prefix.logits)
        self._plan = None
        self._update_peak()
        if admitted:
            stacked = torch.stack(logits)
            self._append_tokens(stacked, admitted, self._token_sampler(admitted, stacked))

    def _prefill_prompts(self, prompts: set[tuple[int, ...]]) -> None:
        """Put each of `prompts` and its logits into the prefix pool, unless the model returns NaN for it."""
        missing = [ids for ids in prompts if (s := self._prefix_pool.get(ids)) is None or s.logits is None]
        active = {state.shared_prefix.ids for state in self.active if state.shared_prefix}
        every = list({*missing, *active}) if missing else []
        found = [] if self._invariant else find_shared_prefixes(every)
        shared = [ids for ids in found if any(new[: len(ids)] == ids for new in missing)]
        chosen, added = set(choose_shared(every, shared)), []
        for ids in shared:
            for result in self._prefiller.run([PrefillRequest(ids)]):
                if result.finite and ids in chosen:
                    added.append(self._prefix_pool.add(ids, result.cache, result.row, shareable=True))
        for result in self._prefiller.run([PrefillRequest(ids, last_logits=True) for ids in missing]):
            if result.finite and not bool(result.output.isnan().any()):
                prefix = self._prefix_pool.add(result.request.ids, result.cache, result.row)
                prefix.logits = result.output[0].clone()
        for prefix in reversed(added):
            if prefix.logits is None:
                self._prefix_pool.free_unused(prefix)

    # --- decoding ---

    def step(self) -> None:
        """Decode one token for every active request."""
        self._remove([state for state in self.active if state.future.cancelled()])
        if not self.active:
            return
        self._allocate_blocks()
        plan = self._plan = self._plan or self._make_plan()
        rows = self._rows()
        indices = [self._place(state) for state in rows]
        positions = [length + state.last_index for length, state in zip(plan.prompt_lengths, rows, strict=True)]
        ids = torch.tensor([[state.output_ids[-1]] for state in rows], device=self._decoder.device)
        logits = self._decoder.forward(ids, DecodePass(plan.paged, indices, plan.levels, positions))[: len(self.active)]
        plan.sampler = plan.sampler or self._token_sampler(self.active, logits)
        self._append_tokens(logits, list(self.active), plan.sampler)

    def _rows(self) -> list[RequestState]:
        """The active requests; if they must not depend on the batch, few of them are repeated, as products of few rows
        are computed in another way.
        """
        if not self._invariant or len(self.active) >= FEWEST_ROWS:
            return self.active
        return (self.active * FEWEST_ROWS)[:FEWEST_ROWS]

    def _place(self, state: RequestState) -> int:
        """Where the newest token of a request is among those in its own blocks."""
        return state.last_index + (len(state.prompt_ids) if self._invariant else 0)

    @property
    def _max_blocks(self) -> int:
        return (self._max_cached_tokens - self._prefix_pool.capacity) // BLOCK_SIZE

    def _allocate_blocks(self) -> None:
        """Allocate a block for each request whose next token has no place."""
        full = [state.block_table for state in self.active if self._place(state) >= state.block_table.capacity]
        if full:
            self._paged_cache.allocate(full, self._max_blocks)
            self._plan = None
            self._update_peak()

    def _update_peak(self) -> None:
        tokens = self._paged_cache.capacity + self._prefix_pool.capacity + self._radix_cache.tokens
        self.peak_tokens = max(self.peak_tokens, tokens)

    def _make_plan(self) -> _DecodePlan:
        rows = self._rows()
        prefixes = [] if self._invariant else [state.shared_prefix for state in rows if state.shared_prefix]
        levels = self._prefix_pool.levels(prefixes) if prefixes else []
        tables = [state.block_table for state in rows]
        paged = PagedAttention(self._paged_cache, tables, in_order=self._invariant)
        return _DecodePlan(levels, paged, [len(state.prompt_ids) for state in rows])

    def _token_sampler(self, states: Sequence[RequestState], logits: Tensor) -> TokenSampler:
        return TokenSampler([state.request.sampling for state in states], logits.shape[1], logits.device)

    def _append_tokens(self, logits: Tensor, states: list[RequestState], sampler: TokenSampler) -> None:
        """Sample a token for each of `states`, and output those that are done."""
        tokens, logprobs = sampler(logits, [next(state.uniforms) for state in states])
        self._record_distributions(logits, states)
        done: list[RequestState] = []
        finished: list[RequestState] = []
        for state, token, logprob in zip(states, tokens.tolist(), logprobs.tolist(), strict=True):
            state.output_ids.append(token)
            state.logprobs.append(logprob)
            if logprob != logprob:
                self._outputs.append((state, None, RequestRefused(NAN_MESSAGE)))
                self._paged_cache.zero(state.block_table)
                done.append(state)
            elif (sample := finish(state, self._tokenizer)) is not None:
                self._outputs.append((state, sample, None))
                done.append(state)
                finished.append(state)
        self._cache_finished([state for state in finished if state.last_index])
        self._remove(done)

    def _record_distributions(self, logits: Tensor, states: list[RequestState]) -> None:
        """Record the most probable tokens, entropy and self-certainty for the requests that want them."""
        counts = {i: state.request.top_logprobs for i, state in enumerate(states)}
        wanted = {i: count for i, count in counts.items() if count is not None}
        if wanted:
            found = summarize_distributions(logits[list(wanted)], list(wanted.values()))
            for i, one in zip(wanted, found, strict=True):
                states[i].distributions.append(one)

    def _cache_finished(self, states: Sequence[RequestState]) -> None:
        """Keep keys and values of finished answers, for requests that continue them."""
        if not states:
            return
        kvs = self._paged_cache.read([s.block_table for s in states], [self._place(s) for s in states])
        for state, kv in zip(states, kvs, strict=True):
            if bool(torch.isfinite(kv.sum(dtype=torch.float32))):
                self._radix_cache.insert((*state.prompt_ids, *state.output_ids[:-1]), len(state.prompt_ids), kv)
            else:
                self._paged_cache.zero(state.block_table)

    def _remove(self, done: Sequence[RequestState]) -> None:
        """Remove `done` from the batch, and free their cache."""
        if not done:
            return
        gone = {id(state) for state in done}
        self.active = [state for state in self.active if id(state) not in gone]
        self._paged_cache.free([state.block_table for state in done])
        for state in done:
            if state.shared_prefix:
                self._prefix_pool.release(state.shared_prefix)
        self._plan = None

    # --- scoring ---

    def score(self, states: Sequence[RequestState]) -> None:
        """Output the likelihoods, or what the value head says, of requests for them, all tokenized."""
        self._outputs += score_texts(self._prefiller, [state for state in states if not state.read_ends])
        if to_read := [state for state in states if state.read_ends]:
            try:
                self._head = self._head or ValueHead(self.policy, self._decoder.device)
                self._outputs += read_heads(self._prefiller, self._head, to_read)
            except BadInput as error:
                self._outputs += [(state, None, error) for state in to_read]
