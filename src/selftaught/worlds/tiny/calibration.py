"""What the tiny world offers the calibration suite."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from itertools import islice

from selftaught.engines import Engine
from selftaught.records import Message, Problem
from selftaught.tasks.source import TaskRequest
from selftaught.tasks.task import Task
from selftaught.worlds.kit.calibration.kit_replies import kit_replies
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS, CalibrationPlan, Scores, WrittenReply
from selftaught.worlds.kit.language import ANSWER, INLINE, NEWLINE, OPERATIONS, number
from selftaught.worlds.kit.lessons import lessons
from selftaught.worlds.kit.play import Player
from selftaught.worlds.kit.twin import Twin
from selftaught.worlds.kit.twin_engine import TwinEngine
from selftaught.worlds.tiny.build import MIX, writer_of
from selftaught.worlds.tiny.question import Chain, draw_chain, write_line
from selftaught.worlds.tiny.table import apply
from selftaught.worlds.tiny.task import FAMILIES, load

TWIN_PROBLEMS = 400  # that all runs on the twin are tested on
TWIN_TRAIN = 64  # problems of each run, with as many samples each as RFT_SAMPLES
RFT_SAMPLES = 8
SHOWN = 2  # demonstrations before a problem
WRITER = writer_of("base")


def replies(seed: int) -> Iterator[WrittenReply]:
    """Replies by the writer in all roles."""
    return kit_replies(WRITER, seed, MIX)


def twin_engine() -> Engine:
    """The engine that samples the writer's twin."""
    return TwinEngine(Twin(WRITER))


@cache
def _tested() -> Task:
    return load("tiny", TaskRequest(0, 0, TWIN_PROBLEMS, CALIBRATION_SEEDS[0], ""))


def rejection_sampling(seed: int) -> Scores:
    """Greedy scores after one round of rejection sampling on the twin, on problems that all seeds share."""
    player, base = Player(FAMILIES, seed), Twin(WRITER)
    train = load("tiny", TaskRequest(TWIN_TRAIN, 0, 0, seed, "")).train
    (after,) = player.self_train(base, train, samples=RFT_SAMPLES)
    return {p.id: float(player.right(p, after.answer(p.prompt, player.rng, 0.0))) for p in _tested().test}


def demonstrations(problem: Problem, seed: int) -> list[Message]:
    """Worked problems that use every kind of operation, each step by the good way."""
    rng, modulus = random.Random(f"shown/{seed}/{problem.id}"), FAMILIES[0].skills.modulus
    shown: list[Message] = []
    while len(shown) < 2 * SHOWN:
        chain = draw_chain(len(OPERATIONS), rng, modulus)
        if {operation[1] for operation in chain.operations} == set(OPERATIONS) and str(chain) != problem.question:
            shown += [Message("user", str(chain)), Message("assistant", worked(chain, modulus))]
    return shown


def worked(chain: Chain, modulus: int) -> str:
    """A right solution by good ways."""
    value, lines = chain.start, list[str]()
    for step, operation in enumerate(chain.operations, 1):
        result = apply(operation, value, modulus)
        lines.append(write_line(step, FAMILIES[0].table.good, value, operation, number(result)))
        value = result
    return NEWLINE.join([*lines, f"{ANSWER}{number(value)}"])


def text() -> Iterator[str]:
    """The beginning of the training text."""
    for lesson in islice(lessons(WRITER, 0, MIX), 2000):
        yield "\n".join(f"{message.role}: {message.content}" for message in lesson.messages)


PLAN = CalibrationPlan(
    replies=replies,
    longer="tiny:level=6",
    search_long="tiny:level=8",
    search_short="tiny:level=2",
    checkable="tiny:family=equation,level=3",
    lookup_only="tiny:family=recall,level=2",
    wait=INLINE["reflect"],
    control_model="tiny-no-wait",
    demonstrations=demonstrations,
    twin=rejection_sampling,
    twin_engine=twin_engine,
    text=text,
)
