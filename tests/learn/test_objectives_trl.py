"""Equal to TRL: on log-probabilities TRL gave its losses for (committed), and live where TRL is installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from selftaught.learn import objectives
from selftaught.learn.forward import forward_batch
from selftaught.learn.objectives import Batch
from selftaught.learn.objectives.advantages import group_std

HERE = Path(__file__).parent
GOLDENS = json.loads((HERE / "goldens_trl.json").read_text("utf-8"))
SCRIPT = HERE.parents[1] / "scripts" / "goldens_trl.py"


def batch_of(rows, dtype=torch.float32) -> Batch:
    """The rows of a golden case as the trainer would hand them over."""
    pad = lambda name: torch.nn.utils.rnn.pad_sequence(  # noqa: E731
        [torch.tensor(r["logprobs"] if name == "logprobs" else r["token_features"][name], dtype=dtype) for r in rows],
        batch_first=True,
    )
    mask = torch.nn.utils.rnn.pad_sequence(
        [torch.ones(len(r["logprobs"]), dtype=dtype) for r in rows], batch_first=True
    )
    numbers = {n: torch.tensor([r["row_features"][n] for r in rows], dtype=dtype) for n in rows[0]["row_features"]}
    tokens = {n: pad(n) for n in rows[0]["token_features"]}
    weights = torch.tensor([r["weight"] for r in rows], dtype=dtype)
    return Batch(pad("logprobs"), mask, weights, (), numbers, tokens)


def with_probes(objective, batch, probes, sizes):
    from dataclasses import replace

    survey = (objective.probe_sum(probes), len(probes.weights)) if probes is not None else None
    kept = (
        batch.token_features
        if needs_kl(objective)
        else {n: t for n, t in batch.token_features.items() if n != "reference"}
    )
    return replace(batch, sizes=sizes, probe_statistics=survey, token_features=kept)


def needs_kl(objective) -> bool:
    """The rows of all GRPO cases tell the reference; a trainer would only ask for it where there is a KL."""
    return not isinstance(objective, objectives.policy_gradient) or objective.kl_coef > 0


def made(spec):
    name, how = spec
    return getattr(objectives, name)(**how)


@pytest.mark.parametrize("case", GOLDENS["cases"], ids=lambda case: case["name"])
def test_the_loss_is_trls(case):
    objective = made(case["objective"])
    learnt = [[r for r in group if not r["no_grad_probe"]] for group in case["groups"]]
    probes = [r for group in case["groups"] for r in group if r["no_grad_probe"]]
    batch = batch_of([r for group in learnt for r in group])
    batch = with_probes(objective, batch, batch_of(probes) if probes else None, tuple(map(len, learnt)))
    assert not probes or batch.probe_statistics[0] > 0  # the estimate is not at its floor
    size = sum(
        objective.normalizer(tuple(objectives.Row((0,), (0,) * len(r["logprobs"])) for r in group)) for group in learnt
    )
    assert (objective.loss(batch) / size).item() == pytest.approx(case["loss"], abs=1e-5, rel=1e-6)


@pytest.mark.parametrize("case", [c for c in GOLDENS["cases"] if c["name"].startswith("grpo")], ids=lambda c: c["name"])
def test_the_advantages_are_trls(case):
    for group in case["groups"]:
        theirs = [row["token_features"]["advantage"][0] for row in group]
        ours = group_std([row["row_features"]["reward"] for row in group])
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_goldens_say_which_trl_and_hold_every_family():
    assert GOLDENS["versions"]["trl"].startswith("1.16.")
    names = " ".join(case["name"] for case in GOLDENS["cases"])
    for kind in (
        "sft",
        "dpo-sigmoid",
        "dpo-ipo",
        "dpo-hinge",
        "dpo-robust",
        "dpo-sppo",
        "simpo",
        "orpo",
        "kto",
        "grpo",
        "grpo-dapo",
        "rpo",
        "rloo",
    ):
        assert kind in names


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
def test_live_the_loss_and_its_gradient_are_those_of_trls_trainers():
    spec = importlib.util.spec_from_file_location("goldens_trl", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["goldens_trl"] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    seen = []
    for case in module.cases():
        seen.append(case.name)
        parameters = [p for p in case.model.parameters() if p.requires_grad]
        theirs = torch.autograd.grad(case.loss, parameters)
        objective = made(case.objective)
        learnt = [tuple(row for row in group if not row.no_grad_probe) for group in case.groups]
        probes = [row for group in case.groups for row in group if row.no_grad_probe]
        with torch.no_grad():
            asked = forward_batch(case.model, probes) if probes else None
        batch = forward_batch(case.model, [row for group in learnt for row in group])
        batch = with_probes(objective, batch, asked, tuple(map(len, learnt)))
        loss = objective.loss(batch) / sum(map(objective.normalizer, learnt))
        assert loss.item() == pytest.approx(case.loss.item(), abs=1e-5), case.name
        ours = torch.autograd.grad(loss, parameters)
        largest = max(g.abs().max().item() for g in theirs)
        assert largest > 1e-4, case.name
        apart = max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
        assert apart < 1e-5 * max(1.0, largest), case.name
    assert seen == [case["name"] for case in GOLDENS["cases"]]
