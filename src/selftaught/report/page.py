"""Render `ReportData` as an HTML page, with all text escaped.

Model output, questions and configuration are untrusted. The template escapes everything it prints
(jinja2 autoescape, after `text.make_visible`) except SVG from `charts`, which escapes its own labels. The page's
content security policy also forbids scripts and requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from selftaught.report.charts import (
    Axis,
    Point,
    Series,
    accuracy_axis,
    interval_strip,
    line_chart,
    nice_axis,
    powers_axis,
    rounds_series,
    stacked_bars,
    steps_axis,
)
from selftaught.report.data import Curve, ReportData, Round
from selftaught.report.text import (
    count,
    duration,
    interval,
    make_visible,
    percent,
    points,
    short_number,
    signed_interval,
)
from selftaught.run.rounds import metrics_line

SYSTEMS = (  # key in the summary, name in the table, color and shape of its mark
    ("before", "Before", 1, "square"),
    ("majority_at_equal_tokens", "Before, majority vote at equal tokens", 2, "diamond"),
    ("after", "After", 0, "circle"),
)
MAX_CURVES = 6  # maximum trainings in one chart, the latest
MARK_SHAPES = ("circle", "square", "diamond")
VERDICT_BADGES = {"right": "✓", "wrong": "✗", "unknown": "?"}


def render_page(data: ReportData) -> str:
    """The page as self-contained HTML: no other files, scripts or network.

    Any text is safe as input. Parts without data are omitted; an unconcluded run is marked as such.
    """
    rounds = sorted(data.rounds, key=lambda r: r.number)
    figures = [figure for key, *_ in SYSTEMS if (figure := _found(data.summary, key))]
    scale = accuracy_axis("", [figure["ci95"][1] for figure in figures]).high
    return _template().render(
        data=data,
        summary=data.summary,
        headline=_headline(data.summary, rounds),
        facts=_facts(data.summary, rounds),
        systems=_systems(data.summary, scale),
        scale=scale,
        charts=_charts(data, rounds),
        rounds=_round_rows(rounds),
        alarms=[(r.number, *alarm.partition(":")[::2]) for r in rounds for alarm in r.alarms],
        metrics=[(r.number, name, metrics_line(figures)) for r in rounds for name, figures in r.metrics.items()],
        train_ks=_train_ks(rounds),
        badges=VERDICT_BADGES,
        config=list(_flat(data.config)),
    )


@cache
def _template() -> Any:
    """The compiled template. `finalize` sees every printed value before it is escaped."""
    import jinja2

    def shown(value: object) -> object:
        return make_visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (count, duration, interval, percent, points, signed_interval)
    env.filters.update({f.__name__: f for f in formats})
    return env.get_template("page.html.j2")


def _found(summary: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """A figure of the summary with accuracy and interval, or None."""
    figure = summary.get(key)
    return figure if figure and figure.get("accuracy") is not None else None


def _headline(summary: Mapping[str, Any], rounds: Sequence[Round]) -> dict[str, Any]:
    """The result of the run: its figures, a verdict in words, and its tone."""
    before, after = _found(summary, "before"), _found(summary, "after")
    if not before or not after:
        champions = [r for r in rounds if r.promoted or r.number == 0]
        verdict = "The test split has not been opened, so there is no held-out result yet."
        return {"concluded": False, "last": (champions or [None])[-1], "verdict": verdict, "tone": "open"}
    paired = summary.get("paired_difference") or None
    if paired is None:
        tone, verdict = "open", "The two were not compared problem by problem."
    elif paired["ci95"][0] > 0:
        tone, verdict = "better", "Better: the interval of the paired difference lies above zero."
    elif paired["ci95"][1] < 0:
        tone, verdict = "worse", "Worse: the interval of the paired difference lies below zero."
    else:
        tone, verdict = "open", "No change shown: the interval of the paired difference includes zero."
    return {
        "concluded": True,
        "before": before,
        "after": after,
        "paired": paired,
        "verdict": verdict,
        "tone": tone,
        "majority": _found(summary, "majority_at_equal_tokens"),
        "no_vote": (summary.get("majority_at_equal_tokens") or {}).get("why", ""),
    }


def _facts(summary: Mapping[str, Any], rounds: Sequence[Round]) -> list[tuple[str, str]]:
    """The run at a glance: (name, value) of known facts."""
    spent = summary.get("tokens") or (rounds[-1].tokens if rounds else {})
    seconds = summary.get("seconds") or (rounds[-1].seconds if rounds else None)
    learned = [r for r in rounds if r.number > 0]
    facts = [("rounds", f"{len(learned)} ({sum(r.promoted for r in learned)} promoted)")] if learned else []
    facts += [(f"{kind} tokens", count(spent[kind])) for kind in ("generated", "judge", "trained") if spent.get(kind)]
    if seconds is not None:
        facts.append(("wall time", duration(seconds)))
    if summary.get("peak_rss_mb"):
        facts.append(("peak memory", f"{summary['peak_rss_mb'] / 1024:.1f} GiB"))
    if summary.get("overhead") is not None:
        facts.append(("framework overhead", percent(summary["overhead"])))
    unknown = summary.get("unknown_rate") or {}
    rates = [percent(unknown[side]) for side in ("before", "after") if unknown.get(side) is not None]
    if rates:
        facts.append(("verdict unknown", " → ".join(rates)))
    return facts


def _systems(summary: Mapping[str, Any], scale: float) -> list[dict[str, Any]]:
    """Rows of the table of results, each with its interval drawn on the scale from 0 to `scale`."""
    found = [(f, name, color, shape) for key, name, color, shape in SYSTEMS if (f := _found(summary, key))]
    return [
        {
            "name": name,
            "note": _vote_note(figure),
            "figure": figure,
            "strip": _safe(
                interval_strip(
                    figure["accuracy"],
                    figure["ci95"],
                    scale,
                    color=color,
                    shape=shape,
                    title=f"{name}: {percent(figure['accuracy'])} {interval(figure['ci95'])}",
                )
            ),
        }
        for figure, name, color, shape in found
    ]


def _vote_note(figure: Mapping[str, Any]) -> str:
    """The number of votes and tokens, if the summary has them."""
    known = (("samples", "samples per problem"), ("tokens", "tokens"))
    return ", ".join(f"{count(figure[key])} {words}" for key, words in known if figure.get(key))


def _charts(data: ReportData, rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """The charts with data, each with a caption."""
    drawn = []
    if rounds:
        x = steps_axis("round", [r.number for r in rounds])
        y = accuracy_axis("accuracy", [r.ci95[1] for r in rounds])
        chart = line_chart(rounds_series(rounds), x, y, title="Accuracy on the dev split, per round")
        problems = count(rounds[-1].samples)
        drawn.append((chart, f"Accuracy on {problems} dev problems per round, with 95 % intervals.", []))
    if data.pass_at_before or data.pass_at_after:
        drawn.append((_pass_chart(data), "At least one of k samples is right: the share of problems, by k.", []))
    if spent := _spent(rounds):
        labels = [str(r.number) for r in rounds]
        title = "Tokens spent per round"
        chart = stacked_bars(labels, spent, title=title, x_label="round", y_label="tokens")
        totals = [(kind, count(sum(values))) for kind, values in spent.items()]
        drawn.append((chart, "Tokens spent in each round, by what they were spent on; in all:", totals))
    for key, words in (("loss", "Training loss"), ("right", "Rollouts that are right")):
        shown = [c for c in data.curves if getattr(c, key) and min(y for _, y in getattr(c, key)) >= 0]
        if shown:
            caption = f"{words}, by optimizer step, of each training." if key == "loss" else f"{words}, by step."
            drawn.append((_curves_chart(shown[-MAX_CURVES:], key, words), caption, []))
    return [{"svg": _safe(chart), "caption": caption, "totals": totals} for chart, caption, totals in drawn]


def _curves_chart(curves: Sequence[Curve], key: str, title: str) -> str:
    """One line per training, without marks, which would overlap."""
    series = [
        Series(c.name, [Point(x, y, note=f"{c.name}, step {x:.0f}: {y:.4g}") for x, y in getattr(c, key)],
               color=i, shape=MARK_SHAPES[i % len(MARK_SHAPES)], dashed=i >= len(MARK_SHAPES))
        for i, c in enumerate(curves)
    ]  # fmt: skip
    xs, ys = ([p[i] for c in curves for p in getattr(c, key)] for i in (0, 1))
    y_axis = nice_axis("loss", ys) if key == "loss" else accuracy_axis("right", ys)
    return line_chart(series, steps_axis("step", [int(x) for x in xs]), y_axis, title=title)


def _pass_chart(data: ReportData) -> str:
    """pass@k before and after, on a logarithmic axis of k."""
    import math

    def series(name: str, curve: Mapping[int, float], **style: Any) -> Series:
        notes = {k: f"{name}: pass@{k} = {percent(v)}" for k, v in curve.items()}
        return Series(
            name,
            [Point(math.log2(k), curve[k], note=notes[k], solid=not style.get("dashed")) for k in sorted(curve)],
            **style,
        )

    curves = [
        series("before", data.pass_at_before, color=1, shape="square", dashed=True),
        series("after", data.pass_at_after, color=0),
    ]
    values = [*data.pass_at_before.values(), *data.pass_at_after.values()]
    x: Axis = powers_axis("k samples", [*data.pass_at_before, *data.pass_at_after])
    return line_chart(curves, x, accuracy_axis("pass@k", values), title="pass@k, before and after")


def _spent(rounds: Sequence[Round]) -> dict[str, list[float]]:
    """Tokens spent within each round by kind, without unused kinds; the rounds' counts are cumulative."""
    spent = {}
    for kind in ("generated", "judge", "trained"):
        totals = [r.tokens.get(kind, 0) for r in rounds]
        within = [max(0.0, float(b - a)) for a, b in zip([0, *totals], totals, strict=False)]
        if any(within):
            spent[kind] = within
    return spent


def _train_ks(rounds: Sequence[Round]) -> list[int]:
    """The smallest and the largest k of the rounds' pass@k on train."""
    ks = {k for r in rounds for k in r.pass_at}
    return sorted({min(ks), max(ks)}) if ks else []


def _round_rows(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """One row per round; time and tokens are per round, not cumulative."""
    rows, seconds, tokens = [], 0.0, 0
    for r in rounds:
        total = sum(r.tokens.get(kind, 0) for kind in ("generated", "judge", "trained"))
        fate = "start" if r.number == 0 else "promoted" if r.promoted else "not promoted"
        known = r.seconds or None  # known for the starting model only if measured before the first round
        within = {"seconds": known and max(0.0, known - seconds), "tokens": short_number(max(0, total - tokens))}
        rows.append({"round": r, "fate": fate, **within})
        seconds, tokens = max(seconds, r.seconds), total
    return rows


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested configuration as dotted names and JSON values."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _safe(markup: str) -> Any:
    """Mark SVG from `charts`, whose labels are escaped, as safe."""
    from markupsafe import Markup

    return Markup(markup)
