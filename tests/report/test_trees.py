"""The tree viewer: what it shows, that it works without a mouse, and that it is made from the journal's records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from report_sample import report_data, some_tree

from search_world import by_steps
from selftaught.engines import ScriptedEngine
from selftaught.method import find
from selftaught.report import TreeStep, TreeView, render_page, trees_of
from selftaught.report.trees import MAX_TREES
from selftaught.testing import make_run, make_task


def section(html: str) -> str:
    (found,) = re.findall(r"<section>\s*<h2>\d+ search tree.*?</section>", html, flags=re.DOTALL)
    return found


def test_priors_visits_values_and_pairs_are_shown() -> None:
    page = section(render_page(report_data(trees=(some_tree(2),))))
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "1 search tree" in text
    assert "▸ 3 * 4 = 12 Q 1.20 · visits 7 · prior 0.70 · value 0.80 · p(true) 0.80" in text
    assert "12 + 3 = 15 Q 1.10 · visits 6 · prior 0.40 · value 1.90 · p(true) 0.90 ✓ RIGHT chosen" in text
    assert "chosen, smoothing 0.14" in text
    assert "12 + 3 = 16 Q -1.40 · visits 1 · prior 0.20 · value -0.60 ✗ WRONG rejected" in text
    assert "Round 2, policy abc 5 steps, 8 visits, 1 pair" in text


def test_it_opens_and_closes_from_the_keyboard_with_the_main_line_open() -> None:
    page = section(render_page(report_data(trees=(some_tree(2),))))
    assert page.count("<details") == page.count("<summary>") == 2
    assert page.count('<details open="open">') == 1
    assert "tabindex" not in page  # summary takes the focus by itself, and nothing else has to
    assert not re.search(r"<script|onclick|href", page)


def test_a_page_without_searches_has_no_such_part() -> None:
    assert "search tree" not in render_page(report_data(trees=()))


def test_a_step_of_nothing_is_named() -> None:
    tree = TreeView("q", "p", 1, 1, 1, 0, (TreeStep(" \n", 1.0, 0.0, 0, 0.0),))
    assert "(nothing)" in section(render_page(report_data(trees=(tree,))))


def steps_in(steps: tuple[TreeStep, ...]) -> list[TreeStep]:
    return [s for step in steps for s in (step, *steps_in(step.steps))]


def test_what_is_shown_is_what_the_search_journalled(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=ScriptedEngine(by_steps()), task=make_task(train=10, dev=4)) as run:
        find("mcts-dpo")(run, run.base, run.task, rounds=2, problems=5, iterations=6, depth=4)
        records = [(number, payload) for _, number, payload, _ in run.journal.effects("tree")]
        questions = {p.id: p.question for p in run.task.train}
    assert {number for number, _ in records} == {1, 2}
    shown = trees_of(records, lambda problem: questions[problem])
    assert [tree.round for tree in shown] == [1] * (MAX_TREES // 2) + [2] * (MAX_TREES // 2)
    by_question: dict[Any, Any] = {(n, questions[r["problem"]]): r for n, r in records}
    for tree in shown:
        record = by_question[tree.round, tree.question]
        steps = steps_in(tree.steps)
        assert sorted(s.text for s in steps) == sorted(row["text"] for row in record["nodes"][1:])
        assert len(steps) == tree.nodes
        assert sum(s.main for s in steps) == len(record["line"])
        assert sum("rejected" in s.marks for s in steps) == sum(m.startswith("chosen") for s in steps for m in s.marks)
        assert sum(len(s.marks) for s in steps) == 2 * tree.pairs
    assert render_page(report_data(trees=shown)).count("<details") > 0
