"""Populations: policies under names, with their past, for self-play against others and against earlier selves."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from selftaught.errors import BadInput, suggest
from selftaught.models.policy import Policy


@dataclass(frozen=True, slots=True)
class Population:
    """Named policies, each with its versions so far, oldest first. Immutable: learning makes a new one.

    Attributes:
        past: name -> versions of that policy; the last is the one that plays now.
    """

    past: Mapping[str, tuple[Policy, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Policy:
        """The policy of that name as it is now.

        Raises:
            BadInput: there is none.
        """
        return self._versions(name)[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which they joined."""
        return tuple(self.past)

    def updated(self, name: str, policy: Policy) -> Population:
        """With a new version of `name`, which joins if it is new."""
        return replace(self, past={**self.past, name: (*self.past.get(name, ()), policy)})

    def pool(self, name: str, *, last: int = 0, others: bool = True) -> tuple[Policy, ...]:
        """Opponents for `name`: its earlier versions, and the others as they are now.

        Args:
            last: only so many of its latest earlier versions; 0 for all.
            others: whether the others play.
        """
        earlier = self._versions(name)[:-1][-last:]
        return (*earlier, *(self[other] for other in self.names if others and other != name))

    def opponent(self, name: str, seed: int, *, last: int = 0, others: bool = True) -> Policy:
        """One of `pool`, each as likely; itself where there is none (pure self-play)."""
        known = self.pool(name, last=last, others=others)
        return random.Random(f"{seed}/{name}/{len(self._versions(name))}").choice(known) if known else self[name]

    def _versions(self, name: str) -> tuple[Policy, ...]:
        if name not in self.past:
            raise BadInput(f"no policy is called {name!r}", where="population", fix=suggest(name, self.names))
        return self.past[name]
