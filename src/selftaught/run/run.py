"""The run: the only door to compute, money and disk.

Every call through it is an effect, journalled under a key made of its content. Rerunning is resuming:
kill the process at any moment, run the same program again, and nothing paid for is paid again.
"""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from selftaught import models
from selftaught.console import Console, shown
from selftaught.control import Decision
from selftaught.control.budget import RunEnds
from selftaught.control.watch import Watch
from selftaught.curate import by_problem
from selftaught.curate.keep import learned_as_whole
from selftaught.engines import Engine, Paid, Sampling
from selftaught.errors import BadInput
from selftaught.identity import check_unchanged, identify, known, memory, solver_name
from selftaught.journal import Journal, Ledger, Usage
from selftaught.learn import Objective, Training
from selftaught.learn.learner import learn as local_learner
from selftaught.learn.learner import policy_version
from selftaught.learn.objectives import grpo
from selftaught.learn.online.loop import (
    Crediting,
    Plan,
    Rollout,
    Services,
    played_through,
    reinforce,
)
from selftaught.learn.tracking import curves_of
from selftaught.machine.disk import full_disk
from selftaught.machine.malloc import give_back
from selftaught.measure import Measurement, compare, measure_attempts, pass_curve
from selftaught.measure.flips import Course, course
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.models.policy import policy_from, read_manifest
from selftaught.models.remote import trainable
from selftaught.records import Attempt, Problem, Solution, content_hash
from selftaught.remarks import listen
from selftaught.run.config import check_references, configuration, configure, forget, note_questions, of_method
from selftaught.run.guarded import Walls, handing
from selftaught.run.rounds import cut_line, round_key, round_lines, round_payload
from selftaught.run.sampling import Batch, Solved, Solving, Subject
from selftaught.run.settings import Settings, at_least_one, changed
from selftaught.tasks import Task

__all__ = ["Run", "Settings", "Solved"]

OUTCOME = Crediting()

Learner = Callable[..., Policy]


class Run:
    """A run in its folder: sampling, judging, learning, measuring, each journalled.

    Args:
        folder: where the journal, the policies and the report live; made if absent, resumed if not.
        model: anything `models.resolve` takes, or a `Policy`.
        task: where problems and verdicts come from; closed with the run.
        engine: where tokens come from; by default a `LocalEngine`, or an `OpenAIEngine` for a model behind an
            endpoint; closed with the run.
        settings: see `Settings`.
        learner: trains a policy; `learn.learner.learn` by default.
        console: where progress is shown.

    Attributes:
        base: the starting model.
        champion: the best policy so far, as the gate sees it; the starting model at first.
        round: number of the round under way, 0 before the first.
        history: what each round gone through came to, as journalled.
        gates: each decision of the gate, as journalled, with its round.
        measured: policy version -> its greedy measurement on dev, of the champions so far.
        ledger: tokens spent so far.
        journal: see `Journal`.
        said: notes that were printed when they were made.

    Raises:
        BadInput: the folder is in use, was made with another configuration, or the model is not to be had.
    """

    def __init__(
        self, folder: str | Path, *, model: str | Path | Policy, task: Task, engine: Engine | None = None,
        settings: Settings | None = None, learner: Learner = local_learner, console: Console | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.task = Path(folder), task
        self.settings, self.console = settings or Settings(), console or Console()
        self.journal = Journal(self.folder)
        try:
            self.base = models.resolve(model, self.console.say)
            self.model = str(model) if not isinstance(model, Policy) else model.version
            self.engine: Engine = engine or _usual_engine(self.base)
            configure(self.journal, configuration(self.base, task, self.engine, self.settings))
            note_questions(self.journal, task)
        except BaseException:
            self.journal.close()
            raise
        if isinstance(self.engine, Paid):
            before = self.journal.usage()
            self.engine.carry_over(before.prompt, before.generated + before.judge)
        self.champion = self.base
        self.round = 0
        self.ledger = Ledger()
        self.history: list[dict[str, Any]] = []
        self.gates: list[dict[str, Any]] = []
        self._notes: list[str] = list(task.notes)
        self.said: set[str] = set()
        self._learner, self._learn_seconds, self._learning_since = learner, 0.0, 0.0
        self._methods: list[tuple[Method, str]] = []  # under way, the inner ones last, each with its label
        self._calls: Counter[str] = Counter()
        self._number = self._begun = 0  # of the round within its loop, and of all rounds that began
        self._started: Counter[str] = Counter()
        self.measured: dict[str, Measurement] = {}
        self._under: dict[str, str] = {}  # policy version -> hash of how `measured` was measured
        self._facts: dict[str, Any] = {}
        self._cut: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()  # records learned, and those that teach an end where none was
        self._watch = Watch()
        self._walls = Walls(task)
        self._solving = Solving(
            self.engine, task, self.journal, self.ledger, self.console,
            seed=self.settings.seed, failure_limit=self.settings.failure_limit, tick=self._clock,
        )  # fmt: skip
        self._deaf = listen(self._hear)

    # --- what is served ---

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it stands in the journal."""
        return self.journal.meta_object("config")

    @property
    def notes(self) -> list[str]:
        """One-line remarks for the reader of the report: duplicates dropped, verifications failed, money spent."""
        spent = self.engine.spent if isinstance(self.engine, Paid) else 0.0
        money = [f"${spent:,.4f} spent at the endpoint, as its prices were given"] if spent else []
        cut = [cut_line(self._cut)] if self._cut["truncated"] else []
        ends = [_ends_line(self._ends)] if self._ends["wrong"] else []
        return [*self._notes, *ends, *self._solving.notes(), *cut, *money]

    @property
    def requests(self) -> dict[str, int]:
        """What became of the requests to the engine; see `Solving.requests`."""
        return self._solving.requests()

    @property
    def unanswered(self) -> str:
        """Why there is not one answer, where there is none; else empty."""
        return self._solving.unanswered()

    @property
    def _method(self) -> Method | None:
        return self._methods[-1][0] if self._methods else None

    @contextmanager
    def method(self, method: Method, options: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
        """Inside, the run serves `method`: its options belong to the configuration, its needs are enforced.

        Yields a function from the run or a task to what the method is handed of it (see `selftaught.run.guarded`).
        `RunEnds` ends the block of a recipe early and goes no further: what was reached so far stands. Inside another
        method the options are kept under the names of both (`outer/inner.option.x`), and rounds go on counting.

        Raises:
            BadInput: the task lacks references where they are read, or the outer method does not need what this does.
        """
        outer = self._method
        check_references(self.task, method, outer)
        label = f"{self._methods[-1][1]}/{method.id}" if self._methods else method.id
        self._calls[label] += 1
        if outer and self._calls[label] > 1:
            label += f" {self._calls[label]}"
        configure(self.journal, of_method(self.config, method, options, label if outer else ""))
        before, self._facts = (self.round, self._number, self._facts), {}
        self._begun = self._begun if outer else 0
        self._methods.append((method, label))
        try:
            yield handing(self, method, self._walls)
            self._end_round()
        except RunEnds:
            self._end_round()
            if method.shape != "recipe":
                raise
        except Exception:  # once its code is mended, what was paid for is used
            forget(self.journal, f"{label}.code" if outer else "code")
            raise
        finally:
            self._methods.pop()
            if outer:
                self.round, self._number, self._facts = before
                self.journal.round = self.round

    # --- sampling and judging ---

    def attempt(
        self, policy: Policy, problems: Sequence[Subject], *, solver: Any = None, n: int = 1, **sampling: Any
    ) -> list[Attempt]:
        """`n` attempts at every problem, judged if the method declared that it needs a verifier.

        A method's attempts at dev problems are never judged (but a study's that needs "dev").

        Called again with the same arguments it draws new samples; a rerun of the program draws the same.

        Args:
            problems: what to attempt; or attempts that the solver goes on from, to criticise, judge or revise them.
            solver: `async (ask, problem) -> Attempt`, given an attempt where it goes on from one; by default the
                problem's own prompt is asked once.
            sampling: fields of `Sampling` to change.

        Returns:
            The attempts, those of one problem together, in the order of `problems`.

        Raises:
            BadInput: too many verifications fail, a sampling option is wrong, or a method attempts the test split.
            RunEnds: no tokens are left.
        """
        return [one.attempt for one in self._attempts(policy, problems, solver, n, sampling)]

    def search(
        self, policy: Policy, problems: Sequence[Subject], *, solver: Any, n: int = 1, **sampling: Any
    ) -> list[Solution]:
        """As `attempt`, with the data that the solver returned beside each attempt (see `Solution`)."""
        return [Solution(one.attempt, one.data) for one in self._attempts(policy, problems, solver, n, sampling)]

    def _attempts(
        self, policy: Policy, problems: Sequence[Subject], solver: Any, n: int, sampling: Mapping[str, Any]
    ) -> list[Solved]:
        self._check_budget()
        self._walls.check_open(self._method, problems)
        how, who = changed(self.settings.sampling, sampling), identify(solver).label
        at_least_one("n", n)
        work = []
        for subject in problems:
            start = content_hash(policy.version, subject.id, who, how)
            for _ in range(n):
                work.append((subject, f"attempt/{who}/{self._started[start]}"))
                self._started[start] += 1
        judged = self._by_verdict and self._walls.show(self._method, problems)
        what = f"round {self.round}: sampling" if self.round else "sampling"
        may_see = judged and not any(map(self._walls.hold_out, problems))
        solved = self._solve(Batch(what, policy, solver, how, judged, work, shown=may_see))
        tried = [one.attempt for one in solved]
        self._count_cut(tried)
        if solver is None and tried:
            self._note_sampling(tried, n, how, judged)
        return solved

    @property
    def _by_verdict(self) -> bool:
        """Whether verdicts may be used: outside of methods, and by those that declare it."""
        return self._method is None or "verifier" in self._method.needs

    def _count_cut(self, tried: Sequence[Attempt]) -> None:
        """Count the answers that were cut off at `max_tokens`."""
        some = [attempt.finish_reason == "length" for attempt in tried if attempt.role != "judge"]
        for counts in (self._facts.setdefault("cut", Counter()), self._cut):
            counts.update(truncated=sum(some), answers=len(some))

    def _note_sampling(self, tried: Sequence[Attempt], n: int, how: Sampling, judged: bool) -> None:
        groups = by_problem(tried)
        if judged and n > 1:
            self._facts["pass_at"] = pass_curve(groups)
        if not self._walls.held_out.intersection(groups):
            self._watch.sampled(content_hash(how, n, sorted(groups)), groups)

    def solve(
        self, policy: Policy, problems: Sequence[Problem], split: str, *, solver: Any = None, samples: int = 1,
        first: int = 0, judged: bool = True, turns: bool = False, **sampling: Any,
    ) -> list[Solved]:  # fmt: skip
        """Attempts for a measurement: asked again they are the same ones, not new samples.

        A method cannot call it: it has `attempt` and `measure`.

        Args:
            split: what the problems are, for the progress display.
            solver: `async (ask, problem) -> Attempt`; by default the problem's own prompt is asked once.
            samples: attempts per problem.
            first: number of the first sample, so that a measurement can be extended by more.
            judged: whether the verifier judges them.
            turns: whether all that was sampled on the way is handed back too, judged alike (`Solved.turns`).
            sampling: fields of `Sampling` to change.

        Returns:
            The outcomes, those of one problem together, in the order of `problems`.

        Raises:
            BadInput: too many verifications fail, a sampling option is wrong, or a method calls it.
        """
        if self._method:
            raise BadInput("run.solve is closed to methods", where=self._method.id, fix="use run.attempt, run.measure")
        how = changed(self.settings.sampling, sampling)
        return self._repeatable(policy, problems, split, solver, how, range(first, first + samples), judged, turns)

    def _repeatable(
        self, policy: Policy, problems: Sequence[Problem], split: str, solver: Any, how: Sampling, numbers: range,
        judged: bool, turns: bool,
    ) -> list[Solved]:  # fmt: skip
        at_least_one("samples", len(numbers))
        who = identify(solver).label
        work: list[tuple[Subject, str]] = [(p, f"measure/{who}/{i}") for p in problems for i in numbers]
        return self._solve(Batch(f"measuring on {split}", policy, solver, how, judged, work, turns))

    def _solve(self, batch: Batch) -> list[Solved]:
        before = memory(batch.solver)
        batch.work = [(self._walls.handed(self._method, one, batch.solver), name) for one, name in batch.work]
        try:
            solved = self._solving.solve(batch)
        except BadInput as error:
            if error.where == "verifier":  # once it is mended, the samples are used
                forget(self.journal, "verifier")
            raise
        finally:
            self._clock()
        check_unchanged(batch.solver, before)
        return solved

    def surprise(self, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
        """Negative log-likelihood, in nats, of each attempt's text under `policy`, whoever wrote it.

        Reading costs prompt tokens only, which no budget counts. NaN of a text that the engine refuses to read.

        Raises:
            BadInput: a method asks for that of a test problem.
            RunEnds: no tokens are left.
        """
        self._check_budget()
        self._walls.check_open(self._method, attempts)
        return self._solving.surprise(policy, attempts)

    # --- learning ---

    def learn(self, base: Policy, objective: Objective, records: Sequence[Any], **training: Any) -> Policy:
        """A new policy, trained from `base` on `records`.

        Args:
            training: fields of `Training` to change.

        Raises:
            BadInput: there are no records, a training option is wrong, a record is of the dev or test split, or
                the model is behind an endpoint.
            RunEnds: no tokens are left, or a later round of a method has no records.
        """
        trainable(base)
        self._check_budget()
        self._check_records(records)
        if not records and self._method and self._number > 1:
            raise self._end(f"round {self.round} left nothing to learn from; the run ends here")
        if not records and self._cut["truncated"]:
            cause = f"nothing to learn from: {cut_line(self._cut)} and are not learned from"
            raise BadInput(cause, where="learn", fix="raise max_tokens")
        settings = changed(self.settings.training, training)
        version = policy_version(base, objective, records, settings, self.settings.seed)
        key = content_hash("learn", version)
        found = self.journal.get(key)
        if found is None or not (self._policies / version).is_dir():
            policy = self._train(base, objective, records, settings)
        else:
            policy = policy_from(self._policies / version)
        if found is None:
            made = json.loads((policy.path / "selftaught.json").read_text("utf-8"))
            facts = {"policy": version, "base": base.version, "records": len(records), "curves": curves_of(made)}
            found = (facts, Usage(trained=made["tokens"]))
            self.journal.put(key, "learn", *found)
        self.ledger.count(key, found[1])
        self._facts["records"] = len(records)
        self._watch.learnt(records, by_verdict=self._by_verdict)
        self._clock()
        return policy

    def reinforce(
        self, policy: Policy, problems: Sequence[Problem], *, rollout: Any = None, objective: Objective | None = None,
        credit: Crediting = OUTCOME, steps: int = 50, n: int = 8, cap: float = 2.0,
        sampling: Mapping[str, Any] | None = None, **training: Any,
    ) -> Policy:  # fmt: skip
        """A new policy, trained online: at each step rollouts by the weights as they are, credit, and an update.

        Each step's figures (reward, entropy, length, KL by turn, clipped share, gradient norm) are journalled. Killed
        and run again it goes on from its checkpoint and ends the same.

        Args:
            policy: where to start.
            problems: what to roll out on, `batch` of them a step.
            rollout: a solver, of one turn or many; by default the problem's own prompt is asked once.
            objective: `learn.objectives.grpo()` by default.
            credit: what rollouts are worth: their reward, how it is spread over turns and tokens, and which problems
                teach nothing. By default 1 where the answer is right, on every token.
            steps: rollouts and updates, so many times; `epochs` (1) optimiser steps on each.
            n: rollouts of each problem.
            cap: greatest importance weight of a token, which makes up for a temperature, a top-p or a top-k.
            sampling: fields of `Sampling` to change; the temperature is 1 unless it says otherwise.
            training: fields of `Training` to change; here `epochs` is 1, and the rate constant, unless changed. With
                `carry` the optimiser's state goes on from one call to the next.

        Raises:
            BadInput: no problems, a dev or test problem, an option that is wrong, or an engine that cannot sample
                from weights in training.
            RunEnds: no tokens are left.
            TrainingFailed: the loss stopped being a number.
        """
        trainable(policy)
        self._check_budget()
        for name, value in (("steps", steps), ("n", n)):
            at_least_one(name, value)
        if any(map(self._walls.hold_out, problems)):
            raise BadInput("a problem is of the dev or test split", where="reinforce", fix="use task.train only")
        settings = changed(self.settings.training, {"epochs": 1, "schedule": "constant", **training})
        how = changed(self.settings.sampling, {"temperature": 1.0, **(sampling or {})})
        names = [known(x, "online training").key for x in (rollout, *credit.parts)]
        plan = Plan(
            objective or grpo(), settings, steps, n, credit, cap, content_hash(names, how), self.settings.seed,
        )  # fmt: skip
        what = f"round {self.round}: reinforcing" if self.round else "reinforcing"
        try:
            with shown(self.console, what, steps, lambda _: self._clock()) as progress:
                services = Services(
                    self._make_room,
                    self._online_begins,
                    partial(self._roll, rollout, how),
                    self._serve,
                    self._sampling_of,
                    self._online_step(),
                    progress,
                )
                if self._learner is local_learner:
                    made = reinforce(policy, problems, plan, services, folder=self._policies)
                else:
                    made = played_through(policy, problems, plan, services, self._learner, self._policies)
        except Exception as error:
            raise full_disk(error, self._policies) or error from None
        count = read_manifest(made.path).get("records", 0)
        facts = {"policy": made.version, "base": policy.version, "records": count}
        self._note(content_hash("learn", made.version), "learn", facts)
        self._facts["records"] = count
        return made

    def _make_room(self) -> None:
        """Memory for weights in training, or given back after it."""
        self.engine.release()
        give_back()

    def _roll(self, rollout: Any, how: Sampling, policy: Policy, problems: Sequence[Problem], n: int) -> list[Any]:
        """`n` rollouts of each problem, for a step of an online training; those without an answer are left out."""
        self._check_budget()
        name, met = identify(rollout).label, Counter[str]()
        work: list[tuple[Subject, str]] = []
        for problem in problems:
            work += [(problem, f"online/{name}/{met[problem.id] + i}") for i in range(n)]
            met[problem.id] += n
        solved = self._solve(Batch("rolling out", policy, rollout, how, self._by_verdict, work, turns=True))
        rolled = [Rollout(one.attempt, one.turns or (one.attempt,)) for one in solved]
        self._learning_since = time.monotonic()
        groups = [rolled[i : i + n] for i in range(0, len(rolled), n)]
        return [[one for one in group if not one.failed] for group in groups]

    def _online_begins(self, facts: dict[str, Any]) -> None:
        """Journal a live policy under its own name before it writes anything, so that it can be walked back from."""
        self._note(facts["live"], "live", facts)

    def _serve(self, policy: Policy, model: Any) -> None:
        adopt = getattr(self.engine, "adopt", None)
        if adopt is None:
            raise BadInput(
                "it cannot sample from weights in training", where=f"engine {self.engine.name}", fix="use LocalEngine"
            )
        adopt(policy, model)

    def _sampling_of(self, attempt: Attempt) -> Sampling:
        found = self.journal.get(attempt.id)
        if found is None:
            return self.settings.sampling
        fields = found[0]["sampling"]
        return Sampling(**{**fields, "stop": tuple(fields["stop"])})

    def _online_step(self) -> Callable[[str, dict[str, Any] | None, int], None]:
        def note(key: str, facts: dict[str, Any] | None, tokens: int) -> None:
            if facts is not None:
                self._learn_seconds += time.monotonic() - self._learning_since
                if self.journal.get(key) is None:
                    self.journal.put(key, "online", facts, Usage(trained=tokens))
            if (found := self.journal.get(key)) is not None:
                self.ledger.count(key, found[1])
            self._clock()

        return note

    def _check_records(self, records: Sequence[Any]) -> None:
        """Refuse records of held-out problems, and say how many teach an end behind an answer that was cut off.

        A record is held out where it asks a dev or test problem, or comes from an attempt at one, however reworded.
        """
        wrong_ends = 0
        for record in records:
            found = [self.journal.get(attempt) for attempt in getattr(record, "attempts", ())]
            sources = [one[0] for one in found if one]
            asked = (getattr(record, "prompt", None), *(source.get("problem") for source in sources))
            if any(what in self._walls.held_out for what in asked):
                raise BadInput("a record is a dev or test problem", where="learn", fix="learn from task.train only")
            wrong_ends += learned_as_whole(record, sources)
        counts = {"wrong": wrong_ends, "records": len(records)}
        self._ends.update(counts)
        if wrong_ends:
            self.console.say(f"  warning: {_ends_line(counts)}")

    @property
    def _policies(self) -> Path:
        return self.folder / "policies"

    def _train(self, base: Policy, objective: Objective, records: Sequence[Any], settings: Training) -> Policy:
        before = self._learn_seconds
        self._make_room()

        def tick(seconds: float) -> None:
            self._learn_seconds = before + seconds
            self._clock()

        what = f"round {self.round}: learning from {len(records)}" if self.round else f"learning from {len(records)}"
        how = {"seed": self.settings.seed, "folder": self._policies}
        with shown(self.console, what, settings.epochs * -(-len(records) // settings.batch), tick) as progress:
            try:
                return self._learner(base, objective, records, settings, **how, progress=progress)
            except Exception as error:
                raise full_disk(error, self._policies) or error from None
            finally:
                give_back()

    # --- measuring and promoting ---

    def measure(
        self, policy: Policy, *, solver: Any = None, samples: int = 1, temperature: float = 0.0, gated: bool = False,
        figures: Callable[[Sequence[Course]], Mapping[str, float]] | None = None,
    ) -> Measurement:  # fmt: skip
        """Accuracy on the dev split; a policy measured greedily also goes through the gate.

        A policy that passes replaces the champion; one that does not is kept, named and reported.

        Args:
            gated: goes through the gate by what `solver` makes of it, against the champion under the same solver: for
                methods whose policies are to be used by that solver.
            figures: computed from the turns of all solvings, sorted so that their order does not identify problems; the
                round reports them under the solver's name.

        Returns:
            The measurement; for a method without the score of each problem.

        Raises:
            BadInput: the task has no dev problems, too many verifications fail, or the gate cannot tell the solver
                from others.
            RunEnds: no tokens are left.
        """
        self._check_budget()
        how: dict[str, Any] = {"solver": solver, "samples": samples, "temperature": temperature}
        gated = gated or (solver is None and samples == 1 and temperature == 0.0)
        if gated:
            known(solver, "the gate")
        found, solved = self._measure(policy, gated, turns=figures is not None, **how)
        if figures is not None:
            self.tell(solver_name(solver), figures(sorted(map(course, solved))))
        if gated:
            self._facts |= {"policy": policy.version, "measurement": found, "under": _under(**how)}
            self._gate(policy, found, how)
        return replace(found, scores={}) if self._method else found

    def _measure(
        self, policy: Policy, gated: bool, *, solver: Any, samples: int, temperature: float, turns: bool = False
    ) -> tuple[Measurement, Sequence[Solved]]:
        if not self.task.dev:
            raise BadInput("it has no dev problems to measure on", where=self.task.name, fix="ask for some (--dev 128)")
        how = changed(self.settings.sampling, {"temperature": temperature})
        solved = self._repeatable(policy, self.task.dev, "dev", solver, how, range(samples), True, turns)
        if gated:
            self._watch.measured(policy.version, by_problem(one.attempt for one in solved))
        return self.summarise(policy, "dev", solver_name(solver), solved), solved

    def summarise(self, policy: Policy, split: str, solver: str, solved: Sequence[Solved]) -> Measurement:
        """The measurement made from a list of solvings."""
        groups = by_problem(one.attempt for one in solved)
        return measure_attempts(policy.version, split, solver, groups, sum(one.tokens for one in solved))

    def _gate(self, policy: Policy, found: Measurement, how: Mapping[str, Any]) -> None:
        """Decide between `policy` and the champion, which is measured now where it was not in the same way."""
        if policy.version == self.champion.version:
            return
        held = self.measured.get(self.champion.version)
        if held is None or self._under[self.champion.version] != _under(**how):
            held = self.measured[self.champion.version] = self._measure(self.champion, True, **how)[0]
            self._under[self.champion.version] = _under(**how)
        comparison = compare(held, found)
        decision: Decision = self.settings.gate.decide(comparison)
        key = content_hash("gate", self.champion.version, policy.version, self.round)
        payload = {"champion": self.champion.version, "policy": policy.version, "round": self.round, **asdict(decision)}
        self._note(key, "gate", payload)
        self.gates.append(payload)
        self._facts["decision"] = decision
        if decision.promoted:
            self.champion = policy
            self.measured[policy.version], self._under[policy.version] = found, _under(**how)

    def _note(self, key: str, kind: str, payload: dict[str, Any]) -> None:
        if self.journal.get(key) is None:
            self.journal.put(key, kind, payload)

    # --- rounds ---

    def tell(self, name: str, figures: Mapping[str, float | int | str]) -> None:
        """Report figures that a method watches: journalled with the current round, and printed on their own line.

        Args:
            name: what the figures are of; reporting it again in the same round replaces them.
            figures: what each is called -> its value.
        """
        self._facts.setdefault("told", {})[name] = dict(figures)

    def rounds(self, most: int) -> Iterator[int]:
        """Count rounds from 1; ends early when the budget is spent. Each round's line is printed as it ends.

        `Run.round` counts all rounds of a run, those of methods within methods too.
        """
        at_least_one("rounds", most)
        for number in range(1, most + 1):
            try:
                self._check_budget()
            except RunEnds:
                return
            self._begun += 1
            self.round = self.journal.round = self._begun
            self._number, self._facts = number, {}
            if len(self._methods) > 1:
                self.tell(self._methods[-1][1], {"round": number})
            yield number
            self._end_round()

    def _end_round(self) -> None:
        """Journal what the round came to, and print its line."""
        facts, self._facts = self._facts, {}
        if "measurement" not in facts:
            self._watch.forget()
            return
        found, start = facts["measurement"], self.measured.get(self.base.version)
        alike = start and self._under[self.base.version] == facts["under"] and found.policy != self.base.version
        against = compare(start, found) if start and alike else None
        payload = round_payload(self.round, facts, self.ledger.usage)
        payload |= self._watch.round_ends(self.base.version, found.policy, against)
        self._note(round_key(payload), "round", payload)
        self.history.append(payload)
        self.console.say("\n  ".join([*round_lines(payload), self.spending()]))

    # --- cost ---

    def spending(self) -> str:
        """The ledger as a line."""
        usage, seconds = self.ledger.usage, self.seconds()
        return (
            f"tokens: {usage.generated:,} generated, {usage.judge:,} judge, {usage.trained:,} trained;"
            f" {seconds['total']:.0f} s ({seconds['engine']:.0f} sampling, {seconds['learn']:.0f} learning)"
        )

    def seconds(self) -> dict[str, float]:
        """Seconds of all sessions of this run, up to now; see `Journal.seconds`."""
        self._clock()
        return self.journal.seconds()

    def _clock(self) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.journal.clock(self.engine.busy_seconds, self._learn_seconds, peak)

    def _check_budget(self) -> None:
        if self.settings.budget.spent(self.ledger.usage):
            raise self._end(f"the budget of {self.settings.budget.tokens:,} tokens is spent; the run ends here")

    def _end(self, line: str) -> RunEnds:
        """Note, once, why the run goes no further."""
        if self.remark(line):
            self.console.say(line)
        return RunEnds(line)

    def remark(self, line: str) -> bool:
        """Add a line to the notes; whether it is new."""
        new = line not in self._notes
        self._notes += [line] if new else []
        return new

    def _hear(self, line: str) -> None:
        """Note and print a remark, once."""
        if self.remark(line):
            self.said.add(line)
            self.console.say(f"  note: {line}")

    # --- life ---

    def close(self) -> None:
        """Stop the engine and the verifier's workers, and close the journal; closing twice is harmless."""
        with ExitStack() as last_to_first:
            last_to_first.callback(self.journal.close)
            last_to_first.callback(self._solving.close)
            last_to_first.callback(self.task.close)
            last_to_first.callback(self._deaf)
            last_to_first.callback(self._solving.wind_up)
            last_to_first.callback(self.engine.close)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _under(*, solver: Any, samples: int, temperature: float) -> str:
    """What two measurements must share to be compared."""
    return content_hash(identify(solver).key, samples, float(temperature))


def _ends_line(counts: Mapping[str, int]) -> str:
    line = f"{counts['wrong']} of {counts['records']} records teach an end behind an answer that was cut off"
    return f"{line}; drop attempts that are `truncated`, or give the record ends=False"


def _usual_engine(base: Policy) -> Engine:
    if base.remote:
        from selftaught.engines.openai.engine import OpenAIEngine

        return OpenAIEngine()
    from selftaught.engines.local.engine import LocalEngine

    return LocalEngine()
