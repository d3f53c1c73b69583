"""The losses: finite differences, closed forms, brute force; and what their settings and records may not be."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from learn_models import make_model, make_tokenizer
from objective_table import BRANCHES, LABELS, PAIRS, RANKINGS, TABLE, TREES, ask, attempt, rollouts

from scripted_world import with_facts
from selftaught.errors import BadInput
from selftaught.learn import objectives as o
from selftaught.learn.forward import forward_batch
from selftaught.learn.frozen import with_frozen_logprobs
from selftaught.learn.objectives import Batch, advantages
from selftaught.learn.objectives.conditional import quantiles
from selftaught.learn.objectives.distill import (
    forward_kl,
    js_divergence,
    mix_by_difficulty,
    reverse_kl,
    with_other_tokens,
)
from selftaught.learn.objectives.kto import kto_loss
from selftaught.learn.objectives.laser import self_reward
from selftaught.learn.objectives.nft import Nft, nft_loss
from selftaught.learn.objectives.policy_gradient import clipped_surrogate, kl_estimate
from selftaught.learn.objectives.preference import hinge_loss, ipo_loss, logistic_loss, robust_loss, sppo_loss
from selftaught.learn.objectives.reference_free import odds_ratio_loss
from selftaught.learn.objectives.reward_models import bradley_terry_loss, classification_loss
from selftaught.learn.objectives.sft import log1mexp
from selftaught.learn.objectives.spo import class_entropy, key_phrases, remove_key_phrases
from selftaught.learn.objectives.step_dpo import StepDpo
from selftaught.learn.objectives.tpo import lambda_rank_loss
from selftaught.learn.objectives.upo import mutual_information
from selftaught.models import ChatTokenizer
from selftaught.records import Demo, Label, Pair, Ranking, RolloutGroup, ScoredSteps

F64 = torch.float64


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return ChatTokenizer(folder)


@pytest.mark.parametrize("objective", [o.sft(), o.distill()])
def test_a_demonstration_without_an_end_is_its_text_alone(tokenizer, objective):
    demo = Demo(PAIRS[0].prompt, PAIRS[0].chosen)
    (whole,), (cut,) = (objective.rows(replace(demo, ends=ends), tokenizer) for ends in (True, False))
    assert whole.completion == (*cut.completion, tokenizer.eos_id)


@pytest.mark.parametrize("objective", [o.dpo(), o.step_dpo(), o.simpo(), o.orpo()])
def test_a_pair_without_ends_is_its_texts_alone(tokenizer, objective):
    pair = Pair(PAIRS[0].prompt, "the cat .", "the red dog .")
    rows, open_ = (objective.rows(replace(pair, ends=ends), tokenizer)[:2] for ends in (True, False))
    ends = () if isinstance(objective, StepDpo) else (tokenizer.eos_id,)
    assert [row.completion for row in rows] == [(*row.completion, *ends) for row in open_]
    assert tokenizer.eos_id not in open_[0].completion + open_[1].completion


# --- gradients ---


def drawn(objective, groups, seed=0) -> Batch:
    """A batch of random numbers in float64, of the shape that the groups have."""
    random = torch.Generator().manual_seed(seed)
    learnt = [tuple(row for row in group if not row.no_grad_probe) for group in groups if group]
    rows = [row for group in learnt for row in group]
    wide = max(len(row.completion) for row in rows)
    mask = torch.tensor([[float(t < len(row.completion)) for t in range(wide)] for row in rows], dtype=F64)
    logprobs = -3 * torch.rand(mask.shape, dtype=F64, generator=random) * mask
    needs = objective.requires(rows)
    tokens = {}
    for name in set.intersection(*(set(row.token_features) for row in rows)):
        values = [[*row.token_features[name], *[0.0] * (wide - len(row.completion))] for row in rows]
        tokens[name] = torch.tensor(values, dtype=F64)
    for name in needs & {"reference", "initial"}:
        tokens[name] = (logprobs + 0.3 * (torch.rand(mask.shape, dtype=F64, generator=random) - 0.5)) * mask
    if "old_logprobs" in tokens:
        tokens["old_logprobs"] = logprobs - 0.1 * mask
    student = None
    if "teacher" in needs:
        spread = torch.randn(2, *mask.shape, 9, dtype=F64, generator=random).log_softmax(-1)[..., :6]
        tokens["teacher"], student = spread
        tokens["label"] = torch.nn.functional.one_hot(torch.randint(6, mask.shape, generator=random), 6).to(F64)
    numbers = {name: torch.tensor([row.row_features[name] for row in rows], dtype=F64) for name in rows[0].row_features}
    values = (
        torch.randn(*mask.shape, objective.value_outputs, dtype=F64, generator=random) if "value" in needs else None
    )
    entropy = torch.rand(mask.shape, dtype=F64, generator=random) * mask if "entropy" in needs else None
    weights = torch.tensor([row.weight for row in rows], dtype=F64)
    survey = (torch.tensor(0.7, dtype=F64), 2)
    return Batch(logprobs, mask, weights, tuple(map(len, learnt)), numbers, tokens, entropy, student, values, survey)


DETACHED = {"reinforce", "distill-adaptive"}  # whose loss is no function with that gradient; see below


@pytest.mark.parametrize("entry", [e for e in TABLE if e.name not in DETACHED], ids=lambda entry: entry.name)
def test_the_gradient_is_that_of_finite_differences(entry, tokenizer):
    objective = replace(entry.objective, min_ratio=1e-3) if isinstance(entry.objective, Nft) else entry.objective
    records = entry.records(tokenizer) if callable(entry.records) else entry.records
    batch = drawn(objective, objective.groups(records, tokenizer))
    given = {
        name: value
        for name in ("logprobs", "entropy", "student", "values")
        if (value := getattr(batch, name)) is not None
    }
    inputs = [value.clone().requires_grad_() for value in given.values()]
    assert torch.autograd.gradcheck(
        lambda *x: objective.loss(replace(batch, **dict(zip(given, x, strict=True)))), inputs
    )


def gradient(function, *at):
    inputs = [torch.tensor(x, dtype=F64, requires_grad=True) for x in at]
    return torch.autograd.grad(function(*inputs).sum(), inputs)


def test_reinforce_has_the_gradient_of_minus_advantage_times_log_probability(tokenizer):
    objective = o.reinforce()
    batch = drawn(objective, objective.groups(rollouts(tokenizer), tokenizer))
    at = batch.logprobs.clone().requires_grad_()
    (found,) = torch.autograd.grad(objective.loss(replace(batch, logprobs=at)), at)
    assert torch.allclose(found, -batch.token_features["advantage"] * batch.mask)


# --- closed forms: pairs ---


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0])
def test_dpo_without_a_lead_is_log_2_and_its_gradient_is_half_of_beta(beta, tokenizer):
    batch = drawn(o.dpo(beta), o.dpo(beta).groups(PAIRS, tokenizer))
    at = batch.token_features["reference"].clone().requires_grad_()
    loss = o.dpo(beta).loss(replace(batch, logprobs=at))
    assert loss.item() == pytest.approx(len(PAIRS) * math.log(2))
    (found,) = torch.autograd.grad(loss, at)
    side = torch.tensor([-beta / 2, beta / 2], dtype=F64).repeat(len(PAIRS))[:, None]
    assert torch.allclose(found, side * batch.mask)


H = torch.linspace(-8, 8, 33, dtype=F64)


def test_pairwise_losses_have_the_values_and_optima_of_their_papers():
    beta, e = 0.7, 0.2
    assert torch.allclose(logistic_loss(H, beta), torch.log1p(torch.exp(-beta * H)))
    # conservative: least where the model says that a share e of labels is flipped
    assert abs(gradient(lambda h: logistic_loss(h, beta, e), [math.log((1 - e) / e) / beta])[0]) < 1e-12
    # robust: over labels of which a share e is flipped, on average the clean loss
    noisy = (1 - e) * robust_loss(H, beta, e) + e * robust_loss(-H, beta, e)
    assert torch.allclose(noisy, logistic_loss(H, beta))
    assert torch.allclose(hinge_loss(H, beta), torch.clamp(1 - beta * H, min=0))
    assert ipo_loss(torch.tensor(1 / (2 * beta)), beta).item() == pytest.approx(0)
    assert ipo_loss(torch.tensor(0.0), beta).item() == pytest.approx(1 / (4 * beta**2))
    assert sppo_loss(torch.tensor(0.5 / beta), torch.tensor(-0.5 / beta), beta).item() == pytest.approx(0)
    assert sppo_loss(torch.tensor(0.0), torch.tensor(0.0), beta, 0.5).item() == pytest.approx(0)  # a coin toss
    # a margin moves every loss by as much as it asks for
    m = 0.9
    assert torch.allclose(logistic_loss(H, beta, 0.0, m), logistic_loss(H - m / beta, beta))
    assert torch.allclose(robust_loss(H, beta, e, m), robust_loss(H - m / beta, beta, e))
    assert torch.allclose(hinge_loss(H, beta, m), hinge_loss(H - m / beta, beta))
    assert torch.allclose(ipo_loss(H, beta, m), ipo_loss(H - m / beta, beta))


def test_a_pairs_own_softness_margin_and_weight_reach_the_loss(tokenizer):
    pairs = [replace(PAIRS[0], label_smoothing=0.3, margin=0.5, weight=2.0), PAIRS[1], replace(PAIRS[2], weight=0.0)]
    objective = o.dpo(0.4, label_smoothing=0.1)
    batch = drawn(objective, objective.groups(pairs, tokenizer))
    h = batch.log_ratios[::2] - batch.log_ratios[1::2]
    wanted = 2 * logistic_loss(h[0], 0.4, 0.3, 0.5) + logistic_loss(h[1], 0.4, 0.1)
    assert objective.loss(batch).item() == pytest.approx(wanted.item())


def test_spin_is_dpo_and_simpo_is_its_formula(tokenizer):
    batch = drawn(o.dpo(0.1), o.dpo().groups(PAIRS, tokenizer))
    assert o.spin(0.1).loss(batch) == o.dpo(0.1).loss(batch)
    means = (batch.logprobs * batch.mask).sum(-1) / batch.mask.sum(-1)
    wanted = -torch.log(torch.sigmoid(2.5 * (means[::2] - means[1::2]) - 0.8)).sum()
    assert o.simpo(2.5, 0.8).loss(batch).item() == pytest.approx(wanted.item())


def test_the_odds_ratio_is_its_definition_and_stays_finite_at_the_ends():
    a, b = torch.tensor([-0.1, -2.0, -9.0], dtype=F64), torch.tensor([-1.5, -0.01, -9.0], dtype=F64)
    odds = [x.exp() / (1 - x.exp()) for x in (a, b)]
    assert torch.allclose(odds_ratio_loss(a, b), -torch.log(torch.sigmoid(torch.log(odds[0] / odds[1]))))
    for dtype in (torch.float32, F64):
        ends = torch.tensor([0.0, -1e-12, -1e-4, -0.69, -0.70, -30.0, -200.0], dtype=dtype, requires_grad=True)
        found = log1mexp(ends)
        (slope,) = torch.autograd.grad(found.sum(), ends)
        assert found.isfinite().all()
        assert slope.isfinite().all()
    for x in (-1e-12, -1e-4, -0.69, -0.70, -30.0):
        assert log1mexp(torch.tensor(x, dtype=F64)).item() == pytest.approx(math.log(-math.expm1(x)), rel=1e-9)


def test_kto_is_a_half_where_the_ratio_is_the_estimate_and_mirrors_good_and_bad():
    r, one, z = torch.linspace(-3, 3, 7, dtype=F64), torch.ones(7, dtype=F64), 0.4
    assert kto_loss(torch.tensor(z), torch.tensor(1.0), z, 2.0).item() == pytest.approx(0.5)
    assert torch.allclose(kto_loss(r, one, z, 0.5) + kto_loss(r, 0 * one, z, 0.5), one)
    assert torch.allclose(kto_loss(r, one, z, 0.5), 1 - torch.sigmoid(0.5 * (r - z)))


def test_ktos_estimate_never_falls_below_zero_and_pairs_each_prompt_with_anothers_response(tokenizer):
    objective = o.kto(0.5, desirable_weight=1.5, undesirable_weight=0.5)
    groups = objective.groups(LABELS, tokenizer)
    for (row, probe), label in zip(groups, LABELS, strict=True):
        assert probe.prompt == row.prompt
        assert probe.no_grad_probe
        assert not row.no_grad_probe
        answered = [x for x in LABELS if tuple(tokenizer.encode_target(x.response)) == probe.completion]
        assert all(x.prompt != label.prompt for x in answered)
        assert row.weight == (1.5 if label.good else 0.5)
    batch = drawn(objective, groups)
    losses = [
        objective.loss(replace(batch, probe_statistics=(torch.tensor(s, dtype=F64), 4))) for s in (-2.0, 0.0, 2.0)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_steps_bear_the_loss_only_after_what_they_share_and_without_an_end(tokenizer):
    whole, step = o.dpo(0.5), o.step_dpo(0.5, learn_eos=True)
    model = make_model(layers=1, spread=0.3)
    away = make_model(layers=1, spread=0.3, seed=1)
    losses, grads, lengths = [], [], []
    for objective in (whole, step):
        groups = with_frozen_logprobs(away, objective.groups(BRANCHES, tokenizer), {"reference"}, 512)
        rows = [row for group in groups for row in group]
        loss = objective.loss(forward_batch(model, rows, (), (2,) * len(groups)))
        losses.append(loss.item())
        grads.append(torch.autograd.grad(loss, list(model.parameters())))
        lengths.append([len(row.completion) for row in rows])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*grads, strict=True))
    shared = len(tokenizer.encode("the dog is"))
    assert lengths[1][:2] == [n - shared for n in lengths[0][:2]]
    rows = o.step_dpo().rows(BRANCHES[0], tokenizer)
    assert all(row.completion[-1] != tokenizer.eos_id for row in rows)
    with pytest.raises(BadInput, match="record 4: one response is the beginning"):
        o.step_dpo().rows(Pair(ask("what"), "the cat", "the cat is"), tokenizer, "record 4")
    assert len(o.step_dpo(learn_eos=True).rows(Pair(ask("what"), "the cat", "the cat is"), tokenizer)) == 2


def test_trees_weigh_alike_whatever_their_number_of_pairs(tokenizer):
    first, other = BRANCHES[:2]
    assert first.prompt != other.prompt
    pairs = [first, other, *(replace(first, rejected=f"the dog is {word}") for word in ("one", "is"))]
    objective, plain = o.step_dpo(0.5, group_by_prompt=True), o.step_dpo(0.5)
    groups = objective.groups(pairs, tokenizer)
    alone = plain.groups(pairs, tokenizer)
    assert groups == [(*alone[0], *alone[2], *alone[3]), alone[1]]
    batch = drawn(objective, groups)
    a, b, c, d = (plain.loss(replace(batch.select([i, i + 1]), sizes=(2,))).item() for i in (0, 2, 4, 6))
    assert objective.loss(batch).item() == pytest.approx((a + b + c) / 3 + d)
    assert [objective.normalizer(group) for group in groups] == [1, 1]  # a mean over trees


def test_visits_and_advantages():
    assert o.visit_label_smoothing(3, 1) == 0.25
    assert o.visit_label_smoothing(9, 1) == pytest.approx(1 / (9 / 1 + 1))
    assert o.visit_label_smoothing(1, 5) == 0.5
    assert o.advantage_margin(0.75, -0.25, 2.0) == 2.0
    with pytest.raises(BadInput, match="chosen"):
        o.visit_label_smoothing(0, 1)


# --- closed forms: lists and doubt ---


def test_lambda_rank_is_its_definition_pair_by_pair():
    rewards, scores = [0.3, -0.2, 1.1, 0.0], [1.0, 0.0, 0.5, 0.5]
    rank = {i: 1 + sum(r > rewards[i] for r in rewards) for i in range(4)}
    wanted = 0.0
    for i, j in itertools.permutations(range(4), 2):
        if scores[i] > scores[j]:
            gain = abs(2 ** scores[i] - 2 ** scores[j])
            discount = abs(1 / math.log(1 + rank[i]) - 1 / math.log(1 + rank[j]))
            wanted -= gain * discount * math.log(1 / (1 + math.exp(rewards[j] - rewards[i])))
    found = lambda_rank_loss(torch.tensor(rewards, dtype=F64), torch.tensor(scores, dtype=F64))
    assert found.item() == pytest.approx(wanted)
    # two responses: DPO's loss, weighted
    two = lambda_rank_loss(torch.tensor([0.3, -0.2], dtype=F64), torch.tensor([1.0, 0.0], dtype=F64))
    weight = abs(1 / math.log(2) - 1 / math.log(3))
    assert two.item() == pytest.approx(weight * logistic_loss(torch.tensor(0.5, dtype=F64), 1.0).item())


# one step shared; in the second, with its end, the counts are (red 1, cat 1, end 1) and (red 2, dog 1, end 1)
FORKED = Ranking(ask("what"), ("one two .\nred cat", "one two .\nred red dog"), (1.0, 0.0))


@pytest.mark.parametrize("contrast", [1.0, 0.3, -0.5])
def test_a_step_counts_the_more_the_less_it_is_like_the_other_by_hand(contrast, tokenizer):
    objective = o.tpo(0.7, step_contrast=contrast)
    (group,) = objective.groups([FORKED], tokenizer)
    assert [row.token_features["step"] for row in group] == [(0, 0, 0, 1, 1, 1), (0, 0, 0, 1, 1, 1, 1)]
    gains = torch.tensor([[0.1, 0.2, -0.3, 0.5, 0.4, 0.0, 0.0], [0.3, 0.1, 0.2, -0.2, 0.1, 0.2, 0.3]], dtype=F64)
    batch = drawn(objective, [group])
    batch = replace(batch, logprobs=batch.token_features["reference"] + gains)
    first, second = 0.0 - 0.6, 0.9 - 0.4
    alike = 3 / math.sqrt(3 * 6)
    lead = 0.7 * (first + (1 + contrast * (1 - alike)) * second)
    pair_weight = abs(1 / math.log(2) - 1 / math.log(3))
    assert objective.loss(batch).item() == pytest.approx(pair_weight * math.log(1 + math.exp(-lead)))


def test_weighed_steps_are_their_definition_pair_by_pair_also_where_one_has_fewer(tokenizer):
    texts = ("one two .\nred cat\ndog", "one two .\nred red", "cat one\nred cat\ndog", "dog")
    record = Ranking(ask("what"), texts, (1.0, 0.5, 0.0, 0.5))
    objective, beta, contrast = o.tpo(0.4, step_contrast=0.8), 0.4, 0.8
    batch = drawn(objective, objective.groups([record], tokenizer))
    ratios = (batch.logprobs - batch.token_features["reference"]).tolist()
    words = [[step.split() for step in text.split("\n")] for text in texts]
    for said in words:
        said[-1].append("</s>")
    paid = []
    for said, each in zip(words, ratios, strict=True):
        ends = [0, *itertools.accumulate(map(len, said))]
        paid.append([beta * sum(each[a:b]) for a, b in itertools.pairwise(ends)])

    def cosine(a, b):
        dot = sum(a.count(w) * b.count(w) for w in {*a, *b})
        return dot / math.sqrt(sum(a.count(w) ** 2 for w in {*a}) * sum(b.count(w) ** 2 for w in {*b})) if dot else 0.0

    wanted, rank = 0.0, {i: 1 + sum(sum(p) > sum(paid[i]) for p in paid) for i in range(4)}
    for i, j in itertools.permutations(range(4), 2):
        if record.scores[i] > record.scores[j]:
            steps = itertools.zip_longest(words[i], words[j], paid[i], paid[j])
            lead = sum((1 + contrast * (1 - cosine(a or [], b or []))) * ((p or 0) - (q or 0)) for a, b, p, q in steps)
            gain = 2 ** record.scores[i] - 2 ** record.scores[j]
            discount = abs(1 / math.log(1 + rank[i]) - 1 / math.log(1 + rank[j]))
            wanted += gain * discount * math.log(1 + math.exp(-lead))
    assert objective.loss(batch).item() == pytest.approx(wanted)


def test_without_contrast_steps_are_nothing_and_with_it_what_is_shared_still_cancels(tokenizer):
    off, on = o.tpo(0.5), o.tpo(0.5, step_contrast=2.0)
    assert not any(row.token_features for group in off.groups(TREES, tokenizer) for row in group)
    batch = drawn(on, on.groups(TREES, tokenizer))
    rewards, scores = batch.by_group(0.5 * batch.log_ratios), batch.by_group(batch.row_features["score"])
    assert off.loss(batch) == sum(lambda_rank_loss(r, v) for r, v in zip(rewards, scores, strict=True))
    assert o.tpo(0.5, step_contrast=1e-12).loss(batch).item() == pytest.approx(
        off.loss(batch).item()
    )  # all steps, at 1
    assert on.loss(batch).item() != pytest.approx(off.loss(batch).item(), rel=1e-3)
    (group,) = on.groups([FORKED], tokenizer)
    forked = drawn(on, [group])
    said = forked.logprobs.clone()
    said[:, :3] += torch.tensor([0.5, -0.2, 0.9], dtype=F64)  # the step both share, alike in both
    assert on.loss(replace(forked, logprobs=said)).item() == pytest.approx(on.loss(forked).item())


def test_doubt_is_nothing_for_agreement_and_whole_for_contradiction():
    assert mutual_information([0.7] * 5) == pytest.approx(0)
    assert mutual_information([0.0, 1.0]) == pytest.approx(math.log(2))
    assert 0 < mutual_information([0.6, 0.9]) < mutual_information([0.4, 0.95]) < math.log(2)
    sure, torn, asked = o.upo_weighting(PAIRS, [[0.9, 0.9], [0.0, 1.0], [0.5]])
    assert (sure.weight, sure.label_smoothing) == (pytest.approx(1), pytest.approx(0))
    assert (torn.weight, torn.label_smoothing) == (pytest.approx(0), pytest.approx(0.5))
    assert asked == replace(PAIRS[2], label_smoothing=asked.label_smoothing)  # unsure of the world, sure of itself
    for bad in ([], [1.2]):
        with pytest.raises(BadInput, match="mutual_information"):
            mutual_information(bad)


def test_what_is_removed_is_the_most_telling_and_more_at_each_degree():
    text = "the linear algebra of red cats is the sum, and a dog"
    assert key_phrases(text)[:2] == ["linear algebra", "red cats"]
    assert remove_key_phrases(text, 0.0) == text
    assert remove_key_phrases(text, 0.25) == "the of red cats is the sum, and a dog"
    sizes = [len(remove_key_phrases(text, s)) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 5
    assert remove_key_phrases("", 1.0) == remove_key_phrases("the of", 1.0).replace("the of", "") == ""


def test_degrees_reach_the_head_and_leave_the_pair_as_it_is(tokenizer):
    plain, both = o.dpo(0.5), o.spo(0.5, gamma=0.2, num_degrees=3)
    groups = both.groups(PAIRS, tokenizer)
    assert [[r.row_features["degree"] for r in g][:2] for g in groups] == [[0, 0]] * 3
    assert {r.row_features["degree"] for g in groups for r in g} == {0, 1, 2}
    assert any(len(g) < 6 for g in groups)  # what removal leaves unchanged is left out
    batch = drawn(both, groups)
    starts = [sum(map(len, groups[:i])) for i in range(len(groups))]
    pairs = plain.loss(batch.select([s + side for s in starts for side in (0, 1)]))
    last = batch.values[torch.arange(len(batch.lengths)), batch.lengths.long() - 1]
    each = class_entropy(last, batch.row_features["degree"])
    wanted = pairs + 0.2 * sum(2 * x.mean() for x in batch.by_group(each))
    assert both.loss(batch).item() == pytest.approx(wanted.item())


# --- closed forms: policy gradients ---


def test_advantages_are_those_of_their_definitions():
    r = [1.0, 0.0, 0.5, 0.0, 1.0]
    a = np.array(r)
    assert advantages.group_mean(r) == pytest.approx(a - a.mean())
    assert advantages.group_std(r) == pytest.approx((a - a.mean()) / (a.std(ddof=1) + 1e-4))
    assert advantages.group_std(r, correction=0, eps=0) == pytest.approx((a - a.mean()) / a.std())
    assert advantages.leave_one_out(r) == pytest.approx([x - np.delete(a, i).mean() for i, x in enumerate(r)])
    assert advantages.group_std([0.5, 0.5]) == [0, 0]
    assert advantages.correction_bonus(0.0, 1.0) == 10
    with pytest.raises(BadInput, match="leave_one_out"):
        advantages.leave_one_out([1.0])


def test_the_surrogate_stops_where_it_would_gain_by_leaving():
    log_ratio = torch.log(torch.tensor([0.5, 0.9, 1.0, 1.1, 2.0], dtype=F64)).requires_grad_()
    for sign, still in ((1.0, [False, False, False, False, True]), (-1.0, [True, False, False, False, False])):
        (slope,) = torch.autograd.grad(clipped_surrogate(log_ratio, torch.tensor(sign), 0.2, 0.3).sum(), log_ratio)
        assert (slope == 0).tolist() == still
        moving = torch.tensor([not s for s in still])
        assert torch.allclose(slope[moving], -sign * log_ratio.exp()[moving])


def test_the_kl_estimate_is_the_kl_on_average():
    random = torch.Generator().manual_seed(0)
    p, ref = torch.randn(2, 7, dtype=F64, generator=random).log_softmax(-1)
    assert (p.exp() * kl_estimate(p, ref)).sum().item() == pytest.approx((p.exp() * (p - ref)).sum().item())
    assert (kl_estimate(p, ref) >= 0).all()


def test_the_kl_weighed_by_the_ratio_has_the_gradient_of_the_kl_whoever_sampled():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(7, dtype=F64, generator=random).requires_grad_()
    ref, old = torch.randn(2, 7, dtype=F64, generator=random).log_softmax(-1)
    p = logits.log_softmax(-1)
    each = old.exp() * (p - old).exp() * kl_estimate(p, ref)  # every token, as often as the sampler draws it
    (found,) = torch.autograd.grad(each.sum(), logits, retain_graph=True)
    (wanted,) = torch.autograd.grad((p.exp() * (p - ref)).sum(), logits)
    assert torch.allclose(found, wanted)


def test_each_turn_has_the_anchor_of_its_credit(tokenizer):
    from objective_table import credits

    first, second = (replace(c, kl_coef=kl) for c, kl in zip(credits(tokenizer, 0.0)[:2], (0.25, 0.01), strict=True))
    objective = o.grpo(old_logprobs="initial")
    batch = drawn(objective, objective.groups([first, second], tokenizer))
    apart = kl_estimate(batch.logprobs, batch.token_features["reference"]) * batch.mask
    apart = apart * (batch.logprobs - batch.token_features["initial"]).exp()
    mean = apart.sum(-1) / batch.mask.sum(-1)
    assert objective.loss(batch).item() == pytest.approx((0.25 * mean[0] + 0.01 * mean[1]).item())
    free = objective.groups([replace(first, kl_coef=0.0)], tokenizer)
    assert "reference" not in objective.requires([row for group in free for row in group])


@pytest.mark.parametrize(("weighting", "deviation"), [("grpo", True), ("dr-grpo", False)])
def test_nfts_gradient_is_grpos_on_policy(weighting, deviation, tokenizer):
    rates = [tuple(float(i <= k) for i in range(4)) for k in range(3)]  # 1/4, 2/4, 3/4 are right
    groups = [replace(r, rewards=rewards) for r, rewards in zip(rollouts(tokenizer), rates, strict=True)]
    nft = o.nft(weighting, old_logprobs="initial")
    batch = drawn(nft, nft.groups(groups, tokenizer))
    batch = replace(batch, token_features={**batch.token_features, "initial": batch.logprobs.clone()})
    how = {"correction": 0, "eps": 0.0}
    gains = [
        g
        for r in groups
        for g in (advantages.group_std(r.rewards, **how) if deviation else advantages.group_mean(r.rewards))
    ]
    facts = {"advantage": torch.tensor(gains, dtype=F64)[:, None] * batch.mask}
    grpo = o.grpo(old_logprobs="initial", loss_aggregation="token-mean")
    found = []
    for objective, tokens, weights in ((nft, {}, batch.weights), (grpo, facts, torch.ones_like(batch.weights))):
        at = batch.logprobs.clone().requires_grad_()
        full = replace(batch, logprobs=at, weights=weights, token_features={**batch.token_features, **tokens})
        found.append(torch.autograd.grad(objective.loss(full), at)[0])
    assert torch.allclose(*found, atol=1e-12)
    assert found[0].abs().max() > 0.1


def test_nft_without_negatives_is_rejection_sampling_and_its_floor_keeps_the_gradient():
    log_ratio = torch.tensor([[0.5, 0.1]], dtype=F64)
    one = torch.ones(1, 1, dtype=F64)
    assert torch.allclose(nft_loss(log_ratio, one, 0.5 * one, 1.0, 1.0), -log_ratio)
    assert torch.equal(nft_loss(log_ratio, 0 * one, 0.5 * one, 0.0, 1.0), torch.zeros(1, 2, dtype=F64))
    at = torch.tensor([[2.0]], dtype=F64, requires_grad=True)  # R = 7.4: implied ratio far below 0
    value = nft_loss(at, 0 * one, 0.5 * one, 1.0, 1.0)
    assert value.item() == 0
    (slope,) = torch.autograd.grad(value.sum(), at)
    assert slope.item() == pytest.approx(math.exp(2.0) * 0.5 / (1 - 0.5))  # straight through


def test_lasers_optimum_is_the_constant_plus_the_reward_over_beta(tokenizer):
    objective = o.laser(score_token="dog", alpha=0.3, old_logprobs="initial")
    records = rollouts(tokenizer)
    batch = drawn(objective, objective.groups(records, tokenizer))
    plain = o.grpo(old_logprobs="initial")
    at_last = (batch.mask - batch.token_features["answer"]).bool()
    optimum = (-23.0 + batch.row_features["reward"] / 0.1)[:, None].expand_as(batch.mask)
    fitted = torch.where(at_last, optimum, batch.logprobs).requires_grad_()
    rest = plain.loss(replace(batch, mask=batch.token_features["answer"], logprobs=fitted))
    loss = objective.loss(replace(batch, logprobs=fitted))
    assert loss.item() == pytest.approx(rest.item())
    (slope,) = torch.autograd.grad(loss, fitted)
    assert not slope[at_last].any()
    assert slope[batch.token_features["answer"].bool()].any()
    assert self_reward(torch.tensor(-13.0), 0.1, -23.0).item() == pytest.approx(1)


def test_laser_balances_right_and_wrong_and_does_not_score_what_was_cut_off(tokenizer):
    (record, *_) = rollouts(tokenizer)
    cut = with_facts(record.samples[1], finish_reason="length")
    record = RolloutGroup((record.samples[0], cut, *record.samples[2:]), (1.0, 0.0, 0.0, 0.0))
    (group,) = o.laser(score_token="dog").groups([record], tokenizer)
    assert [row.row_features["balance"] for row in group] == pytest.approx([2.0, 0.0, 2 / 3, 2 / 3])
    assert all(row.completion[-1] == tokenizer.encode("dog")[0] for row in group)
    assert all(len(values) == len(row.completion) for row in group for values in row.token_features.values())
    with pytest.raises(BadInput, match="score_token: 'the dog' is 2 tokens"):
        o.laser(score_token="the dog").groups([record], tokenizer)


# --- closed forms: distributions ---


def test_divergences_are_torchs_and_truncation_only_lowers_them():
    random = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 5, 12, dtype=F64, generator=random).log_softmax(-1)
    kl = torch.nn.functional.kl_div
    assert torch.allclose(forward_kl(teacher, student), kl(student, teacher, log_target=True, reduction="none").sum(-1))
    assert torch.allclose(reverse_kl(teacher, student), forward_kl(student, teacher))
    assert torch.allclose(js_divergence(teacher, student), js_divergence(student, teacher))
    assert (js_divergence(teacher, student) <= math.log(2)).all()
    mixed = torch.log(0.3 * teacher.exp() + 0.7 * student.exp())
    wanted = 0.3 * forward_kl(teacher, mixed) + 0.7 * forward_kl(student, mixed)
    assert torch.allclose(js_divergence(teacher, student, 0.3), wanted)
    ids = teacher.topk(4).indices
    few = [with_other_tokens(x.gather(-1, ids)) for x in (teacher, student)]
    assert all(torch.allclose(x.exp().sum(-1), torch.ones(5, dtype=F64)) for x in few)
    for divergence in (forward_kl, reverse_kl, js_divergence):
        assert (divergence(*few) <= divergence(teacher, student) + 1e-12).all()
        whole = [with_other_tokens(x) for x in (teacher, student)]
        assert torch.allclose(divergence(*whole), divergence(teacher, student), atol=1e-9)


def test_what_is_mixed_into_the_student_grows_with_difficulty_and_is_a_distribution():
    random = torch.Generator().manual_seed(1)
    teacher, student = torch.randn(2, 6, 5, dtype=F64, generator=random).log_softmax(-1)
    label = torch.nn.functional.one_hot(torch.arange(6) % 5, 5).to(F64)
    mixed = mix_by_difficulty(teacher, student, label, 0.7, 0.0)
    assert torch.allclose(mixed.exp().sum(-1), torch.ones(6, dtype=F64))
    ease = torch.exp(-forward_kl(teacher, student))[:, None]
    assert torch.allclose(mixed.exp(), ease * student.exp() + (1 - ease) * (0.7 * teacher.exp() + 0.3 * label))
    assert torch.allclose(mix_by_difficulty(teacher, student, label, 0.7, 99.0), student)  # none is hard


def test_soft_weights_mix_the_teacher_with_the_labels(tokenizer):
    objective = o.distill()
    batch = drawn(objective, objective.groups(TABLE[0].records, tokenizer))
    likelihood = -(batch.logprobs * batch.mask).sum()
    alone = objective.loss(batch)
    for soft in (0.0, 0.4, 1.0, 1.5):
        assert o.distill(teacher_weight=soft).loss(batch).item() == pytest.approx(
            (soft * alone + (1 - soft) * likelihood).item()
        )


def test_quantiles_are_even_ordered_and_share_ties():
    assert quantiles([3.0, 1.0, 2.0, 4.0], 2) == [1, 0, 0, 1] or quantiles([3.0, 1.0, 2.0, 4.0], 2) == [1, 0, 1, 1]
    scores = list(np.random.default_rng(0).normal(size=100))
    bins = quantiles(scores, 5)
    assert [bins.count(k) for k in range(5)] == [20] * 5
    assert all(bins[i] <= bins[j] for i in range(100) for j in range(100) if scores[i] < scores[j])
    assert len({b for b, s in zip(quantiles([0, 0, 0, 1, 2, 2], 3), [0, 0, 0, 1, 2, 2], strict=True) if s == 0}) == 1
    with pytest.raises(BadInput, match="1 distinct scores for 2 quantiles"):
        quantiles([1.0, 1.0], 2)


def test_quark_conditions_on_the_quantile_and_is_anchored_without_it(tokenizer):
    objective = o.quark(num_quantiles=3, prefix="{bin} ", teacher_top_k=0)
    groups = objective.groups(RANKINGS, tokenizer)
    for group, record in zip(groups, RANKINGS, strict=True):
        plain = tuple(tokenizer.encode_prompt(record.prompt))
        assert all(row.reference_prompt == plain == row.prompt[:-1] for row in group)
    assert o.quark(num_quantiles=3).best_prefix == "[REWARD 2] "


# --- closed forms: heads ---


def test_heads_have_the_losses_of_logistic_and_paired_regression():
    v = torch.linspace(-3, 3, 7, dtype=F64)
    for t in (0.0, 0.3, 1.0):
        wanted = -t * torch.log(torch.sigmoid(v)) - (1 - t) * torch.log(1 - torch.sigmoid(v))
        assert torch.allclose(classification_loss(v, torch.full_like(v, t)), wanted)
    assert (
        abs(gradient(lambda x: classification_loss(x, torch.tensor([0.3], dtype=F64)), [math.log(0.3 / 0.7)])[0])
        < 1e-12
    )
    assert torch.allclose(bradley_terry_loss(v, 0 * v), logistic_loss(v, 1.0))
    assert bradley_terry_loss(torch.tensor(1.0), torch.tensor(2.0), 0.0, 0.5).item() == pytest.approx(
        math.log(1 + math.e) + 0.5 * 9
    )


def test_an_outcome_reward_model_still_learns_to_write_what_is_good():
    """The loss of two rows by hand: both logistic losses, and the mean negative log-likelihood of the good one."""
    logprobs, mask = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    values = torch.tensor([[9.0, 0.5], [-0.25, 9.0]])[..., None]
    features = {"good": torch.tensor([1.0, 0.0])}
    batch = o.Batch(logprobs, mask, torch.tensor([1.0, 2.0]), (1, 1), features, values=values)
    judged = [math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(-0.25))]
    for lm_coef in (0.0, 0.4):
        wanted = judged[0] + lm_coef * 1.5 + 2 * judged[1]
        assert o.orm(lm_coef).loss(batch).item() == pytest.approx(wanted, abs=1e-6)


def test_steps_are_scored_where_they_end(tokenizer):
    (row,) = o.prm().rows(ScoredSteps(ask("what"), ("the cat .", " red dog", " blue ."), (1.0, 0.0, 0.5)), tokenizer)
    assert row.completion == tuple(tokenizer.encode_target("the cat . red dog blue ."))
    marked = [i for i, m in enumerate(row.token_features["step_end"]) if m]
    assert marked == [3, 5, 7]  # read before the next step's first token, and before the end of sequence
    assert row.completion[7] == tokenizer.eos_id
    assert [row.token_features["score"][i] for i in marked] == [1.0, 0.0, 0.5]


# --- bad input ---


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: o.dpo(0.0), "beta: must be above 0, got 0"),
        (lambda: o.dpo(loss_type="sigmod"), "loss_type: unknown 'sigmod'; did you mean 'sigmoid'"),
        (lambda: o.dpo(label_smoothing=0.5), "label_smoothing"),
        (lambda: o.simpo(beta=-1.0), "beta"),
        (lambda: o.orpo(0.0), "beta"),
        (lambda: o.orm(-1.0), "lm_coef"),
        (lambda: o.kto(undesirable_weight=0.0), "undesirable_weight"),
        (lambda: o.tpo(float("nan")), "beta"),
        (lambda: o.tpo(step_contrast=-1.0), "step_contrast"),
        (lambda: o.tpo(step_contrast=float("nan")), "step_contrast"),
        (lambda: o.grpo(-0.1), "kl_coef"),
        (lambda: o.grpo(loss_aggregation="rows"), "loss_aggregation: unknown 'rows'"),
        (lambda: o.dr_grpo(0), "max_tokens"),
        (lambda: o.grpo(clip_low=float("nan")), "clip_low"),
        (lambda: o.grpo(clip_low=1.0), r"clip_low: must be in \[0, 1\), got 1.0"),
        (lambda: o.grpo(clip_low=-0.1), r"clip_low: must be in \[0, 1\), got -0.1"),
        (lambda: o.grpo(clip_high=-0.1), "clip_high: must be ≥ 0, got -0.1"),
        (lambda: o.nft("drgrpo"), "weighting: unknown 'drgrpo'"),
        (lambda: o.nft(min_ratio=0.0), "min_ratio"),
        (lambda: o.laser(score_token="dog", loss_aggregation="token"), "loss_aggregation"),
        (lambda: o.distill(divergence="forwards"), "divergence"),
        (lambda: o.distill(beta=1.0, divergence="js"), "beta"),
        (lambda: o.distill(mixed_teacher_share=1.5), "mixed_teacher_share"),
        (lambda: o.quark(num_quantiles=1), "num_quantiles"),
        (lambda: o.quark(prefix="x"), "prefix"),
        (lambda: o.mistake_tuning("a", "a"), "good_prefix, bad_prefix"),
        (lambda: o.spo(num_degrees=1), "num_degrees"),
        (lambda: o.prm("class"), "loss_type"),
        (lambda: o.unlikelihood(alpha=-1.0), "alpha"),
    ],
)
def test_a_setting_that_means_nothing_is_bad_input(make, line):
    with pytest.raises(BadInput, match=line) as caught:
        make()
    assert caught.value.fix


def test_a_record_that_teaches_nothing_is_named(tokenizer):
    q = ask("what is one")
    right, wrong = attempt(tokenizer, "what is one", "one"), attempt(tokenizer, "what is one", "two")
    bare = with_facts(right, token_ids=(), logprobs=())
    silent = with_facts(right, logprobs=())
    for objective, record, line in [
        (o.dpo(), Pair(q, "one", "one"), "are the same"),
        (o.dpo(), Pair(q, "one", "two", label_smoothing=0.6), "label_smoothing must be in 0..0.5, got 0.6"),
        (o.dpo(), Pair(q, "one", "two", weight=-1.0), "weight must be ≥ 0, got -1"),
        (o.dpo(loss_type="ipo"), Pair(q, "one", "two", label_smoothing=0.1), "ipo has no term for"),
        (o.dpo(loss_type="robust"), Pair(q, "one", "two", label_smoothing=0.5), "coin toss"),
        (o.sppo(), Pair(q, "one", "two", margin=0.1), "sppo has no term for"),
        (o.tpo(), Ranking(q, ("one", "two"), (1.0,)), "one finite score for each response"),
        (o.tpo(), Ranking(q, ("one", "two"), (1.0, float("nan"))), "one finite score for each response"),
        (o.grpo(), RolloutGroup((right, wrong), (1.0,)), "one finite reward for each attempt"),
        (o.grpo(), RolloutGroup((right, bare), (1.0, 0.0)), "has no tokens"),
        (o.grpo(), RolloutGroup((right, silent), (1.0, 0.0)), "0 log-probabilities for 2 tokens"),
        (o.nft(), RolloutGroup((right, wrong), (0.5, 0.0)), "rewards other than 0 and 1"),
        (o.laser(score_token="dog"), RolloutGroup((right, wrong), (0.5, 0.0)), "rewards other than 0 and 1"),
        (o.kto(), Label(q, "one", True), "all records have the same prompt"),
        (o.prm(), ScoredSteps(q, ("one",), (2.0,)), "one score for each step"),
        (o.prm(), ScoredSteps(q, ("one", " "), (1.0, 0.0)), "no tokens of its own"),
        (o.p_ik(), RolloutGroup((right,), (2.0,)), "outside 0..1"),
        (o.quark(num_quantiles=2), Ranking(q, ("one", "two"), (1.0, 1.0)), "1 distinct scores"),
    ]:
        with pytest.raises(BadInput, match=line):
            objective.groups([record], tokenizer)
    assert o.tpo().groups([Ranking(q, ("one", "two"), (1.0, 1.0))], tokenizer) == [()]
    assert o.grpo().groups([RolloutGroup((right, wrong), (1.0, 1.0))], tokenizer) == [()]
    kl_in_reward = o.rloo(0.1)
    from selftaught.records import TokenAdvantages

    with pytest.raises(BadInput, match="needs the whole group"):
        kl_in_reward.groups([TokenAdvantages(right, (1.0,) * 2)], tokenizer)


def test_rollouts_are_trained_on_the_tokens_that_were_sampled(tokenizer):
    odd = with_facts(attempt(tokenizer, "what is one", "one two"), token_ids=(9, 9, 4), logprobs=(-1.0, -2.0, -3.0))
    even = attempt(tokenizer, "what is one", "one")
    (group,) = o.grpo().groups([RolloutGroup((odd, even), (1.0, 0.0))], tokenizer)
    assert (group[0].completion, group[0].token_features["old_logprobs"]) == ((9, 9, 4), (-1.0, -2.0, -3.0))
    record = RolloutGroup((odd, even), (1.0, 0.0))
    assert record.attempts == (odd.id, even.id)
    assert record.prompt == odd.problem.prompt
