"""Writing processes: exact distributions, mixtures with posteriors, forced text."""

from __future__ import annotations

import math
import random

import pytest

from selftaught.worlds.kit.process import (
    END,
    Choice,
    Part,
    Writing,
    as_written,
    greedy,
    mixture,
    read,
    sampled,
    single,
    tempered,
    write,
)


def coin() -> Writing:
    """`x` or `y`; after `x` certainly `z`."""
    first = yield single("coin", {"x": 0.75, "y": 0.25})
    if first == "x":
        yield "z"
    yield END


def test_a_mixture_is_the_sum_of_its_parts_and_knows_who_wrote_a_token() -> None:
    choice = mixture("s", [Part(1.0, {"a": 0.5, "b": 0.5}), Part(3.0, {"a": 1.0}), Part(0.0, {"c": 1.0})])
    assert choice.distribution() == {"a": 0.25 * 0.5 + 0.75, "b": 0.125}
    assert choice.posterior("b") == [1.0, 0.0]
    assert choice.posterior("a") == pytest.approx([0.125 / 0.875, 0.75 / 0.875])


def test_a_view_changes_the_weights_of_a_gate_and_splits_them_among_parts_of_a_name() -> None:
    parts = [Part(0.5, {"a": 1.0}, name="x"), Part(0.25, {"b": 1.0}, name="y"), Part(0.25, {"c": 1.0}, name="y")]
    seen = mixture("s", parts, ("g",), lambda _key, _shares: {"x": 0.2, "y": 0.8})
    assert seen.distribution() == pytest.approx({"a": 0.2, "b": 0.4, "c": 0.4})
    assert mixture("s", parts, ("g",), as_written).distribution() == {"a": 0.5, "b": 0.25, "c": 0.25}


def test_temperature_raises_probabilities_to_a_power() -> None:
    # by hand: 0.8^2 : 0.2^2 = 16 : 1
    assert tempered({"a": 0.8, "b": 0.2}, 0.5) == pytest.approx({"a": 16 / 17, "b": 1 / 17})


def test_writing_and_reading_give_the_same_decisions() -> None:
    written = write(coin(), sampled(random.Random(0)))
    assert [*written.steps] == read(coin(), written.tokens)
    assert write(coin(), greedy).text == "xz"
    assert written.finished


def test_text_of_any_origin_has_a_distribution_up_to_where_it_leaves_the_language() -> None:
    steps = read(coin(), ["y"])
    assert isinstance(steps[0], Choice)
    assert math.isclose(steps[0].distribution()["y"], 0.25)
    assert steps[1] == END
    forced = write(coin(), greedy, ["y"])
    assert (forced.text, forced.finished) == ("y", True)


def test_samples_have_the_frequencies_of_the_distribution() -> None:
    rng = random.Random(1)
    hits = sum(write(coin(), sampled(rng)).text == "y" for _ in range(4000))
    assert abs(hits / 4000 - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
