"""From a search tree to preferences and records, on trees built by hand and at random."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.records import Attempt, Solution, Verdict
from selftaught.samples import Sample
from selftaught.search import Decision, Node, backup, decide, pairs_from
from selftaught.search.preferences import collapse_chain, preferences, to_pair, to_record
from selftaught.testing import sums

(PROBLEM,) = sums(1)


def child(parent: Node, text: str, *, visits: int = 0, q: float = 0.0, ended: bool = False) -> Node:
    node = parent.add_child(Node(id=f"{parent.id}{text[:1]}", text=text, ended=ended))
    node.visits, node.q = visits, q
    return node


def decisions(root: Node) -> list[Decision]:
    """What the search would have decided, had it left the tree as it is."""
    made = [decide(root)] if root.children else []
    while made and made[-1].chosen.children:
        made.append(decide(made[-1].chosen))
    return made


def small() -> Node:
    """A root with a good, a middling and a bad step; the good one goes on for two steps without a choice."""
    root = Node(visits=9)
    good = child(root, "good. ", visits=6, q=0.9)
    child(root, "middling. ", visits=1, q=0.5)
    child(root, "bad. ", visits=2, q=-0.4, ended=True)
    child(child(good, "more. ", visits=5, q=0.9), "end.", visits=4, q=0.9, ended=True)
    return root


def test_the_best_step_is_preferred_to_the_worst_with_the_smoothing_of_the_visits() -> None:
    (found,) = preferences(decisions(small()))
    assert (found.chosen.text, found.rejected.text) == ("good. ", "bad. ")
    assert found.smoothing == pytest.approx(1 / (6 / 2 + 1))


def test_steps_without_a_choice_are_joined_up_to_the_next_choice() -> None:
    root = small()
    pair = to_pair(PROBLEM, preferences(decisions(root))[0])
    assert (pair.chosen, pair.rejected) == ("good. more. end.", "bad. ")
    assert pair.attempts == ("g", "gm", "gme", "b")
    assert pair.ends
    good = root.children[0]
    child(good, "other. ")
    assert collapse_chain(good) is good
    assert not to_pair(PROBLEM, preferences(decisions(root))[0]).ends  # "good. " is no complete answer


def test_a_truncated_answer_has_no_end_to_learn() -> None:
    root = small()
    root.children[2].truncated = True
    assert not to_pair(PROBLEM, preferences(decisions(root))[0]).ends


@pytest.mark.parametrize(("first", "second", "q"), [("a", "b", 0.5), ("a", "ab", 0.4), ("ab", "a", 0.4)])
def test_no_preference_between_equals_or_between_an_answer_and_its_beginning(first: str, second: str, q: float) -> None:
    root = Node()
    child(root, first, q=0.5)
    child(root, second, q=q)
    assert preferences(decisions(root)) == []


@pytest.mark.parametrize(
    ("chosen", "rejected", "smoothing"), [(0, 0, 0), (3, 0, 0), (0, 1, 0.5), (0, 4, 0.5), (3, 1, 0.25)]
)
def test_a_step_that_was_never_visited_is_rejected_without_doubt(chosen: int, rejected: int, smoothing: float) -> None:
    root = Node()
    child(root, "a", q=0.5, visits=chosen)
    child(root, "b", q=0.4, visits=rejected)
    confidence = 1 / (1 + rejected / max(1, chosen))  # as the authors' code has it; smoothing is 1 less, at most a half
    assert preferences(decisions(root))[0].smoothing == pytest.approx(min(1 - confidence, 0.5)) == smoothing


def test_pairs_are_of_what_the_search_knew_when_it_went_on() -> None:
    root = Node()
    good, bad = child(root, "good", q=0.5, visits=3), child(root, "bad", q=0.1, visits=1)
    made = [decide(root)]
    good.visits, good.q, bad.q = 90, -1.0, 1.0  # later roots below it
    (found,) = preferences(made)
    assert (found.chosen, found.rejected, found.smoothing) == (good, bad, 0.25)


@st.composite
def trees(draw: st.DrawFn) -> Node:
    root = Node(visits=1)
    nodes = [root]
    for i, (at, value) in enumerate(draw(st.lists(st.tuples(st.integers(0, 99), st.floats(-1, 1)), max_size=25))):
        parent = nodes[at % len(nodes)]
        nodes.append(parent.add_child(Node(id=f"{i:x}", text=f"<{i}>", value=value)))
        backup([*([root] if parent is not root else []), *nodes[-1].path])
    return root


@settings(max_examples=40, deadline=None)
@given(trees())
def test_a_record_of_a_tree_is_json_that_holds_the_whole_tree(root: Node) -> None:
    record = json.loads(json.dumps(to_record(root, decisions(root), preferences(decisions(root)))))
    nodes, rows = list(root), record["nodes"]
    assert rows[0]["parent"] is None
    assert all(row["parent"] < i for i, row in enumerate(rows[1:], 1))  # parents first
    assert sorted(row["id"] for row in rows) == sorted(node.id for node in nodes)
    for row, node in zip(rows, nodes, strict=True):
        texts, at = [], row
        while at["parent"] is not None:
            texts.append(at["text"])
            at = rows[at["parent"]]
        assert "".join(reversed(texts)) == node.answer
        assert row["q"] == pytest.approx(node.q, abs=1e-6)
    assert [rows[i]["id"] for i in record["line"]] == [made.chosen.id for made in decisions(root)]


@settings(max_examples=40, deadline=None)
@given(trees())
def test_preferences_are_between_siblings_of_the_main_line_and_point_up(root: Node) -> None:
    line = [root, *(made.chosen for made in decisions(root))]
    for chosen, rejected, smoothing in preferences(decisions(root)):
        assert chosen.parent is rejected.parent
        assert any(chosen.parent is node for node in line)
        assert chosen.q > rejected.q
        assert 0 <= smoothing <= 0.5


def test_pairs_come_back_from_a_journaled_solution() -> None:
    attempt = Attempt("x", PROBLEM, PROBLEM.prompt, "", None, Sample(""))
    solution = Solution(attempt, {"pairs": [["good", "bad", 0.25, ["a", "b"]]]})
    (pair,) = pairs_from(solution)
    assert (pair.prompt, pair.chosen, pair.rejected) == (PROBLEM.prompt, "good", "bad")
    assert (pair.label_smoothing, pair.attempts) == (0.25, ("a", "b"))


def test_an_unvisited_child_starts_from_its_reward_and_what_its_siblings_are_worth() -> None:
    root = Node(value=0.2, v=0.5)
    node = root.add_child(Node(value=0.9, verdict=Verdict.RIGHT))
    assert node.reward == pytest.approx(0.7)
    assert node.q == pytest.approx(1.2)
    assert (node.depth, root.depth, root.answer, root.reward) == (1, 0, "", 0.2)
