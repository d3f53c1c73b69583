"""Read a run folder for lineage: its journal, and the training records stored next to each policy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput, suggest
from selftaught.journal import JournalReader
from selftaught.models.policy import MANIFEST, read_manifest
from selftaught.records import judged_text_hash
from selftaught.report.text import make_visible
from selftaught.run.config import QUESTIONS_KEY

RECORDS = "records.jsonl"
MAX_MATCHES = 50  # ids looked at for one that is nearest to a misspelled one
EFFECT_KINDS = ("sample", "tree")  # of effects that can be asked about


class RunFolder:
    """Read-only access to a run folder.

    Args:
        folder: the run folder.
        reader: reader of its journal.

    Attributes:
        config: the run's configuration.
        base: version of the starting model.
        weights: version of its weights, which is another one if it has notes.
        questions: problem id -> question.
        posed: id of each new problem of the run -> the attempts that it was taken from.
    """

    def __init__(self, folder: Path, reader: JournalReader) -> None:
        self.folder, self.reader = folder, reader
        self.config = reader.meta_object("config")
        self.base = str(self.config.get("model", ""))
        self.weights = str(self.config.get("weights", self.base))
        self._read: dict[str, list[dict[str, Any]]] = {}
        new = [row for _, _, found, _ in reader.effects("problems") for row in found["kept"]]
        self.questions: dict[str, str] = reader.meta_object(QUESTIONS_KEY) | {p["problem"]: p["question"] for p in new}
        self.posed: dict[str, list[str]] = {row["problem"]: row["attempts"] for row in new}

    # --- policies ---

    @cached_property
    def published(self) -> dict[str, Path]:
        """Version -> folder of each policy stored in the run. Names in the journal are never used as paths."""
        found = sorted(self.folder.glob(f"policies/*/{MANIFEST}"))
        return {path.parent.name: path.parent for path in found}

    @cached_property
    def trainings(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Version of each trained policy -> its round and journal entry."""
        return {f["policy"]: (n, f) for _, n, f, _ in self.reader.effects("learn") if f["policy"] != self.base}

    @cached_property
    def tuned(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Version of each policy that lived for one answer -> its round and journal entry."""
        return {facts["policy"]: (number, facts) for _, number, facts, _ in self.reader.effects("tune")}

    @cached_property
    def noted(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Version of each policy with notes -> its round and journal entry."""
        return {f["policy"]: (n, f) for _, n, f, _ in self.reader.effects("notes") if f["policy"] != self.base}

    @cached_property
    def teachers(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Version of each model that taught here without being trained here -> its round and journal entry."""
        return {facts["policy"]: (number, facts) for _, number, facts, _ in self.reader.effects("teacher")}

    @cached_property
    def live(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Name of each policy in training -> its round and journal entry."""
        return {key: (number, facts) for key, number, facts, _ in self.reader.effects("live")}

    @cached_property
    def updates(self) -> dict[str, dict[int, list[str]]]:
        """Version of a policy trained online -> step, from 1 -> ids of the attempts it trained on."""
        found: dict[str, dict[int, list[str]]] = {}
        for _, _, facts, _ in self.reader.effects("online"):
            found.setdefault(facts["policy"], {})[facts["step"]] = facts.get("attempts", [])
        return found

    @cached_property
    def live_names(self) -> dict[tuple[str, int], str]:
        """(version of a policy trained online, step) -> name of the policy in training."""
        return {(facts["policy"], facts["step"]): name for name, (_, facts) in self.live.items()}

    @cached_property
    def champion(self) -> str:
        """Version of the last promoted policy of the main learner, or the base."""
        gates = [gate for _, _, gate, _ in self.reader.effects("gate") if gate["promoted"]]
        passed = [gate["policy"] for gate in gates if "learner" not in gate]
        return passed[-1] if passed else self.base

    @property
    def policies(self) -> list[str]:
        """Versions of all policies in order of creation, the base first."""
        return list(dict.fromkeys([self.base, *self.trainings, *self.noted, *self.published]))

    def manifest(self, version: str) -> tuple[dict[str, Any], str]:
        """Return the manifest next to a policy's weights, and what is wrong with it, if anything."""
        if version not in self.published:
            return {}, f"its folder is not in this run (policies/{version})"
        try:
            return read_manifest(self.published[version]), ""
        except BadInput as error:
            return {}, error.what

    def records(self, version: str) -> list[dict[str, Any]]:
        """Training records stored next to a policy's weights; an empty object for an unreadable line."""
        if version not in self._read:
            path = self.published[version] / RECORDS if version in self.published else None
            text = path.read_text("utf-8", errors="replace") if path and path.is_file() else ""
            self._read[version] = [_object(line) for line in text.split("\n") if line]
        return self._read[version]

    # --- attempts and trees ---

    @cached_property
    def _verdicts(self) -> dict[str, str]:
        found = (payload for _, _, payload, _ in self.reader.effects("verify"))
        return {payload[3]: payload[0] for payload in found if len(payload) > 3}

    @cached_property
    def steps(self) -> dict[str, str]:
        """Id of each attempt that is a node of a search tree -> its search statistics."""
        found: dict[str, str] = {}
        for key, _, tree, _ in self.reader.effects("tree"):
            for row in tree["nodes"][1:]:
                seen = f"Q {row['q']:.2f}, visits {row['visits']}, prior {row['prior']:.2f}"
                found[row["id"]] = f"step of tree {key[:10]}: {seen}"
        return found

    @cached_property
    def judgments(self) -> dict[str, list[str]]:
        """Id of each judged attempt -> what each judgment says of it, and in which samples."""
        found: dict[str, list[str]] = {}
        for _, _, told, _ in self.reader.effects("judgment"):
            for attempt, (verdict, score, _) in zip(told["attempts"], told["feedback"], strict=True):
                said = verdict if score is None else f"score {score:.2f}"
                replies = ", ".join(reply[:10] for reply in told["replies"])
                where = f" in {replies}" if replies else ""
                found.setdefault(attempt, []).append(f"{said} by {told['source']}{where}")
        return found

    def question(self, problem: str) -> str:
        """The question of a problem, or its id if unknown."""
        return self.questions.get(problem) or problem

    def verdict(self, sample: Mapping[str, Any], id: str = "") -> str:
        """The verdict on a sample, or on the episode that it ended; empty if there is none."""
        if sample.get("refused"):
            return "unknown"
        return self._verdicts.get(id) or self._verdicts.get(
            judged_text_hash(sample["problem"], self.answer(sample)), ""
        )

    def answer(self, sample: Mapping[str, Any]) -> str:
        """The full text of an answer, including the prefix that its sample continues (see `Ask.continue_from`)."""
        chain = [sample, *self._before(sample)]
        text, cut = "", ""
        for one in reversed(chain):
            said, forced = text + cut, one.get("injected", "")
            begun = (said if forced else said.rstrip("\ufffd")) + forced if one.get("prefix_chars") else ""
            text, cut = begun + one["text"], one.get("stop_text", "")
        return text

    def _before(self, sample: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        seen: set[str] = set()
        while sample.get("prefix_chars") and sample["parent"] not in seen:
            seen.add(sample["parent"])
            if (found := self.reader.entry(sample["parent"])) is None:
                return
            sample = found[2]
            yield sample

    # --- what can be asked about ---

    def resolve_id(self, word: str) -> str:
        """Resolve an id or a unique prefix of one.

        Raises:
            BadInput: no id matches (with suggestions), or several do.
        """
        policy, colon, number = word.rpartition(":")
        if (
            colon
            and number.isdecimal()
            and len(number) < 10
            and policy not in ("", self.base)
            and word not in self.policies
        ):
            return self._record(self.resolve_id(policy), int(number))
        found = self._starting_with(word, MAX_MATCHES) if word else []
        if word in found or len(found) == 1:
            return word if word in found else found[0]
        if found:
            some = ", ".join(make_visible(id) for id in found[:4])
            what = f"{word!r} is a prefix of {'many' if len(found) >= MAX_MATCHES else len(found)} ids"
            raise BadInput(
                what, where=str(self.folder), fix=f"give a longer prefix: {some}" + ", ..." * (len(found) > 4)
            )
        raise BadInput(f"no such id: {word!r}", where=str(self.folder), fix=suggest(word, self._similar(word)))

    def resolve_policy(self, word: str) -> str:
        """The policy of the run whose version begins so; empty for an empty word.

        Raises:
            BadInput: there is none, or several.
        """
        found = [version for version in self.policies if word and version.startswith(word)]
        if word and len(found) != 1:
            fix = f"its policies are {', '.join(map(make_visible, self.policies[:6]))}"
            what = f"{len(found) or 'no'} policies begin with {word!r}"
            raise BadInput(what, where=str(self.folder), fix=fix)
        return found[0] if found else ""

    def _record(self, version: str, number: int) -> str:
        count = len(self.records(version))
        if number >= count:
            has = f"it has {count}, from 0" if count else "it has none"
            raise BadInput(f"policy {make_visible(version)} has no record {number}", where=str(self.folder), fix=has)
        return f"{version}:{number}"

    def _starting_with(self, word: str, most: int) -> list[str]:
        found = [name for name in (*self.policies, *self.live) if name.startswith(word)]
        for kind in EFFECT_KINDS:
            found += self.reader.keys(kind, word, most)
        return list(dict.fromkeys(found))

    def _similar(self, word: str) -> list[str]:
        """Ids that share the longest matching prefix with `word`, and all policies."""
        while word and not self._starting_with(word, 1):
            word = word[:-1]
        return [make_visible(id) for id in (*self.policies, *self._starting_with(word, MAX_MATCHES))]


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
