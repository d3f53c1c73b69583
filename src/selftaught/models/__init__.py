"""Models: load weights and tokenizers, and convert chats to tokens.

`resolve` turns a name (`smollm2-135m`), a Hugging Face id, a folder or a GGUF file into a `Policy`, the
immutable name of its weights; `Notes` are what a policy reads before every prompt; `ChatTokenizer` turns messages
into token ids and back.
"""

from selftaught.models.chat import ChatTokenizer
from selftaught.models.notes import Demonstration, Notes
from selftaught.models.policy import Policy
from selftaught.models.resolve import resolve

__all__ = ["ChatTokenizer", "Demonstration", "Notes", "Policy", "resolve"]
