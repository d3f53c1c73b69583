"""Rows side by side: what each sees, what is shared, and that nothing changes but the cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from learn_models import make_model

from selftaught.learn import Row
from selftaught.learn.forward import can_pack, forward_batch, is_plain_head
from selftaught.learn.kernels.packing import pack_rows, packed_tokens, packs_exactly

PROMPT = (0, 5, 6, 7)
ROWS = [
    Row(PROMPT, (8, 9, 1)),
    Row(PROMPT, (9, 10, 11, 12, 1)),
    Row(PROMPT, (1,)),
    Row((0, 11), (12, 1)),
    Row(tuple(range(3, 20)), (4, 1)),
]


def one_by_one(model, rows=ROWS):
    """Log-probability of every target token, each row alone through the model as transformers has it."""
    found = []
    for row in rows:
        logits = model(input_ids=torch.tensor([row.prompt + row.completion])).logits[0].float().log_softmax(-1)
        found.append(logits[torch.arange(len(row.completion)) + len(row.prompt) - 1, list(row.completion)])
    return found


def grads(model, total):
    model.zero_grad()
    total.backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_rows_side_by_side_have_the_values_and_gradients_of_each_alone(kind):
    model = make_model(kind).double()
    assert can_pack(model)
    assert is_plain_head(model)
    batch = forward_batch(model, ROWS)
    alone = one_by_one(model.double())
    for i, values in enumerate(alone):
        assert batch.logprobs[i, : len(values)].tolist() == pytest.approx(values.tolist(), abs=1e-5)
        assert not batch.logprobs[i, len(values) :].any()
    weights = [torch.linspace(-1, 2, len(values)) for values in alone]  # every token its own
    total = sum((batch.logprobs[i, : len(w)] * w).sum() for i, w in enumerate(weights))
    ours = grads(model, total)
    theirs = grads(model, sum((v * w).sum() for v, w in zip(one_by_one(model), weights, strict=True)))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_a_row_does_not_see_its_neighbours():
    model = make_model(spread=0.3)
    before = forward_batch(model, ROWS).logprobs
    changed = [ROWS[0], Row(PROMPT, (30, 31, 32, 33, 34)), *ROWS[2:4], Row(tuple(range(20, 37)), (4, 1))]
    after = forward_batch(model, changed).logprobs
    assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]])
    assert not torch.allclose(before[[1, 4]], after[[1, 4]])


def test_a_shared_prompt_is_laid_out_once_and_a_last_token_never():
    layout = pack_rows(ROWS)
    assert packed_tokens(ROWS) == 4 + 2 + 4 + 0 + 2 + 1 + 17 + 1
    assert layout.ids.shape == layout.positions.shape == (1, 32)  # the next of the shapes that code is made for
    assert max(span.end for span in layout.segments) == packed_tokens(ROWS)
    assert layout.targets.tolist() == [token for row in ROWS for token in row.completion]
    assert [int(layout.positions[0, at]) for at in layout.logit_positions] == [3, 4, 5, 3, 4, 5, 6, 7, 3, 1, 2, 16, 17]


def test_a_window_or_a_model_that_cannot_is_padded_instead():
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(vocab_size=40, num_key_value_heads=2, sliding_window=6, **sizes))
    assert not can_pack(model)
    batch = forward_batch(model, ROWS)
    for i, values in enumerate(one_by_one(model)):
        assert batch.logprobs[i, : len(values)].tolist() == pytest.approx(values.tolist(), abs=1e-5)

    class Leaky(torch.nn.Module):
        """A layer that mixes what stands side by side, as a convolution does."""

        def forward(self, x):
            return x + 0.1 * x.roll(1, 1)

    mixed = make_model(spread=0.3)
    mixed.model.layers[0].mlp = torch.nn.Sequential(mixed.model.layers[0].mlp, Leaky())
    assert not packs_exactly(mixed)


def test_in_buckets_and_one_segment_at_a_time_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch):
    from learn_models import step_gradients

    from selftaught.learn import TrainConfig, forward, sft
    from selftaught.learn.kernels import segments

    found = []
    for long, alone in ((segments.LONG_SEGMENT, 0), (10, 1), (0, 5)):
        monkeypatch.setattr(segments, "LONG_SEGMENT", long)
        assert len(pack_rows(ROWS).buckets.long) == alone
        found.append(step_gradients(make_model(), [tuple(ROWS)], sft(), TrainConfig(precision="float32")))
    monkeypatch.setattr(forward, "pack_rows", lambda *given: replace(pack_rows(*given), buckets=None))
    found.append(step_gradients(make_model(), [tuple(ROWS)], sft(), TrainConfig(precision="float32")))
    for other in found[1:]:
        assert other[0] == pytest.approx(found[0][0], rel=1e-6)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[0][1], other[1], strict=True))


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    from learn_models import step_gradients

    from selftaught.learn import TrainConfig, sft

    found = [
        step_gradients(
            make_model(), [(row,) for row in ROWS], sft(), TrainConfig(gradient_checkpointing=on, precision="float32")
        )
        for on in (False, True)
    ]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[0][1], found[1][1], strict=True))
