"""Presets: published variants of a method that other options of the same function make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from selftaught.discovery import ID, file_of, location
from selftaught.errors import BadInput, suggest
from selftaught.options import check_choice, check_type, keyword_only, options_of, same

if TYPE_CHECKING:
    from selftaught.check.claim import Claim
    from selftaught.method import Method

PAPER = re.compile(r"\d{4}\.\d{4,5}|https://[^\s\"'\\<>{}|]+")
"""An arXiv number or an address."""

Need = Literal["verifier", "reference", "dev", "teacher", "peers", "judge", "documents", "sandbox", "env"]
NEEDS: dict[Need, str] = {
    "verifier": "a verifier",
    "reference": "reference answers",
    "dev": "verdicts on dev",
    "teacher": "a teacher model",
    "peers": "peer models",
    "judge": "a judge",
    "documents": "documents",
    "sandbox": "a sandbox for code",
    "env": "an environment",
}
"""What a method may declare that it needs, with the words of its page.

- "verifier": its choices use verdicts on train problems; refused otherwise.
- "reference": it reads the reference answers of train problems; hidden otherwise.
- "dev": a study that reads verdicts on dev problems; refused otherwise.
- "teacher": it learns from a model other than the learner, or from the task's annotator (`run.annotate`, refused
  otherwise).
- "peers": other models take part as equals.
- "judge": it uses scores of a judge in place of, or beside, verdicts.
- "documents": it reads texts besides the problems.
- "sandbox": it runs code that a model has written.
- "env": it plays the task's environment; refused on a task without one, and any other method on a task with one.

"peers" to "sandbox" are declared only. Every need of a method that another one calls must be declared by the caller
too.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A published variant of a method (its host): the same function with other default options.

    It is declared on the host by its id, `@recipe(..., presets={"rft": Preset(...)})`, and is a `Method` of its own,
    with its own page, claim and results.

    Attributes:
        paper: arXiv number or URL of its source.
        options: options of the host, set as defaults; users can still change them.
        differs: what differs from the host, in one or two sentences; the first one is its summary.
        claim: what its paper claims, or None.
        needs: what it needs, if that differs from the host's needs.
    """

    paper: str
    options: Mapping[str, Any] = field(default_factory=dict)
    differs: str = ""
    claim: Claim | None = None
    needs: tuple[Need, ...] | None = None

    @property
    def summary(self) -> str:
        """The first sentence of `differs`."""
        return re.split(r"(?<=\.)\s", " ".join(self.differs.split()), maxsplit=1)[0]


def check_needs(needs: tuple[Need, ...], shape: str, where: str) -> None:
    """Raise BadInput for a need that does not exist, and for "dev" outside studies."""
    if isinstance(needs, str):
        raise BadInput(f"needs must be a tuple, got {needs!r}", where=where, fix=f'write needs=("{needs}",)')
    for need in needs:
        if need not in NEEDS:
            raise BadInput(f"unknown need {need!r}", where=where, fix=suggest(str(need), NEEDS))
    if "dev" in needs and shape != "study":
        raise BadInput("only studies may need verdicts on dev", where=where, fix='remove "dev" from needs')


def check_presets(host: Method) -> None:
    """Refuse presets and aliases of a method that cannot be told from others, or whose options do not bind.

    Raises:
        BadInput: an id has other characters than lowercase letters, digits and dashes, is the host's own, is declared
            twice, or is that of a method with a file of that name; an option is unknown or has a wrong value, or none
            differs from the host's; a paper is no arXiv number or address; or nothing says what differs.
    """
    if not (host.presets or host.also):
        return
    where = location(host.function)
    if isinstance(host.also, str):
        raise BadInput(f"also must be a tuple, got {host.also!r}", where=where, fix=f'write also=("{host.also}",)')
    for name in (*host.presets, *host.also):
        _check_id(host, name, where)
    for name, preset in host.presets.items():
        if not isinstance(preset, Preset):
            raise BadInput(f"preset {name!r} is no Preset", where=where, fix="write Preset(paper=..., options={...})")
        _check_preset(host, name, preset, where)


def _check_id(host: Method, name: str, where: str) -> None:
    what = f"preset {name!r}" if name in host.presets else f"alias {name!r}"
    if not isinstance(name, str) or not ID.fullmatch(name):
        fix = "use lowercase letters and digits, with dashes between words"
        raise BadInput(f"{what} of {host.id} is no id", where=where, fix=fix)
    if name == host.id:
        raise BadInput(f"{what} has the name of its host", where=where, fix="choose another id")
    if [*host.presets, *host.also].count(name) > 1:
        raise BadInput(f"{host.id} declares {name!r} twice", where=where, fix="choose another id")
    if taken := file_of(name):
        fix = f"choose another id, or remove {taken}"
        raise BadInput(f"{what} of {host.id} is the id of another method", where=where, fix=fix)


def _check_preset(host: Method, name: str, preset: Preset, where: str) -> None:
    what = f"preset {name!r} of {host.id}"
    if not PAPER.fullmatch(preset.paper):
        fix = 'write an arXiv number ("2312.06585") or an https address'
        raise BadInput(f"{what} has paper={preset.paper!r}", where=where, fix=fix)
    if not preset.differs.strip():
        raise BadInput(f"{what} does not say what differs", where=where, fix='add differs="..." to it')
    if preset.needs is not None:
        check_needs(preset.needs, host.shape, f"{where}: {what}")
    defaults = {parameter.name: parameter.default for parameter in keyword_only(host.function)}
    for option in preset.options:
        if option not in defaults:
            fix = suggest(str(option), defaults)
            raise BadInput(f"{what} sets {option!r}, which is no option of its host", where=where, fix=fix)
    try:
        for option in options_of(host.function, set(preset.options)):
            check_choice(option, preset.options[option.name])
            check_type(option, preset.options[option.name])
    except BadInput as error:
        raise BadInput(f"{what}: {error.where} {error.what}", where=where, fix=error.fix) from None
    if all(same(value, defaults[option]) for option, value in preset.options.items()):
        fix = 'set one, or declare another name in also=("...",)'
        raise BadInput(f"{what} sets no option that differs from the host's", where=where, fix=fix)
