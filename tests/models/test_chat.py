"""Chats to tokens, against transformers, with the traps of real tokenizers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import encode_completion
from selftaught.models import ChatTokenizer
from selftaught.records import Message
from tiny_models import BOS_CHATML, CHATML, edit_json, save_tokenizer

CHAT = (Message("system", "be brief"), Message("user", "2 + 2?"))
BOS, END = 1, 3


def made(folder: Path, template: str | None = CHATML, **how: object) -> ChatTokenizer:
    save_tokenizer(folder, template, **how)  # pyright: ignore[reportArgumentType]
    return ChatTokenizer(folder)


@pytest.mark.parametrize("template", [CHATML, BOS_CHATML])
@pytest.mark.parametrize("add_bos", [False, True])
def test_a_chat_is_tokenised_as_transformers_does(tmp_path: Path, template: str, add_bos: bool) -> None:
    ours, theirs = made(tmp_path, template, add_bos=add_bos), AutoTokenizer.from_pretrained(str(tmp_path))
    messages = [m._asdict() for m in CHAT]
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ours.render(CHAT) == text
    assert ours.encode_prompt(CHAT) == theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert ours.encode_prompt(CHAT).count(BOS) == (template == BOS_CHATML)
    assert ours.has_template


def test_text_and_ids_both_ways_as_transformers_does(tmp_path: Path) -> None:
    ours, theirs = made(tmp_path), AutoTokenizer.from_pretrained(str(tmp_path))
    draw = random.Random(0)
    letters = "abc XYZ 09\n\t.,!?'éü☕中😀\u0000\u200d" + "".join(chr(draw.randrange(0x20, 0x2FFF)) for _ in range(50))
    for _ in range(200):
        text = "".join(draw.choices(letters, k=draw.randrange(30)))
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ours.encode(text)) == text
        ids = [draw.randrange(260) for _ in range(draw.randrange(20))]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("text", ["Once upon", "<s>Once upon", "<s><s>x", "ends in <s>", "<s>", "<|im_end|>", ""])
def test_without_template_bos_comes_once(tmp_path: Path, text: str) -> None:
    ours = made(tmp_path, None, add_bos=True)
    ids = ours.encode_prompt((Message("user", text),))
    assert not ours.has_template
    assert ids[0] == BOS
    assert ids[1:2] != [BOS]
    assert ids.count(BOS) == 1 + ("ends in" in text)
    bare = text.removeprefix("<s>").removeprefix("<s>") if text.startswith("<s>") else text
    assert ids == [BOS, *ours.encode(bare + "\n\n")]


def test_without_template_messages_are_joined_by_blank_lines(tmp_path: Path) -> None:
    ours = made(tmp_path, None)
    assert ours.encode_prompt(CHAT) == ours.encode("be brief\n\n2 + 2?\n\n")
    assert ours.encode_prompt(()) == []


def test_a_prompt_ending_in_bos_is_left_alone(tmp_path: Path) -> None:
    ours = made(tmp_path, "{% for m in messages %}{{ m.content }}{% endfor %}{{ bos_token }}", add_bos=True)
    ids = ours.encode_prompt((Message("user", "hi"),))
    assert ids == [*ours.encode("hi"), BOS]
    assert ours.encode_prompt((Message("user", "hi"),), "yes") == [*ids, *ours.encode("yes")]


def test_nothing_is_put_behind_a_prompt(tmp_path: Path) -> None:
    """A tokenizer that appends its end of sequence would end the answer before it starts."""
    from tokenizers import Tokenizer, processors

    save_tokenizer(tmp_path, None)
    backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A <|im_end|>", special_tokens=[("<s>", 1), ("<|im_end|>", 3)]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    ours = ChatTokenizer(tmp_path)
    assert ours.encode_prompt((Message("user", "hi"),)) == [BOS, *ours.encode("hi\n\n")]


def test_every_configured_end_of_sequence_counts(tmp_path: Path) -> None:
    edit_json(tmp_path / "generation_config.json", eos_token_id=[0, 7])
    edit_json(tmp_path / "config.json", eos_token_id=9, model_type="llama")
    ours = made(tmp_path)
    assert ours.eos_ids == {0, 7, 9, END}
    assert ours.eos_id == END
    assert ours.encode_target("ok") == [*ours.encode("ok"), END]  # pad is the same token, and still there


def test_end_of_sequence_from_the_configuration_alone(tmp_path: Path) -> None:
    edit_json(tmp_path / "generation_config.json", eos_token_id=[8, 5])
    ours = made(tmp_path, eos=None)
    assert ours.eos_ids == {5, 8}
    assert ours.eos_id in ours.eos_ids


@pytest.mark.parametrize(
    ("own", "configured", "template", "end"),
    [
        ("<|pad|>", [0, 3], CHATML, 3),  # as of Llama 3, Qwen and Gemma: a turn ends otherwise than a text
        ("<|im_end|>", 0, CHATML, 3),
        ("<|pad|>", [0, 3], None, 0),  # a base model ends a text
        ("<|pad|>", [3, 7], None, 3),  # its tokenizer says what sampling never heeds
        (None, [7, 3], None, 7),
        ("<|pad|>", 0, CHATML, 0),  # sampling does not end with what the template puts there
        ("<|pad|>", [0, 3], "{{ messages[0].content }}", 0),  # shows no answer
        ("<|pad|>", [0, 3], "{% if messages|length > 1 %}{{ raise_exception('one') }}{% endif %}x", 0),
    ],
)
def test_the_end_that_is_learnt_is_the_one_that_template_and_sampling_use(
    tmp_path: Path, own: str | None, configured: Any, template: str | None, end: int
) -> None:
    edit_json(tmp_path / "generation_config.json", eos_token_id=configured)
    ours = made(tmp_path, template, eos=own)
    assert ours.encode_target("ok") == [*ours.encode("ok"), end]
    assert end in ours.eos_ids


@pytest.mark.parametrize("value", ["3", ["3"], {"a": 1}, [None]])
def test_an_end_that_is_no_token_is_refused(tmp_path: Path, value: Any) -> None:
    edit_json(tmp_path / "generation_config.json", eos_token_id=value)
    with pytest.raises(BadInput, match="eos_token_id is"):
        made(tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 / 0 }}",
        "{{ 10.0 ** 400 }}",
        "{{ 'x' * 10 ** 15 }}",
        "{{ ''[7].x }}{{ [][3] + 1 }}",
        "{{ '%c' | format(-1) }}",
        "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}",
        "{% set ns = namespace(n=0) %}{{ ns.n / 0 }}",
        "{{ messages[9].content.x }}",
        "{% for m in messages %}",
    ],
)
def test_a_template_that_fails_in_any_way_is_one_line(tmp_path: Path, template: str) -> None:
    with pytest.raises(BadInput, match="chat template cannot render") as caught:
        made(tmp_path, template).encode_prompt(CHAT)
    assert "\n" not in str(caught.value)


def test_no_end_of_sequence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no end-of-sequence token"):
        made(tmp_path, eos=None)


def test_no_tokenizer_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tokenizer"):
        ChatTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(BadInput, match="tokenizer"):
        ChatTokenizer(tmp_path)


def test_a_changed_tokenizer_is_not_served_from_the_cache(tmp_path: Path) -> None:
    assert made(tmp_path).render(CHAT).startswith("<|im_start|>")
    assert made(tmp_path, BOS_CHATML).render(CHAT).startswith("<s><|im_start|>")
    (tmp_path / "chat_template.jinja").unlink()
    assert not made(tmp_path, None).has_template


def test_a_template_that_refuses_or_reaches_out_is_bad_input(tmp_path: Path) -> None:
    refusing = "{{ raise_exception('no system messages, please') }}"
    with pytest.raises(BadInput, match="no system messages, please"):
        made(tmp_path / "a", refusing).encode_prompt(CHAT)
    escaping = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(BadInput):
        made(tmp_path / "b", escaping).encode_prompt(CHAT)


def test_special_tokens_in_a_message_do_not_break_rendering(tmp_path: Path) -> None:
    text = made(tmp_path).render((Message("user", "{{ 7 * 7 }} {% raw %}"),))
    assert "{{ 7 * 7 }} {% raw %}" in text  # a message is data, never a template


def test_thinking_that_the_template_opened_is_learned_once(tmp_path: Path) -> None:
    opening, plain = made(tmp_path / "a", CHATML + "<think>\n"), made(tmp_path / "b")
    assert (opening.thinking_tag, plain.thinking_tag) == ("<think>", "")
    assert opening.encode_answer("<think>\nhm") == opening.encode("hm")
    assert opening.encode_target("<think>\nhm</think>4") == [*opening.encode("hm</think>4"), opening.eos_id]
    assert encode_completion(opening, "<think>\nhm", ends=False) == tuple(opening.encode("hm"))
    assert plain.encode_answer("<think>\nhm") == plain.encode("<think>\nhm")
