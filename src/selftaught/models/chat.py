"""Chats to token ids and back, with the traps of real tokenizers dealt with once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from selftaught.errors import BadInput
from selftaught.records import Prompt


class ChatTokenizer:
    """A tokenizer with its chat template.

    - With a template, its text is tokenised without adding special tokens, so BOS is never doubled.
    - Without one (a base model), the messages' contents are joined by blank lines, and the tokenizer
      adds its own special tokens; a BOS the text already starts with is not doubled.
    - A prompt that ends in a special token (BOS included) is left as it is: sampling goes on from there.
    - Padding is never identified by token id, so `pad == eos` hides no end of sequence.

    Attributes:
        eos_ids: every token that ends an answer (from generation_config, config and the tokenizer).
        eos_id: the one learnt at the end of a target.
        has_template: whether the model ships a chat template.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise BadInput(
                f"cannot load the tokenizer ({reason})", where=str(folder), fix="save it there with save_pretrained"
            ) from None
        self.has_template = bool(getattr(self._tokenizer, "chat_template", None))
        self.eos_ids = self._all_eos(folder)
        if not self.eos_ids:
            raise BadInput("the tokenizer has no end-of-sequence token", where=str(folder), fix="set eos_token")
        own = self._tokenizer.eos_token_id
        self.eos_id: int = int(own) if own is not None else min(self.eos_ids)

    def _all_eos(self, folder: Path) -> frozenset[int]:
        found: set[int] = set()
        for name in ("generation_config.json", "config.json"):
            path = folder / name
            value = json.loads(path.read_text("utf-8")).get("eos_token_id") if path.is_file() else None
            found.update(value if isinstance(value, list) else [value] if value is not None else [])
        if self._tokenizer.eos_token_id is not None:
            found.add(int(self._tokenizer.eos_token_id))
        return frozenset(found)

    def render(self, prompt: Prompt) -> str:
        """The text the model is given for these messages, up to where the answer starts."""
        messages = [{"role": m.role, "content": m.content} for m in prompt]
        if self.has_template:
            return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)  # pyright: ignore[reportReturnType]
        return "\n\n".join(m["content"] for m in messages) + "\n\n"

    def encode_prompt(self, prompt: Prompt, prefix: str = "") -> list[int]:
        """Token ids of a prompt, followed by `prefix`, text the answer is made to begin with."""
        ids = self._tokenizer.encode(self.render(prompt), add_special_tokens=not self.has_template)
        bos = self._tokenizer.bos_token_id
        while not self.has_template and bos is not None and ids[:2] == [bos, bos]:
            del ids[0]
        return ids + self.encode(prefix) if prefix else ids

    def encode(self, text: str) -> list[int]:
        """Token ids of bare text, without special tokens added."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def encode_target(self, target: str) -> list[int]:
        """Token ids of an answer to learn, end of sequence included."""
        return [*self.encode(target), self.eos_id]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)  # pyright: ignore[reportReturnType]
