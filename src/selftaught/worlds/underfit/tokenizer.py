"""The character-level tokenizer of the underfit world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selftaught.worlds.underfit.language import END, TEMPLATE, TURN_MARKERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN_TOKEN = "<|unknown|>"
CHARACTERS = [*map(chr, range(32, 127)), "\n"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per printable ASCII character; turn markers, end and unknown are special tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [END, UNKNOWN_TOKEN, *TURN_MARKERS]
    vocabulary = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_TOKEN))
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN_TOKEN,
        additional_special_tokens=list(TURN_MARKERS),
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made
