"""Environments from a user's file, and any verified task as one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selftaught.cli.main import main
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.records import make_problem
from selftaught.tasks import Kind, Task, load_task, with_retries
from selftaught.tasks.source import INSTRUCTION
from selftaught.testing import make_run, make_task, solve_sum

GUESS = '''
from selftaught import Turn


class Guess:
    """Think of a number from 1 to 8, and say whether a guess is too low or too high."""

    version = "guess-1"
    max_turns = 4

    def start(self, problem):
        return {"number": problem.reference}

    def act(self, state, text):
        if not text.strip().isdigit():
            return Turn("Say a number.", reward=-0.1, state=state)
        guess, number = int(text), int(state["number"])
        if guess == number:
            return Turn("Right.", reward=1.0, done=True, state=state)
        return Turn("Too low." if guess < number else "Too high.", state=state)


def make_game(train=4):
    ask = "I think of a number from 1 to 8 (game {}). Which is it?"
    games = [{"question": ask.format(i), "answer": 1 + i * 5 % 8} for i in range(train + 8)]
    return {"train": games[:-8], "dev": games[-8:-4], "test": games[-4:], "environment": Guess()}


def half_a_game():
    return {"train": [{"question": "?"}], "environment": "guess"}
'''


@pytest.fixture
def game(tmp_path: Path) -> str:
    file = tmp_path / "game.py"
    file.write_text(GUESS)
    return f"{file}:make_game"


def bisect(policy: object, request: object) -> str:
    """Halve the numbers that are left, by what was said to each guess."""
    del policy
    low, high = 1, 8
    messages = request.prompt  # pyright: ignore[reportAttributeAccessIssue]
    for said, heard in zip(messages[1::2], messages[2::2], strict=True):
        low = int(said.content) + 1 if heard.content == "Too low." else low
        high = int(said.content) - 1 if heard.content == "Too high." else high
    return str((low + high) // 2)


def test_a_users_function_gives_problems_and_an_environment(game: str, tmp_path: Path) -> None:
    task = load_task(game, train=4, dev=4, test=4)
    assert task.environment is not None
    assert (task.verifier.version, task.instruction) == ("guess-1", "")
    assert not any(INSTRUCTION in p.question for p in task.train)
    with make_run(tmp_path, task=task, script=bisect) as run:
        found = run.attempt(run.base, run.task.train)
        assert all(attempt.right for attempt in found)
        assert [int(a.text) for a in found] == [p.reference for p in task.train]
        assert run.measure(run.base).accuracy == 1.0


def test_a_verifier_that_is_asked_for_judges_in_place_of_rewards(game: str) -> None:
    task = load_task(game, train=4, dev=4, test=4, verifier="exact")
    assert task.environment is not None
    assert task.verifier.version == Exact().version


def test_an_environment_that_is_none_is_one_line(game: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = game.replace("make_game", "half_a_game")
    assert main(["run", "rest-em", "--model", "underfit", "--task", spec, "--dry-run"]) == 2
    said = capsys.readouterr().err.strip()
    assert "a str is no environment: it has no start and no act" in said
    assert "\n" not in said


def test_a_dry_run_of_it_costs_episodes_of_about_two_turns(game: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "multi-turn-grpo", "--model", "underfit", "--task", game]
    words += ["--train", "4", "--dev", "4", "--test", "4"]
    assert main([*words, "--rounds", "1", "--steps", "2", "--samples", "8", "--dry-run", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["expected"]
    episodes = 2 * 4 * 8 + 2 * 4  # rollouts, and dev twice
    assert 1.2 * episodes < expected["requests"]["solve"] < 3 * episodes


# --- any verified task ---


def test_a_task_with_retries_is_right_if_one_of_the_answers_is(tmp_path: Path) -> None:
    task = make_task(train=12)
    with make_run(tmp_path / "once", task=task) as run:
        once = [a.right for a in run.attempt(run.base, run.task.train)]
    with make_run(tmp_path / "again", task=with_retries(task, 3), script=solve_sum) as run:
        again = run.attempt(run.base, run.task.train)
        turns = [len(a.prompt) // 2 + 1 for a in again]
        assert run.task.name == "sums, 3 tries"
    assert all(late.right for late, early in zip(again, once, strict=True) if early)
    assert sum(a.right for a in again) > sum(once)
    assert set(turns) == {1, 2, 3}
    assert all(a.right or turn == 3 for a, turn in zip(again, turns, strict=True))
    assert {m.content for a in again for m in a.prompt[2::2]} == {"That is not right. Try again."}


def test_retries_use_the_tasks_own_words_and_need_its_references() -> None:
    task = with_retries(load_task("underfit:family=add", train=2, dev=1, test=1))
    problem = task.train[0]
    assert task.environment is not None
    state = task.environment.start(problem)  # pyright: ignore[reportCallIssue]
    assert task.environment.act(state, "no").observation == "revise"
    assert task.environment.act(state, "no").reward == 0.0
    with pytest.raises(BadInput, match="the task has an environment already"):
        with_retries(task)
    bare = Task("bare", [make_problem("What?")], [], [], verifier=Exact(), kind=Kind.NUMBER)
    with pytest.raises(BadInput, match="the problem has no reference"):
        with_retries(bare)


def test_other_limits_are_other_tasks() -> None:
    task = make_task()
    assert len({task.fingerprint, with_retries(task, 2).fingerprint, with_retries(task, 3).fingerprint}) == 3
    assert make_task().fingerprint == task.fingerprint


def test_eval_plays_a_game_whose_other_splits_are_empty(
    game: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(game.rpartition(":")[0])
    file.write_text(GUESS + "\n\ndef only_test(train, dev, test):\n    return make_game() | {'train': [], 'dev': []}\n")
    words = ["eval", "--model", "underfit", "--task", f"{file}:only_test", "--quiet", "--out", str(tmp_path / "run")]
    assert main([*words, "--test", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2
    assert main([*words, "--test", "2", "--train", "1"]) == 2
    assert "only_test: no problems for train; give it at least one" in capsys.readouterr().err
