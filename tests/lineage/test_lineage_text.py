"""Lineages as text and as data: ids, lines of nodes, trees cut in depth and width, counts of what a policy learned."""

from __future__ import annotations

import pytest

from selftaught.lineage import Lineage, LineageLink, LineageNode
from selftaught.lineage.text import node_line, one_line, run_lines, short_id, training_lines, tree_lines, truncate
from selftaught.lineage.walk import attempts_of

HASH = "0123456789abcdef"


def node(id: str, kind: str, role: str = "", **more: object) -> LineageNode:
    return LineageNode(id, kind, role, **more)  # type: ignore[arg-type]


def graph(*links: tuple[str, str, str], **gaps: str) -> Lineage:
    """A policy `p` learned records `r0`, `r1`, ... of attempts `a0`, `a1`, ... by the base `b`."""
    kinds = {"b": ("policy", "base"), "p": ("policy", "trained"), "r": ("record", "demo"), "a": ("attempt", "solve")}
    ids = dict.fromkeys(id for source, target, _ in links for id in (source, target))
    nodes = {id: node(id, *kinds[id[0]], policy="b" if id[0] == "a" else "", gap=gaps.get(id, "")) for id in ids}
    return Lineage(links[0][0], "b", nodes, tuple(LineageLink(*link) for link in links))


def learned(count: int) -> Lineage:
    """A policy that learned so many records, each made of one attempt."""
    records = [("p", f"r{i}", "learned") for i in range(count)]
    attempts = [(f"r{i}", f"a{i}", "made of") for i in range(count)]
    return graph(("p", "b", "trained from"), *records, *attempts, *((f"a{i}", "b", "by") for i in range(count)))


@pytest.mark.parametrize(
    ("id", "short"),
    [
        (HASH, HASH[:10]),
        (f"{HASH}:12", f"{HASH[:10]}:12"),
        ("smollm2", "smollm2"),
        ("openai:gpt-4o@host/v1", "openai:gpt-4o@host/v1"),
        (HASH.upper(), HASH.upper()),  # no hash of ours
        ("x" * 50, "x" * 37 + "..."),
    ],
)
def test_hashes_are_shortened_and_other_ids_are_not(id: str, short: str) -> None:
    assert short_id(id) == short


def test_long_text_is_cut_to_its_width() -> None:
    assert truncate("short", 10) == "short"
    assert truncate("exactly 10", 10) == "exactly 10"
    assert truncate("more than ten", 10) == "more th..."
    assert len(truncate("word " * 10_000, 60)) == 60


def test_text_is_shown_on_one_line_without_what_acts_on_a_terminal() -> None:
    shown = one_line("two\nlines\t and \x1b[31mred")
    assert shown.isprintable()
    assert "\x1b" not in shown


def test_a_node_says_what_it_is_who_made_it_and_how_it_begins() -> None:
    attempt = node(HASH, "attempt", "revise", policy="base", problem="2+2?", verdict="right", text="4", round=3)
    assert node_line(attempt) == f'revise {HASH[:10]}, by base, right: "2+2?" -> "4"'
    assert node_line(node("v", "policy", "trained", round=2, note="sft, 3 records")) == (
        "trained policy v, round 2 (sft, 3 records)"
    )
    assert node_line(node("v:0", "record", "pair", policy="v", text="t")) == 'pair v:0 -> "t"'


def test_the_sources_of_a_node_are_its_links_in_order() -> None:
    found = learned(2)
    assert [link.target for link in found.sources("p")] == ["b", "r0", "r1"]
    assert found.sources("b") == []
    assert found.gaps == {}


def test_a_graph_is_plain_data() -> None:
    data = graph(("p", "b", "trained from"), p="its folder is gone").to_json()
    assert data["links"] == [{"from": "p", "to": "b", "how": "trained from"}]
    assert data["gaps"] == {"p": "its folder is gone"}
    assert [one["id"] for one in data["nodes"]] == ["p", "b"]


def test_the_tree_names_how_each_step_was_taken() -> None:
    lines = list(tree_lines(learned(1)))
    assert lines == [
        "trained policy p",
        "├─ trained from: base policy b",
        "└─ learned: demo r0",
        "   └─ made of: solve a0, by b",
    ]


def test_the_tree_shows_as_many_records_as_its_width() -> None:
    narrow, wide = list(tree_lines(learned(7), width=2)), list(tree_lines(learned(7), width=0))
    assert sum("learned: " in line for line in narrow) == 2
    assert any("5 more (--width 0 shows all)" in line for line in narrow)
    assert sum("learned: " in line for line in wide) == 7
    assert not any("more" in line for line in wide)


def test_the_tree_ends_at_its_depth_and_says_how_to_see_more() -> None:
    lines = list(tree_lines(learned(1), depth=1))
    assert not any("made of" in line for line in lines)
    assert any("--depth 2" in line for line in lines)


def test_a_gap_is_told_where_it_is() -> None:
    lines = list(tree_lines(graph(("p", "b", "trained from"), p="3 records are lost")))
    assert lines[-1] == "└─ incomplete: 3 records are lost"


def test_what_a_policy_learned_is_counted() -> None:
    assert training_lines(learned(2), "p") == ["learned 2 demos", "made of 2 solve by b"]
    assert training_lines(learned(1), "p")[0] == "learned 1 demo"
    assert training_lines(learned(1), "b") == []


def test_a_run_is_told_policy_by_policy() -> None:
    lines = list(run_lines(learned(2), "p", {"method": "star"}, {"attempt": 2, "tree": 0, "policy": 1}))
    assert lines[0] == "star: 2 attempts, 1 policy"
    assert "trained policy p; the champion" in lines
    assert "   trained from b" in lines
    assert next(iter(run_lines(learned(1), "b", {}, {}))) == "no method: nothing made yet"


@pytest.mark.parametrize(
    ("row", "attempts"),
    [
        ({"attempts": ["a", "b", "a"]}, ["a", "b"]),
        ({"attempt": {"id": "a"}}, ["a"]),
        ({"samples": [{"id": "a"}, {"id": "b"}]}, ["a", "b"]),
        ({}, []),
    ],
)
def test_the_attempts_of_a_record_are_named_once(row: dict[str, object], attempts: list[str]) -> None:
    assert attempts_of(row) == attempts
