"""Whether what a model computes for a row of a decoding step depends on the other rows.

Matrix products of few rows may be summed in another order than those of many. Which do is a matter of the processor
and the library, so it is found out by trial, for each model, before it samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from selftaught.engines.local.decoder import Decoder
from selftaught.engines.local.kv_cache import BLOCK_SIZE, round_to_blocks
from selftaught.engines.local.paged_cache import BlockTable, PagedAttention, PagedCache
from selftaught.engines.local.passes import DecodePass, PrefillPass
from selftaught.errors import BadInput
from selftaught.models.policy import Policy

LENGTHS = (3, 170, 1, 31, 32, 33, 70, 300)  # of the trial's prompts, in tokens, in turn
VOCABULARY = 16  # tokens that every model has
FEWEST_ROWS = 4  # that are decoded together: fewer are repeated
ROWS = (FEWEST_ROWS, 5, 6, 7, 8, 13, 16, 17, 31, 64, 127, 128)  # that are decoded together


def require_batch_invariance(decoder: Decoder, policy: Policy) -> None:
    """Decode rows in batches of many sizes, and compare what each gets, bit by bit.

    Raises:
        BadInput: it depends on the size.
    """
    with torch.inference_mode():
        wrong = batch_dependent_sizes(decoder)
    if wrong:
        what = f"here, what policy {policy.version} computes for a request depends on how many are sampled together"
        fix = "leave it out; journaled samples are used again all the same"
        raise BadInput(f"{what} (tried with {wrong[0]} rows and {ROWS[-1]})", where="--deterministic", fix=fix)


def batch_dependent_sizes(decoder: Decoder) -> list[int]:
    """The sizes of batches, of `ROWS`, in which some row gets other logits than in the largest, or at another place."""
    lengths = [min(length, decoder.max_context - 1) for length in LENGTHS]
    prompts = [_prefilled(decoder, _tokens(length, seed)) for seed, length in enumerate(lengths)]
    spans = [prompts[row % len(prompts)] for row in range(ROWS[-1])]
    whole = _decoded(decoder, spans)
    wrong = [size for size in ROWS[:-1] if not torch.equal(_decoded(decoder, spans[:size]), whole[:size])]
    alike = torch.equal(whole[:-VOCABULARY], whole[VOCABULARY:])  # the same rows at other places
    return wrong if alike else [*wrong, ROWS[-1]]


def _tokens(length: int, seed: int) -> list[int]:
    """Some of the first tokens of a vocabulary."""
    made = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (length,), generator=made).tolist()


def _prefilled(decoder: Decoder, ids: Sequence[int]) -> Tensor:
    """Keys and values of a sequence, prefilled alone."""
    cache = decoder.new_cache()
    cache.resize(1, round_to_blocks(len(ids)))
    decoder.forward(torch.tensor([ids], device=decoder.device), PrefillPass(cache, (0,), len(ids)), [])
    return cache.read(0, 0, len(ids))


def _decoded(decoder: Decoder, spans: Sequence[Tensor]) -> Tensor:
    """Logits `[rows, vocab]` of one decoding step of rows that continue `spans`, in blocks of their own."""
    paged, tables = PagedCache(decoder.new_cache()), [BlockTable() for _ in spans]
    blocks = sum(-(-(span.shape[3] + 1) // BLOCK_SIZE) for span in spans)
    for table, span in zip(tables, spans, strict=True):
        paged.fill(table, torch.nn.functional.pad(span, (0, 0, 0, 1)), blocks)  # with a place for the step's token
    lengths = [span.shape[3] for span in spans]
    ids = torch.tensor([[row % VOCABULARY] for row in range(len(spans))], device=decoder.device)
    return decoder.forward(ids, DecodePass(PagedAttention(paged, tables, in_order=True), lengths, [], lengths))
