"""A writer: all families and all roles, behind one function from a prompt to a writing process."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

from selftaught.records import Prompt, content_hash
from selftaught.worlds.kit.conversation import Asked, read_prompt
from selftaught.worlds.kit.family import Family
from selftaught.worlds.kit.language import tokenize
from selftaught.worlds.kit.process import View, Writing, Written, as_written, sampled, write
from selftaught.worlds.kit.roles import WRITERS, RoleSkills


class Writer:
    """Writes replies in all roles, from exact distributions.

    Args:
        families: families of problems, with the tables of this writer.
        skills: rates of the other roles.
        version: name of the writer, for hashes.
    """

    def __init__(self, families: Sequence[Family], skills: RoleSkills, version: str = "") -> None:
        self.families, self.skills, self.version = tuple(families), skills, version
        self._read = lru_cache(4096)(self._read_once)

    def _read_once(self, prompt: Prompt) -> Asked | None:
        return read_prompt(prompt, self.families)

    def asked(self, prompt: Prompt) -> Asked | None:
        """What a prompt asks for; None if it is not in the language."""
        return self._read(tuple(prompt))

    def reply(self, prompt: Prompt, view: View = as_written) -> Writing | None:
        """The writing that answers a prompt; None if it is not in the language.

        Args:
            view: entries of tables, as they are or as a twin has learned them.
        """
        asked = self.asked(prompt)
        return None if asked is None else WRITERS[asked.role](asked, self.skills, view)

    def write(self, prompt: Prompt, rng: random.Random, temperature: float = 1.0, prefix: str = "") -> Written:
        """Sample a reply that begins with `prefix`.

        Raises:
            ValueError: the prompt is not in the language.
        """
        writing = self.reply(prompt)
        if writing is None:
            raise ValueError(f"not in the language of this world: {prompt[-1].content!r:.80}")
        return write(writing, sampled(rng, temperature), tokenize(prefix))


def is_held_out(question: str) -> bool:
    """Whether a question is held out of the text: half of all are, and tasks use only those."""
    return int(content_hash(question), 16) % 2 == 1
