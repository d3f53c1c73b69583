"""The checks of an audit: each recomputes one thing that a run claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from selftaught.audit.evidence import Evidence, Finding, failed
from selftaught.control.gate import Gate
from selftaught.curate.decontaminate import Decontaminator, question_of
from selftaught.errors import BadInput
from selftaught.measure import Measurement, compare
from selftaught.measure.measurement import measure_attempts
from selftaught.models.cache import hash_files
from selftaught.models.policy import CONTENT, FILES, read_manifest
from selftaught.records import Attempt, Verdict, as_json, content_hash
from selftaught.run.conclusion import VOTE_SAMPLING

SHOWN = 3  # of what differs, in a finding
Check = Callable[[Evidence], Finding]


def found(name: str, wrong: list[str], right: str) -> Finding:
    """A finding: what is wrong, the first few, or what holds."""
    if not wrong:
        return Finding(name, True, right)
    more = f"; {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
    return Finding(name, False, "; ".join(wrong[:SHOWN]) + more)


# --- nothing was changed ---


def journal_rows(on: Evidence) -> Finding:
    """The chain over the journal's rows."""
    name, broken = "journal rows", on.reader.broken_links()
    if broken is None:
        return Finding(name, None, "an earlier version wrote the journal, without checksums")
    wrong = [f"effect {number:,} is not as it was written, or one before it is gone" for number in broken]
    total = on.reader.last_effect
    ends = (on.summary or {}).get("journal")
    if isinstance(ends, Mapping) and not wrong and on.reader.link_of(ends.get("effects", 0)) != ends.get("chain"):
        wrong = [f"the summary was written when the journal's first {ends.get('effects')} effects were others"]
    return found(name, wrong, f"{total:,} effects are as they were written")


def policies(on: Evidence) -> Finding:
    """Each policy's files, against its manifest and the journal."""
    wrong: list[str] = []
    for version, folder in on.facts.published.items():
        try:
            manifest = read_manifest(folder)
            now = hash_files([folder / name for name in manifest.get(FILES, [])])
        except (BadInput, OSError) as e:
            wrong.append(f"policy {version} cannot be read: {e}")
            continue
        if CONTENT in manifest and now != manifest[CONTENT]:
            wrong.append(f"policy {version} has other files than it was made with")
        elif now != on.facts.trainings.get(version, (0, {}))[1].get(CONTENT, now):
            wrong.append(f"policy {version} has other files than were trained")
        elif manifest.get("version", version) != version:
            wrong.append(f"the folder of policy {version} holds policy {manifest['version']}")
    return found("policies", wrong, f"{len(on.facts.published)} policies have the files that they were made with")


def configuration(on: Evidence) -> Finding:
    """The task that is loaded now, against the one of the run."""
    name, task = "task", on.task
    if task is None:
        return Finding(name, None, on.no_task)
    problems = content_hash([[(p.id, as_json(p.reference)) for p in task.split(s)] for s in ("train", "dev", "test")])
    wrong = [] if problems == on.config.get("problems") else ["its problems or references are not those of the run"]
    if task.verifier.version != on.config.get("verifier"):
        wrong.append(f"its verifier is {task.verifier.version}, the run's was {on.config.get('verifier')}")
    asked = {p.id: p.question for s in ("train", "dev", "test") for p in task.split(s)}
    wrong += [
        f"problem {k} is kept with another question" for k, q in on.facts.questions.items() if asked.get(k, q) != q
    ]
    count = sum(len(task.split(s)) for s in ("train", "dev", "test"))
    return found(name, wrong, f"{count:,} problems and their references are those of the run")


# --- nothing was learned that is measured ---


def splits(on: Evidence) -> Finding:
    """Train, dev and test hold no problem twice, also in other words."""
    name, task = "splits", on.task
    if task is None:
        return Finding(name, None, on.no_task)
    texts = {s: [question_of(p, task.instruction) for p in task.split(s)] for s in ("train", "dev", "test")}
    find = Decontaminator({s: texts[s] for s in ("dev", "test")}, texts["train"]).find
    wrong = [f"a train problem repeats {again}: {text[:60]!r}" for text in texts["train"] if (again := find(text))]
    if shared := set(texts["dev"]) & set(texts["test"]):
        wrong.append(f"dev and test share {len(shared)} problems")
    return found(name, wrong, "no train problem repeats one of dev or test, exactly or in other words")


def trained_on(on: Evidence) -> Finding:
    """What policies were trained on: no attempt at a dev or test problem."""
    name = "training records"
    if on.task is None:
        return Finding(name, None, on.no_task)
    held = on.ids("dev") | on.ids("test")
    problem_of = {one.key: one.problem for one in on.samples}
    wrong: list[str] = []
    count = 0
    for version, (_, facts) in on.facts.trainings.items():
        records = on.facts.records(version)
        count += len(records)
        if version in on.facts.published and len(records) != facts.get("records", len(records)):
            wrong.append(f"policy {version} keeps {len(records)} records, the journal says {facts['records']}")
        ids = {one for record in records for one in record.get("attempts", ()) if isinstance(one, str)}
        if bad := [one for one in ids if problem_of.get(one) in held]:
            wrong.append(f"policy {version} was trained on {len(bad)} attempts at dev or test problems")
    return found(name, wrong, f"{count:,} records, none of a dev or test problem")


def opening(on: Evidence) -> Finding:
    """The test split was opened once, for the champion, and no test problem was tried before."""
    name = "test split"
    if not on.opened:
        return Finding(name, True, "not opened yet") if on.summary is None else found(name, ["it was never opened"], "")
    wrong = [f"it was opened {len(on.opened)} times"] if len(on.opened) > 1 else []
    number, opened = on.opened[0]
    if opened["champion"] != on.facts.champion:
        wrong.append(f"it was opened for {opened['champion']}, the champion is {on.facts.champion}")
    if on.task is not None:
        test = on.ids("test")
        early = [one for one in on.samples if one.problem in test and one.number < number]
        wrong += [f"{len(early)} answers to test problems came before"] if early else []
    return found(name, wrong, "opened once, for the champion, before any test problem was tried")


# --- the figures ---


def verdicts(on: Evidence) -> Finding:
    """The verifier's verdicts, given again."""
    name, task = "verdicts", on.task
    if task is None:
        return Finding(name, None, on.no_task)
    wrong: list[str] = []
    again: dict[str, Any] = {}
    count = 0
    for one in on.attempts:
        key = on.verdict_key(one.problem, one.text)
        kept = on.verdicts.get(key)
        if kept is None or key in again or failed(kept):
            continue
        again[key] = now = task.decide(one.problem, one.text) or task.verify(one.problem, one.text)
        if failed(("", None, now.text)):
            continue
        count += 1
        if (str(now.verdict), now.score) != (kept[0], kept[1]):
            wrong.append(
                f"attempt {one.id} is {now.verdict} ({_score(now.score)}), kept as {kept[0]} ({_score(kept[1])})"
            )
    return found(name, wrong, f"{count:,} verdicts given again, all alike")


def _score(score: Any) -> str:
    return "no score" if score is None else f"{score:g}"


def tokens(on: Evidence) -> Finding:
    """Tokens of each sample, and the sums that the run states."""
    odd = [one for one in on.samples if not one.counted]
    wrong = [f"sample {one.key} has {one.size} tokens, {one.paid} are counted" for one in odd]
    summary, total = on.summary, on.reader.usage()
    if on.opened and summary is not None:
        number, opened = on.opened[0]
        before = on.reader.usage_until(number)
        if not opened["left"]:
            wrong += _sums("spent before the test split", opened["spent"], before)
        stated = summary["tokens"]
        wrong += _sums("the summary's tokens", stated, before) if not opened["left"] else []
    return found(
        "tokens", wrong, f"{total.spent:,} tokens, as counted for each of {on.reader.count('sample'):,} samples"
    )


def _sums(what: str, stated: Mapping[str, Any], counted: Any) -> list[str]:
    names = ("generated", "judge", "trained")  # prompts that requests share are counted once in a session
    return [
        f"{what}: {stated.get(name):,} {name}, {getattr(counted, name):,} in the journal"
        for name in names if stated.get(name) != getattr(counted, name)
    ]  # fmt: skip


def gates(on: Evidence) -> Finding:
    """The gate's decisions, made again from the answers to dev problems."""
    name = "gates"
    if on.task is None:
        return Finding(name, None, on.no_task)
    gate = Gate(**{k.partition(".")[2]: v for k, v in on.config.items() if k.startswith("gate.")})
    wrong: list[str] = []
    count, total = 0, on.reader.count("gate")
    for _, number, row, _ in on.reader.effects("gate"):
        if "measured" in row or "members" in row:
            continue
        old, new = _greedy(on, row["champion"], "dev"), _greedy(on, row["policy"], "dev")
        if old is None or new is None:
            continue
        count += 1
        now = gate.decide(compare(old, new))
        if (now.promoted, now.reason) != (row["promoted"], row["reason"]):
            wrong.append(f"round {number}: {now.reason}; kept as: {row['reason']}")
    wrong += list(_rounds(on))
    return found(name, wrong, f"{count} of {total} decisions made again, all alike")


def _rounds(on: Evidence) -> Iterator[str]:
    """Rounds whose accuracy on dev is not that of the answers, or that say otherwise than the gate."""
    decided = {(row["policy"], number): row for _, number, row, _ in on.reader.effects("gate") if "learner" not in row}
    for _, number, row, _ in on.reader.effects("round"):
        gate = decided.get((row["policy"], number))
        if gate is None and row["reason"].startswith(("promoted: ", "not promoted: ")):
            yield f"the decision of round {number} is gone: {row['reason']}"
        if gate is None or "measured" in gate:
            continue
        if (gate["promoted"], gate["reason"]) != (row["promoted"], row["reason"]):
            yield f"round {number} says {row['reason']!r}, its gate {gate['reason']!r}"
        now = _greedy(on, row["policy"], "dev")
        if now is not None and abs(now.accuracy - row["accuracy"]) > 1e-9:
            yield f"round {number} says {row['accuracy']:.4f} on dev, its answers {now.accuracy:.4f}"


def _greedy(on: Evidence, policy: str, split: str) -> Measurement | None:
    """A policy's greedy answers to a split, measured; None if they are not there once each."""
    groups = on.plain(policy, split, temperature=0.0)
    if not groups or any(len(group) != 1 for group in groups.values()):
        return None
    return measure_attempts(policy, split, "greedy", groups, 0)


def figures(on: Evidence) -> Finding:
    """The summary's figures, from the answers to test problems."""
    name, summary = "summary", on.summary
    if summary is None:
        return Finding(name, None, "the run has not ended: there is no summary")
    if on.task is None:
        return Finding(name, None, on.no_task)
    wrong = _champion(on, summary)
    base, champion = on.facts.base, on.facts.champion
    before, after = _greedy(on, base, "test"), _greedy(on, champion, "test")
    wrong += [line for policy in dict.fromkeys((base, champion)) for line in _missing(on, policy)]
    checked = ["champion"]
    for what, now in (("before", before), ("after", after)):
        if now is not None:
            checked.append(what)
            wrong += _differ(what, summary[what]["accuracy"], now.accuracy)
            wrong += _differ(f"interval {what}", summary[what]["ci95"], list(now.ci95))
    if before is not None and after is not None:
        paired = compare(before, after, seed=int(on.config.get("seed", 0)))
        checked.append("their difference")
        wrong += _differ("difference", summary["paired_difference"]["mean"], paired.difference)
        wrong += _differ("its interval", summary["paired_difference"]["ci95"], list(paired.ci95))
        wrong += _differ("number of problems", summary["n_test"], before.n)
    wrong += _vote(on, summary, checked)
    return found(name, wrong, f"{', '.join(checked)}: as the journal has them")


def _missing(on: Evidence, policy: str) -> Iterator[str]:
    """Whether some test problems have a policy's greedy answer and others do not, though no request failed."""
    counts = [len(group) for group in on.plain(policy, "test", temperature=0.0).values()]
    requests = (on.summary or {}).get("requests", {})
    if max(counts, default=0) == 1 and 0 in counts and not any(requests.get(name) for name in ("failed", "refused")):
        yield f"{counts.count(0)} of {len(counts)} test problems have no answer of {policy}"


def _champion(on: Evidence, summary: Mapping[str, Any]) -> list[str]:
    champion = on.facts.champion
    wrong = [] if summary["champion"] == champion else [f"champion {summary['champion']}, the gates made it {champion}"]
    if bool(summary["promoted"]) != (champion != on.facts.base):
        wrong.append(f"promoted: {summary['promoted']}")
    return wrong


def _vote(on: Evidence, summary: Mapping[str, Any], checked: list[str]) -> list[str]:
    """The starting model's vote and pass@k. Of answers with equally many votes the first one wins: either may."""
    groups = on.plain(on.facts.base, "test", **VOTE_SAMPLING)
    stated = summary["majority_at_equal_tokens"]
    if not groups or len({len(group) for group in groups.values()}) != 1 or stated["accuracy"] is None:
        return []
    checked.append("the vote")
    sampled = measure_attempts(on.facts.base, "test", "sampled", groups, 0)
    wrong = _differ("samples of the vote", stated["samples"], sampled.samples)
    bounds = [[_wins(group, best) for group in groups.values()] for best in (min, max)]
    low, high = (sum(some) / len(groups) for some in bounds)
    if not low - 1e-4 <= stated["accuracy"] <= high + 1e-4:
        wrong.append(f"vote: {stated['accuracy']}, the samples {low:.4f} to {high:.4f}")
    pass_at = {int(k): v for k, v in summary["sampled_before"]["pass_at"].items()}
    return wrong + _differ("pass@k", list(pass_at.values()), [sampled.pass_at.get(k, -1.0) for k in pass_at])


def _wins(group: list[Attempt], best: Callable[..., bool]) -> bool:
    """Whether a right answer wins the vote, at worst or at best."""
    from selftaught.curate.vote import ballots

    some = ballots(group)
    most = max(map(len, some), default=0)
    return best((one[0].verdict is Verdict.RIGHT for one in some if len(one) == most), default=False)


def _differ(what: str, stated: Any, now: Any) -> list[str]:
    """A line if a stated figure, or one of a list, is not what it is now, to four digits."""
    pairs = zip(stated, now, strict=True) if isinstance(stated, list) else [(stated, now)]
    if all(abs(a - b) <= 1e-4 for a, b in pairs):
        return []
    return [f"{what}: {stated}, the answers say {now}"]


ALL: tuple[Check, ...] = (
    journal_rows, policies, configuration, splits, trained_on, opening, verdicts, tokens, gates, figures,
)  # fmt: skip
