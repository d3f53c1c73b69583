"""One run's report data, with every text field replaceable at once."""

from collections.abc import Callable

from selftaught.report import Example, ReportData, Round, TreeStep, TreeView

SUMMARY = {
    "method": "rest-em",
    "model": "smollm2-135m",
    "task": "chain_sum",
    "n_test": 300,
    "before": {"accuracy": 0.13, "ci95": [0.096, 0.173]},
    "after": {"accuracy": 0.255, "ci95": [0.209, 0.307]},
    "majority_at_equal_tokens": {"accuracy": 0.162, "ci95": [0.125, 0.208], "samples": 5, "tokens": 312_345},
    "paired_difference": {"mean": 0.125, "ci95": [0.078, 0.172]},
    "tokens": {"generated": 412_345, "trained": 98_765},
    "seconds": 652.3,
    "peak_rss_mb": 3321,
    "unknown_rate": {"before": 0.31, "after": 0.04},
    "overhead": 0.012,
}


def same(text: str) -> str:
    return text


def some_rounds(n: int, words: Callable[[str], str] = same) -> tuple[Round, ...]:
    start = Round(0, words("base"), None, 0.14, (0.09, 0.21), 150, reason=words("start"), tokens={"generated": 9000})
    learned = [
        Round(
            number=i,
            policy=words(f"policy-{i}"),
            records=100 + i,
            accuracy=0.14 + 0.5 * i / n,
            ci95=(0.10 + 0.5 * i / n, 0.20 + 0.5 * i / n),
            samples=150,
            pass_at={1: 0.2, 8: 0.4},
            promoted=i % 3 != 2,
            reason=words(f"because {i}"),
            alarms=(f"{words('harm')}: {words(f'alarming {i}')}",) if i == 2 else (),
            metrics={words("balance"): {words("hot"): 0.75, words("kept"): 12 * i, words("who"): words("critic")}}
            if i == 1
            else {},
            tokens={"prompt": 7 * i, "generated": 9000 + 70_000 * i, "judge": 5000 * i, "trained": 30_000 * i},
            seconds=20 + 200.0 * i,
        )
        for i in range(1, n + 1)
    ]
    return (start, *learned)


def some_tree(number: int, words: Callable[[str], str] = same) -> TreeView:
    good = TreeStep(words("12 + 3 = 15"), 0.4, 1.9, 6, 1.1, 0.9, "right", True, ("chosen, smoothing 0.14",))
    bad = TreeStep(words("12 + 3 = 16"), 0.2, -0.6, 1, -1.4, None, "wrong", False, ("rejected",))
    first = TreeStep(words("3 * 4 = 12"), 0.7, 0.8, 7, 1.2, 0.8, main=True, steps=(good, bad))
    other = TreeStep(
        words("3 * 4 = 7"), 0.3, 0.2, 1, 0.1, 0.2, steps=(TreeStep(words("7 + 3 = 10"), 1.0, -1.0, 0, -1.0),)
    )
    return TreeView(words("3 * 4 + 3 ="), words("abc"), number, 8, 5, 1, (first, other))


def report_data(words: Callable[[str], str] = same, *, n: int = 3, **changes) -> ReportData:
    fields = {
        "title": words("demo"),
        "command": words("selftaught run rest-em --task chain_sum --seed 0"),
        "method": words("rest-em"),
        "model": words("smollm2-135m"),
        "task": words("chain_sum"),
        "summary": SUMMARY,
        "rounds": some_rounds(n, words),
        "pass_at_before": {1: 0.11, 2: 0.18, 4: 0.26, 8: 0.34},
        "pass_at_after": {1: 0.24, 2: 0.31, 4: 0.38, 8: 0.46},
        "champions": (words("round 1: promoted"), words("round 3: promoted")),
        "examples": tuple(
            Example(words(f"{i} + 2 ="), words("4"), words("five"), "wrong", words("four"), "right") for i in range(20)
        ),
        "config": {words("seed"): 0, "learn": {"lr": 2e-5, words("note"): words("plain")}, "stop": [words("x")]},
        "versions": {words("torch"): words("2.13.0")},
        "notes": (words("one note"),),
        "trees": tuple(some_tree(i, words) for i in (1, 3)),
    }
    return ReportData(**{**fields, **changes})
