"""Populations: named policies with their earlier versions, for self-play against others and against earlier selves."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from selftaught.errors import BadInput, suggest
from selftaught.models.policy import Policy


@dataclass(frozen=True, slots=True)
class Population:
    """Named policies, each with its versions so far, oldest first. Immutable: learning makes a new population.

    Attributes:
        versions: name -> versions of that policy; the last is the current one.
    """

    versions: Mapping[str, tuple[Policy, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Policy:
        """The current policy of that name.

        Raises:
            BadInput: there is none.
        """
        return self._versions(name)[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which they joined."""
        return tuple(self.versions)

    def with_version(self, name: str, policy: Policy) -> Population:
        """Add a new version of `name`, which joins if it is new."""
        return replace(self, versions={**self.versions, name: (*self.versions.get(name, ()), policy)})

    def opponents(self, name: str, *, last: int = 0, others: bool = True) -> tuple[Policy, ...]:
        """Opponents for `name`: its earlier versions, and the current versions of the others.

        Args:
            last: number of its latest earlier versions to use; 0 for all.
            others: whether the others play.
        """
        earlier = self._versions(name)[:-1][-last:]
        return (*earlier, *(self[other] for other in self.names if others and other != name))

    def sample_opponent(self, name: str, seed: int, *, last: int = 0, others: bool = True) -> Policy:
        """One of `opponents`, uniformly; the policy itself if there is none (pure self-play)."""
        known = self.opponents(name, last=last, others=others)
        return random.Random(f"{seed}/{name}/{len(self._versions(name))}").choice(known) if known else self[name]

    def _versions(self, name: str) -> tuple[Policy, ...]:
        if name not in self.versions:
            raise BadInput(f"no policy is called {name!r}", where="population", fix=suggest(name, self.names))
        return self.versions[name]
