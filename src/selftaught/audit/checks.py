"""The checks of an audit: each recomputes one thing that a run claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from selftaught.audit.evidence import Evidence, Finding, failed
from selftaught.curate.decontaminate import Decontaminator, question_of
from selftaught.errors import BadInput
from selftaught.models.cache import hash_files, policy_files
from selftaught.models.policy import CONTENT, FILES, read_manifest
from selftaught.records import as_json, content_hash

SHOWN = 3  # of what differs, in a finding
SPLITS = ("train", "dev", "test")
Check = Callable[[Evidence], Finding]


def found(name: str, wrong: list[str], right: str, *, unmade: str = "") -> Finding:
    """A finding: what is wrong, the first few; else why it could not be made; else what holds."""
    if not wrong:
        return Finding(name, None, unmade) if unmade else Finding(name, True, right)
    more = f"; {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
    return Finding(name, False, "; ".join(wrong[:SHOWN]) + more)


# --- nothing was changed ---


def journal_rows(on: Evidence) -> Finding:
    """The chain over the journal's rows."""
    name, broken = "journal rows", on.reader.broken_links()
    if broken is None:
        return Finding(name, None, "an earlier version wrote the journal, without hashes")
    wrong = [f"effect {number:,} is not as it was written, or one before it is gone" for number in broken]
    ends = (on.summary or {}).get("journal")
    if isinstance(ends, Mapping) and not wrong:
        number = ends.get("effects")
        if not isinstance(number, int) or on.reader.link_of(number) != ends.get("chain"):
            wrong = [f"the summary was written when the journal's first {number} effects were others"]
    return found(name, wrong, f"{on.reader.last_effect:,} effects are as they were written")


def policies(on: Evidence) -> Finding:
    """Each policy's files, against its manifest and the journal."""
    wrong: list[str] = []
    for version, folder in on.facts.published.items():
        made = on.facts.trainings.get(version) or on.facts.noted.get(version) or on.facts.tuned.get(version)
        if made is None and version != on.facts.base:
            wrong.append(f"the journal does not say how policy {version} was made")
            continue
        try:
            manifest = read_manifest(folder)
            names = manifest.get(FILES, [])
            now = hash_files([folder / name for name in names])
        except (BadInput, OSError) as e:
            wrong.append(f"policy {version} cannot be read: {e}")
            continue
        if CONTENT in manifest and (now != manifest[CONTENT] or sorted(names) != policy_files(folder)):
            wrong.append(f"policy {version} has other files than it was made with")
        elif made and now != made[1].get(CONTENT, now):
            wrong.append(f"policy {version} has other files than were trained")
        elif manifest.get("version", version) != version:
            wrong.append(f"the folder of policy {version} holds policy {manifest['version']}")
    return found("policies", wrong, f"{len(on.facts.published)} policies have the files that they were made with")


def same_task(on: Evidence) -> Finding:
    """The task that is loaded now, against the one of the run."""
    name, task = "task", on.task
    if task is None:
        return Finding(name, None, on.no_task)
    problems = content_hash([[(p.id, as_json(p.reference)) for p in task.split(s)] for s in SPLITS])
    wrong = [] if problems == on.config.get("problems") else ["its problems or references are not those of the run"]
    if (verifier := on.config.get("verifier", task.verifier.version)) != task.verifier.version:
        wrong.append(f"its verifier is {task.verifier.version}, the run's was {verifier}")
    if task.name != on.config.get("task"):
        wrong.append(f"it is {task.name}, the run's was {on.config.get('task')}")
    asked = {p.id: p.question for s in SPLITS for p in task.split(s)}
    kept = on.facts.questions.items()
    wrong += [f"problem {key} is kept with another question" for key, text in kept if asked.get(key, text) != text]
    opened = on.opened[0][1].get("configuration") if on.opened else None
    if opened and not on.altered and opened != content_hash(dict(on.config)):
        wrong.append("the configuration is not the one with which the test split was opened")
    count = sum(len(task.split(s)) for s in SPLITS)
    return found(name, wrong, f"{count:,} problems and their references are those of the run")


# --- nothing was learned that is measured ---


def splits(on: Evidence) -> Finding:
    """Train, dev and test hold no problem twice; repeats in other words are told, as many tasks have a template."""
    name, task = "splits", on.task
    if task is None:
        return Finding(name, None, on.no_task)
    texts = {s: [question_of(p, task.instruction) for p in task.split(s)] for s in SPLITS}
    find = Decontaminator({s: texts[s] for s in ("dev", "test")}, texts["train"]).find
    again = [(text, repeated) for text in texts["train"] if (repeated := find(text))]
    exact = [(text, repeated) for text, repeated in again if not repeated.endswith("in other words")]
    wrong = [f"a train problem repeats {repeated}: {text[:60]!r}" for text, repeated in exact]
    if shared := set(texts["dev"]) & set(texts["test"]):
        wrong.append(f"dev and test share {len(shared)} problems")
    near = len(again) - len(exact)
    told = f"; {near} of {len(texts['train']):,} resemble one, {again[0][0][:60]!r} among them" if near else ""
    return found(name, wrong, f"no train problem is one of dev or test{told}")


def trained_on(on: Evidence) -> Finding:
    """What policies were trained on: no attempt at a dev or test problem."""
    name, task = "training records", on.task
    if task is None:
        return Finding(name, None, on.no_task)
    held = on.ids("dev") | on.ids("test")
    prompts = {str(as_json(p.prompt)) for s in ("dev", "test") for p in task.split(s)}
    problem_of = {one.key: one.problem for one in on.samples}
    wrong: list[str] = []
    count = 0
    for version, (_, facts) in on.facts.trainings.items():
        records, online = on.facts.records(version), on.facts.updates.get(version, {})
        count += len(records)
        if version in on.facts.published and not online and len(records) != facts.get("records", len(records)):
            wrong.append(f"policy {version} keeps {len(records)} records, the journal says {facts['records']}")
        ids = {one for record in records for one in record.get("attempts", ()) if isinstance(one, str)}
        ids |= {one for attempts in online.values() for one in attempts}
        asked = sum(str(record.get("prompt")) in prompts for record in records)
        if bad := sum(problem_of.get(one) in held for one in ids) + asked:
            wrong.append(f"policy {version} was trained on {bad} attempts at dev or test problems")
    return found(name, wrong, f"{count:,} records, none of a dev or test problem")


def opening(on: Evidence) -> Finding:
    """The test split was opened once, for the champion, and no test problem was tried before."""
    name = "test split"
    number = on.opened[0][0] if on.opened else on.reader.last_effect + 1
    wrong = [f"it was opened {len(on.opened)} times"] if len(on.opened) > 1 else []
    if on.opened and not on.altered and on.opened[0][1]["champion"] != on.facts.champion:
        wrong.append(f"it was opened for {on.opened[0][1]['champion']}, the champion is {on.facts.champion}")
    if on.summary is not None and not on.opened:
        wrong.append("it was never opened")
    if on.task is not None:
        test = on.ids("test")
        early = sum(one.problem in test and one.number < number for one in on.samples)
        wrong += [f"{early} answers to test problems came before it was opened"] if early else []
    right = "opened once, for the champion, before any test problem was tried" if on.opened else "not opened yet"
    return found(name, wrong, right, unmade="" if on.task else on.no_task)


# --- verdicts and costs ---


def verdicts(on: Evidence) -> Finding:
    """The verifier's verdicts, given again."""
    name, task = "verdicts", on.task
    if task is None:
        return Finding(name, None, on.no_task)
    wrong: list[str] = []
    seen: set[str] = set()
    undecided = 0
    for one in on.attempts:
        key = on.verdict_key(one.problem, one.text)
        kept = on.verdicts.get(key)
        if kept is None or key in seen or failed(kept):
            continue
        seen.add(key)
        now = task.decide(one.problem, one.text) or task.verify(one.problem, one.text)
        if now.verdict == "unknown" != kept[0]:
            undecided += 1  # a time limit, on a slower machine
        elif (str(now.verdict), now.score) != (kept[0], kept[1]):
            wrong.append(f"attempt {one.id} is {now.verdict} ({now.score}), kept as {kept[0]} ({kept[1]})")
    unmade = f"{undecided} of {len(seen):,} verdicts are not decided now, as where time is short" if undecided else ""
    return found(name, wrong, f"{len(seen):,} verdicts given again, all alike", unmade=unmade)


def tokens(on: Evidence) -> Finding:
    """Tokens of each sample and training, and the sums that the run states."""
    few = [one for one in on.samples if one.paid < one.size]  # more: it was asked again after a failure
    wrong = [f"sample {one.key} has {one.size} tokens, {one.paid} are counted" for one in few]
    for version, trained in on.trained.items():
        manifest, _ = on.facts.manifest(version)
        if version not in on.facts.updates and manifest.get("tokens", trained) != trained:
            wrong.append(f"policy {version} was trained on {manifest['tokens']} tokens, {trained} are counted")
    if on.opened and on.summary is not None:
        number, opened = on.opened[0]
        before, left = on.reader.usage_until(number), opened.get("left", 0)
        if sum(opened["spent"].get(name, 0) for name in _COSTS) + left != before.spent:
            wrong.append(
                f"{before.spent:,} tokens before the test split, it says {opened['spent']} and {left} of before"
            )
        if {name: on.summary["tokens"].get(name) for name in _COSTS} != {k: opened["spent"].get(k) for k in _COSTS}:
            wrong.append(f"the summary says {on.summary['tokens']}, the journal {opened['spent']}")
    total, count = on.reader.usage().spent, len(on.samples)
    return found("tokens", wrong, f"{total:,} tokens, as counted for each of {count:,} samples and each training")


_COSTS = ("generated", "judge", "trained")  # prompts that requests share are counted once in a session


def all_checks() -> dict[str, Check]:
    """The checks by name, in the order in which they are told."""
    from selftaught.audit.figures import gates, summary

    return {
        "journal rows": journal_rows, "policies": policies, "task": same_task, "splits": splits,
        "training records": trained_on, "test split": opening, "verdicts": verdicts, "tokens": tokens, "gates": gates,
        "summary": summary,
    }  # fmt: skip


def checked(name: str, check: Check, on: Evidence) -> Finding:
    """What a check finds; that it cannot be made, where the folder holds something else than it expects.

    Raises:
        BadInput: a file cannot be read.
    """
    try:
        return check(on)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
        return Finding(name, None, f"it cannot be made: {type(e).__name__}: {e}")
