"""Choosing tokens: frequencies against exact probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from selftaught.engines import sampler as module
from selftaught.engines.base import Sampling
from selftaught.engines.sampler import sample_tokens
from selftaught.errors import BadInput


def exact(logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """The distribution asked for, in float64: temperature, then top-k, then top-p, each by its definition."""
    scaled = logits.astype(np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    order = np.argsort(-p, kind="stable")
    p[order[top_k or len(p) :]] = 0
    p /= p.sum()
    mass = 0.0
    for token in order:
        kept, mass = mass < top_p, mass + p[token]
        p[token] = p[token] if kept else 0.0
    return p / p.sum()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 3},
        {"top_k": 1},
        {"top_p": 0.8},
        {"top_p": 0.3},
        {"top_k": 6, "top_p": 0.7, "temperature": 1.3},
    ],
)
def test_frequencies_are_the_exact_probabilities(how: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    logits, draws = rng.normal(0, 1.5, 12).astype(np.float32), 20000
    want = exact(logits, **how)
    settings = [Sampling(**{"temperature": 1.0, **how})] * draws
    tokens, _ = sample_tokens(torch.tensor(logits).expand(draws, -1), settings, rng.random(draws).tolist())
    counts = np.bincount(tokens.numpy(), minlength=12)
    assert not counts[want == 0].any()
    if (want > 0).sum() > 1:
        assert chisquare(counts[want > 0], want[want > 0] * draws).pvalue > 1e-3


def test_the_draw_is_inverted_as_defined() -> None:
    p = np.array([0.5, 0.25, 0.0, 0.25])
    logits = torch.tensor(np.log(np.maximum(p, 1e-300)), dtype=torch.float32)
    logits[2] = -torch.inf
    uniforms = [0.0, 0.49, 0.51, 0.74, 0.76, 1 - 1e-9]
    tokens, logprobs = sample_tokens(logits.expand(6, -1), [Sampling()] * 6, uniforms)
    assert tokens.tolist() == [0, 0, 1, 1, 3, 3]
    assert logprobs.tolist() == pytest.approx(np.log(p[tokens]).tolist(), abs=1e-6)


@pytest.mark.parametrize("how", [{}, {"top_p": 0.999999}, {"top_k": 4}, {"top_k": 4, "top_p": 0.99}])
@pytest.mark.parametrize("edge", [0.0, 1 - 2**-53])
def test_zero_probability_is_never_chosen(how: dict[str, Any], edge: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(64, 40)
    banned = torch.rand(64, 40) < 0.5
    banned[:, [0, -1]] = True  # where the smallest and the greatest draw would land
    banned[:, 7] = False
    logits[banned] = -torch.inf
    tokens, logprobs = sample_tokens(logits, [Sampling(**how)] * 64, [edge] * 64)
    assert not banned.gather(1, tokens[:, None]).any()
    assert torch.isfinite(logprobs).all()


def test_the_shortlist_chooses_as_a_full_sort_does(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    logits = torch.cat([torch.randn(40, 3000) * scale for scale in (0.1, 1.0, 4.0)])  # flat rows need the full sort
    ways = [{"top_p": 0.95}, {"top_p": 0.5}, {"top_k": 50, "top_p": 0.9}, {"top_k": 700}, {}, {"temperature": 0.0}]
    settings = [Sampling(**ways[i % 6]) for i in range(120)]
    uniforms = torch.rand(120, generator=torch.Generator().manual_seed(2)).tolist()
    picked = {}
    for short in (4, 512, 3000):
        monkeypatch.setattr(module, "MAX_CANDIDATES", short)
        picked[short] = sample_tokens(logits, settings, uniforms)[0].tolist()
    assert picked[4] == picked[512] == picked[3000]
    for i, token in enumerate(picked[512]):
        how = ways[i % 6]
        if how.get("temperature") != 0.0:
            assert exact(logits[i].numpy(), **how)[token] > 0
        else:
            assert token == int(logits[i].argmax())


def test_a_row_depends_on_nothing_but_itself() -> None:
    torch.manual_seed(4)
    logits = torch.randn(6, 1000)
    ways = [{}, {"top_p": 0.9}, {"top_k": 5}, {"temperature": 0.0}, {"temperature": 0.3}, {"top_k": 900, "top_p": 0.99}]
    settings, uniforms = [Sampling(**w) for w in ways], [0.1, 0.9, 0.5, 0.3, 0.99, 0.7]
    together = sample_tokens(logits, settings, uniforms)
    for i in range(6):
        token, logprob = sample_tokens(logits[i : i + 1], settings[i : i + 1], uniforms[i : i + 1])
        assert int(token) == int(together[0][i])
        assert float(logprob) == pytest.approx(float(together[1][i]), abs=1e-6)


@pytest.mark.parametrize("how", [{}, {"temperature": 0.0}, {"top_p": 0.9}, {"top_k": 3}])
def test_a_nan_row_is_told_and_its_neighbours_are_served(how: dict[str, Any]) -> None:
    logits = torch.zeros(3, 700)
    logits[:, 5] = 30.0
    logits[1, 100] = torch.nan
    tokens, logprobs = sample_tokens(logits, [Sampling(**how)] * 3, [0.5] * 3)
    assert logprobs.isnan().tolist() == [False, True, False]
    assert tokens[[0, 2]].tolist() == [5, 5]
    assert 0 <= int(tokens[1]) < 700


def test_logprobs_are_untempered_and_untruncated() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
    _, logprob = sample_tokens(logits, [Sampling(temperature=0.2, top_k=1)], [0.4])
    assert float(logprob) == pytest.approx(3.0 - np.log(np.exp([1.0, 3.0, 2.0, -1.0]).sum()), abs=1e-6)


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"stop": "x"},
    ],
)
def test_settings_that_mean_nothing_are_refused(how: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(how))):
        Sampling(**how)
