"""Measure which lines and branches of the package its tests run, on both codecs; fail for too few.

The Cython modules are built with line tracing for this. Branches are known of Python only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import instrumented

# In percent: lines and branches of each Python module, and lines of each Cython module. Lines that
# no test can run are marked in the source, with the reason.
PYTHON, CYTHON = 100.0, 98.0

# As "make test" has them.
RUNS = [
    {"WEBSOCKETS_CODEC": "compiled"},
    {"WEBSOCKETS_CODEC": "pure"},
    {"WEBSOCKETS_CODEC": "compiled", "WEBSOCKETS_DIRECT_DELIVERY": "0"},
]


def judge(report: dict[str, Any]) -> list[str]:
    """Return what falls short in a report of coverage's in JSON."""
    short = []
    for name, module in sorted(report["files"].items()):
        covered, wanted = module["summary"]["percent_covered"], PYTHON
        if name.endswith(".pyx"):
            wanted = CYTHON
        if covered < wanted:
            short.append(f"{name}: {covered:.2f} % covered, {wanted:g} % wanted")
    modules = {path.as_posix() for path in Path("websockets").rglob("*.py*")}
    measured = {name for name in modules if name.endswith((".py", ".pyx"))}
    short += [f"{name}: not measured" for name in sorted(measured - set(report["files"]))]
    return short


def main() -> None:
    tree = instrumented.make(
        "coverage",
        compile_args=["-O0", "-g0"],
        macros=[("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")],
        directives={"linetrace": True},
    )
    environment = {**os.environ, "WEBSOCKETS_BUILD_EXTENSION": "yes", "PYTHONPATH": str(tree)}
    coverage = [sys.executable, "-m", "coverage"]
    failed = [
        " ".join(f"{name}={value}" for name, value in settings.items())
        for settings in RUNS
        if not instrumented.run(
            [*coverage, "run", "-m", "pytest", *sys.argv[1:]], tree, {**environment, **settings}
        )
    ]
    for command in ["combine", "-q"], ["json", "-q"], ["report", "--show-missing"]:
        if not instrumented.run([*coverage, *command], tree, environment):
            raise SystemExit(f"FAILED: coverage {command[0]}")
    os.chdir(tree)
    short = judge(json.loads(Path("coverage.json").read_text()))
    for line in [f"the tests failed with {settings}" for settings in failed] + short:
        print(f"FAILED: {line}", flush=True)
    raise SystemExit(bool(failed or short))


if __name__ == "__main__":
    main()
