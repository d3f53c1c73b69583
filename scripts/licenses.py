"""List the packages that selftaught installs, with their licenses, in docs/reference/licenses.md.

    python scripts/licenses.py            # write the page
    python scripts/licenses.py --check    # change nothing; exit 1 if it is out of date

The packages are those of the environment, in the versions of the lock file; `make sbom` writes a software bill of
materials with what each of them depends on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "licenses.md"
EXTRAS = ("data", "openai", "sandbox")
"""Extras whose packages are listed too; `vllm`, `ray` and `serve` are not in the lock file."""
CLASSIFIER = "License :: OSI Approved :: "
READ = {"antlr4-python3-runtime": "BSD-3-Clause", "zss": "BSD-3-Clause"}
"""Licenses of packages whose metadata name none or not which, read in their files."""
SPDX = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}
"""How packages call a license -> its SPDX identifier."""
SHORT = 60  # characters of a license field that is a name and not a text

HEADER = """# Licenses

selftaught is licensed under Apache-2.0. What it installs, with the extras {extras}, has the licenses
below, as each package states them. `make sbom` writes a software bill of materials (CycloneDX) of the installed
environment. This page is made by `python scripts/licenses.py`, for Linux and the CPU build of torch.

| package | version | license |
| --- | --- | --- |
"""


def page() -> str:
    """The page."""
    names = sorted(installed_for("selftaught", EXTRAS) - {"selftaught"})
    rows = [(d.name, d.version.partition("+")[0], license_of(d)) for d in map(distribution, names)]
    extras = ", ".join(f"`{extra}`" for extra in EXTRAS)
    return HEADER.format(extras=extras) + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def installed_for(package: str, extras: Iterable[str] = ()) -> set[str]:
    """A package with all that it needs, directly or not, by canonical name."""
    found: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(package), extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in distribution(name).requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(need.name), more) for more in ("", *need.extras)]
    return {name for name, _ in found}


def license_of(package: Distribution) -> str:
    """The license of a package: the SPDX expression, name or classifier in its metadata, or what its files say."""
    told = package.metadata.json
    if read := READ.get(canonicalize_name(package.name)):
        return read
    if expression := told.get("license_expression"):
        return str(expression)
    stated = str(told.get("license", "")).strip()
    if stated and len(stated) <= SHORT and "\n" not in stated:
        return SPDX.get(stated, stated)
    named = [one.removeprefix(CLASSIFIER) for one in told.get("classifier", ()) if one.startswith(CLASSIFIER)]
    if not named:
        raise SystemExit(f"{package.name} states no license; read it and add it to READ in {Path(__file__).name}")
    return ", ".join(SPDX.get(one, one) for one in named)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is out of date")
    check = parser.parse_args().check
    if check and sys.platform != "linux":
        return 0  # other packages are installed elsewhere
    new = page()
    if PAGE.is_file() and PAGE.read_text("utf-8") == new:
        return 0
    if check:
        print(f"{PAGE.name}: the list of licenses is out of date; run python scripts/licenses.py", file=sys.stderr)
        return 1
    PAGE.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
