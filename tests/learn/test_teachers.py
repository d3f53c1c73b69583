"""Teachers that move, and distributions compared at a temperature."""

from __future__ import annotations

import pytest
import torch
from learn_models import make_model

from selftaught.errors import BadInput
from selftaught.learn import Row, TrainConfig
from selftaught.learn.objectives import Batch, distill
from selftaught.learn.train import train
from selftaught.learn.trainer import Trainer

GROUPS = [(Row((0, 5, 6, 7), (8, 9, 1)),), (Row((0, 11), (12, 1)),)]
HOW = TrainConfig(
    precision="float32", learning_rate=1e-2, batch_size=2, epochs=4, warmup_ratio=0.0, schedule="constant"
)


def trained(tmp_path, objective, model=None, config=HOW):
    model = model or make_model(spread=0.3)
    done = train(model, GROUPS, objective, config, seed=0, checkpoint=tmp_path / "checkpoint")
    return model, done


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def test_the_mean_of_past_weights_is_what_teaches(tmp_path):
    model = make_model(spread=0.3)
    trainer = Trainer(model, distill(teacher_update="ema", ema_decay=0.9, teacher_weight=0.5), HOW, GROUPS, seed=0)
    mean = weights(model)
    for number in range(4):
        trainer.step(GROUPS, number, 4)
        mean = [0.9 * m + 0.1 * p for m, p in zip(mean, weights(model), strict=True)]
    kept = [trainer._optimizer.state[p]["ema"] for p in model.parameters()]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(kept, mean, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(mean, weights(model), strict=True))


def test_virtual_steps_are_taken_back_and_move_the_teacher_only(tmp_path):
    still, _ = trained(
        tmp_path / "still",
        distill(teacher_weight=0.5, teacher_update="ema", ema_decay=0.0, teacher_top_k=0),
        config=HOW,
    )
    future = distill(teacher_weight=0.5, teacher_update="future", ema_decay=0.5, lookahead_steps=2, teacher_top_k=0)
    model = make_model(spread=0.3)
    trainer = Trainer(model, future, HOW, GROUPS, seed=0)
    before = weights(model)
    with_teacher = trainer._teacher.with_logprobs(GROUPS, trainer._update)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert all("exp_avg" not in trainer._optimizer.state[p] for p in model.parameters())
    mean = [trainer._optimizer.state[p]["ema"] for p in model.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(mean, before, strict=True))
    assert "teacher" in with_teacher[0][0].token_features
    assert {p.dtype for p in still.parameters()} == {torch.float32}


@pytest.mark.parametrize("moving", ["ema", "future"])
def test_a_resumed_training_has_the_teacher_it_had(tmp_path, moving):
    objective = distill(teacher_weight=0.5, teacher_update=moving, ema_decay=0.8)
    whole, _ = trained(tmp_path / "whole", objective)

    class Stop(BaseException):
        """As a kill."""

    def stop(step, *_):
        if step == 3:
            raise Stop

    how = TrainConfig(**{**{f: getattr(HOW, f) for f in HOW.__dataclass_fields__}, "checkpoint_seconds": 0.0})
    model = make_model(spread=0.3)
    with pytest.raises(Stop):
        train(model, GROUPS, objective, how, seed=0, checkpoint=tmp_path / "cut" / "checkpoint", progress=stop)
    resumed, done = trained(tmp_path / "cut", objective)
    assert done.steps == 4
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_a_temperature_compares_softened_distributions():
    torch.manual_seed(0)
    teacher, student = torch.randn(1, 2, 6).log_softmax(-1), torch.randn(1, 2, 6).log_softmax(-1)
    facts = {"teacher": teacher, "label": torch.zeros(1, 2, 6)}
    batch = Batch(student[..., 0], torch.ones(1, 2), torch.ones(1), (1,), {}, facts, student=student)
    for heat in (2.0, 0.5):
        p, q = (teacher / heat).softmax(-1), (student / heat).softmax(-1)
        wanted = heat**2 * (p * (p / q).log()).sum()
        assert float(distill(temperature=heat, teacher_top_k=0).loss(batch)) == pytest.approx(float(wanted), rel=1e-5)


def test_a_teacher_cannot_both_stand_and_move(tmp_path):
    from pathlib import Path

    from selftaught.models import Policy

    with pytest.raises(BadInput, match="teacher_update: a moving teacher starts from the student"):
        distill(Policy("t", Path("t")), teacher_update="ema")
    with pytest.raises(BadInput, match="unknown 'emma'"):
        distill(teacher_update="emma")
