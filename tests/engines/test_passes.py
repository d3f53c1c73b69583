"""Attention over shared and own tokens, against plain attention over each row's whole sequence."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from selftaught.engines.local import flash, passes
from selftaught.engines.local import shared_prefixes as module
from selftaught.engines.local.kv_cache import BLOCK_SIZE, KVCache
from selftaught.engines.local.linear import Linear, PackedLinear, packing_works
from selftaught.engines.local.paged_cache import MAX_GAP_FRACTION, BlockTable, PagedAttention, PagedCache
from selftaught.engines.local.passes import DecodePass, PrefillPass
from selftaught.engines.local.prefix_attention import PrefixLevel, _group_slots, sort_slots
from selftaught.engines.local.shared_prefixes import PrefixPool, choose_shared

HEADS, KV, DIM = 6, 2, 8


def rows(count: int = 0, tokens: int = 0) -> KVCache:
    made = KVCache(1, KV, DIM, torch.float32, "cpu")
    made.resize(count, tokens)
    for layer in made.layers:
        layer.normal_()  # what is masked must not matter
    return made


def grown(rng: random.Random, count: int) -> tuple[PagedCache, list[BlockTable]]:
    """As many tails of one to four blocks, their blocks in no order, as some have come and gone."""
    store, tails = PagedCache(rows()), [BlockTable() for _ in range(count + 3)]
    blocks = [tail for tail in tails for _ in range(rng.randrange(4))]
    rng.shuffle(blocks)
    for tail in [*blocks, *tails]:
        store.allocate([tail], 10**6)
    for layer in store.store.layers:
        layer.normal_()  # what is masked must not matter
    store.free(tails[:2])
    store.free(tails[2:3])
    return store, tails[3:]


def plain(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Attention of one query `[heads, head_dim]` to `[kv_heads, tokens, head_dim]`, in float64 by its definition."""
    keys, values = (x.double().repeat_interleave(HEADS // KV, 0) for x in (keys, values))
    weights = torch.softmax((keys @ query.double()[:, :, None])[..., 0] * DIM**-0.5, -1)
    return (weights[:, None] @ values)[:, 0]


@pytest.mark.parametrize(
    "reads",
    [[0] * 7, list(range(7)), [0, 1, 0, 1, 2, 2, 0], [0] * 40 + [1, 2, 3, 4, 4], [3, 2, 1, 0], [1, 0, 0]],
)
@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize("pieces", [False, True])
def test_a_step_is_plain_attention_for_every_row(
    monkeypatch: pytest.MonkeyPatch, reads: list[int], levels: int, pieces: bool
) -> None:
    if pieces:
        monkeypatch.setattr(passes, "MAX_ROWS", len(reads))
        monkeypatch.setattr(passes, "is_faster", lambda *_: True)
    torch.manual_seed(len(reads) + levels)
    count, rng = len(reads), random.Random(1)
    store, tails = grown(rng, count)
    places = [rng.randrange(max(0, tail.capacity - BLOCK_SIZE), tail.capacity) for tail in tails]
    before = [store.read([tail], [tail.capacity])[0] for tail in tails]
    slots = [rows(max(reads) + 1, 32) for _ in range(levels)]
    lengths = [[rng.randrange(1, 32) if level == 0 else rng.randrange(32) for _ in reads] for level in range(levels)]
    made = [PrefixLevel(s, reads, n) for s, n in zip(slots, lengths, strict=True)]
    step = DecodePass(PagedAttention(store, tails), places, made, [0] * count)
    query, key, value = (torch.randn(count, 1, heads, DIM) for heads in (HEADS, KV, KV))
    mixed = step.attend(0, query, key, value)
    keys, values = step.update(0, key, value)
    for row, place in enumerate(places):
        seen = [s.layers[0][:, reads[row], :, : n[row]] for s, n in zip(slots, lengths, strict=True)]
        new = torch.stack([key[row, 0], value[row, 0]])[:, :, None]
        whole = torch.cat([*seen, before[row][0, :, :, :place], new], 2)
        assert torch.equal(
            store.read([tails[row]], [place + 1])[0][0], torch.cat([before[row][0, :, :, :place], new], 2)
        )
        true = plain(query[row, 0], *whole).float()
        assert torch.allclose(mixed[row, 0].view(HEADS, DIM), true, atol=1e-5)
        visible = step.mask[row, 0, 0] == 0
        assert torch.equal(keys[row][:, visible], whole[0])
        assert torch.equal(values[row][:, visible], whole[1])


def test_few_rows_attend_by_the_kernel_where_tokens_need_not_be_the_same_in_any_company(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    assert not flash.is_faster(torch.float32, cpu)
    assert not flash.is_faster(torch.bfloat16, torch.device("meta"))
    assert flash.is_faster(torch.bfloat16, cpu)
    flash.is_faster.cache_clear()
    monkeypatch.setattr(
        flash, "flash_attention", lambda q, k, v, mask: (q, mask[..., 0])
    )  # a kernel that computes nonsense
    assert not flash.is_faster(torch.bfloat16, cpu)
    flash.is_faster.cache_clear()


@pytest.mark.parametrize("seed", range(5))
def test_blocks_move_with_what_is_in_them_and_only_as_many_are_held_as_needed(seed: int) -> None:
    rng, store, tails = random.Random(seed), PagedCache(rows()), []
    kept: dict[int, torch.Tensor] = {}
    for _ in range(60):
        if tails and rng.random() < 0.4:
            done = rng.sample(tails, rng.randrange(1, len(tails) + 1))
            store.free(done)
            tails = [tail for tail in tails if tail not in done]
            assert all(not tail.blocks for tail in done)
        else:
            longer = rng.sample(tails, len(tails) // 2) + [BlockTable() for _ in range(rng.randrange(1, 4))]
            most = rng.choice((0, 10**6))
            before = {id(tail): kept[id(tail)] for tail in longer if tail.blocks}
            store.allocate(longer, most)
            assert store.capacity >= store.num_blocks * BLOCK_SIZE
            assert most or store.capacity == store.num_blocks * BLOCK_SIZE
            tails += [tail for tail in longer if tail not in tails]
            for tail in longer:
                block = torch.randn(1, 2, KV, BLOCK_SIZE, DIM)
                store.store.layers[0][:, tail.blocks[-1]] = block[0]
                known = before.get(id(tail))
                kept[id(tail)] = block if known is None else torch.cat([known, block], 3)
        held = [block for tail in tails for block in tail.blocks]
        assert len(set(held)) == len(held) >= store.num_blocks * (MAX_GAP_FRACTION - 1) / MAX_GAP_FRACTION
        assert all(block < store.num_blocks for block in held)
        lengths = [tail.capacity - rng.randrange(BLOCK_SIZE) for tail in tails]
        for tail, length, span in zip(tails, lengths, store.read(tails, lengths) if tails else [], strict=True):
            assert torch.equal(span, kept[id(tail)][..., :length, :])


def test_a_row_s_sums_are_the_same_in_any_company() -> None:
    rng = random.Random(0)
    store, tails = grown(rng, 30)
    places = [tail.capacity - 1 for tail in tails]
    torch.manual_seed(1)
    query, key, value = (torch.randn(len(tails), 1, heads, DIM) for heads in (HEADS, KV, KV))
    together = DecodePass(PagedAttention(store, tails), places, [], places).attend(0, query, key, value)
    order = [17, 3, 29]
    some = DecodePass(PagedAttention(store, [tails[i] for i in order]), [places[i] for i in order], [], [0] * 3)
    assert torch.equal(some.attend(0, query[order], key[order], value[order]), together[order])


def test_reading_is_causal_attention_from_where_each_row_starts() -> None:
    torch.manual_seed(0)
    held, starts, steps = rows(3, 32), [0, 5, 11], 6
    before = held.layers[0].clone()
    run = PrefillPass(held, starts, steps)
    query, key, value = (torch.randn(3, steps, heads, DIM) for heads in (HEADS, KV, KV))
    mixed = run.attend(0, query, key, value)
    for row, start in enumerate(starts):
        whole = torch.cat([before[:, row, :, :start], torch.stack([key[row], value[row]]).transpose(1, 2)], 2)
        for step in range(steps):
            true = plain(query[row, step], *whole[:, :, : start + step + 1]).float()
            assert torch.allclose(mixed[row, step].view(HEADS, DIM), true, atol=1e-5)
    assert run.positions.tolist() == [[start + i for i in range(steps)] for start in starts]


def test_a_trunk_holds_every_token_once_and_gives_back_what_was_put(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, trunk, users = random.Random(2), PrefixPool(rows), []
    moved: list[KVCache] = []
    permute = KVCache.permute_rows
    monkeypatch.setattr(KVCache, "permute_rows", lambda held, order: (moved.append(held), permute(held, order)))
    kept: dict[tuple[int, ...], torch.Tensor] = {}

    def source(ids: tuple[int, ...]) -> KVCache:
        made = rows(1, len(ids))
        for i in range(len(ids)):
            torch.manual_seed(hash(ids[: i + 1]) % 2**31)
            made.layers[0][:, 0, :, i] = torch.randn(2, KV, DIM)
        return made

    for _ in range(120):
        if users and rng.random() < 0.4:
            trunk.release(users.pop(rng.randrange(len(users))))
        else:
            ids = tuple(rng.randrange(2) for _ in range(rng.randrange(1, 12)))
            ids = (7,) * 30 + ids if rng.random() < 0.5 else ids
            begins = (
                trunk.add(ids[:-1], source(ids), 0, shareable=True) if len(ids) > 1 and rng.random() < 0.5 else None
            )
            stem = trunk.add(ids, source(ids), 0)
            count = rng.choice((1, 1, 9))  # requests that go on from it
            stem.ref_count += count
            users += [stem] * count
            if begins:
                trunk.free_unused(begins)
            kept[ids] = source(ids).layers[0][:, 0]
        if not users:
            continue
        levels = trunk.levels(users)
        found = [level.gather(0) for level in levels]
        for row, stem in enumerate(users):
            visible = [~level.hidden[row] for level in levels]
            keys = torch.cat([k[row][:, seen] for (k, _), seen in zip(found, visible, strict=True)], 1)
            assert torch.equal(keys, kept[stem.ids][0])
    assert set(map(id, moved)) == set(map(id, trunk._caches))
    for stem in users:
        trunk.release(stem)
    assert all(trunk.get(ids) is None for ids in kept)


@pytest.mark.parametrize("seed", range(20))
def test_slots_are_put_where_few_parts_read_them_and_little_is_padded(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(1, 30)
    some = [rng.randrange(count) for _ in range(rng.randrange(1, count + 1))]
    reads = [slot for slot in some for _ in range(rng.choice((1, 1, 2, 3, 8)))]
    before, _ = _group_slots(reads, torch.device("cpu"))
    order = sort_slots(reads, count)
    places = {slot: place for place, slot in enumerate(order or range(count))}
    assert sorted(places) == list(range(count))
    after = [places[slot] for slot in reads]
    assert sort_slots(after, count) is None
    parts, _ = _group_slots(after, torch.device("cpu"))
    assert len(parts) < len(before) if order else len(parts) == len(before)
    assert len(parts) <= 5  # each has slots of less than half the readers of the one before; at most 30 of one here
    assert sum(part.num_slots * part.rows_per_slot for part in parts) <= 2 * len(reads)


def test_few_slots_move() -> None:
    reads = [slot for slot in range(20) for _ in range(8 if slot in (0, 1, 2, 17) else 1)]
    order = sort_slots(reads, 20)
    assert order
    assert {slot for place, slot in enumerate(order) if place != slot} == {3, 17}


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_for_several_saves_most(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Of all ways to choose, by brute force."""
    rng = random.Random(seed)
    texts = list({tuple(rng.randrange(2) for _ in range(rng.randrange(3, 7))) for _ in range(12)})
    shared = list({common for one in texts for common in [one[: rng.randrange(1, 4)]] if common not in texts})[:8]

    def saving(chosen: tuple[tuple[int, ...], ...]) -> int:
        return sum((sum(text[: len(ids)] == ids for text in texts) - 1) * len(ids) for ids in chosen)

    def free(chosen: tuple[tuple[int, ...], ...]) -> bool:
        return not any(a != b and b[: len(a)] == a for a in chosen for b in chosen)

    ways = [way for n in range(len(shared) + 1) for way in itertools.combinations(shared, n) if free(way)]
    most = max(map(saving, ways))
    monkeypatch.setattr(module, "MIN_SAVED_TOKENS", most)
    found = tuple(choose_shared(texts, shared))
    assert free(found)
    assert saving(found) == most
    monkeypatch.setattr(module, "MIN_SAVED_TOKENS", most + 1)
    assert choose_shared(texts, shared) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_products_are_plain_products(dtype: torch.dtype) -> None:
    if not packing_works(dtype, "cpu"):
        pytest.skip("this build of torch has no packed products")
    torch.manual_seed(0)
    weight, bias = torch.randn(48, 40).to(dtype) / 6, torch.randn(48).to(dtype)
    for made in (PackedLinear(weight, bias), PackedLinear(weight)):
        with_bias = Linear(weight.double(), bias.double() if made._bias is not None else None)
        for shape in ((1, 40), (3, 5, 40), (200, 40)):
            x = torch.randn(shape).to(dtype)
            other = torch.randn(*shape[:-1], 48).to(dtype)
            close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
            assert torch.allclose(made(x).double(), with_bias(x.double()), **close)
            assert torch.allclose(made.silu(x).double(), with_bias.silu(x.double()), **close)
            assert torch.allclose(made.mul(x, other).double(), with_bias.mul(x.double(), other.double()), **close)
            assert torch.allclose(made.add(x, other).double(), with_bias.add(x.double(), other.double()), **close)
