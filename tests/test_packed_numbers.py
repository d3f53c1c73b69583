"""Numbers as short text: exact, readable without this package, and lists of before."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selftaught.packed_numbers import pack_decimals, pack_integers, packed_length, unpack
from selftaught.samples import Sample, sample_from_json, sample_to_json


@pytest.mark.parametrize(
    ("values", "form"),
    [([0, 255], "<2B"), ([0, 256, 65_535], "<3H"), ([65_536, 2**32 - 1], "<2I"), ([7], "<1B")],
)
def test_whole_numbers_are_base64_of_the_smallest_size(values: list[int], form: str) -> None:
    assert pack_integers(values) == form[-1] + base64.b64encode(struct.pack(form, *values)).decode()


def test_decimals_are_millionths_in_four_bytes() -> None:
    written = base64.b64encode(struct.pack("<3i", -1_187_882, 0, -1)).decode()
    assert pack_decimals([-1.187882, -0.0, -0.000001]) == "m" + written


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_whole_numbers_come_back(values: list[int]) -> None:
    packed = pack_integers(values)
    assert unpack(packed) == tuple(values)
    assert packed_length(packed) == len(values)


@given(st.lists(st.floats(-2000, 2000)))
@example([2.5e-6, 0.0000005, -0.1234565])  # halves, which round as six decimals do
def test_decimals_come_back_as_six_decimals_say(values: list[float]) -> None:
    assert unpack(pack_decimals(values)) == tuple(round(value, 6) for value in values)


@pytest.mark.parametrize("values", [[-1], [2**32], [3, 2**40]])
def test_what_does_not_fit_stays_a_list(values: list[int]) -> None:
    assert pack_integers(values) == values
    assert unpack(pack_integers(values)) == tuple(values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -3000.25])
def test_decimals_that_do_not_fit_stay_a_list(value: float) -> None:
    packed = pack_decimals([-0.1234567, value])
    assert isinstance(packed, list)
    assert [str(one) for one in unpack(packed)] == ["-0.123457", str(value)]


@pytest.mark.parametrize("damaged", ["Hx", "H!!!", "zAAAA", "HAAA=A", "ß", "IAAAA", "bAAAA", "fAAAAAA=="])
def test_damaged_text_is_refused(damaged: str) -> None:
    with pytest.raises(ValueError, match=r"size|base64|multiple|padding|ASCII|data"):
        unpack(damaged)


def test_a_sample_of_an_earlier_version_is_read() -> None:
    sample = Sample("Answer: 3", (1, 2, 70_000), (-0.5, -1.25, -0.000001), "stop", 7, "p")
    kept = sample_to_json(sample)
    assert sample_from_json(kept, "p", 7) == sample
    assert sample_from_json(kept | {"tokens": [1, 2, 70_000], "logprobs": [-0.5, -1.25, -1e-06]}, "p", 7) == sample


def test_a_sample_takes_little_more_than_its_numbers() -> None:
    """200 tokens of a vocabulary of 50,000: 8/3 characters a token and 16/3 a log-probability."""
    kept: dict[str, Any] = sample_to_json(Sample("x", tuple(range(40_000, 40_200)), (-0.123456,) * 200))
    assert len(kept["tokens"]) + len(kept["logprobs"]) <= 200 * 8 + 16
