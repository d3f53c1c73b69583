"""What became of a run's requests and verifications, counted for its notes."""

from __future__ import annotations

from collections import Counter

from selftaught.journal.id_set import IdSet

RETRY_NOTE = "none of them was kept; the same command asks again"


class RequestCounts:
    """Counts of requests and verifications, and the first reason of each kind of failure.

    Attributes:
        returned: ids of the attempts that solvers returned.
        thinking_only: ids of samples that never leave their thinking.
        context_full: ids of samples that ended because the model's context was full.
        episodes: ids of the attempts with which an episode was left.
        unfinished: those of them that used up the environment's turns.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self.returned = IdSet()
        self.thinking_only: set[str] = set()
        self.context_full: set[str] = set()
        self.episodes: set[str] = set()
        self.unfinished: set[str] = set()

    def add(self, what: str, count: int = 1, reason: str = "") -> None:
        """Count something; the first reason of its kind is kept."""
        self._counts[what] += count
        if reason:
            self._reasons.setdefault(what, reason)

    def add_episode(self, attempt: str, *, unfinished: bool) -> None:
        """Count an episode by the attempt with which it was left."""
        self.episodes.add(attempt)
        if unfinished:
            self.unfinished.add(attempt)

    def to_json(self) -> dict[str, int]:
        """Counts by outcome; see `Run.request_counts`."""
        counts = {name: self._counts[name] for name in ("answered", "thinking_only", "replaced", "refused", "failed")}
        return counts | {"thinking_only": self.returned.count(self.thinking_only)}

    def no_answer_reason(self, failed: set[str]) -> str:
        """Why no request at all got an answer; empty where one did, or none was made.

        Args:
            failed: keys of the requests that failed.
        """
        counts = self._counts
        requests = counts["answered"] + counts["refused"] + counts["failed"]
        if counts["answered"]:
            empty = self.returned.count(self.thinking_only | failed) == len(self.returned)
            requests = len(self.returned) if empty and self.returned.count(self.thinking_only) else 0
        if not requests:
            return ""
        reasons = [self._reasons[what] for what in ("failed", "refused") if what in self._reasons]
        reason = reasons[0] if reasons else "they are thinking alone, cut off before an answer: raise --max-tokens"
        return f"none of {_plural(requests, 'request')} got an answer ({reason})"

    def notes(self) -> list[str]:
        """One line for each kind of failure."""
        counts, reasons, notes = self._counts, self._reasons, []
        if counts["unverified"]:
            line = f"{counts['unverified']:,} of {counts['judged']:,} verifications failed and count as UNKNOWN"
            notes.append(f"{line} ({reasons['unverified']})")
        if counts["unshown"]:
            line = f"{counts['unshown']:,} of {counts['shown']:,} shown verdicts failed and were UNKNOWN to solvers"
            notes.append(f"{line} ({reasons['unshown']})")
        for what, verb in (("refused", "refused"), ("failed", "not answered")):
            if counts[what]:
                were = "was" if counts[what] == 1 else "were"
                notes.append(f"{_plural(counts[what], 'request')} {were} {verb} ({reasons[what]}); {RETRY_NOTE}")
        if thinking := self.returned.count(self.thinking_only):
            line = f"{thinking:,} of {_plural(len(self.returned), 'answer')} {'is' if thinking == 1 else 'are'}"
            notes.append(f"{line} thinking alone, without a final answer: raise --max-tokens")
        if counts["replaced"]:
            notes.append(f"{_plural(counts['replaced'], 'answer')} had invalid characters, replaced by U+FFFD")
        if full := len(self.context_full):
            notes.append(f"{_plural(full, 'answer')} ended before --max-tokens: the model's context was full")
        if self.unfinished:
            line = f"{len(self.unfinished):,} of {_plural(len(self.episodes), 'episode')} used up"
            notes.append(f"{line} the environment's turns (max_turns) without an end: unfinished, they count as WRONG")
        return notes


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
