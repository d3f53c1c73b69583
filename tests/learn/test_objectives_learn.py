"""Every objective raises what it should, and fails to with its loss turned round; whole and LoRA, through `learn`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from learn_models import make_model, make_policy, make_tokenizer, step_gradients, weights
from objective_table import ALL, LABELS, PAIRS, TABLE, Flipped, attempt, rollouts

from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.learn import objectives as o
from selftaught.learn.forward import forward_batch
from selftaught.learn.frozen import with_frozen_logprobs
from selftaught.learn.learner import _with_adapter, policy_version, train_policy
from selftaught.learn.train import train
from selftaught.learn.value_head import add_head, head_values, read_head
from selftaught.models import ChatTokenizer
from selftaught.models.load import load_model
from selftaught.models.policy import Policy
from selftaught.records import RolloutGroup, TokenAdvantages

FAST = TrainConfig(
    epochs=5, batch_size=64, learning_rate=3e-3, precision="float32", schedule="constant", max_tokens_per_pass=2048
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return ChatTokenizer(folder)


def rise(entry, objective, tokenizer, seed, folder) -> float:
    model = make_model(layers=1, spread=0.3, seed=seed)
    groups = entry.prepared(tokenizer, model, seed)
    before = entry.raises(model, groups, entry.objective)
    train(model, groups, objective, FAST, seed=seed, checkpoint=folder)
    return entry.raises(model, groups, entry.objective) - before


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.name)
def test_it_raises_what_it_should_and_lowers_it_with_the_sign_flipped(entry, tokenizer, tmp_path):
    for seed in range(3):
        assert rise(entry, entry.objective, tokenizer, seed, tmp_path / f"{seed}") > 1e-3
        assert rise(entry, Flipped(entry.objective), tokenizer, seed, tmp_path / f"{seed}-flipped") < 0


def test_every_objective_that_is_exported_is_in_the_table():
    found = {value for value in vars(o).values() if isinstance(value, type) and issubclass(value, o.Objective)}
    assert found - {o.Objective} == {type(entry.objective) for entry in TABLE}


def test_a_new_objective_is_one_module_and_one_line():
    """Every module of objectives lists its public names, and the package imports those and no others by hand."""
    folder = Path(o.__file__).parent
    lines = [line for line in Path(o.__file__).read_text("utf-8").splitlines() if line.startswith("from ")]
    stems = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "advantages", "demos", "sampled"}
    assert {f"from selftaught.learn.objectives.{stem} import *" for stem in stems} <= set(lines)
    assert all(line.endswith("import *") or ".base import " in line for line in lines)
    for stem in stems:
        module = import_module(f"selftaught.learn.objectives.{stem}")
        assert all(getattr(o, name) is getattr(module, name) for name in module.__all__)
        assert all(name.islower() for name in module.__all__)


SPLIT = ["kto", "dpo", "tpo", "tpo-steps", "rloo", "laser", "nft", "spo", "prm", "quark"]


@pytest.mark.parametrize("name", SPLIT)
def test_splitting_a_step_leaves_its_loss_and_gradients_equal(name, tokenizer):
    entry = next(entry for entry in TABLE if entry.name == name)
    start, found = make_model(layers=1, spread=0.3), []
    groups = entry.prepared(tokenizer, start, 0)
    for most in (1, 100, 10_000):
        model = make_model(layers=1, spread=0.3, seed=1)  # not the reference
        settings = TrainConfig(max_tokens_per_pass=most, max_grad_norm=1e9, precision="float32")
        found.append(step_gradients(model, groups, entry.objective, settings))
    (loss, grads), *others = found
    assert any(g.abs().max() > 1e-4 for g in grads)
    for other, other_grads in others:
        assert other == pytest.approx(loss, rel=1e-4)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(grads, other_grads, strict=True))


def test_the_reference_is_the_model_with_its_adapter_off_and_is_asked_once(tokenizer, tmp_path):
    plain = make_model(layers=1, spread=0.3)
    groups = o.dpo().groups(PAIRS, tokenizer)
    rows = [row for group in groups for row in group]
    with torch.no_grad():
        wanted = forward_batch(plain, rows)
    adapted = _with_adapter(make_model(layers=1, spread=0.3), 4, 0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
        assert not torch.allclose(forward_batch(adapted, rows).logprobs, wanted.logprobs, atol=1e-2)
    adapted.train()
    filled = with_frozen_logprobs(adapted, groups, {"reference"}, 60, cache=tmp_path)
    assert adapted.training
    again = with_frozen_logprobs(
        make_model(layers=1, seed=9), groups, {"reference"}, 60, cache=tmp_path
    )  # told by the cache
    for made in (filled, again):
        told = [row.token_features["reference"] for group in made for row in group]
        for i, (row, said) in enumerate(zip(rows, told, strict=True)):
            assert torch.allclose(said, wanted.logprobs[i, : len(row.completion)], atol=1e-5)


def test_a_teacher_tells_its_likeliest_tokens_and_the_student_is_read_at_them(tokenizer):
    model, teacher = make_model(layers=1, spread=0.3), make_model(layers=1, spread=0.3, seed=2)
    rows = [row for group in o.sft().groups(TABLE[0].records, tokenizer) for row in group]
    groups = with_frozen_logprobs(teacher, [(row,) for row in rows], {"teacher"}, 30, top_k=3)
    with torch.no_grad():
        batch = forward_batch(model, [row for group in groups for row in group], {"teacher", "entropy"})
        for i, row in enumerate(rows):
            ids = torch.tensor([row.prompt + row.completion])
            at = slice(len(row.prompt) - 1, -1)
            ours, theirs = (m(ids).logits[0, at].log_softmax(-1) for m in (model, teacher))
            best = theirs.topk(3)
            n = len(row.completion)
            assert torch.allclose(batch.token_features["teacher"][i, :n], best.values, atol=1e-5)
            assert torch.allclose(batch.student[i, :n], ours.gather(-1, best.indices), atol=1e-5)
            assert torch.allclose(batch.entropy[i, :n], -(ours.exp() * ours).sum(-1), atol=1e-5)
            label = (best.indices == torch.tensor(row.completion)[:, None]).float()
            assert torch.equal(batch.token_features["label"][i, :n], label)


# --- through learn ---


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))
    return make_policy(tmp_path / "base", layers=1, spread=0.3)


def lead(policy, tokenizer, pairs=PAIRS) -> float:
    """How much likelier chosen responses are than rejected ones."""
    rows = [row for group in o.dpo().groups(pairs, tokenizer) for row in group]
    with torch.no_grad():
        sums = forward_batch(load_model(policy, torch.float32).eval(), rows).sequence_logprobs.view(-1, 2)
    return (sums[:, 0] - sums[:, 1]).mean().item()


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kind", ["dpo", "kto", "grpo"])
def test_learn_trains_whole_weights_and_adapters(base, tokenizer, tmp_path, kind, rank):
    objective, records = {
        "dpo": (o.dpo(0.5), PAIRS),
        "kto": (o.kto(0.5), LABELS),
        "grpo": (o.grpo(0.01, old_logprobs="initial"), rollouts(tokenizer)),
    }[kind]
    how = TrainConfig(
        epochs=6, batch_size=8, learning_rate=2e-3 if rank == 0 else 2e-2, precision="float32", lora_rank=rank
    )
    policy = train_policy(base, objective, records, how, seed=1, folder=tmp_path / "policies")
    assert lead(policy, tokenizer) > lead(base, tokenizer) + 0.1
    facts = json.loads((policy.path / "selftaught.json").read_text())
    assert (facts["objective"], facts["records"], facts["adapter"]) == (kind, len(records), bool(rank))
    assert len((policy.path / "records.jsonl").read_text().splitlines()) == len(records)


def test_a_reference_of_its_own_is_what_the_loss_is_against(base, tokenizer, tmp_path):
    """At a fixed point: weights equal to the reference's have DPO's loss log 2, whatever they start from."""
    folder = tmp_path / "policies"
    how = TrainConfig(epochs=1, batch_size=8, learning_rate=1e-5, precision="float32", checkpoint_seconds=0)
    moved = train_policy(
        base, o.sft(), TABLE[0].records, TrainConfig(epochs=8, learning_rate=5e-3), seed=0, folder=folder
    )
    near = train_policy(moved, o.dpo(1.0), PAIRS, how, seed=0, folder=folder)
    far = train_policy(moved, o.dpo(1.0, reference=base), PAIRS, how, seed=0, folder=folder)
    first = [json.loads((p.path / "selftaught.json").read_text())["losses"][0] for p in (near, far)]
    h = lead(moved, tokenizer) - lead(base, tokenizer)
    assert first[0] == pytest.approx(0.693147, abs=1e-4)
    assert abs(h) > 0.5
    assert abs(first[1] - 0.693147) > 0.05
    assert near.version != far.version


def test_the_objective_of_ones_own_in_the_documentation_learns(base, tokenizer, tmp_path):
    from dataclasses import dataclass

    from selftaught.records import Demo

    code = o.__doc__.split("```python\n")[1].split("```")[0]
    names = {"dataclass": dataclass, "Objective": o.Objective, "Row": o.Row, "Demo": Demo, "__name__": __name__}
    exec(code, names)
    demos = [Demo(pair.prompt, pair.chosen) for pair in PAIRS]
    policy = train_policy(base, names["Mine"](), demos, FAST, seed=0, folder=tmp_path / "policies")
    assert lead(policy, tokenizer) > lead(base, tokenizer) + 0.1
    facts = json.loads((policy.path / "selftaught.json").read_text())
    assert facts["objective"] == "mine"
    assert facts["losses"][-1] < facts["losses"][0]


def test_the_version_names_a_reference_by_its_weights_not_by_its_place(base, tmp_path):
    here = Policy("v", tmp_path / "here")
    there = Policy("v", tmp_path / "there")
    versions = [policy_version(base, o.dpo(reference=p), PAIRS, FAST, 0) for p in (here, there, None)]
    assert versions[0] == versions[1] != versions[2]
    assert policy_version(base, o.dpo(0.2), PAIRS, FAST, 0) != policy_version(base, o.dpo(0.3), PAIRS, FAST, 0)


def test_a_head_is_kept_beside_the_weights_and_gone_on_from(base, tokenizer, tmp_path):
    folder = tmp_path / "policies"
    policy = train_policy(base, o.orm(), LABELS, FAST, seed=0, folder=folder)
    known = read_head(policy.path)
    assert known is not None
    assert known["weight"].abs().max() > 1e-4
    assert not any("value_head" in name for name in weights(policy.path))
    model = load_model(policy, torch.float32).eval()
    add_head(model, 1, policy.path)
    rows = [row for group in o.orm().groups(LABELS, tokenizer) for row in group]
    read = [values[-1][0] for values in head_values(model, rows)]
    assert min(r for r, x in zip(read, LABELS, strict=True) if x.good) > max(
        r for r, x in zip(read, LABELS, strict=True) if not x.good
    )
    tiny_step = TrainConfig(epochs=1, batch_size=8, learning_rate=1e-9, precision="float32")
    again = train_policy(policy, o.orm(), LABELS, tiny_step, seed=0, folder=folder)
    assert torch.allclose(read_head(again.path)["weight"], known["weight"], atol=1e-6)
    with pytest.raises(BadInput, match="no value head"):
        head_values(make_model(), rows)


def test_what_cannot_be_learnt_is_one_line_that_names_the_record(base, tokenizer, tmp_path):
    q, good, bad = ALL[0]
    even = RolloutGroup((attempt(tokenizer, q, good), attempt(tokenizer, q, bad)), (1.0, 1.0))
    for objective, records, line in [
        (o.dpo(), [], "nothing to learn from"),
        (o.dpo(), LABELS, "training record 0: got a Label, and dpo learns from Pair records"),
        (o.grpo(), [even, even], "none of 2 records teaches anything: grpo learns from differences"),
        (o.nft(), [even], "none of 1 records teaches anything"),
    ]:
        with pytest.raises(BadInput, match=line) as caught:
            train_policy(base, objective, records, FAST, seed=0, folder=tmp_path / "policies")
        assert caught.value.fix
    other = make_policy(tmp_path / "other", layers=1)
    file = other.path / "tokenizer.json"
    file.write_text(file.read_text().replace('"dog"', '"wolf"'))
    with pytest.raises(BadInput, match=r"dpo, reference .*its vocabulary differs from that of the model"):
        train_policy(base, o.dpo(reference=other), PAIRS, FAST, seed=0, folder=tmp_path / "policies")
    assert not [p for p in (tmp_path / "policies").glob("*") if p.suffix != ".work"]


def test_a_credit_of_another_length_is_named(base, tokenizer, tmp_path):
    one = attempt(tokenizer, *ALL[0][:2])
    records = [TokenAdvantages(one, (1.0,) * len(one.token_ids)), TokenAdvantages(one, (1.0,))]
    with pytest.raises(BadInput, match="training record 1: has 1 advantages for 6 tokens"):
        train_policy(base, o.grpo(), records, FAST, seed=0, folder=tmp_path / "policies")
