"""Chats to token ids and back, with the traps of real tokenizers dealt with once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from selftaught.errors import BadInput
from selftaught.models.tokenizer import load_image, render
from selftaught.records import Prompt, well_formed


class ChatTokenizer:
    """A tokenizer with its chat template.

    - With a template, its text is tokenised without adding special tokens, so BOS is never doubled.
    - Without one (a base model), the messages' contents are joined by blank lines, and the tokenizer
      puts its own special tokens in front; a BOS the text already starts with is not doubled, and
      nothing is put behind: an end of sequence there would end the answer before it starts.
    - A prompt that ends in a special token (BOS included) is left as it is: sampling goes on from there.
    - Padding is never identified by token id, so `pad == eos` hides no end of sequence.

    Args:
        folder: a model folder in Hugging Face layout.

    Attributes:
        eos_ids: every token that ends an answer (from generation_config, config and the tokenizer).
        eos_id: the one learnt at the end of a target.
        has_template: whether the model ships a chat template.

    Raises:
        BadInput: no loadable tokenizer, or no end-of-sequence token.
    """

    def __init__(self, folder: Path) -> None:
        self._image = load_image(folder)
        self._tokenizer = self._image.tokenizer()
        self.has_template = self._image.template is not None
        own = self._image.eos
        self.eos_ids: frozenset[int] = frozenset([*_configured_eos(folder), *([] if own is None else [own])])
        if not self.eos_ids:
            raise BadInput("the tokenizer has no end-of-sequence token", where=str(folder), fix="set eos_token")
        self.eos_id: int = own if own is not None else min(self.eos_ids)

    def render(self, prompt: Prompt) -> str:
        """The text the model is given for these messages, up to where the answer starts.

        Raises:
            BadInput: the chat template cannot render them.
        """
        if self._image.template is None:
            return "\n\n".join(m.content for m in prompt) + "\n\n" if prompt else ""
        messages = [{"role": str(m.role), "content": str(m.content)} for m in prompt]
        return render(self._image.template, messages, self._image.special)

    def encode_prompt(self, prompt: Prompt, prefix: str = "") -> list[int]:
        """Token ids of a prompt, followed by `prefix`, text the answer is made to begin with.

        Empty where a model without template or BOS is given no messages.

        Raises:
            BadInput: the chat template cannot render the messages.
        """
        text = self.render(prompt)
        ids = self.encode(text) if self.has_template else self._with_bos(text)
        return ids + self.encode(prefix) if prefix else ids

    def _with_bos(self, text: str) -> list[int]:
        """Bare text behind the special tokens that the tokenizer puts in front of it."""
        bos, whole, bare = self._image.bos, self._tokenizer.encode(well_formed(text)), self.encode(text)
        front = whole.special_tokens_mask.index(0) if bare else whole.ids.count(-1 if bos is None else bos)
        ids = whole.ids[:front] + bare
        while bos is not None and ids[:2] == [bos, bos]:
            del ids[0]
        return ids

    def encode(self, text: str) -> list[int]:
        """Token ids of bare text, without special tokens added; half a surrogate pair is read as U+FFFD."""
        return self._tokenizer.encode(well_formed(text), add_special_tokens=False).ids

    def encode_target(self, target: str) -> list[int]:
        """Token ids of an answer to learn, end of sequence included."""
        return [*self.encode(target), self.eos_id]

    def vocabulary(self) -> dict[str, int]:
        """Every token and its id."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self._tokenizer.decode(list(ids))


def _configured_eos(folder: Path) -> set[int]:
    """The end-of-sequence tokens that the model's configuration names: none, one or a list."""
    found: set[int] = set()
    for path in (folder / "generation_config.json", folder / "config.json"):
        try:
            value = json.loads(path.read_text("utf-8")).get("eos_token_id")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise BadInput(f"cannot read it ({error})", where=str(path), fix="mend the file") from None
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return found
