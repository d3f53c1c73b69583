"""Options of a chat template: rendered as transformers renders them, and part of what a model is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from selftaught.errors import BadInput
from selftaught.learn import TrainConfig, sft
from selftaught.learn.learner import train_policy
from selftaught.models import ChatTokenizer, resolve
from selftaught.records import Demo, Message
from tiny_models import CHATML, make_policy, reference

THINKING = CHATML + (
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}"
    "{% if effort %}{{ effort }}{% endif %}"
)
CHAT = (Message("user", "2 + 2?"),)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "cache"))
    return make_policy(tmp_path / "m", template=THINKING).path


@pytest.mark.parametrize(
    ("spelt", "options"),
    [
        ("enable_thinking=false", {"enable_thinking": False}),
        ("enable_thinking=False", {"enable_thinking": False}),
        ("enable_thinking=true", {"enable_thinking": True}),
        ("enable_thinking=false,effort=high", {"enable_thinking": False, "effort": "high"}),
        ("effort=3", {"effort": 3}),
    ],
)
def test_options_are_handed_to_the_template(folder: Path, spelt: str, options: dict[str, Any]) -> None:
    policy = resolve(f"{folder}:{spelt}")
    true = AutoTokenizer.from_pretrained(str(folder)).apply_chat_template(
        [m._asdict() for m in CHAT], tokenize=False, add_generation_prompt=True, **options
    )
    assert ChatTokenizer(policy.weights).render(CHAT) == true
    assert resolve(f"{folder}:{spelt}") == policy


def test_they_are_part_of_what_a_model_is_and_of_what_is_learnt_from_it(folder: Path, tmp_path: Path) -> None:
    plain, off = resolve(folder), resolve(f"{folder}:enable_thinking=false")
    assert len({plain.version, off.version, resolve(f"{folder}:enable_thinking=true").version}) == 3
    assert all((reference(plain).state_dict()[n] == w).all() for n, w in reference(off).state_dict().items())
    for rank in (0, 2):
        how = TrainConfig(epochs=1, batch_size=1, precision="float32", lora_rank=rank)
        after = train_policy(off, sft(), [Demo(CHAT, "4")], how, seed=0, folder=tmp_path / "p")
        assert ChatTokenizer(resolve(after.path).weights).render(CHAT).endswith("</think>")
    assert not ChatTokenizer(plain.weights).render(CHAT).endswith("</think>")


def test_a_moved_model_is_found_again(folder: Path, tmp_path: Path) -> None:
    before = resolve(f"{folder}:effort=high")
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    after = resolve(f"{moved}:effort=high")
    assert (after, (after.path / "model.safetensors").resolve()) == (before, moved / "model.safetensors")


@pytest.mark.parametrize(
    ("spelt", "reason"),
    [
        ("enable_thinkin=false", "has no option 'enable_thinkin'.*did you mean 'enable_thinking'"),
        ("messages=1", "has no option"),
        ("bos_token=x", "has no option"),
        ("effort=", "no option"),
        ("effort=1,x", "no option"),
    ],
)
def test_unknown_options_are_one_line(folder: Path, spelt: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as caught:
        resolve(f"{folder}:{spelt}")
    assert "\n" not in str(caught.value)


def test_a_broken_file_of_options_is_one_line(folder: Path) -> None:
    (folder / "template_options.json").write_text("[1]", "utf-8")
    with pytest.raises(BadInput, match="template_options"):
        ChatTokenizer(folder)


def test_lineage_goes_on_through_options(folder: Path, tmp_path: Path) -> None:
    how = TrainConfig(epochs=1, batch_size=1, precision="float32")
    after = train_policy(resolve(folder), sft(), [Demo(CHAT, "4")], how, seed=0, folder=tmp_path / "p")
    found = resolve(f"{after.path}:enable_thinking=true")
    assert found.base == resolve(folder)
    assert resolve(found.path).base == found.base


def test_an_endpoint_takes_no_options_of_a_template() -> None:
    with pytest.raises(BadInput, match=r"the endpoint renders the chat.*give openai:m:8b, and set enable_thinking"):
        resolve("openai:m:8b:enable_thinking=false")
    assert resolve("openai:m:8b").remote == "m:8b"
