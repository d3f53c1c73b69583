"""The run: the only door to compute, money and disk.

Every call through it is an effect, journalled under a key made of its content. Rerunning is resuming:
kill the process at any moment, run the same program again, and nothing paid for is paid again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from selftaught import models
from selftaught.ask import Ask, Question
from selftaught.console import Console
from selftaught.control import Budget, Decision, Gate
from selftaught.control.budget import BudgetSpent
from selftaught.curate import by_problem
from selftaught.engines import Engine, Request, RequestRefused, Sampling
from selftaught.errors import BadInput
from selftaught.journal import Journal, Ledger, Usage
from selftaught.learn import Objective, Training
from selftaught.learn.learner import policy_version
from selftaught.learn.learner import learn as local_learner
from selftaught.measure import Measurement, compare, measure_attempts
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.models.policy import policy_from
from selftaught.records import Attempt, Feedback, Problem, Verdict, as_json, content_hash
from selftaught.tasks import Task

T = TypeVar("T")
Learner = Callable[..., Policy]

JUDGING = frozenset({"critique", "judge"})
IN_FLIGHT = 4096  # most solvings awaited at once
FAILURES = ("verifier raised", "timeout", "worker")  # how a failed verification's text begins


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is configured with, beside its model, task and method.

    Attributes:
        seed: of sampling and training.
        sampling: defaults of every question; methods and solvers change single fields.
        training: defaults of every learning; methods change single fields.
        budget: most tokens to spend before the test split is opened.
        gate: when a policy is promoted.
        failure_limit: share of verifications that may fail (raise, time out) before the run stops.
    """

    seed: int = 0
    sampling: Sampling = Sampling(max_tokens=256)
    training: Training = Training()
    budget: Budget = Budget()
    gate: Gate = Gate()
    failure_limit: float = 0.5


@dataclass(frozen=True, slots=True)
class Solved:
    """The outcome of one solving: the attempt handed in, and all tokens it took."""

    attempt: Attempt
    tokens: int


class Run:
    """A run in its folder: sampling, judging, learning, measuring, each journalled.

    Args:
        folder: where the journal, the policies and the report live; made if absent, resumed if not.
        model: anything `models.resolve` takes, or a `Policy`.
        task: where problems and verdicts come from.
        engine: where tokens come from; a `LocalEngine` by default.
        settings: see `Settings`.
        learner: trains a policy; `learn.learner.learn` by default.
        console: where progress is shown.

    Raises:
        BadInput: the folder is in use, was made with another configuration, or the model is not to be had.
    """

    def __init__(
        self, folder: str | Path, *, model: str | Path | Policy, task: Task, engine: Engine | None = None,
        settings: Settings | None = None, learner: Learner = local_learner, console: Console | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.task = Path(folder), task
        self.settings, self.console = settings or Settings(), console or Console()
        self.notes: list[str] = list(task.notes)
        self.round = 0
        self.journal = Journal(self.folder)
        try:
            self.base = models.resolve(model, self.console.say)
            self.model = str(model) if not isinstance(model, Policy) else model.version
            if engine is None:
                from selftaught.engines.local import LocalEngine

                engine = LocalEngine()
            self.engine: Engine = engine
            self._configure(self._configuration())
        except BaseException:
            self.journal.close()
            raise
        self.champion = self.base
        self.ledger = Ledger()
        self._learner = learner
        self._learn_seconds = 0.0
        self._method: Method | None = None
        self._started: Counter[str] = Counter()
        self._measured: dict[str, Measurement] = {}
        self._facts: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="selftaught-run", daemon=True)
        self._thread.start()

    # --- configuration ---

    def _configuration(self) -> dict[str, Any]:
        problems = [[(p.id, as_json(p.reference)) for p in getattr(self.task, s)] for s in ("train", "dev", "test")]
        settings = {f"{k}.{n}": v for k, part in as_json(self.settings).items() if isinstance(part, dict) for n, v in part.items()}
        return {
            "model": self.base.version,
            "task": self.task.name,
            "problems": content_hash(problems),
            "engine": self.engine.name,
            "seed": self.settings.seed,
            **{k: v for k, v in settings.items() if k not in ("training.checkpoint_seconds", "training.micro_tokens")},
        }

    def _configure(self, wanted: dict[str, Any]) -> None:
        """Write `wanted` into the journal's configuration, or refuse where it says otherwise."""
        known: dict[str, Any] = json.loads(self.journal.meta("config") or "{}")
        wanted = json.loads(json.dumps(wanted, default=str))
        differ = [f"{k} is {known[k]!r} there, {v!r} here" for k, v in wanted.items() if k in known and known[k] != v]
        if differ:
            raise BadInput(
                f"it was made with another configuration: {'; '.join(differ)}",
                where=str(self.folder),
                fix="use another --out, or the same options",
            )
        if wanted.keys() - known.keys():
            self.journal.set_meta("config", json.dumps(known | wanted, sort_keys=True))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it stands in the journal."""
        return json.loads(self.journal.meta("config") or "{}")

    @contextmanager
    def method(self, method: Method, options: dict[str, Any]) -> Iterator[Callable[[T], T]]:
        """Inside, the run serves `method`: its options belong to the configuration, its needs are enforced.

        Yields a function that hides the references of a task unless the method declared that it reads them.
        """
        self.task.require(reference=bool(method.needs))
        chosen = {f"option.{name}": value for name, value in options.items()}
        if (known := self.config).get("method") == method.id:
            chosen |= {k: None for k in known if k.startswith("option.") and k not in chosen}
        self._configure({"method": method.id, **chosen})
        reads = "reference" in method.needs
        self._method = method
        try:
            yield lambda arg: arg if reads or not isinstance(arg, Task) else arg.hidden()  # pyright: ignore[reportReturnType]
            self._end_round()
        finally:
            self._method = None

    # --- sampling and judging ---

    def attempt(
        self, policy: Policy, problems: Sequence[Problem], *, solver: Any = None, n: int = 1, **sampling: Any
    ) -> list[Attempt]:
        """`n` attempts at every problem, judged if the method declared that it needs a verifier.

        Called again with the same arguments it draws new samples; a rerun of the program draws the same.

        Args:
            solver: `async (ask, problem) -> Attempt`; by default the problem's own prompt is asked once.
            sampling: fields of `Sampling` to change.

        Returns:
            The attempts, those of one problem together, in the order of `problems`.
        """
        self._check_budget()
        how = replace(self.settings.sampling, **sampling)
        name = _name(solver)
        work = []
        for problem in problems:
            start = content_hash(policy.version, problem.id, name, how)
            for _ in range(n):
                work.append((problem, f"attempt/{name}/{self._started[start]}"))
                self._started[start] += 1
        judged = self._method is None or "verifier" in self._method.needs
        what = f"round {self.round}: sampling" if self.round else "sampling"
        solved = self._solve_all(what, policy, work, solver, how, judged)
        if judged and solver is None and n > 1:
            self._note_sampling(policy, solved)
        return [one.attempt for one in solved]

    def solve(
        self, policy: Policy, problems: Sequence[Problem], split: str, *, solver: Any = None, samples: int = 1, first: int = 0,
        judged: bool = True, **sampling: Any,
    ) -> list[Solved]:  # fmt: skip
        """Attempts for a measurement: asked again they are the same ones, not new samples.

        Args:
            split: what the problems are, for the progress display.
            first: number of the first sample, so that a measurement can be extended by more.
            judged: whether the verifier judges them.
        """
        how = replace(self.settings.sampling, **sampling)
        name = _name(solver)
        work = [(p, f"measure/{name}/{i}") for p in problems for i in range(first, first + samples)]
        return self._solve_all(f"measuring on {split}", policy, work, solver, how, judged)

    def _solve_all(
        self, what: str, policy: Policy, work: Sequence[tuple[Problem, str]], solver: Any, how: Sampling, judged: bool
    ) -> list[Solved]:
        limit = asyncio.Semaphore(IN_FLIGHT)
        before, started = self.ledger.usage.spent, time.monotonic()

        async def all_of_them() -> list[Solved]:
            with self.console.meter(what, len(work)) as meter:

                async def one(problem: Problem, name: str) -> Solved:
                    async with limit:
                        solved = await self._solve_one(policy, problem, solver, how, name, judged)
                    rate = (self.ledger.usage.spent - before) / max(1e-9, time.monotonic() - started)
                    meter.advance(1, f"{rate:.0f} tokens/s, {self.ledger.usage.spent:,} tokens spent")
                    return solved

                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(problem, name)) for problem, name in work]
            return [task.result() for task in tasks]

        try:
            solved = self._wait(all_of_them())
        except BaseExceptionGroup as group:  # the first failure cancelled the others
            raise group.exceptions[0] from None
        self._clock()
        self._check_failures(solved if judged else [])
        return solved

    async def _solve_one(
        self, policy: Policy, problem: Problem, solver: Any, how: Sampling, name: str, judged: bool
    ) -> Solved:
        ask = Ask(self._sample, policy, problem, how, name)
        attempt = await (solver(ask, problem) if solver else ask(problem.prompt))
        return Solved(await self._judge(attempt) if judged else attempt, ask.tokens)

    async def _sample(self, question: Question) -> Attempt:
        """One sample through the journal."""
        key = question.key(self.settings.seed)
        found = self.journal.get(key)
        if found is None:
            found = await self._pay(key, question)
        payload, usage = found
        self.ledger.count(key, usage)
        text = payload["text"]
        refused = payload.get("refused")
        return Attempt(
            id=key,
            problem=question.problem,
            prompt=question.prompt,
            text=text,
            answer=None if refused else self.task.extract(question.problem, text),
            token_ids=tuple(payload["tokens"]),
            logprobs=tuple(payload["logprobs"]),
            finish_reason=payload["finish"],
            by=question.policy.version,
            role=question.role,
            parent=question.parent.id if question.parent else None,
            feedback=(Feedback(Verdict.UNKNOWN, text=f"refused: {refused}", by=self.engine.name),) if refused else (),
        )

    async def _pay(self, key: str, question: Question) -> tuple[dict[str, Any], Usage]:
        request = Request(question.prompt, question.sampling, int(key, 16) >> 1, question.prefix)
        try:
            sample = await self.engine.sample(question.policy, request)
        except RequestRefused as error:
            payload: dict[str, Any] = {"text": "", "tokens": [], "logprobs": [], "finish": "error", "refused": str(error)}
            usage = Usage()
        else:
            logprobs = [round(value, 6) for value in sample.logprobs]
            payload = {"text": sample.text, "tokens": sample.token_ids, "logprobs": logprobs, "finish": sample.finish_reason}
            count = len(sample.token_ids)
            judging = question.role in JUDGING
            usage = Usage(sample.prompt_tokens, 0 if judging else count, count if judging else 0)
        payload |= {"problem": question.problem.id, "policy": question.policy.version, "role": question.role}
        payload |= {"parent": question.parent.id if question.parent else None}
        self.journal.put(key, "sample", payload, usage, round=self.round)
        return payload, usage

    async def _judge(self, attempt: Attempt) -> Attempt:
        """The attempt with the task's feedback; a failed verification is UNKNOWN and tried again on a rerun."""
        if attempt.finish_reason == "error":
            return attempt
        problem = attempt.problem
        true = self._references.get(problem.id)
        key = content_hash("verify", self.task.verifier.version, problem.id, true, attempt.text)
        if (found := self.journal.get(key)) is not None:
            verdict, score, text = found[0]
            feedback = Feedback(Verdict(verdict), score, text, self.task.verifier.version)
        else:
            feedback = await asyncio.to_thread(self.task.verify, problem, attempt.text)
            if not feedback.text.startswith(FAILURES) and self.journal.get(key) is None:
                self.journal.put(key, "verify", [feedback.verdict, feedback.score, feedback.text], round=self.round)
        return replace(attempt, feedback=(*attempt.feedback, feedback))

    @property
    def _references(self) -> dict[str, Any]:
        if not hasattr(self, "_true"):
            splits = (self.task.train, self.task.dev, self.task.test)
            self._true = {p.id: as_json(p.reference) for p in itertools.chain(*splits)}
        return self._true

    def _check_failures(self, solved: Sequence[Solved]) -> None:
        """Show failed verifications, and stop where there are too many to go on."""
        texts = [s.attempt.feedback[-1].text for s in solved if s.attempt.feedback]
        failed = [text for text in texts if text.startswith(FAILURES)]
        if not failed:
            return
        line = f"{len(failed)} of {len(texts)} verifications failed and count as UNKNOWN ({failed[0]})"
        if len(texts) >= 16 and len(failed) > self.settings.failure_limit * len(texts):
            raise BadInput(line, where="verifier", fix="mend the verifier and run the same command again: samples are kept")
        self.console.say(f"  warning: {line}")
        self.notes.append(line)

    # --- learning ---

    def learn(self, base: Policy, objective: Objective, records: Sequence[Any], **training: Any) -> Policy:
        """A new policy, trained from `base` on `records`.

        Args:
            training: fields of `Training` to change.

        Raises:
            BadInput: there are no records.
        """
        self._check_budget()
        settings = replace(self.settings.training, **training)
        version = policy_version(base, objective, records, settings, self.settings.seed)
        key = content_hash("learn", version)
        found = self.journal.get(key)
        if found is None or not (self._policies / version).is_dir():
            self.engine.release()
            policy = self._train(base, objective, records, settings)
        else:
            policy = policy_from(self._policies / version)
        if found is None:
            made = json.loads((policy.path / "selftaught.json").read_text("utf-8"))
            found = ({"policy": version, "base": base.version, "records": len(records)}, Usage(trained=made["tokens"]))
            self.journal.put(key, "learn", *found, round=self.round)
        self.ledger.count(key, found[1])
        self._facts["records"] = len(records)
        self._clock()
        return policy

    @property
    def _policies(self) -> Path:
        return self.folder / "policies"

    def _train(self, base: Policy, objective: Objective, records: Sequence[Any], settings: Training) -> Policy:
        started = time.monotonic()
        what = f"round {self.round}: learning from {len(records)}" if self.round else f"learning from {len(records)}"
        with self.console.meter(what, settings.epochs * -(-len(records) // settings.batch)) as meter:
            done = 0

            def progress(step: int, _total: int, loss: float) -> None:
                nonlocal done
                meter.advance(step - done, f"loss {loss:.3f}")
                done = step

            try:
                return self._learner(
                    base, objective, records, settings, seed=self.settings.seed, folder=self._policies, progress=progress
                )
            except Exception as error:
                raise _readable(error, self._policies) from error
            finally:
                self._learn_seconds += time.monotonic() - started

    # --- measuring and promoting ---

    def measure(self, policy: Policy, *, solver: Any = None, samples: int = 1, temperature: float = 0.0) -> Measurement:
        """Accuracy on the dev split; a policy measured greedily also goes through the gate.

        A policy that passes replaces the champion; one that does not is kept, named and reported.
        """
        self._check_budget()
        found = self._measure(policy, "dev", self.task.dev, solver, samples, temperature)
        if solver is None and samples == 1 and temperature == 0.0:
            self._facts |= {"policy": policy.version, "measurement": found}
            self._gate(policy, found)
        return found

    def _measure(
        self, policy: Policy, split: str, problems: Sequence[Problem], solver: Any, samples: int, temperature: float
    ) -> Measurement:
        solved = self.solve(policy, problems, split, solver=solver, samples=samples, temperature=temperature)
        return self.summarise(policy, split, _name(solver), solved)

    def summarise(self, policy: Policy, split: str, solver: str, solved: Sequence[Solved]) -> Measurement:
        """The measurement that a list of solvings amounts to."""
        groups = by_problem(one.attempt for one in solved)
        return measure_attempts(policy.version, split, solver, groups, sum(one.tokens for one in solved))

    def _gate(self, policy: Policy, found: Measurement) -> None:
        if policy.version == self.champion.version:
            return
        if self.champion.version not in self._measured:
            champion = self._measure(self.champion, "dev", self.task.dev, None, 1, 0.0)
            self._measured[self.champion.version] = champion
        comparison = compare(self._measured[self.champion.version], found)
        decision: Decision = self.settings.gate.decide(comparison)
        key = content_hash("gate", self.champion.version, policy.version, self.round)
        if self.journal.get(key) is None:
            payload = {"champion": self.champion.version, "policy": policy.version, **asdict(decision)}
            self.journal.put(key, "gate", payload, round=self.round)
        self._facts["decision"] = decision
        if decision.promoted:
            self.champion = policy
            self._measured[policy.version] = found

    # --- rounds ---

    def rounds(self, most: int) -> Iterator[int]:
        """Count rounds from 1; ends early when the budget is spent. Each round's line is printed as it ends."""
        for number in range(1, most + 1):
            if self.settings.budget.spent(self.ledger.usage):
                self._budget_note()
                return
            self.round, self._facts = number, {}
            yield number
            self._end_round()

    def _end_round(self) -> None:
        """Journal what the round came to, and print its line."""
        if "measurement" not in self._facts:
            self._facts = {}
            return
        facts, self._facts = self._facts, {}
        found: Measurement = facts["measurement"]
        decision: Decision = facts.get("decision", Decision(False, "it is the champion already"))
        payload = {
            "round": self.round,
            "policy": facts["policy"],
            "records": facts.get("records"),
            "accuracy": found.accuracy,
            "ci95": list(found.ci95),
            "unknown_rate": found.unknown_rate,
            "n": found.n,
            "pass_at": facts.get("pass_at", {}),
            "promoted": decision.promoted,
            "reason": decision.reason,
            "tokens": asdict(self.ledger.usage),
        }
        key = content_hash("round", self.round, facts["policy"])
        if self.journal.get(key) is None:
            self.journal.put(key, "round", payload, round=self.round)
        self.console.say(
            f"round {self.round}: dev accuracy {found.accuracy:.3f} [{found.ci95[0]:.3f}, {found.ci95[1]:.3f}]"
            f" (unknown {found.unknown_rate:.0%}), {decision.reason}\n"
            f"  {self.spending()}"
        )

    def _note_sampling(self, policy: Policy, solved: Sequence[Solved]) -> None:
        pass_at = self.summarise(policy, "train", "policy", solved).pass_at
        self._facts["pass_at"] = {str(k): v for k, v in pass_at.items()}

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
            self._budget_note()
            raise BudgetSpent(f"{self.ledger.usage.spent:,} tokens")

    def _budget_note(self) -> None:
        line = f"the budget of {self.settings.budget.tokens:,} tokens is spent; the run ends here"
        if line not in self.notes:
            self.notes.append(line)
            self.console.say(line)

    # --- life ---

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the engine and the verifier's workers, and close the journal."""
        self.engine.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.task.close()
        self.journal.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _name(solver: Any) -> str:
    return "policy" if solver is None else getattr(solver, "id", None) or getattr(solver, "__name__", type(solver).__name__)


def _readable(error: Exception, folder: Path) -> Exception:
    """A full disk as one line, whichever library met it; anything else as it is."""
    if any(sign in str(error) for sign in ("No space left", "Disk quota exceeded", "File too large")):
        fix = "free some space and run the same command again: it resumes"
        return BadInput(f"the disk is full ({error})", where=str(folder), fix=fix)
    return error
