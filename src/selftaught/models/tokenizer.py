"""Cache tokenizers built by `transformers`, so that starting does not import it.

Importing `transformers` and building a tokenizer with it takes seconds. The result is a backend of
the `tokenizers` library, a chat template and a few special tokens; this image is stored in the user's
cache under a hash of its source files, and is all that later starts read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from selftaught.errors import BadInput
from selftaught.models.cache import CONFIG_SUFFIXES, cache_dir, write_cache
from selftaught.models.load import quiet_transformers
from selftaught.records import content_hash

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Template features that only the renderer of transformers supports.
_BEYOND = re.compile(r"\bnamespace\b|\bdict\s*\(|\{%-?\s*generation\b")


@dataclass(frozen=True, slots=True)
class TokenizerImage:
    """The cached parts of a tokenizer.

    Attributes:
        backend: the serialized `tokenizers.Tokenizer`, neither truncating nor padding.
        split_special: whether special tokens inside a text are split like other text.
        template: the chat template, or None.
        special: special tokens by name (`bos_token`, ...), as templates may use them.
        bos: id of the beginning-of-sequence token, or None.
        eos: id of the end-of-sequence token, or None.
    """

    backend: str
    split_special: bool
    template: str | None
    special: dict[str, Any]
    bos: int | None
    eos: int | None

    def tokenizer(self) -> Tokenizer:
        """The backend, ready to use."""
        from tokenizers import Tokenizer

        made = Tokenizer.from_str(self.backend)
        made.encode_special_tokens = self.split_special
        return made


def load_image(folder: Path) -> TokenizerImage:
    """The tokenizer of a model folder, from the cache if it was read before.

    Raises:
        BadInput: no such folder, or no tokenizer in it that `transformers` can load in its fast form.
    """
    if not folder.is_dir():
        raise BadInput("no such folder", where=str(folder), fix="give a model folder with its tokenizer")
    file = cache_dir() / "tokenizers" / f"{_key(folder)}.json"
    try:
        return TokenizerImage(**json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    image = _read(folder)
    write_cache(file, json.dumps({name: getattr(image, name) for name in TokenizerImage.__dataclass_fields__}))
    return image


def _key(folder: Path) -> str:
    """Hash of everything that determines a tokenizer; only parts of config.json, as training changes others."""
    texts = {p.name: p.read_text("utf-8", errors="replace") for p in folder.iterdir() if p.suffix in CONFIG_SUFFIXES}
    try:
        config = json.loads(texts.pop("config.json", "{}"))
        kept = {k: config.get(k) for k in ("model_type", "model_name", "tokenizer_class")}
    except (ValueError, AttributeError):
        kept = {}
    for name in ("generation_config.json", "selftaught.json", "adapter_config.json"):
        texts.pop(name, None)
    named = {n: t for n, t in texts.items() if not n.endswith(".index.json")}
    return content_hash(named, kept, version("transformers"), version("tokenizers"))


def _read(folder: Path) -> TokenizerImage:
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            made = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)  # None would prompt the user
            template = made.get_chat_template() if getattr(made, "chat_template", None) else None
    except Exception as error:  # parsers of arbitrary files raise many types
        raise BadInput(
            f"cannot load the tokenizer ({_one_line(error)})",
            where=str(folder),
            fix="save it there with save_pretrained; code from a model's repository is never run",
        ) from None
    backend: Any = getattr(made, "backend_tokenizer", None)
    if not hasattr(backend, "to_str"):
        raise BadInput(
            f"its tokenizer {type(made).__name__} has no fast form", where=str(folder), fix="add a tokenizer.json"
        )
    backend.no_truncation()
    backend.no_padding()
    split = bool(getattr(made, "split_special_tokens", False))
    special = {k: v if isinstance(v, list) else str(v) for k, v in made.special_tokens_map.items()}
    return TokenizerImage(backend.to_str(), split, template, special, made.bos_token_id, made.eos_token_id)  # pyright: ignore[reportArgumentType]


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, str]],
    special: Mapping[str, Any],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """The text of `messages` under a chat template, up to where the answer starts.

    Templates are untrusted: they run in jinja2's sandbox, with access only to the messages.

    Args:
        opened: whether to open the model's turn after the messages.

    Raises:
        BadInput: the template rejects these messages or is invalid.
    """
    data = {
        **special,
        "messages": list(messages),
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
    }
    try:
        if _BEYOND.search(template):
            from transformers.utils.chat_template_utils import render_jinja_template

            asked = [list(data.pop("messages"))]
            return render_jinja_template(asked, chat_template=template, **data)[0][0]
        return _compiled(template).render(**data)
    except Exception as error:  # a template is a program and can raise anything
        raise BadInput(
            f"the model's chat template cannot render these messages ({_one_line(error)})",
            where="chat template",
            fix="use roles that it supports, or correct the template",
        ) from None


def _one_line(error: Exception) -> str:
    """An error's message, or its type if it has none."""
    return " ".join(str(error).split())[:160] or type(error).__name__


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    """Compile the template in the environment of `transformers`, without the features in `_BEYOND`."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, **how: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **how})

    place = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    del place.globals["namespace"], place.globals["dict"]
    place.filters["tojson"] = tojson
    place.globals["raise_exception"] = refuse
    place.globals["strftime_now"] = lambda how: datetime.now().strftime(how)
    return place.from_string(template)
