"""The training loop: precision, schedules, failure and resumption, on tiny real models."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from learn_models import make_model

from selftaught.errors import BadInput
from selftaught.learn import Row, Training, sft
from selftaught.learn.forward import target_logprobs
from selftaught.learn.objectives.base import Base
from selftaught.learn.schedules import rate_at
from selftaught.learn.trainer import TrainingFailed, _plan, train

ROWS = [
    Row((0, 5, 6, 7), (8, 9, 1)),
    Row((0, 11), (12, 1)),
    Row(tuple(range(3, 20)), (4, 1)),
    Row((7,), (*range(3, 12), 1)),
]


def state(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def trained(tmp_path, rows=ROWS, model=None, seed=0, progress=lambda *_: None, **settings):
    model = model or make_model()
    how = Training(**{"precision": "float32", "batch": 2, "epochs": 2, "learning_rate": 1e-3, **settings})
    done = train(
        model, [(row,) for row in rows], sft(), how, seed=seed, checkpoint=tmp_path / "checkpoint", progress=progress
    )
    return model, done


def likelihood(model, row: Row) -> float:
    with torch.no_grad():
        return target_logprobs(model, [row])[0].sum().item()


def test_full_batch_training_is_adamw_on_the_mean_token_loss(tmp_path):
    ours, done = trained(tmp_path, batch=4, epochs=3, schedule="constant", warmup=0.0, clip=0.5, weight_decay=0.1)
    theirs = make_model()
    matrices = [p for p in theirs.parameters() if p.dim() >= 2]
    vectors = [p for p in theirs.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0}],
                                  lr=1e-3)  # fmt: skip
    losses = []
    for _ in range(3):
        total = torch.zeros(())
        for row in ROWS:
            ids = torch.tensor([row.prompt + row.target])
            labels = ids.clone()
            labels[:, : len(row.prompt)] = -100
            total = total + theirs(input_ids=ids, labels=labels).loss * len(row.target)
        loss = total / sum(len(row.target) for row in ROWS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert done.losses == pytest.approx(losses, rel=1e-4)
    assert done.steps == 3
    assert done.tokens == 3 * sum(len(row.prompt) + len(row.target) for row in ROWS)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_micro_tokens_do_not_change_the_weights(tmp_path):
    (one, _), (many, _) = (trained(tmp_path, micro_tokens=most) for most in (1, 10_000))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one.parameters(), many.parameters(), strict=True))


def test_a_negative_weight_lowers_the_likelihood_and_a_positive_one_raises_it(tmp_path):
    for weight in (-1.0, 1.0):
        row = Row((0, 5, 6, 7), (8, 9, 1), weight)
        before = likelihood(make_model(), row)
        model, _ = trained(tmp_path, [row], epochs=3)
        assert (likelihood(model, row) - before) * weight > 0.01


def test_every_epoch_has_every_row_once_in_an_order_of_its_own():
    plan = _plan(10, Training(epochs=3, batch=4), seed=1)
    epochs = [[row for step in plan[i : i + 3] for row in step] for i in (0, 3, 6)]
    assert [len(step) for step in plan] == [4, 4, 2] * 3
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert plan == _plan(10, Training(epochs=3, batch=4), seed=1) != _plan(10, Training(epochs=3, batch=4), seed=2)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("warmup", "total"), [(0.0, 1), (0.3, 10), (1.0, 4), (0.05, 40)])
def test_the_rate_rises_to_its_peak_and_then_follows_its_schedule(schedule, warmup, total):
    settings = Training(schedule=schedule, warmup=warmup, learning_rate=2.0)
    rates = [rate_at(step, total, settings) for step in range(total)]
    rising = max(1, round(warmup * total))
    assert rates[:rising] == pytest.approx([2.0 * (i + 1) / rising for i in range(rising)])
    rest = [(i - rising) / (total - rising) for i in range(rising, total)]
    shapes = {"cosine": lambda x: 1 + math.cos(math.pi * x), "linear": lambda x: 2 * (1 - x), "constant": lambda _: 2.0}
    assert rates[rising:] == pytest.approx([shapes[schedule](x) for x in rest])
    assert all(0 < rate <= 2.0 for rate in rates)


@pytest.mark.parametrize(("name", "value"), [("schedule", "cosin"), ("precision", "fp16")])
def test_an_unknown_schedule_or_precision_is_bad_input_before_any_work(name, value):
    with pytest.raises(BadInput, match=f"{name}: unknown '{value}'") as caught:
        Training(**{name: value})
    assert caught.value.fix


def test_bf16_products_over_float32_weights_learn_where_bf16_weights_stand_still(tmp_path):
    how = {"learning_rate": 1e-6, "schedule": "constant", "warmup": 0.0, "epochs": 10, "batch": 4}
    start = state(make_model())
    ours, _ = trained(tmp_path, precision="bf16", **how)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    plain = make_model().to(torch.bfloat16)
    before = state(plain)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-6, weight_decay=0.0)
    for _ in range(10):
        logprobs, mask = target_logprobs(plain, ROWS)
        (-logprobs.sum() / mask.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def moved(model, old) -> float:
        changed = sum((p != old[n]).sum().item() for n, p in model.named_parameters())
        return changed / sum(p.numel() for p in model.parameters())

    assert moved(ours, start) > 0.9
    assert moved(plain, before) < 0.2


def test_bf16_ends_near_the_float32_loss(tmp_path):
    ends = {}
    for precision in ("float32", "bf16"):
        _, done = trained(tmp_path, precision=precision, epochs=40, batch=4, learning_rate=1e-2)
        ends[precision] = done.losses[-1]
    assert ends["float32"] < 1.5
    assert ends["bf16"] == pytest.approx(ends["float32"], rel=0.1)
    assert ends["bf16"] != ends["float32"]  # it did compute in another precision


def test_a_loss_that_is_no_number_fails_and_keeps_the_last_checkpoint(tmp_path):
    def poison(step, _total, _loss):
        if step == 2:  # the checkpoint of step 1 is on disk, that of step 2 follows this call
            kept["bytes"] = (tmp_path / "checkpoint" / "state.safetensors").read_bytes()
            groups[:] = [(Row(r.prompt, r.target, float("inf")),) for r in ROWS]

    groups, kept = [(row,) for row in ROWS], {}
    model = make_model()
    how = Training(precision="float32", batch=2, epochs=4, learning_rate=1e-3, checkpoint_seconds=0)
    with pytest.raises(TrainingFailed, match="step 3 of 8"):
        train(model, groups, sft(), how, seed=0, checkpoint=tmp_path / "checkpoint", progress=poison)
    assert all(p.isfinite().all() for p in model.parameters())
    assert (tmp_path / "checkpoint" / "state.safetensors").read_bytes() != kept["bytes"]
    resumed, done = trained(tmp_path, epochs=4)
    undisturbed, whole = trained(tmp_path / "other", epochs=4)
    assert done == whole
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), undisturbed.parameters(), strict=True))


def test_a_gradient_that_is_no_number_fails_though_the_loss_is_finite(tmp_path):
    class Cliff(Base):
        name = "cliff"

        def loss(self, batch):
            return torch.sqrt((batch.logprobs * 0).sum())  # value 0, derivative 0 * infinity

    model = make_model()
    before = state(model)
    with pytest.raises(TrainingFailed, match="gradient is no number at step 1 of 3"):
        train(model, [(row,) for row in ROWS], Cliff(), Training(batch=4), seed=0, checkpoint=tmp_path / "checkpoint")
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_seeds_of_64_bits_and_negative_ones_train(tmp_path):
    for seed in (2**64 - 1, -(2**63)):
        _, done = trained(tmp_path, ROWS[:1], epochs=1, seed=seed)
        assert done.steps == 1


def test_a_half_written_checkpoint_beside_the_last_is_ignored(tmp_path):
    a, _ = trained(tmp_path / "a", checkpoint_seconds=0)
    (tmp_path / "b" / "checkpoint").mkdir(parents=True)
    (tmp_path / "b" / "checkpoint" / "state.safetensors.draft").write_bytes(b"cut off")
    b, _ = trained(tmp_path / "b", checkpoint_seconds=0)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_nothing_holds_the_model_once_trained(tmp_path, precision):
    model, _ = trained(tmp_path, epochs=1, precision=precision)
    held = [weakref.ref(model), *(weakref.ref(p) for p in model.parameters())]
    assert all(p.grad is None for p in model.parameters())
    del model
    gc.collect()
    assert not [ref for ref in held if ref() is not None]
