"""What must hold of every method, each point a check that takes the method and a folder to run it in."""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from selftaught.check.claim import Baseline
from selftaught.control import Budget
from selftaught.control.budget import RunStopped
from selftaught.glossary import GLOSSARY, quick_options
from selftaught.learn import TrainConfig
from selftaught.measure import StudyReport
from selftaught.method import PAPER, REQUIRED, Method, find
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, ReferenceHidden, TokenAdvantages
from selftaught.run.judgments import group_size, takes_groups
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task, with_retries
from selftaught.testing.sums import Inverted, Learner, SumAnnotator, make_run, make_task, solve_or_judge
from selftaught.testing.survival import assert_survives, expect, value_of

TRAIN, DEV = 4, 6  # problems; of six on dev, one policy can be significantly better than another

Check = Callable[[Method, Path], None]


def conformance(method: Method) -> None:
    """Check what must hold of every method: documentation, resuming, budget, and what it may read.

    The method runs on additions with a scripted model, some twenty times with few effects: seconds in all.

    Args:
        method: one of the package's or your own, as `find_method` returns it.

    Raises:
        AssertionError: the first check that fails, by name, and what is wrong.
    """
    for check in checks_of(method):
        with tempfile.TemporaryDirectory(prefix="selftaught-") as folder:
            try:
                check(method, Path(folder))
            except AssertionError as error:
                raise type(error)(f"{method.id}: {check.__name__}: {error}") from error


def checks_of(method: Method) -> list[Check]:
    """Return the checks that apply to a method; only one with a paper has to document itself and to claim something."""
    checks: list[Check] = [documents_itself, names_its_options, declares_its_claim] if method.paper else []
    checks += [runs_with_its_defaults, survives_kills, keeps_its_budget]
    if "reference" not in method.needs:
        checks.append(reads_no_reference)
    if method.shape == "recipe":
        checks.append(learns_from_train_problems)
    if method.shape == "recipe" and "verifier" not in method.needs:
        checks.append(uses_no_verdicts)
    if method.shape == "solver":
        checks.append(solves_anywhere)
    if method.shape == "judge":
        checks.append(judges_blindly)
    return checks


# --- running a method ---


def short(method: Method) -> dict[str, Any]:
    """Return options that make a method quick: its defaults, the large ones cut."""
    return quick_options((option.name, option.default) for option in method.options)


def play(method: Method, run: Run, options: dict[str, Any] | None = None) -> Any:
    """Run a method from start to end, as users do: a solver, or a judge of two answers, on each train problem."""
    chosen = short(method) if options is None else options
    if method.shape == "judge":
        return [judge_two(method.with_options(**chosen), run, problem) for problem in run.task.train]
    if method.shape != "solver":
        return method(run, run.base, run.task, **chosen)
    task = run.task if "reference" in method.needs else run.task.hidden()
    return [run.attempt(run.base, [p], solver=method.with_options(**chosen))[0] for p in task.train]


def judge_two(method: Method, run: Run, problem: Problem, policy: Policy | None = None) -> list[Any]:
    """Judge two answers to a problem, one by one or as the group that the judge takes; by the base model, usually."""
    tried = run.attempt(run.base, [problem], samples=group_size(method) or 2)
    return run.judge(policy or run.base, [tuple(tried)] if takes_groups(method) else tried, method)


def task_for(method: Method | None, **sizes: Any) -> Task:
    """Return a task of additions that a method can take: one that lets the model try again if it needs that.

    Its verifier is shown to solvers, too. It has an annotator for methods that need a teacher.
    """
    task = make_task(annotator=SumAnnotator() if method and "teacher" in method.needs else None, **sizes)
    task = task.showing(task.verifier)
    return with_retries(task) if method and "env" in method.needs else task


def opened(
    folder: Path,
    name: str = "run",
    *,
    method: Method | None = None,
    tokens: int | None = None,
    verifier: Any = None,
    learner: Any = None,
    train: int = TRAIN,
    dev: int = DEV,
) -> Run:
    """Open the run called `name` in `folder`, on a task that `method` can take."""
    settings = Settings(training=TrainConfig(epochs=1), budget=Budget(tokens))
    task = task_for(method, train=train, dev=dev, test=2, verifier=verifier)
    script = partial(solve_or_judge, least=0.6, most=0.7)  # of twelve samples, some are right and some wrong
    return make_run(folder / name, task=task, script=script, settings=settings, learner=learner)


# --- the checks ---


def documents_itself(method: Method, _: Path) -> None:
    """Signature and docstring tell a user everything."""
    doc = inspect.getdoc(method.function) or ""
    expect(bool(PAPER.fullmatch(method.paper)), f"paper={method.paper!r} is neither an arXiv number nor an address")
    for section in ("Source: ", "Differs from the paper: ", "Costs "):
        expect(bool(re.search(f"^{section}", doc, re.MULTILINE)), f"the docstring has no paragraph {section!r}")
    source = re.search(r"^Source: (.*?)(?:\n\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    if method.preset is None:
        expect(source is not None and method.paper in source[1], f"Source: does not name {method.paper}")
    what = "the first sentence of differs" if method.preset else "the docstring's first line"
    expect(method.summary.endswith("."), f"{what} does not end with a period")
    expect(len(method.summary) <= 120, f"{what} is longer than 120 characters")
    expect(bool(method.options), "it has no options: write its parameters behind *")
    for option in method.options:
        expect(bool(option.help), f"the docstring's Args: say nothing of {option.name}")
        expect(option.default is not REQUIRED, f"option {option.name} has no default")
        expect(_is_a(option.default, option.kind), f"the default of {option.name} is not of its type")


def _is_a(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_is_a(value, one) for one in get_args(kind))
    return isinstance(value, get_origin(kind) or kind)


def names_its_options(method: Method, _: Path) -> None:
    """Each option has a name of the glossary, or is a symbol of the paper and says so."""
    for option in method.options:
        known = option.name in GLOSSARY or "in the paper" in option.help
        advice = 'use a name from it, or say in the help which symbol it is ("n* in the paper")'
        expect(known, f"option {option.name} is not in selftaught.glossary: {advice}")


def declares_its_claim(method: Method, _: Path) -> None:
    """It claims something that `selftaught check` can run."""
    claim = method.claim
    if claim is None:
        return expect(False, "it declares no claim=Claim(...)")
    expect(claim.text.endswith("."), "the claim does not end with a period")
    usual = method.bind(dict(claim.options))
    for name, changes in claim.ablations.items():
        expect(method.bind({**claim.options, **changes}) != usual, f"ablation {name!r} changes nothing")
    for rival in (b for b in claim.baselines if isinstance(b, Baseline)):
        if rival.method:
            find(rival.method).bind(dict(rival.options))
        else:
            same = method.bind({**claim.options, **rival.options}) == usual
            expect(not same, f"baseline {rival.name!r} is the method itself")
    return None


def runs_with_its_defaults(method: Method, folder: Path) -> None:
    """It runs with its defaults, and again without a single sample."""
    outcomes, calls, result = [], [], None
    for _ in range(2):
        with opened(folder, method=method, train=2, dev=4) as run:  # few problems, as the defaults may be large
            result = play(method, run, {})
            outcomes.append((value_of(result), run.journal.digest(), run.ledger.usage, run.history, run.gate_decisions))
            calls.append(getattr(run.engine, "calls", 0))
    kind = {"solver": list, "judge": list, "recipe": Policy, "study": StudyReport}[method.shape]
    expect(isinstance(result, kind), f"it returns {type(result).__name__}, not {kind.__name__}")
    expect(outcomes[0] == outcomes[1], "run again, it ends otherwise")
    expect(calls[0] > 0, "it never asks the model")
    expect(calls[1] == 0, f"run again, it asks the model {calls[1]} times")


def survives_kills(method: Method, folder: Path, *, every: bool = False) -> None:
    """Killed before effects of all kinds and run again, it ends the same."""
    assert_survives(partial(play, method), partial(opened, folder, method=method), every=every)


def keeps_its_budget(method: Method, folder: Path) -> None:
    """With a part of the tokens that it takes, it begins nothing once they are spent."""
    with opened(folder, "free", method=method) as run:
        play(method, run)
        needed = run.ledger.usage.spent
    for share in (0.3, 0.6):
        _spend(method, opened(folder, f"share {share}", method=method, tokens=int(share * needed)))


def _spend(method: Method, opened: Run) -> None:
    with opened as run:
        began, tokens = _began(run), run.settings.budget.tokens or 0
        try:
            result = play(method, run)
        except RunStopped:
            expect(method.shape != "recipe", "the end of the budget reaches the caller of a recipe")
        else:
            expect(method.shape == "recipe", f"with {tokens} tokens it goes on to its end")
            expect(result is run.champion, "at the end of its budget it returns another policy than the champion")
        expect(run.ledger.usage.spent >= tokens, "it ends before its budget is spent")
        expect(run.ledger.usage == run.journal.usage(), "ledger and journal differ")
        steps = run.ledger.environment_steps
        expect(steps == run.journal.count("env"), "ledger and journal differ in the environment's steps")
    expect(bool(began), "it begins nothing")
    expect(max(began) < tokens, "it begins something that it cannot afford")


def reads_no_reference(method: Method, folder: Path) -> None:
    """It uses no reference answer, as it does not declare needs=("reference",)."""
    with _references_read() as read, opened(folder, method=method) as run, suppress(ReferenceHidden):
        play(method, run)
    expect(not read, f'it uses {len(read)} reference answers, and does not declare needs=("reference",)')


def learns_from_train_problems(method: Method, folder: Path) -> None:
    """A recipe trains policies, or gives them notes, from attempts at train problems; the last to pass the gate wins.

    Notes name their attempts, and demonstrate train problems.
    """
    learner = Learner()
    with opened(folder, method=method, learner=learner) as run:
        champion = play(method, run)
        new = (row["question"] for _, _, found, _ in run.journal.effects("problems") for row in found["kept"])
        train = {*(p.question for p in run.task.train), *new}
        sampled = {key for kind in ("sample", "reference_step") for key, *_ in run.journal.effects(kind)}
        promoted = [gate["policy"] for gate in run.gate_decisions if gate["promoted"] and "learner" not in gate]
        expect(champion.version == [run.base.version, *promoted][-1], "it returns another policy than the champion")
        noted = [facts for _, _, facts, _ in run.journal.effects("notes")]
        expect(bool(learner.given or noted), "it never learns")
        expect({_ancestor(base) for base, _ in learner.given} <= {run.base}, "it trains another model")
    for facts in noted:
        expect(bool(facts["attempts"]), "notes do not say which attempts they come from: see run.write_notes")
        expect(set(facts["attempts"]) <= sampled, "notes come from attempts that nobody sampled")
        shown = [one["prompt"][0]["content"] for one in facts["notes"].get("demonstrations", ())]
        about = all(any(asked.startswith(question) for question in train) for asked in shown)
        expect(about, "its notes demonstrate what is no train problem")
    for record in (r for _, records in learner.given for r in records if not isinstance(r, TokenAdvantages)):
        about = any(turn.content.startswith(question) for turn in record.prompt for question in train)
        expect(about, "it learns from what is not about a train problem")
        expect(bool(record.attempts), "a record does not say which attempts it comes from")
        expect(set(record.attempts) <= sampled, "a record comes from attempts that nobody sampled")


def uses_no_verdicts(method: Method, folder: Path) -> None:
    """It trains the same policies for any verdicts, as it does not declare needs=("verifier",)."""
    trained = []
    for name, verifier in (("sound", None), ("inverted", Inverted())):
        with opened(folder, name, method=method, verifier=verifier) as run:
            play(method, run)
            trained.append([row["policy"] for row in run.history])
    expect(trained[0] == trained[1], 'verdicts decide what it learns, and it does not declare needs=("verifier",)')


def solves_anywhere(method: Method, folder: Path) -> None:
    """A solver attempts several problems at once, several times each, and is measured by its name."""
    with opened(folder, method=method) as run:
        tried: list[Attempt] = run.attempt(run.base, run.task.train, solver=method, samples=2)
        wanted = [problem.id for problem in run.task.train for _ in range(2)]
        expect([a.problem.id for a in tried] == wanted, "it does not return an attempt at the problem that it is given")
        sampled = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
        expect(all(a.id in sampled for a in tried), "it returns an attempt that nobody sampled")
        expect(
            all(sampled[a.id]["text"] == a.text[a.prefix_chars :] for a in tried), "it changes the text of an attempt"
        )
        found = run.measure(run.base, solver=method)
        expect((found.solver, found.n) == (method.id, len(run.task.dev)), "it is measured under another name")
        expect(found.tokens >= found.mean_tokens * found.n, "its answers take more tokens than it does")


def judges_blindly(method: Method, folder: Path) -> None:
    """A judge says the same for any verdicts, unless it needs them; its samples are judge tokens."""
    said = []
    for name, verifier in (("sound", None), ("inverted", Inverted())):
        with opened(folder, name, verifier=verifier) as run:
            tried = [one for problem in play(method, run) for one in problem]
            several = [one for group in tried for one in (group if isinstance(group, tuple) else (group,))]
            said.append([one.judgments for one in several])
            roles = {payload["role"] for _, _, payload, _ in run.journal.effects("sample")}
            expect(all(one.judgments for one in several), "it does not judge every attempt")
            expect(roles <= {"solve", "critique", "judge"}, f"what it samples has the roles {sorted(roles)}")
            expect(run.ledger.usage.judge > 0 or roles == {"solve"}, "what it samples is not counted as judge tokens")
    if "verifier" not in method.needs:
        expect(said[0] == said[1], 'verdicts decide what it says, and it does not declare needs=("verifier",)')


# --- watching ---


def _began(run: Run) -> list[int]:
    """Tokens spent when each of the method's calls begins that the budget lets through, as the run goes on."""
    began: list[int] = []
    inside = 0  # calls that such a call makes itself belong to it

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def through(*args: Any, **kw: Any) -> Any:
            nonlocal inside
            spent = run.ledger.usage.spent
            inside += 1
            try:
                result = call(*args, **kw)
            finally:
                inside -= 1
            if not inside:
                began.append(spent)
            return result

        return through

    for name in ("attempt", "annotate", "search", "judge", "learn", "measure"):
        setattr(run, name, watched(getattr(run, name)))
    return began


@contextmanager
def _references_read() -> Iterator[list[bool]]:
    """Note each use of a withheld reference, whether or not the method catches what that raises."""
    read: list[bool] = []
    plain = ReferenceHidden.__init__

    def noted(self: ReferenceHidden, *args: Any) -> None:
        read.append(True)
        plain(self, *args)

    ReferenceHidden.__init__ = noted
    try:
        yield read
    finally:
        ReferenceHidden.__init__ = plain


def _ancestor(policy: Policy) -> Policy:
    return _ancestor(policy.base) if policy.base else policy
