"""Tasks that answer back: episodes, their verdicts, what they cost, and that they survive kills."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from playing_world import WAY, Rooms, next_on_the_way, rooms_task, stubborn, walker
from selftaught.errors import BadInput
from selftaught.feedback.userfile import load_function
from selftaught.learn import TrainConfig
from selftaught.learn.online.turn_credit import credit_by_turn
from selftaught.lineage import trace
from selftaught.method import recipe, solver
from selftaught.models import Policy
from selftaught.records import Attempt, Message, Problem, Solution, Verdict, make_problem
from selftaught.refine import answered, play
from selftaught.run.ask import Ask
from selftaught.run.environment import Observation
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task, Turn
from selftaught.testing import Learner, assert_survives, make_run, make_task
from selftaught.testing.survival import Killed, _watch  # pyright: ignore[reportPrivateUsage]


def straight(policy: Policy, request: Any) -> str:
    del policy
    return next_on_the_way(request)


def opened(folder: Path, name: str = "run", *, script: Any = straight, environment: Any = None, **more: Any) -> Run:
    return make_run(folder / name, script=script, task=rooms_task(environment=environment), **more)


def steps_of(run: Run) -> dict[str, Any]:
    return {key: payload for key, _, payload, _ in run.journal.effects("env")}


# --- an episode ---


def test_an_episode_is_played_to_its_end_and_judged_by_its_rewards(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        problem = run.task.train[0]
        (attempt,) = run.attempt(run.base, [problem])  # by default an environment is played
        assert (attempt.text, attempt.finish_reason, attempt.verdict) == ("open door", "stop", "right")
        assert attempt.feedback[0].score == 1.0  # 0.5 + 1, cut to 1
        assert attempt.feedback[0].source == "rooms-1"
        assert [(m.role, m.content) for m in attempt.prompt[1:]] == [
            ("assistant", "go north"), ("user", "You are in the north."),
            ("assistant", "take key"), ("user", "You have the key."),
            ("assistant", "go south"), ("user", "You are in the hall."),
        ]  # fmt: skip
        assert run.ledger.environment_steps == run.journal.count("env") == 1 + 4
        assert run.ledger.usage.generated == sum(map(len, WAY))
        assert "environment: 5 steps" in run.cost_line()
        assert run.seconds()["environment"] > 0


def test_rewards_by_turn_stand_beside_the_turns(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        (result,) = run.solve(run.base, run.task.train[:1], "train", keep_turns=True)
    assert [turn.text for turn in result.turns] == list(WAY)
    assert result.rewards == (0.0, 0.5, 0.0, 1.0)
    assert [bool(turn.feedback) for turn in result.turns] == [False, False, False, True]


def test_equal_histories_are_asked_once_and_a_rerun_asks_nothing(tmp_path: Path) -> None:
    outcomes = []
    for _ in range(2):
        environment = Rooms()
        with opened(tmp_path, environment=environment) as run:
            found = run.attempt(run.base, run.task.train, samples=3)
            outcomes.append((found, run.journal.digest(), run.ledger.usage, run.ledger.environment_steps))
            calls = len(environment.calls)
            assert calls == (0 if len(outcomes) == 2 else 2 * (1 + 4))
    assert outcomes[0] == outcomes[1]


def test_an_earlier_observation_can_be_gone_back_to(tmp_path: Path) -> None:
    seen: list[Observation] = []

    async def undoing(ask: Ask, problem: Problem) -> Attempt:
        attempt = await ask(problem.prompt)
        north = await ask.act("go north", None)
        seen.extend([await ask.act("take key", north), await ask.act("go south", north)])
        hall = await ask.act("open door", seen[1])  # without the key, which that branch never took
        seen.append(hall)
        return attempt

    with opened(tmp_path) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=undoing)
        assert [one.text for one in seen] == ["You have the key.", "You are in the hall.", "That does not work."]
        assert attempt.verdict == "unknown"
        assert attempt.feedback[0].text == "it did not act in the environment (ask.act)"


def test_a_state_that_an_environment_changes_is_its_own_copy(tmp_path: Path) -> None:
    class Careless(Rooms):
        def act(self, state: dict[str, Any], text: str) -> Turn:
            turn = super().act(state, text)
            state.clear()
            return turn

    with opened(tmp_path, environment=Careless()) as run:
        assert all(a.right for a in run.attempt(run.base, run.task.train, samples=2))


# --- how it can end ---


def test_an_environment_that_never_ends_leaves_the_episode_unfinished_with_one_note(tmp_path: Path) -> None:
    with opened(tmp_path, script=stubborn) as run:
        found = run.attempt(run.base, run.task.train)
        assert {a.finish_reason for a in found} == {"unfinished"}
        assert all(a.truncated and a.verdict == "wrong" for a in found)
        assert {a.feedback[0].text for a in found} == {"unfinished after 6 turns"}
        assert {a.feedback[0].score for a in found} == {0.0}
        notes = [line for line in run.notes if "environment" in line]
    assert notes == [
        "2 of 2 episodes used up the environment's turns (max_turns) without an end: unfinished, they count as WRONG"
    ]


def test_a_solver_may_stop_earlier_but_not_act_beyond_the_end(tmp_path: Path) -> None:
    async def short(ask: Ask, problem: Problem) -> Attempt:
        return await play(ask, problem, max_turns=2)

    async def beyond(ask: Ask, problem: Problem) -> Attempt:
        seen = None
        for action in (*WAY, "go north"):
            seen = await ask.act(action, seen)
        return await ask(problem.prompt)

    with opened(tmp_path) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=short)
        assert (attempt.text, attempt.finish_reason, attempt.feedback[0].score) == ("take key", "unfinished", 0.5)
        with pytest.raises(BadInput, match="it acts in an episode that is over"):
            run.attempt(run.base, run.task.train[:1], solver=beyond)


def test_an_environment_that_raises_is_unknown_and_not_wrong(tmp_path: Path) -> None:
    def breaking(policy: Policy, request: Any) -> str:
        return "break" if "house 0" in request.prompt[0].content else straight(policy, request)

    with opened(tmp_path, script=breaking) as run:
        broken, fine = run.attempt(run.base, run.task.train)
        assert broken.verdict == "unknown"
        assert broken.feedback[0].text == "environment raised RuntimeError: the house fell down"
        assert fine.right
        assert run.notes[-1].startswith("1 of 2 verifications failed and count as UNKNOWN (environment raised")
        digest = run.journal.digest()
    with opened(tmp_path, script=breaking) as run:
        assert run.attempt(run.base, run.task.train)[0].verdict == "unknown"
        assert run.journal.digest() == digest


def test_an_environment_that_hangs_ends_the_run_with_one_line(tmp_path: Path) -> None:
    class Hanging(Rooms):
        max_seconds = 0.05

        def act(self, state: Any, text: str) -> Turn:
            threading.Event().wait()
            return super().act(state, text)

    task = rooms_task(environment=Hanging())
    message = f"environment {Hanging().version}: it gave no answer in 0.05 s; end it, or raise its max_seconds"
    with make_run(tmp_path, task=task, script=straight) as run, pytest.raises(BadInput) as error:
        run.attempt(run.base, task.train)
    assert str(error.value) == message


def test_too_many_failures_end_the_batch_and_its_rerun_asks_the_repaired_environment(tmp_path: Path) -> None:
    def breaking(policy: Policy, request: Any) -> str:
        return "break" if len(request.prompt) == 1 else straight(policy, request)

    class Repaired(Rooms):
        def act(self, state: dict[str, Any], text: str) -> Turn:
            return Turn("Still standing.", 1.0, True) if text == "break" else super().act(state, text)

    def tried(environment: Rooms) -> list[Attempt]:
        with make_run(tmp_path, script=breaking, task=rooms_task(5, environment=environment)) as run:
            return run.attempt(run.base, run.task.train)

    with pytest.raises(BadInput, match=r"[45] of 5 verifications failed \(environment raised RuntimeError"):
        tried(Rooms())
    assert all(a.right for a in tried(Repaired()))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("You win", "environment odd-1: act returned a str, expected a Turn"),
        (Turn(7), "act returned 7 as observation, expected text"),  # pyright: ignore[reportArgumentType]
        (Turn("", float("nan")), "act returned nan as reward, expected a finite number"),
        (Turn("", 1.0, "yes"), "act returned 'yes' as done, expected True or False"),  # pyright: ignore[reportArgumentType]
        (Turn("", 0.0, True, {1, 2}), "its state is not plain JSON"),
        (Turn("", 0.0, True, None, "won"), "act returned 'won' as success"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_an_answer_of_another_shape_is_one_line(answer: Any, message: str, tmp_path: Path) -> None:
    class Odd(Rooms):
        version = "odd-1"

        def act(self, state: dict[str, Any], text: str) -> Turn:
            return answer

    with opened(tmp_path, environment=Odd()) as run, pytest.raises(BadInput) as refused:
        run.attempt(run.base, run.task.train[:1])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_success_is_what_the_environment_says_where_it_says_so(tmp_path: Path) -> None:
    class Strict(Rooms):
        version = "strict-1"

        def act(self, state: dict[str, Any], text: str) -> Turn:
            turn = super().act(state, text)
            return replace(turn, success=False) if turn.done else turn

    with opened(tmp_path, environment=Strict()) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1])
        assert (attempt.verdict, attempt.feedback[0].score) == ("wrong", 1.0)


def test_a_verifier_judges_the_last_text_where_the_task_has_one(tmp_path: Path) -> None:
    """As with a tool: the environment answers calls, and the verifier the answer."""

    class Calculator:
        version, max_turns = "calculator-1", 4

        def start(self, problem: Problem) -> int:
            del problem
            return 0

        def act(self, state: int, text: str) -> Turn:
            if text.startswith("Answer"):
                return Turn("", done=True)
            return Turn(str(sum(map(int, text.split(" + ")))), state=state + 1)

    def asking(policy: Policy, request: Any) -> str:
        del policy
        last = request.prompt[-1].content
        return f"Answer: {last}" if last.isdigit() else last.removeprefix("What is ").removesuffix("?")

    plain = make_task(train=3)
    task = Task("sums", plain.train, plain.dev, plain.test, verifier=plain.verifier, kind=plain.kind,
                environment=Calculator())  # fmt: skip
    with make_run(tmp_path, task=task, script=asking) as run:
        found = run.attempt(run.base, run.task.train)
        assert all(a.right and a.feedback[0].source == plain.verifier.version for a in found)


# --- what is visible ---


def test_rewards_are_hidden_where_verdicts_are(tmp_path: Path) -> None:
    seen: list[Observation] = []

    @solver(needs=("env",))
    async def watching(ask: Ask, problem: Problem) -> Attempt:
        attempt = await ask(problem.prompt)
        seen.append(await ask.act(attempt, None))
        return attempt

    @recipe(needs=("verifier", "env"))
    def looking(run: Run, base: Policy, task: Task) -> Policy:
        run.attempt(base, task.train[:1], solver=watching)
        (held_out,) = run.attempt(base, task.dev[:1], solver=watching)
        assert held_out.feedback == ()
        run.measure(base, solver=watching)
        return run.champion

    @recipe(needs=("env",))
    def blind(run: Run, base: Policy, task: Task) -> Policy:
        run.attempt(base, task.train[:1], solver=watching)
        return run.champion

    with opened(tmp_path) as run:
        looking(run, run.base, run.task)
        assert [one.reward for one in seen] == [0.0] + [None] * (1 + 2)
        assert {one.text for one in seen} == {"You are in the north."}
    with opened(tmp_path, "blind") as run:
        blind(run, run.base, run.task)
        assert seen[-1].reward is None


def test_a_method_cannot_ask_the_environment_itself(tmp_path: Path) -> None:
    @recipe(needs=("verifier", "env"))
    def peeping(run: Run, base: Policy, task: Task) -> Policy:
        environment: Any = task.environment
        assert (environment.version, environment.max_turns) == ("rooms-1", 6)
        environment.start(task.dev[0])
        return base

    with opened(tmp_path) as run, pytest.raises(BadInput, match="peeping: it plays the environment outside of the run"):
        peeping(run, run.base, run.task)


def test_methods_and_tasks_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    from selftaught.method import find

    with make_run(tmp_path / "a") as run, pytest.raises(BadInput, match="multi-turn-grpo needs an environment"):
        find("multi-turn-grpo")(run, run.base, run.task)
    with opened(tmp_path, "b") as run, pytest.raises(BadInput, match="rest-em learns from single answers"):
        find("rest-em")(run, run.base, run.task)
    with make_run(tmp_path / "c") as run, pytest.raises(BadInput, match="the task has no environment to act in"):
        run.attempt(run.base, run.task.train[:1], solver=play)


def test_another_environment_is_another_configuration(tmp_path: Path) -> None:
    class Later(Rooms):
        version = "rooms-2"

    with opened(tmp_path) as run:
        run.attempt(run.base, run.task.train[:1])
    with pytest.raises(BadInput, match="the environment has changed, or its version"):
        opened(tmp_path, environment=Later())


# --- chance ---


class Dice:
    """Says what it throws; each episode has its own chance."""

    version, max_turns, seeded = "dice-1", 2, True

    def __init__(self) -> None:
        self.starts = 0

    def start(self, problem: Problem, seed: int) -> int:
        del problem
        self.starts += 1
        return seed

    def act(self, state: int, text: str) -> Turn:
        del text
        return Turn(str(state % 1000), 1.0, True, state)


def test_each_episode_of_a_seeded_environment_has_its_own_chance_the_same_in_a_rerun(tmp_path: Path) -> None:
    def thrown(dice: Dice) -> list[str]:
        with opened(tmp_path, environment=dice, script=stubborn) as run:
            run.attempt(run.base, run.task.train[:1], samples=4)
            return [step["observation"] for step in steps_of(run).values() if "turn" in step]

    first, again = Dice(), Dice()
    found = thrown(first)
    assert len(set(found)) == 4 == first.starts
    assert thrown(again) == found
    assert again.starts == 0


def test_each_episode_of_one_call_and_each_sampling_has_its_own_chance(tmp_path: Path) -> None:
    """Also where two branches come to their first action in another order than before."""
    thrown: list[dict[str, str]] = []
    for slow in ("left", "right", ""):
        dice, found = Dice(), dict[str, str]()

        async def episodes(
            ask: Ask, problem: Problem, slow: str = slow, found: dict[str, str] = found
        ) -> Attempt:  # fmt: skip
            how = str(ask._sampling.temperature)  # pyright: ignore[reportPrivateUsage]

            async def one(name: str) -> None:
                await asyncio.sleep(0.01 * (name == slow))
                found[f"{how} {name}"] = (await ask.act(name, None)).text

            await asyncio.gather(one("left"), one("right"))
            attempt = await ask(problem.prompt)
            for place in ("first", "second"):
                found[f"{how} {place}"] = (await ask.act(attempt, None)).text
            return attempt

        with opened(tmp_path, environment=dice, script=stubborn) as run:
            for temperature in (0.5, 1.0):
                run.attempt(run.base, run.task.train[:1], solver=episodes, temperature=temperature)
            thrown.append(dict(sorted(found.items())))
            assert run.ledger.environment_steps == run.journal.count("env") == 2 * 2 * 4
        assert dice.starts == (0 if len(thrown) > 1 else 8)
    assert len(set(thrown[0].values())) == 8
    assert thrown[0] == thrown[1] == thrown[2]


def test_episodes_of_chance_survive_a_kill_before_each_effect(tmp_path: Path) -> None:
    async def episodes(ask: Ask, problem: Problem) -> Solution:
        attempt = await ask(problem.prompt)
        return Solution(attempt, [(await ask.act(attempt, None)).text for _ in range(2)])

    def work(run: Run) -> Any:
        return [one.data for one in run.search(run.base, run.task.train[:1], solver=episodes, temperature=0.5)]

    def made(name: str) -> Run:
        return opened(tmp_path, name, environment=Dice(), script=stubborn)

    assert assert_survives(work, made, every=True) >= 5


def test_equal_histories_of_one_call_are_shared_where_there_is_no_chance(tmp_path: Path) -> None:
    async def episodes(ask: Ask, problem: Problem) -> Attempt:
        attempt = await ask(problem.prompt)
        first, second = await ask.act(attempt, None), await ask.act(attempt, None)
        assert first == second
        return attempt

    environment = Rooms()
    with opened(tmp_path, environment=environment) as run:
        for temperature in (0.5, 1.0):
            run.attempt(run.base, run.task.train[:1], solver=episodes, temperature=temperature)
    assert len(environment.calls) == 2


# --- kills ---


def online(run: Run) -> Policy:
    credit = credit_by_turn()
    return run.learn_online(run.base, run.task.train, solver=play, credit=credit, steps=2, samples=3)


SETTINGS = Settings(training=TrainConfig(epochs=1, batch_size=2))


def test_killed_before_each_effect_it_ends_the_same(tmp_path: Path) -> None:
    made = partial(opened, tmp_path, script=walker, settings=SETTINGS, learner=Learner())
    assert assert_survives(online, made, every=True) > 50


def test_killed_in_the_middle_of_an_episode_it_goes_on_at_its_last_action(tmp_path: Path) -> None:
    """Each start keeps one effect and is killed before the next, whose sample or answer alone is lost."""
    kept: list[str] = []
    found: list[Attempt] = []
    sampled = asked = 0
    while not found:
        environment, before = Rooms(), len(kept)

        def fuse(kind: str, before: int = before) -> None:
            if len(kept) > before:
                raise Killed
            kept.append(kind)

        with opened(tmp_path, environment=environment) as run, suppress(Killed):
            _watch(run, fuse)
            found += run.attempt(run.base, run.task.train[:1])
        sampled += getattr(run.engine, "calls", 0)
        asked += len(environment.calls)
    assert found[0].right
    assert kept == ["sample", "env", "env", "sample", "env", "sample", "env", "sample", "env", "verify"]
    assert sampled == 1 + 2 * 3  # all but the first were lost once
    assert asked == 2 * 5


# --- by whom, and lineage ---


def test_the_verdict_on_an_episode_is_that_of_its_last_action_in_the_lineage(tmp_path: Path) -> None:
    def two_ways(policy: Policy, request: Any) -> str:
        """Ends with the same text in both houses; in the second without the key."""
        return straight(policy, request) if "house 0" in request.prompt[0].content else "open door"

    with opened(tmp_path, script=two_ways) as run:
        right, wrong = run.attempt(run.base, run.task.train)
        assert (right.text, wrong.text) == ("open door", "open door")
        assert (right.verdict, wrong.verdict) == (Verdict.RIGHT, Verdict.WRONG)
        folder = run.folder
    nodes = {attempt.id: trace(folder, attempt.id).nodes for attempt in (right, wrong)}
    assert nodes[right.id][right.id].verdict == "right"
    assert nodes[wrong.id][wrong.id].verdict == "wrong"
    assert sum(node.kind == "attempt" for node in nodes[right.id].values()) == 4


def test_a_conversation_is_put_together_from_actions_and_observations(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1])
    assert answered(attempt, "Well.")[-2:] == (Message("assistant", "open door"), Message("user", "Well."))


def test_a_task_without_a_judge_or_with_half_an_environment_is_refused() -> None:
    problems: list[Problem] = [make_problem("Go.")]
    half: Callable[..., Any] = type("Half", (), {"version": "half-1", "max_turns": 3, "start": lambda *_: None})
    endless = type("Endless", (Rooms,), {"max_turns": None})
    unnamed = type("Unnamed", (Rooms,), {"version": ""})
    for environment, message in (
        (None, "rooms: nothing judges its answers"),
        (half(), "rooms: a Half is no environment: it has no act"),
        (endless(), "max_turns must be a whole number ≥ 1, got None"),
        (unnamed(), "the environment's version is ''"),
    ):
        with pytest.raises(BadInput) as refused:
            Task("rooms", problems, [], [], kind=Kind.STRING, environment=environment)
        assert message in str(refused.value)


FLIP = """from selftaught.records import make_problem
from selftaught.tasks import Kind, Task, Turn

class Flip:
    version, max_turns = "flip-1", 2

    def start(self, problem):
        return 0

    def act(self, state, text):
        # {comment}
        return {answer}

def task():
    made = [[make_problem(f"Flip {{n}}") for n in range(at, at + 4)] for at in (0, 10, 20)]
    return Task("flip", *made, kind=Kind.STRING, environment=Flip())
"""


def flipping(file: Path, answer: str, comment: str = "") -> Task:
    file.write_text(FLIP.format(answer=answer, comment=comment))
    return load_function(f"{file}:task", what="task")[0]()


def test_an_edited_environment_is_refused_though_its_version_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "flip.py"
    with make_run(tmp_path, task=flipping(file, 'Turn("up", 1.0, True)')) as run:
        assert all(one.right for one in run.attempt(run.base, run.task.train))
    make_run(tmp_path, task=flipping(file, 'Turn("up", 1.0, True)', "another comment")).close()
    with pytest.raises(BadInput, match="the code of the environment has changed since; use another run folder"):
        make_run(tmp_path, task=flipping(file, 'Turn("up", -1.0, True)'))


@pytest.mark.parametrize(
    ("wrong", "said"), [("1 / 0", "environment raised ZeroDivisionError"), ('"up"', "act returned a str")]
)
def test_one_that_failed_may_be_repaired(tmp_path: Path, wrong: str, said: str) -> None:
    file = tmp_path / "flip.py"
    with make_run(tmp_path, task=flipping(file, wrong)) as run, pytest.raises(BadInput, match=said):
        run.attempt(run.base, run.task.train)
    with make_run(tmp_path, task=flipping(file, 'Turn("up", 1.0, True)')) as run:
        assert all(one.right for one in run.attempt(run.base, run.task.train))
