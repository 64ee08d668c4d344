"""Measure which lines and branches of the package its tests run, on both codecs; fail for too few.

The Cython modules are built with line tracing for this. Branches are known of Python only.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import instrumented

# In percent: lines and branches of each Python module, and lines of each Cython module. Lines that
# no test can run are marked in the source, with the reason.
PYTHON, CYTHON = 100.0, 98.0

# What these say of time, memory and imports does not hold when every line is traced, and it takes
# long to find out. Other tests run what they run.
COSTS = """
    test_a_stream_that_is_read_slowly test_core_does_not_wait_when_imported
    test_fragments_cost_no_objects test_handshakes_need_no_io
    test_names_bring_no_more_than_they_need test_the_loop_stays_responsive_during_a_flood
    test_tiny_reads test_utf8_validator_agrees_with_cpython_on_all_characters
"""

# As "make test" has them: settings, and tests. The first has the tests of both codecs.
RUNS: list[tuple[dict[str, str], str]] = [
    ({"WEBSOCKETS_CODEC": "compiled"}, "tests"),
    ({"WEBSOCKETS_CODEC": "pure"}, "tests"),
    ({"WEBSOCKETS_CODEC": "compiled", "WEBSOCKETS_DIRECT_DELIVERY": "0"}, "tests/asyncio"),
]


def pair_events(source: str) -> str:
    """Have each function tell the tracer that it is called if it tells that it returns.

    A ``cpdef`` function called from C tells that it returns only; for a call from Python, the first
    is left to a wrapper. Then the tracer takes the lines of one function for those of another.
    """
    source = re.sub(r"(__Pyx_TraceStartFunc\(.*), __pyx_skip_dispatch, ", r"\1, 0, ", source)
    return re.sub(r'__Pyx_TraceStartFunc\("\w+ \(wrapper\)".*;', "", source)


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
        compile_args=["-O0", "-g0", "-w"],
        macros=[("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")],
        directives={"linetrace": True},
        amend=pair_events,
    )
    environment = {
        **os.environ,
        "WEBSOCKETS_BUILD_EXTENSION": "yes",
        "WEBSOCKETS_TEST_SLOWNESS": "10",
        "PYTHONPATH": str(tree),
    }
    coverage = [sys.executable, "-m", "coverage"]
    for settings, tests in RUNS:
        print("==", *(f"{name}={value}" for name, value in settings.items()), flush=True)
        left_out = " or ".join(COSTS.split())
        # Whether tests fail is for "make test" to judge: with nothing that slows them down.
        instrumented.run(
            [*coverage, "run", "-m", "pytest", "-q", "--tb=line", "-k", f"not ({left_out})"]
            + [*sys.argv[1:], tests],
            tree,
            {**environment, **settings},
        )
    for command in ["combine", "-q"], ["json", "-q"], ["report", "--show-missing"]:
        if not instrumented.run([*coverage, *command], tree, environment):
            raise SystemExit(f"FAILED: coverage {command[0]}")
    os.chdir(tree)
    short = judge(json.loads(Path("coverage.json").read_text()))
    for line in short:
        print(f"FAILED: {line}", flush=True)
    raise SystemExit(bool(short))


if __name__ == "__main__":
    main()
