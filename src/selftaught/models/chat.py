"""Convert chats to token ids and back, handling the pitfalls of real tokenizers in one place."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from selftaught.errors import BadInput
from selftaught.models.template_options import read_options
from selftaught.models.tokenizer import load_image, render_chat
from selftaught.records import Message, Prompt
from selftaught.samples import well_formed

_OPENING = re.compile(r"(?:<(?:seed:)?think(?:ing)?>|\[THINK\]|<reasoning>)\s*$", re.IGNORECASE)
ANSWER_PLACEHOLDER = "selftaught"  # dummy answer for trying a chat template


class ChatTokenizer:
    """A tokenizer with its chat template.

    - With a template, its text is tokenized without adding special tokens, so BOS is never doubled.
    - Without one (a base model), the messages' contents are joined by blank lines, and the tokenizer
      prepends its special tokens; a BOS that the text already starts with is not doubled, and
      nothing is appended: an end of sequence there would end the answer before it starts.
    - A prompt that ends in a special token (including BOS) is unchanged: sampling continues there.
    - Options of the template (`template_options.json`, see `models.template_options`) are passed to it.
    - Padding is never identified by token id, so `pad == eos` does not hide an end of sequence.

    Args:
        folder: a model folder in Hugging Face layout.

    Attributes:
        eos_ids: every token that ends an answer (from generation_config, config and the tokenizer).
        eos_id: the one trained at the end of a target: the chat template's end of an answer; otherwise the
            tokenizer's, if sampling also ends with it.
        has_template: whether the model ships a chat template.

    Raises:
        BadInput: no loadable tokenizer, or no end-of-sequence token.
    """

    def __init__(self, folder: Path) -> None:
        self._image = load_image(folder)
        self._tokenizer = self._image.tokenizer()
        self.has_template = self._image.template is not None
        # Options must not override the tokenizer's variables, such as eos_token.
        self._given = read_options(folder) | self._image.special
        own, self._configured = self._image.eos, _configured_eos(folder)
        self.eos_ids: frozenset[int] = frozenset([*self._configured, *([] if own is None else [own])])
        if not self.eos_ids:
            raise BadInput("the tokenizer has no end-of-sequence token", where=str(folder), fix="set eos_token")

    @cached_property
    def eos_id(self) -> int:
        """See the class; computed on first use, as most uses of a tokenizer do not train."""
        for token in self._closing():
            if token in self.eos_ids:
                return token
        own, configured = self._image.eos, self._configured
        return own if own is not None and (own in configured or not configured) else configured[0]

    def _closing(self) -> list[int]:
        """The tokens that the chat template appends to an answer; empty if there are none."""
        if self._image.template is None:
            return []
        chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER_PLACEHOLDER}]
        try:
            text = render_chat(self._image.template, chat, self._given, add_generation_prompt=False)
        except BadInput:
            return []
        return self.encode(text.rpartition(ANSWER_PLACEHOLDER)[2]) if ANSWER_PLACEHOLDER in text else []

    def render(self, prompt: Prompt) -> str:
        """The prompt text for these messages, up to where the answer starts.

        Raises:
            BadInput: the chat template cannot render them.
        """
        if self._image.template is None:
            return "\n\n".join(m.content for m in prompt) + "\n\n" if prompt else ""
        messages = [{"role": str(m.role), "content": str(m.content)} for m in prompt]
        return render_chat(self._image.template, messages, self._given)

    @cached_property
    def thinking_tag(self) -> str:
        """The thinking tag that the chat template itself opens for every answer; empty if there is none."""
        if self._image.template is None:
            return ""
        try:
            text = self.render((Message("user", "?"),))
        except BadInput:
            return ""
        found = _OPENING.search(text)
        return found[0].strip() if found else ""

    @cached_property
    def has_system_role(self) -> bool:
        """Whether system messages reach the model: some chat templates reject them, others drop them."""
        try:
            return ANSWER_PLACEHOLDER in self.render((Message("system", ANSWER_PLACEHOLDER), Message("user", "?")))
        except BadInput:
            return False

    def encode_prompt(self, prompt: Prompt, prefix: str = "") -> list[int]:
        """Token ids of a prompt, followed by `prefix`, a forced beginning of the answer.

        Empty for no messages, if the model has neither template nor BOS.

        Raises:
            BadInput: the chat template cannot render the messages.
        """
        text = self.render(prompt)
        ids = self.encode(text) if self.has_template else self._with_bos(text)
        return ids + self.encode(prefix) if prefix else ids

    def _with_bos(self, text: str) -> list[int]:
        """Token ids of bare text after the tokenizer's leading special tokens."""
        bos, whole, bare = self._image.bos, self._tokenizer.encode(well_formed(text)), self.encode(text)
        front = whole.special_tokens_mask.index(0) if bare else whole.ids.count(-1 if bos is None else bos)
        ids = whole.ids[:front] + bare
        while bos is not None and ids[:2] == [bos, bos]:
            del ids[0]
        return ids

    def encode(self, text: str) -> list[int]:
        """Token ids of bare text, without special tokens added; unpaired surrogates become U+FFFD."""
        return self._tokenizer.encode(well_formed(text), add_special_tokens=False).ids

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of an answer after a prompt; a thinking tag opened by the prompt is not repeated."""
        return self.encode(self._unopened(text))

    def _unopened(self, text: str) -> str:
        return text.removeprefix(f"{self.thinking_tag}\n") if self.thinking_tag else text

    def answer_spans(self, text: str) -> list[tuple[int, int]]:
        """The characters `[start, end)` of `text` that each token of `encode_answer` holds.

        Tokens that share a character (parts of an emoji) all hold it; white space that a tokenizer drops from its
        offsets belongs to the token behind it.
        """
        rest = self._unopened(text)
        skipped, last, found = len(text) - len(rest), 0, []
        for start, end in self._tokenizer.encode(well_formed(rest), add_special_tokens=False).offsets:
            start, last = min(start, last), max(end, last)
            found.append((skipped + start, skipped + max(last, start + 1)))
        return found

    def encode_target(self, target: str) -> list[int]:
        """Token ids of an answer to train on (see `encode_answer`), including the end of sequence."""
        return [*self.encode_answer(target), self.eos_id]

    def vocabulary(self) -> dict[str, int]:
        """Every token and its id."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return self._tokenizer.decode(list(ids))


def _configured_eos(folder: Path) -> list[int]:
    """The end-of-sequence tokens that the model's configuration names, those of sampling first."""
    found: list[int] = []
    for path in (folder / "generation_config.json", folder / "config.json"):
        try:
            value = json.loads(path.read_text("utf-8")).get("eos_token_id")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise BadInput(f"cannot read it ({error})", where=str(path), fix="correct the file") from None
        ends = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(end, int) for end in ends):
            raise BadInput(f"eos_token_id is {value!r:.60}", where=str(path), fix="name tokens by their numbers")
        found += ends
    return found
