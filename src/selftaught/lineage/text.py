"""A lineage as lines for a terminal: a tree for one thing, a table of all policies for a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from selftaught.lineage.graph import Lineage, LineageLink, LineageNode
from selftaught.terminal import make_visible

SHORT = 10  # characters of an id, where it is a hash
LENGTH = 16  # of a hash
QUESTION, TEXT, NOTE = 40, 60, 80  # characters shown


def tree_lines(lineage: Lineage, *, depth: int = 0, width: int = 3) -> Iterator[str]:
    """Render a lineage as a tree, one line per link; each node is expanded at its first occurrence.

    Args:
        depth: maximum number of links; 0 for all.
        width: records per policy, or steps per tree; 0 for all.
    """
    opened: set[str] = set()
    waiting: list[tuple[str, str, LineageLink | None, str]] = [("", "", None, "")]
    while waiting:
        head, indent, link, text = waiting.pop()
        if text:
            yield head + text
            continue
        id = link.target if link else lineage.start
        node, again = lineage.nodes[id], id in opened
        onward = [] if again or (link and link.how == "updated from") else _shown(lineage, id, opened)
        opened.add(id)
        yield head + (f"{link.how}: " if link else "") + node_line(node) + (" (see above)" if again and onward else "")
        deep = len(indent) // 3
        if depth and deep >= depth and onward:
            onward, more = [], [f"... (--depth {depth + 1} shows more)"]
        else:
            onward, more = _first(onward, width)
        more += [f"incomplete: {one_line(node.gap)}"] if node.gap and not again else []
        rows = [*((one, "") for one in onward), *((None, text) for text in more)]
        for place, (one, text) in reversed(list(enumerate(rows))):
            branch, below = ("└─ ", "   ") if place == len(rows) - 1 else ("├─ ", "│  ")
            waiting.append((indent + branch, indent + below, one, text))


def _shown(lineage: Lineage, id: str, opened: set[str]) -> list[LineageLink]:
    """The links to expand: without policies already expanded, and attempts that another attempt continues."""
    links = lineage.sources(id)
    made_of = [link.target for link in links if link.how == "made of"]
    within = set[str]()
    for start in made_of:
        parent = _parent(lineage, start)
        while parent and parent not in within:
            within.add(parent)
            parent = _parent(lineage, parent)
    return [
        link for link in links
        if not (link.how == "by" and link.target in opened) and not (link.how == "made of" and link.target in within)
    ]  # fmt: skip


def _parent(lineage: Lineage, id: str) -> str:
    return next((link.target for link in lineage.sources(id) if link.how == "continues"), "")


def _first(links: Sequence[LineageLink], width: int) -> tuple[list[LineageLink], list[str]]:
    """At most `width` of the `learned` and `step` links, and a line that counts the others."""
    many = [link for link in links if link.how in ("learned", "step")]
    left_out = many[width:] if width else []
    more = [f"... {len(left_out)} more (--width 0 shows all)"] if left_out else []
    return [link for link in links if link not in left_out], more


def node_line(node: LineageNode) -> str:
    """A node as a line: kind, id, policy, verdict, and the beginning of its text."""
    what = node.role if node.kind == "attempt" and node.role else " ".join(w for w in (node.role, node.kind) if w)
    what = node.role if node.kind == "record" else what
    facts = [f"{what or node.kind} {short_id(node.id)}"]
    facts += [f"by {short_id(node.policy)}"] if node.policy and node.kind != "record" else []
    facts += [f"round {node.round}"] if node.round and node.kind != "attempt" else []
    said = one_line(f"{', '.join([*facts, *([node.verdict] if node.verdict else [])])}")
    said += f': "{truncate(node.problem, QUESTION)}"' if node.problem else ""
    said += f' -> "{truncate(node.text, TEXT)}"' if node.text else ""
    return said + (f" ({truncate(node.note, NOTE)})" if node.note else "")


def run_lines(lineage: Lineage, champion: str, config: dict[str, Any], counts: dict[str, int]) -> Iterator[str]:
    """Render a run as a table of policies, with the kinds of nodes that can be traced.

    Args:
        lineage: lineage of all its policies, in order of creation.
        champion: version of the last policy that passed the gate.
        config: configuration of the run.
        counts: other nodes that can be traced: kind -> number.
    """
    made = ", ".join(f"{count:,} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count)
    yield f"{one_line(str(config.get('method', 'no method')))}: {made or 'nothing made yet'}"
    yield ""
    shown = ("base", "trained", "noted")
    for node in (node for node in lineage.nodes.values() if node.kind == "policy" and node.role in shown):
        yield node_line(node) + ("; the champion" if node.id == champion else "")
        base = [short_id(link.target) for link in lineage.sources(node.id) if link.how == "trained from"]
        yield from (f"   trained from {name}" for name in base)
        noted = [short_id(link.target) for link in lineage.sources(node.id) if link.how == "notes for"]
        yield from (f"   notes for {name}" for name in noted)
        yield from (f"   {counted}" for counted in training_lines(lineage, node.id))
    yield from (f"incomplete: {one_line(gap)}" for gap in dict.fromkeys(lineage.gaps.values()))
    yield ""
    yield "Trace a policy, one of its records (POLICY:NUMBER, from 0), an attempt or a tree by its id or a"
    yield "unique prefix:"


def training_lines(lineage: Lineage, policy: str) -> list[str]:
    """Count a policy's training records by kind, and the attempts they name by role and policy."""
    records, attempts = Counter[str](), dict[str, None]()
    for link in (one for one in lineage.sources(policy) if one.how in ("learned", "made of")):
        node = lineage.nodes[link.target]
        if node.kind == "record":
            records[node.role] += 1
            attempts.update(dict.fromkeys(one.target for one in lineage.sources(node.id)))
        else:
            attempts[node.id] = None
    named = (lineage.nodes[id] for id in attempts)
    written = Counter((one_line(node.role or "lost"), _writer(lineage, node)) for node in named)
    kinds = ", ".join(f"{count:,} {_several(role) if count > 1 else role}" for role, count in records.items())
    return [
        *([f"learned {kinds}"] if kinds else []),
        *(f"made of {count:,} {role} by {writer}" for (role, writer), count in written.items()),
    ]


def _several(role: str) -> str:
    return role if role.endswith("s") else f"{role}s"


def _writer(lineage: Lineage, node: LineageNode) -> str:
    """The policy that sampled an attempt."""
    policy = lineage.nodes.get(node.policy)
    return "weights in training" if policy and policy.role == "live" else short_id(node.policy) or "an unknown policy"


def short_id(id: str) -> str:
    """Shorten a hash for display; return any other id unchanged."""
    name, colon, number = id.rpartition(":")
    if colon and number.isdecimal():
        return f"{short_id(name)}:{number}"
    return truncate(id[:SHORT] if len(id) == LENGTH and set(id) <= set("0123456789abcdef") else id, QUESTION)


def truncate(text: str, most: int) -> str:
    """Show text on one line, truncated to `most` characters."""
    said = one_line(text[: 4 * most])
    return said if len(said) <= most and len(text) <= 4 * most else said[: most - 3] + "..."


def one_line(text: str) -> str:
    """Show text on one line, with control characters made visible."""
    return " ".join(make_visible(text).split())
