"""AdamW on split weights, and log-probabilities in chunks: exact where they say so, and no memory for whole logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.learn.kernels import logits as vocabulary
from selftaught.learn.kernels.logits import LMHead
from selftaught.learn.kernels.optimizer import AdamW, join_float32, split_float32


@settings(max_examples=200, deadline=None)
@given(st.integers(-(2**31), 2**31 - 1))
def test_a_split_number_is_joined_bit_for_bit_and_its_half_is_the_nearest(bits):
    whole = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
    near, rest = split_float32(whole)
    assert join_float32(near, rest).view(torch.int32).item() == bits
    if whole.isfinite() and whole.abs() < 1e38:
        assert (near.float() - whole).abs() <= (whole.bfloat16().float() - whole).abs()


def steps(make, weight, count=20, bf16=False):
    torch.manual_seed(0)
    p = torch.nn.Parameter(weight.clone())
    optimizer = make([{"params": [p], "weight_decay": 0.1}])
    if bf16:
        optimizer.split_weights()
    for _ in range(count):
        p.grad = torch.randn_like(weight).to(p.dtype)
        optimizer.step()
    if bf16:
        optimizer.join_weights()
    return p.data


def test_on_float32_it_is_torchs_adamw():
    weight = torch.randn(300, 1000)  # more than one chunk
    ours = steps(lambda groups: AdamW(groups, 1e-3), weight)
    theirs = steps(lambda groups: torch.optim.AdamW(groups, lr=1e-3), weight)
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_a_scale_is_of_the_gradients():
    def scaled(scale, gradient):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = AdamW([{"params": [p]}], 1e-2, eps=1e-2)  # an eps beside which the size of a gradient counts
        for _ in range(3):
            p.grad = torch.tensor(gradient)
            optimizer.step(scale=scale)
        return p.data

    assert torch.allclose(scaled(0.25, [0.04, -0.08, 4.0]), scaled(1.0, [0.01, -0.02, 1.0]))
    assert torch.equal(scaled(0.0, [1.0, 2.0, 3.0]), torch.ones(3))


def test_split_weights_follow_float32_ones_where_bf16_ones_stand_still():
    weight, rate = torch.randn(64, 64), 1e-5
    whole = steps(lambda groups: AdamW(groups, rate), weight) - weight
    halved = steps(lambda groups: AdamW(groups, rate), weight, bf16=True) - weight
    plain = steps(lambda groups: AdamW(groups, rate), weight.bfloat16()).float() - weight.bfloat16().float()
    assert (halved - whole).norm() < 0.02 * whole.norm()
    assert (plain - whole).norm() > 0.5 * whole.norm()


def test_gradients_of_several_passes_are_summed_in_float32():
    p = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = AdamW([{"params": [p]}], 1e-3)
    optimizer.accumulate_in_float32()
    for _ in range(300):
        p.sum().backward()
    assert optimizer.gradient(p).tolist() == [300.0] * 4  # in bfloat16 256 + 1 is 256
    assert optimizer.grad_norm() == pytest.approx(600.0)
    optimizer.zero_grad()
    assert optimizer.gradient(p) is None


def test_a_table_s_gradient_is_told_by_the_rows_looked_up():
    torch.manual_seed(0)
    table, ids = torch.nn.Embedding(50, 4), torch.tensor([3, 7, 3, 49])

    def loss():  # tied: the table is the output layer too
        return (table(ids) @ table.weight.T).log_softmax(-1)[range(4), ids].sum()

    loss().backward()
    true, table.weight.grad = table.weight.grad, None
    optimizer = AdamW([{"params": [table.weight]}], 1e-3)
    optimizer.accumulate_in_float32(table)
    for _ in range(3):
        loss().backward()
    assert torch.allclose(optimizer.gradient(table.weight), 3 * true, atol=1e-5)
    optimizer.zero_grad()
    assert optimizer.gradient(table.weight) is None
    loss().backward()
    assert torch.allclose(table.weight.grad, true)


@pytest.mark.parametrize("tied", [False, True])
def test_an_output_layer_s_gradient_is_told_in_pieces(tied, monkeypatch):
    monkeypatch.setattr(vocabulary, "VOCAB_BLOCK", 8)
    monkeypatch.setattr(vocabulary, "CHUNK", 60)  # three tokens
    torch.manual_seed(0)
    table, head, ids = torch.nn.Embedding(20, 4), torch.nn.Linear(4, 20), torch.tensor([3, 7, 3, 19])
    if tied:
        head.weight = table.weight
    weights = [table.weight] if tied else [table.weight, head.weight]

    def loss(**how):
        return LMHead(head.weight, head.bias, table(ids), **how).logprobs(ids[:, None])[0].sum()

    loss().backward()
    true = [p.grad.clone() for p in weights]
    optimizer = AdamW([{"params": [*weights, head.bias]}], 1e-3)
    for _ in range(2):  # what is left of a step does not show in the next
        optimizer.zero_grad()
        optimizer.accumulate_in_float32(table, head)
        for _ in range(3):
            loss(gradient_sink=getattr(head, vocabulary.GRADIENT_SINK)).backward()
        for p, gradient in zip(weights, true, strict=True):
            assert torch.allclose(optimizer.gradient(p), 3 * gradient, atol=1e-5)
    optimizer.zero_grad()
    assert not hasattr(head, vocabulary.GRADIENT_SINK)


def test_a_weight_and_moments_that_lie_otherwise_in_memory_are_moved_alike():
    """As after a checkpoint, which keeps moments row by row."""
    start, moment = torch.randn(3, 5), torch.rand(3, 5)

    def moved(p):
        optimizer = AdamW([{"params": [p]}], 1e-2)
        for _ in range(2):
            p.grad = torch.arange(15.0).view(3, 5)
            optimizer.step()
            optimizer.state[p]["exp_avg_sq"] = moment.clone()
        return p.data

    room = torch.zeros(3, 8)
    room[:, :5] = start
    for other in (start.T.contiguous().T, room[:, :5]):
        assert torch.allclose(moved(torch.nn.Parameter(other)), moved(torch.nn.Parameter(start.clone())))
    assert room[:, 5:].abs().sum() == 0


def test_a_table_that_is_not_trained_or_not_plain_is_left_as_it_is():
    class Scaled(torch.nn.Embedding):
        def forward(self, input):
            return super().forward(input) * 3

    for table in (Scaled(5, 2), torch.nn.Embedding(5, 2).requires_grad_(False)):
        other = torch.nn.Parameter(torch.ones(2))
        optimizer = AdamW([{"params": [p for p in (table.weight, other) if p.requires_grad]}], 1e-3)
        optimizer.accumulate_in_float32(table)
        (table(torch.tensor([1, 1])) * other).sum().backward()
        assert "forward" not in vars(table)
        if table.weight.requires_grad:
            assert optimizer.gradient(table.weight)[1].tolist() == [6.0, 6.0]


@pytest.mark.parametrize(("bias", "tokens"), [(False, 3), (True, 3), (False, 1), (True, 1)])
def test_chunked_log_probabilities_and_entropies_are_exact_and_so_are_their_gradients(bias, tokens, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", 33)  # three tokens
    monkeypatch.setattr(vocabulary, "FLOAT32_ROWS", 2)
    torch.manual_seed(0)
    made = {"dtype": torch.float64, "requires_grad": True}
    hidden, weight = torch.randn(7, 5, **made), torch.randn(11, 5, **made)
    offset = torch.randn(11, **made) if bias else None
    wanted = torch.randint(0, 11, (7, tokens))

    def said(hidden, weight, offset=None):
        return LMHead(weight, offset, hidden).logprobs(wanted, entropy=True)

    spread = torch.nn.functional.linear(hidden, weight, offset).log_softmax(-1)
    found, entropy = said(hidden, weight, offset)
    assert torch.allclose(found, spread.gather(-1, wanted))
    assert torch.allclose(entropy, -(spread.exp() * spread).sum(-1))
    assert torch.autograd.gradcheck(said, (hidden, weight, *([offset] if bias else [])))

    def alone(hidden, weight, offset=None):
        return LMHead(weight, offset, hidden).logprobs(wanted)[0]

    assert torch.allclose(alone(hidden, weight, offset), found)
    assert torch.autograd.gradcheck(alone, (hidden, weight, *([offset] if bias else [])))


def test_what_a_nearly_certain_token_still_teaches_survives_bfloat16():
    """Its gradient is what its probability lacks to 1, a thousandth here, and bfloat16 has nothing just below 1."""
    weight = torch.tensor([[7.0], [0.0]], dtype=torch.bfloat16, requires_grad=True)
    hidden = torch.ones(1, 1, dtype=torch.bfloat16, requires_grad=True)
    LMHead(weight, None, hidden).logprobs(torch.zeros(1, 1, dtype=torch.long))[0].sum().backward()
    lacking = 1 - torch.tensor(7.0, dtype=torch.float64).sigmoid()
    assert weight.grad is not None
    assert torch.allclose(weight.grad[:, 0].double(), torch.stack([lacking, -lacking]), rtol=0.01)


def test_logits_never_exist_whole(monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", 640_000)
    torch.manual_seed(0)
    hidden = torch.randn(1000, 8, requires_grad=True)
    weight = torch.randn(5000, 8, requires_grad=True)
    widest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            widest.extend(x.numel() for x in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(x))
            return out

    with Watch():
        found, _ = LMHead(weight, None, hidden).logprobs(torch.zeros(1000, 1, dtype=torch.long))
        found.sum().backward()
    assert max(widest) <= vocabulary.CHUNK < 1000 * 5000
