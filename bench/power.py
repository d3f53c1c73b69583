"""How often a check errs and what it finds: whole checks on simulated answers, many times.

For each spread between seeds (standard deviation of the difference of two arms' accuracies) and each true effect: the
shares of the verdicts, the mean number of seeds at which a check stopped, how many 95 % intervals hold the true
effect at each look, how many checks have repeated intervals that hold it at all looks, and the mean half width with all
seeds. With effect 0 the arms do not differ: "reproduced" is then an error. Every figure is a share of the repeats; its
standard error is at most 0.5 / sqrt(repeats).
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

from selftaught.measure.power import minimum_detectable_effect
from selftaught.measure.sequential import Looks
from selftaught.measure.simulation import OutcomeModel, simulate_checks

SEED_SDS = (0.0, 0.015, 0.03, 0.045)


def simulated(args: argparse.Namespace, seed_sd: float, effect: float) -> dict[str, Any]:
    """One row: what came of checks with this spread between seeds and this effect."""
    looks, model = Looks(tuple(args.seeds)), OutcomeModel(seed_sd=seed_sd)
    effects = [effect, *[0.0] * args.baselines]
    draw = partial(model.draw, effects=effects, seeds=looks.seeds[-1], problems=args.problems)
    rates = simulate_checks(
        draw, effect, looks=looks, repeats=args.repeats, min_effect=args.min_effect, builds=args.builds
    )
    return {
        "seed_sd": seed_sd,
        "effect": effect,
        "verdicts": {name: round(share, 4) for name, share in rates.verdicts.items()},
        "seeds": round(rates.seeds, 1),
        "coverage": {str(seeds): round(share, 4) for seeds, share in rates.coverage.items()},
        "coverage_at_all_looks": round(rates.repeated_coverage, 4),
        "half_width": round(rates.half_width, 4),
    }


def smallest_effects(problems: int, discordance: float = 0.18) -> list[dict[str, Any]]:
    """The minimum detectable effects of numbers of seeds, each with its own problems: no looks, one baseline."""
    return [
        {"seed_sd": sd, "seeds": s, "problems": n, "mde": round(minimum_detectable_effect(of, seeds=s, problems=n), 4)}
        for sd in SEED_SDS for of in [{"seed": sd, "residual": discordance**0.5}]
        for s, n in ((5, 160), *((s, problems) for s in (5, 12, 16, 20, 30)))
    ]  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print("seed_sd  effect  seeds  half width  coverage at each look, at all   verdicts")
    for row in result["simulated"]:
        covered = " ".join(f"{share:.3f}" for share in (*row["coverage"].values(), row["coverage_at_all_looks"]))
        verdicts = ", ".join(f"{name} {share:.3f}" for name, share in row["verdicts"].items())
        print(
            f"{row['seed_sd']:7.3f} {row['effect']:7.3f} {row['seeds']:6.1f} {row['half_width']:11.4f}  "
            f"{covered:30s}  {verdicts}"
        )
    print("\nminimum detectable effect, power 0.8\nseed_sd  seeds  problems  effect")
    for row in result["minimum_detectable_effect"]:
        print(f"{row['seed_sd']:7.3f} {row['seeds']:6d} {row['problems']:9d} {row['mde']:7.3f}")


def main() -> None:
    """Parse the options, simulate, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.power", description=__doc__)
    parser.add_argument("--repeats", type=int, default=200, help="checks of each row (default 200)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[6, 12, 20], help="seeds at each look")
    parser.add_argument("--problems", type=int, default=2000, help="test problems (default 2000)")
    parser.add_argument("--baselines", type=int, default=3, help="baselines of a claim (default 3)")
    parser.add_argument("--builds", type=int, default=1, help="builds that the seeds go through (default 1)")
    parser.add_argument("--effects", type=float, nargs="+", default=[0.0, 0.03], help="true effects (default 0 0.03)")
    parser.add_argument("--min-effect", type=float, default=0.02, help="smallest effect of interest (default 0.02)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if min(args.repeats, args.baselines, args.builds) < 1 or args.problems < 2:
        parser.error("expected at least 1 repeat, baseline and build and 2 problems")
    rows = [simulated(args, sd, effect) for sd in SEED_SDS for effect in args.effects]
    result = {"simulated": rows, "minimum_detectable_effect": smallest_effects(args.problems), "settings": vars(args)}
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)


if __name__ == "__main__":
    main()
