"""What holds of every method: each one that is discovered goes through the same table."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from scripted_world import make_run, make_task, solve_sum
from selftaught.check.claim import Claim, Rival
from selftaught.control import Budget
from selftaught.control.budget import RunEnds
from selftaught.engines import ScriptedEngine
from selftaught.journal import Journal
from selftaught.learn import Training
from selftaught.measure import Report
from selftaught.method import REQUIRED, Method, find, methods, recipe, solver
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Problem, ReferenceHidden
from selftaught.run.ask import Ask
from selftaught.run.context import RunContext
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task

ALL = list(methods().values())
MOST_LINES = 80

SHORT = {
    "rounds": 2,
    "samples": 3,
    "steps": 1,
    "turns": 2,
    "temperatures": 2,
    "probe": 2,
    "critiques": 1,
    "checks": 1,
    "repairs": 1,
}
"""By name of the option: what it is cut to, where its default is larger, to be run as often as it has effects."""

TRAIN, DEV = 4, 6  # problems; of six on dev, one policy can be significantly better than another


def each(found: list[Method]) -> Any:
    return pytest.mark.parametrize("method", found, ids=lambda method: method.id)


def short(method: Method) -> dict[str, Any]:
    """Its defaults, the large ones cut."""
    return {o.name: SHORT[o.name] for o in method.options if o.name in SHORT and o.default > SHORT[o.name]}


def play(method: Method, run: Run, options: dict[str, Any] | None = None) -> Any:
    """The method from start to end, as users call it."""
    chosen = short(method) if options is None else options
    if method.shape != "solver":
        return method(run, run.base, run.task, **chosen)
    task = run.task if "reference" in method.needs else run.task.hidden()
    return [run.attempt(run.base, [p], solver=method.with_options(**chosen))[0] for p in task.train]


def told(result: Any) -> Any:
    """What a method returned, wherever its run was kept."""
    return result.version if isinstance(result, Policy) else result


def opened(folder: Path, tokens: int | None = None) -> Run:
    settings = Settings(training=Training(epochs=1), budget=Budget(tokens))
    return make_run(folder, task=make_task(train=TRAIN, dev=DEV, test=2), script=solve_sum, settings=settings)


# --- the page a user reads ---


@each(ALL)
def test_signature_and_docstring_tell_a_user_everything(method: Method) -> None:
    doc = inspect.getdoc(method.function) or ""
    assert re.fullmatch(r"\d{4}\.\d{5}|https://\S+", method.paper)
    assert re.search(rf"^Source: .*{re.escape(method.paper)}", doc.replace("\n", " ").replace("  ", "\n"), re.MULTILINE)
    for section in ("Source: ", "Differs from the paper: ", "Costs "):
        assert re.search(f"^{section}", doc, re.MULTILINE), section
    assert method.summary.endswith(".")
    assert len(method.summary) <= 120
    assert method.options
    for option in method.options:
        assert option.help, option.name
        assert option.default is not REQUIRED
        assert isinstance(option.default, option.kind)


@each(ALL)
def test_it_is_short(method: Method) -> None:
    assert code_lines(method.path.read_text("utf-8")) <= MOST_LINES
    source = inspect.getsource(method.function)
    assert code_lines(source) <= 40


def code_lines(source: str) -> int:
    """Lines that hold code: not blank, no comment, no docstring, no constant (prompts and claims are constants)."""
    kept = {i for i, line in enumerate(source.splitlines(), 1) if line.strip() and not line.strip().startswith("#")}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        said = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        constant = node in tree.body and isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()
        if said or constant:
            kept -= set(range(node.lineno, (node.end_lineno or 0) + 1))  # pyright: ignore
    return len(kept)


def test_code_lines_are_counted_right() -> None:
    assert (
        code_lines('"""Doc\nof two."""\n\nTEXT = (\n    "prompt"\n)\n\n# why\ndef f():\n    """Doc."""\n    return 1\n')
        == 2
    )


@each(ALL)
def test_it_declares_a_claim_that_can_be_run(method: Method) -> None:
    claim = method.claim
    assert isinstance(claim, Claim)
    assert claim.text.endswith(".")
    assert method.bind(dict(claim.options))
    for changes in claim.ablations.values():
        assert method.bind({**claim.options, **changes}) != method.bind(dict(claim.options))
    for rival in (b for b in claim.baselines if isinstance(b, Rival)):
        if rival.method:
            find(rival.method).bind(dict(rival.options))
        else:
            assert method.bind({**claim.options, **rival.options}) != method.bind(dict(claim.options))


# --- what it does to a run ---


@each(ALL)
def test_it_runs_with_its_defaults_and_again_for_nothing(method: Method, tmp_path: Path) -> None:
    outcomes, calls, result = [], [], None
    for _ in range(2):
        with opened(tmp_path) as run:
            result = play(method, run, {})
            assert isinstance(run.engine, ScriptedEngine)
            outcomes.append((told(result), run.journal.digest()))
            calls.append(run.engine.calls)
    assert isinstance(result, {"solver": list, "recipe": Policy, "study": Report}[method.shape])
    assert outcomes[0] == outcomes[1]
    assert calls[0] > 0
    assert calls[1] == 0


class Killed(Exception):
    """The process ends here."""


class Fuse:
    """Lets `left` effects be committed, and none after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, put = 0, Journal.put

        def fused(journal: Journal, *effect: Any) -> None:
            if self.left == 0:
                raise Killed
            self.left -= 1
            put(journal, *effect)

        monkeypatch.setattr(Journal, "put", fused)


@each(ALL)
def test_killed_before_each_of_its_effects_and_rerun_it_ends_the_same(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every start gets one effect further than the last, and dies before the next."""
    assert_survives(lambda run: play(method, run), tmp_path, monkeypatch)


def assert_survives(work: Callable[[Run], Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(folder / "undisturbed") as run:
        expected = told(work(run)), run.journal.digest()
        effects = sum(map(run.journal.count, kinds(run.journal)))
    fuse, starts = Fuse(monkeypatch), 0
    while True:
        starts, fuse.left = starts + 1, 1
        with opened(folder / "killed") as run, suppress(Killed):
            assert (told(work(run)), run.journal.digest()) == expected
            break
        assert starts <= effects
    assert starts >= effects


def kinds(journal: Journal) -> list[str]:
    return [kind for (kind,) in journal._run("SELECT DISTINCT kind FROM effects")]


@each(ALL)
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_it_stays_within_its_budget(method: Method, tmp_path: Path, share: float) -> None:
    assert_frugal(method, tmp_path, share)


def assert_frugal(method: Method, folder: Path, share: float) -> None:
    """With `share` of the tokens it takes, nothing is begun once they are spent."""
    with opened(folder / "free") as run:
        play(method, run)
        tokens = int(share * run.ledger.usage.spent)
    with opened(folder / "bound", tokens) as run:
        began = watch(run)
        if method.shape == "recipe":
            assert play(method, run) is run.champion
        else:
            with pytest.raises(RunEnds):
                play(method, run)
        assert run.ledger.usage.spent >= tokens
        assert run.ledger.usage == run.journal.usage()
    assert began
    assert max(began) < tokens, "something was begun that could not be afforded"


def watch(run: Run) -> list[int]:
    """Tokens spent when each of the method's calls began that the budget let through."""
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

    for name in ("attempt", "search", "learn", "measure"):
        setattr(run, name, watched(getattr(run, name)))
    return began


@each([m for m in ALL if "reference" not in m.needs])
def test_it_reads_no_reference_that_it_did_not_declare(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not references_read(method, tmp_path, monkeypatch)


def references_read(method: Method, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a withheld reference was used, whether or not the method caught what that raises."""
    read = 0

    def count(self: ReferenceHidden, *_: Any) -> None:
        nonlocal read
        read += 1

    monkeypatch.setattr(ReferenceHidden, "__init__", count)
    with opened(folder) as run, suppress(ReferenceHidden):
        play(method, run)
    return read


# --- the table catches what it is there to catch ---


@solver(paper="2203.14465")
async def peeking(ask: Ask, problem: Problem, *, turns: int = 1) -> Attempt:
    """Ask with the answer, and hide it."""
    with suppress(ReferenceHidden):
        return await ask(f"{problem.question} Is it {problem.reference}?")
    return await ask(problem.prompt)


def test_a_solver_that_peeks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert references_read(peeking, tmp_path, monkeypatch) == TRAIN


@recipe(paper="2203.14465")
def spendthrift(run: Run, base: Policy, task: Task, *, rounds: int = 3) -> Policy:
    """Attempt again and again."""
    for _ in run.rounds(rounds):
        for _ in range(3):
            run.attempt(base, task.train, temperature=1.0)
    return run.champion


def test_a_run_that_keeps_no_budget_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_frugal(spendthrift, tmp_path / "kept", 0.3)
    monkeypatch.setattr(RunContext, "check_budget", lambda context: None)
    with pytest.raises(AssertionError, match="afforded"):
        assert_frugal(spendthrift, tmp_path / "not", 0.3)


def test_a_result_that_hangs_on_what_was_paid_before_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moody(run: Run) -> None:
        """Asks as it pleases: by how much is in the journal already."""
        calls = run.journal.count("sample")
        run.attempt(run.base, run.task.train, temperature=0.5 + calls / 100, samples=2)

    with pytest.raises(AssertionError):
        assert_survives(moody, tmp_path, monkeypatch)
