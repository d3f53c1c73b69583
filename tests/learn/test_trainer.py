"""The training loop: precision, schedules, failure and resumption, on tiny real models."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from learn_models import make_model, step_gradients

from selftaught.errors import BadInput
from selftaught.learn import Row, TrainConfig, sft
from selftaught.learn.forward import target_logprobs
from selftaught.learn.kernels import logits as vocabulary
from selftaught.learn.learner import config_key
from selftaught.learn.objectives.base import Objective
from selftaught.learn.schedules import learning_rate_at, round_schedule
from selftaught.learn.train import _step_indices, train
from selftaught.learn.trainer import Trainer, TrainingFailed

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
    how = TrainConfig(**{"precision": "float32", "batch_size": 2, "epochs": 2, "learning_rate": 1e-3, **settings})
    done = train(
        model, [(row,) for row in rows], sft(), how, seed=seed, checkpoint=tmp_path / "checkpoint", progress=progress
    )
    return model, done


def likelihood(model, row: Row) -> float:
    with torch.no_grad():
        return target_logprobs(model, [row])[0].sum().item()


class Entropic(Objective):
    """A loss that asks for entropies too, which log-probabilities are made in another way for."""

    def requires(self, rows):
        return {"entropy"}

    def loss(self, batch):
        return -(batch.logprobs + 0.1 * batch.entropy).mul(batch.mask).sum()


@pytest.mark.parametrize("objective", [sft(), Entropic()])
@pytest.mark.parametrize("tied", [True, False])
def test_in_bfloat16_the_gradient_of_many_parts_is_that_of_the_whole(tied, objective):
    """Then embeddings and output layer tell their gradients row by row and in pieces."""

    def gradients(precision, most):
        model = make_model(spread=0.2)
        if not tied:
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().roll(1, 0))
        how = TrainConfig(max_tokens_per_pass=most, precision=precision)
        return step_gradients(model, [(row,) for row in ROWS], objective, how)[1]

    true, whole, parts = (gradients(*how) for how in (("float32", 10_000), ("bf16", 10_000), ("bf16", 10)))
    for exact, one, many in zip(true, whole, parts, strict=True):
        rounding = (one.float() - exact).norm()
        assert (many - exact).norm() < 1.5 * rounding + 1e-3 * exact.norm()
        assert rounding < 0.05 * exact.norm() + 1e-4


def test_a_step_that_failed_midway_or_memory_given_back_leaves_no_trace_in_the_next(monkeypatch):
    groups, how = [(row,) for row in ROWS], TrainConfig(max_tokens_per_pass=10, precision="bf16", learning_rate=1e-2)

    def stepped(disturb):
        trainer = Trainer(make_model(), sft(), how, groups, seed=0)
        trainer.step(groups, 0, 3)
        disturb(trainer)
        trainer.step(groups, 1, 3)
        trainer.close()
        return [p.detach() for p in trainer.model.parameters()]

    def fail(trainer):
        told, own = [], trainer._optimizer._add_piece

        def add(p, some, gradient):
            told.append(some)
            own(p, some, gradient)
            if len(told) == 7:
                raise RuntimeError("midway")

        trainer._optimizer._add_piece = add
        with pytest.raises(RuntimeError, match="midway"):
            trainer.step(groups[::-1], 1, 3)
        trainer._optimizer._add_piece = own

    monkeypatch.setattr(vocabulary, "VOCAB_BLOCK", 8)
    undisturbed = stepped(lambda _: None)
    for disturb in (fail, Trainer.release_memory):
        assert all(torch.equal(a, b) for a, b in zip(undisturbed, stepped(disturb), strict=True))


def test_full_batch_training_is_adamw_on_the_mean_token_loss(tmp_path):
    ours, done = trained(
        tmp_path, batch_size=4, epochs=3, schedule="constant", warmup_ratio=0.0, max_grad_norm=0.5, weight_decay=0.1
    )
    theirs = make_model()
    matrices = [p for p in theirs.parameters() if p.dim() >= 2]
    vectors = [p for p in theirs.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0}],
                                  lr=1e-3)  # fmt: skip
    losses = []
    for _ in range(3):
        total = torch.zeros(())
        for row in ROWS:
            ids = torch.tensor([row.prompt + row.completion])
            labels = ids.clone()
            labels[:, : len(row.prompt)] = -100
            total = total + theirs(input_ids=ids, labels=labels).loss * len(row.completion)
        loss = total / sum(len(row.completion) for row in ROWS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert done.losses == pytest.approx(losses, rel=1e-4)
    assert done.steps == 3
    assert done.tokens == 3 * sum(len(row.prompt) + len(row.completion) for row in ROWS)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_max_tokens_per_pass_does_not_change_the_weights(tmp_path):
    (one, _), (many, _) = (trained(tmp_path, max_tokens_per_pass=most) for most in (1, 10_000))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one.parameters(), many.parameters(), strict=True))


def test_a_negative_weight_lowers_the_likelihood_and_a_positive_one_raises_it(tmp_path):
    for weight in (-1.0, 1.0):
        row = Row((0, 5, 6, 7), (8, 9, 1), weight)
        before = likelihood(make_model(), row)
        model, _ = trained(tmp_path, [row], epochs=3)
        assert (likelihood(model, row) - before) * weight > 0.01


def test_every_epoch_has_every_row_once_in_an_order_of_its_own():
    plan = _step_indices(10, TrainConfig(epochs=3, batch_size=4), seed=1)
    epochs = [[row for step in plan[i : i + 3] for row in step] for i in (0, 3, 6)]
    assert [len(step) for step in plan] == [4, 4, 2] * 3
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert (
        plan
        == _step_indices(10, TrainConfig(epochs=3, batch_size=4), seed=1)
        != _step_indices(10, TrainConfig(epochs=3, batch_size=4), seed=2)
    )


def test_wsd_stays_then_decays_and_infinite_has_a_plateau():
    wsd = TrainConfig(schedule="wsd", warmup_ratio=0.0, decay_ratio=0.25, learning_rate=1.0)
    rates = [learning_rate_at(step, 101, wsd) for step in range(101)]
    assert rates[:76] == [1.0] * 76
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) > 20
    assert rates[-1] < 0.05
    infinite = TrainConfig(
        schedule="infinite", warmup_ratio=0.1, decay_ratio=0.2, constant_lr_ratio=0.4, learning_rate=1.0
    )
    rates = [learning_rate_at(step, 200, infinite) for step in range(200)]
    assert rates[19] == 1.0
    assert set(rates[60:160]) == {0.4}
    assert rates[19:] == sorted(rates[19:], reverse=True)
    assert rates[-1] < 0.01


def test_carried_moments_are_those_that_were_left(tmp_path):
    how = {"batch_size": 4, "schedule": "constant", "warmup_ratio": 0.0}
    whole, _ = trained(tmp_path / "whole", epochs=4, **how)
    model = make_model()
    settings = TrainConfig(precision="float32", learning_rate=1e-3, epochs=2, **how)
    groups = [(row,) for row in ROWS]
    train(model, groups, sft(), settings, seed=0, checkpoint=tmp_path / "a", optimizer_to=tmp_path / "left")
    fresh = make_model()
    fresh.load_state_dict(model.state_dict())
    train(model, groups, sft(), settings, seed=0, checkpoint=tmp_path / "b", optimizer_from=tmp_path / "left")
    train(fresh, groups, sft(), settings, seed=0, checkpoint=tmp_path / "c")
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(model.parameters(), whole.parameters(), strict=True))
    assert not all(torch.allclose(a, b, atol=1e-4) for a, b in zip(fresh.parameters(), whole.parameters(), strict=True))


def test_rounds_of_one_schedule_with_one_optimizer_are_one_training(tmp_path):
    how = {"batch_size": 4, "schedule": "cosine", "warmup_ratio": 0.1, "learning_rate": 1e-3, "precision": "float32"}
    whole, result = trained(tmp_path / "whole", epochs=3, **how)
    model, groups, rates = make_model(), [(row,) for row in ROWS], []
    for number in (1, 2, 3):
        settings = TrainConfig(**how)
        settings = replace(settings, epochs=1, **round_schedule(settings, number, 3))
        assert settings.keep_optimizer_state
        done = train(
            model, groups, sft(), settings, seed=0, checkpoint=tmp_path / str(number),
            optimizer_from=tmp_path / f"left{number - 1}", optimizer_to=tmp_path / f"left{number}",
        )  # fmt: skip
        rates += done.learning_rates
    assert rates == pytest.approx(result.learning_rates)
    assert len(ROWS) <= 4, "a step of all rows, so that their order does not count"
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(model.parameters(), whole.parameters(), strict=True))


def test_rounds_of_different_lengths_go_through_the_schedule_without_a_leap():
    rates = []
    for number, steps in enumerate((70, 20, 110, 40), 1):
        settings = TrainConfig(schedule="linear", warmup_ratio=0.05, learning_rate=1.0)
        settings = replace(settings, **round_schedule(settings, number, 4))
        rates += [learning_rate_at(step, steps, settings) for step in range(steps)]
    assert rates[:14] == pytest.approx([(i + 1) / 14 for i in range(14)])  # 5 % of four times 70
    assert rates[13:] == sorted(rates[13:], reverse=True)
    assert rates[70] == pytest.approx(1 - 0.2 / 0.95)  # a quarter of the schedule a round
    assert max(a - b for a, b in pairwise(rates[13:])) < 0.02
    assert 0 < rates[-1] < 0.01


def test_a_round_of_a_schedule_that_is_none_is_refused():
    with pytest.raises(BadInput, match="no round 4 of 3"):
        round_schedule(TrainConfig(), 4, 3)
    with pytest.raises(BadInput, match=r"the schedule must run from 0 to 1, got 0\.5 to 0\.5"):
        TrainConfig(schedule_start=0.5, schedule_end=0.5)
    assert not round_schedule(TrainConfig(lora_rank=2), 1, 3)["keep_optimizer_state"]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("warmup", "total"), [(0.0, 1), (0.3, 10), (1.0, 4), (0.05, 40)])
def test_the_rate_rises_to_its_peak_and_then_follows_its_schedule(schedule, warmup, total):
    settings = TrainConfig(schedule=schedule, warmup_ratio=warmup, learning_rate=2.0)
    rates = [learning_rate_at(step, total, settings) for step in range(total)]
    rising = max(1, round(warmup * total))
    assert rates[:rising] == pytest.approx([2.0 * (i + 1) / rising for i in range(rising)])
    rest = [(i - rising) / (total - rising) for i in range(rising, total)]
    shapes = {"cosine": lambda x: 1 + math.cos(math.pi * x), "linear": lambda x: 2 * (1 - x), "constant": lambda _: 2.0}
    assert rates[rising:] == pytest.approx([shapes[schedule](x) for x in rest])
    assert all(0 < rate <= 2.0 for rate in rates)


def test_a_floor_is_where_a_schedule_ends():
    for schedule in ("cosine", "linear"):
        settings = TrainConfig(schedule=schedule, warmup_ratio=0.0, learning_rate=2.0, min_lr_ratio=0.1)
        rates = [learning_rate_at(step, 10_001, settings) for step in range(10_001)]
        assert rates[0] == pytest.approx(2.0)
        assert rates[-1] == pytest.approx(0.2, abs=1e-3)
        assert rates[5000] == pytest.approx(1.1, abs=1e-3)  # halfway between the peak and the floor
        assert rates == sorted(rates, reverse=True)


def test_steps_cycle_through_the_records_in_new_orders_and_are_full():
    plan = _step_indices(10, TrainConfig(steps=7, epochs=1, batch_size=4), seed=1)
    assert [len(step) for step in plan] == [4] * 7
    stream = [i for step in plan for i in step]
    assert [sorted(stream[i : i + 10]) for i in (0, 10)] == [list(range(10))] * 2
    assert len(set(stream[20:])) == 8
    assert stream[:10] != stream[10:20]
    assert stream[:10] == [i for step in _step_indices(10, TrainConfig(epochs=1, batch_size=4), seed=1) for i in step]
    assert [len(step) for step in _step_indices(3, TrainConfig(steps=2, batch_size=4), seed=1)] == [4, 4]
    assert TrainConfig(steps=7).num_steps(10) == 7
    assert (
        TrainConfig(epochs=3, batch_size=4).num_steps(10) == len(_step_indices(10, TrainConfig(batch_size=4), 0)) == 9
    )


def test_a_training_by_steps_takes_that_many_and_resumes_exactly(tmp_path):
    class Stopped(Exception):
        """The process ends here."""

    def stop(step, *_):
        if step == 3:
            raise Stopped

    how = {"steps": 5, "checkpoint_seconds": 0.0}
    whole, done = trained(tmp_path / "whole", **how)
    assert done.steps == 5
    with pytest.raises(Stopped):
        trained(tmp_path / "cut", progress=stop, **how)
    resumed, again = trained(tmp_path / "cut", **how)
    assert again == done
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_versions_are_as_before_where_later_settings_are_not_used():
    """What is hashed of the settings, as it was before `steps` and `min_lr_ratio`."""
    usual = {
        "epochs": 3, "learning_rate": 2e-5, "batch_size": 16, "warmup_ratio": 0.05, "schedule": "cosine",
        "decay_ratio": 0.2, "constant_lr_ratio": 0.5, "weight_decay": 0.0, "max_grad_norm": 1.0, "lora_rank": 0,
        "keep_optimizer_state": False, "precision": "auto",
    }  # fmt: skip
    assert config_key(TrainConfig()) == usual
    assert list(config_key(TrainConfig())) == list(usual)
    assert config_key(TrainConfig(steps=5, min_lr_ratio=0.1)) == usual | {"steps": 5, "min_lr_ratio": 0.1}


@pytest.mark.parametrize(("name", "value"), [("schedule", "cosin"), ("precision", "fp16")])
def test_an_unknown_schedule_or_precision_is_bad_input_before_any_work(name, value):
    with pytest.raises(BadInput, match=f"{name}: unknown '{value}'") as caught:
        TrainConfig(**{name: value})
    assert caught.value.fix


def test_bf16_products_over_float32_weights_learn_where_bf16_weights_stand_still(tmp_path):
    how = {"learning_rate": 1e-6, "schedule": "constant", "warmup_ratio": 0.0, "epochs": 10, "batch_size": 4}
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


def test_bf16_ends_at_the_float32_loss_within_the_noise_of_seeds(tmp_path):
    ends = {}
    for precision in ("float32", "bf16"):
        for seed in range(3):
            how = {"precision": precision, "epochs": 30, "batch_size": 2, "learning_rate": 5e-3, "seed": seed}
            _, done = trained(tmp_path / f"{precision}{seed}", model=make_model(seed=seed), **how)
            ends[precision, seed] = sum(done.losses[-4:]) / 4
    whole, half = ([ends[precision, seed] for seed in range(3)] for precision in ("float32", "bf16"))
    assert max(whole) < 2.0  # it did learn
    assert half == pytest.approx(whole, rel=0.1)
    assert abs(sum(half) - sum(whole)) / 3 < max(whole) - min(whole)
    assert half != whole  # it did compute in another precision


def test_what_was_learnt_before_the_loss_was_no_number_is_kept(tmp_path):
    class Fragile(type(sft())):
        """Breaks at the third step."""

        __slots__ = ()

        def loss(self, batch):
            calls.append(1)
            return super().loss(batch) * (float("nan") if len(calls) == 3 else 1.0)

    calls, seen = [], []
    how = TrainConfig(precision="float32", batch_size=4, epochs=4, learning_rate=1e-3)
    groups = [(row,) for row in ROWS]
    model = make_model()
    with pytest.raises(TrainingFailed, match=r"step 3 of 4 \(records \["):
        train(model, groups, Fragile(), how, seed=0, checkpoint=tmp_path / "checkpoint")
    assert all(p.isfinite().all() for p in model.parameters())
    resumed = make_model()
    done = train(
        resumed,
        groups,
        sft(),
        how,
        seed=0,
        checkpoint=tmp_path / "checkpoint",
        progress=lambda step, *_: seen.append(step),
    )
    assert seen == [3, 4]  # nothing of the first two is lost
    whole, all_ = trained(tmp_path / "whole", batch_size=4, epochs=4)
    assert done == all_
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_a_loss_that_is_no_number_fails_and_keeps_the_last_checkpoint(tmp_path):
    def poison(step, _total, _loss):
        if step == 2:  # the checkpoint of step 1 is on disk, that of step 2 follows this call
            kept["bytes"] = (tmp_path / "checkpoint" / "state.safetensors").read_bytes()
            groups[:] = [(Row(r.prompt, r.completion, float("inf")),) for r in ROWS]

    groups, kept = [(row,) for row in ROWS], {}
    model = make_model()
    how = TrainConfig(precision="float32", batch_size=2, epochs=4, learning_rate=1e-3, checkpoint_seconds=0)
    with pytest.raises(TrainingFailed, match="step 3 of 8"):
        train(model, groups, sft(), how, seed=0, checkpoint=tmp_path / "checkpoint", progress=poison)
    assert all(p.isfinite().all() for p in model.parameters())
    assert (tmp_path / "checkpoint" / "state.safetensors").read_bytes() != kept["bytes"]
    resumed, done = trained(tmp_path, epochs=4)
    undisturbed, whole = trained(tmp_path / "other", epochs=4)
    assert done == whole
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), undisturbed.parameters(), strict=True))


def test_a_gradient_that_is_no_number_fails_though_the_loss_is_finite(tmp_path):
    class Cliff(Objective):
        name = "cliff"

        def loss(self, batch):
            return torch.sqrt((batch.logprobs * 0).sum())  # value 0, derivative 0 * infinity

    model = make_model()
    before = state(model)
    with pytest.raises(TrainingFailed, match="gradient is NaN or inf at step 1 of 3"):
        train(
            model,
            [(row,) for row in ROWS],
            Cliff(),
            TrainConfig(batch_size=4),
            seed=0,
            checkpoint=tmp_path / "checkpoint",
        )
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


@pytest.mark.parametrize("damage", [b"", b"cut off", b"\xff" * 200])
def test_a_damaged_checkpoint_is_one_line(tmp_path, damage):
    place = tmp_path / "checkpoint" / "state.safetensors"
    place.parent.mkdir()
    place.write_bytes(damage)
    with pytest.raises(
        BadInput, match=r"state\.safetensors: cannot load the checkpoint \(.*delete its folder, and this"
    ):
        trained(tmp_path, epochs=1)


def test_the_checkpoint_of_another_training_is_one_line(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "checkpoint").mkdir()
    save_file({"w.other": torch.zeros(1)}, tmp_path / "checkpoint" / "state.safetensors")
    with pytest.raises(BadInput, match="cannot load the checkpoint"):
        trained(tmp_path, epochs=1)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_nothing_holds_the_model_once_trained(tmp_path, precision):
    model, _ = trained(tmp_path, epochs=1, precision=precision)
    held = [weakref.ref(model), *(weakref.ref(p) for p in model.parameters())]
    assert all(p.grad is None for p in model.parameters())
    del model
    gc.collect()
    assert not [ref for ref in held if ref() is not None]
