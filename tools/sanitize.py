"""Run the tests on extensions that are built with AddressSanitizer and UndefinedBehaviorSanitizer.

A report of either ends the process that it is about, and fails the run.
"""

from __future__ import annotations

import os
import subprocess
import sys

import instrumented

# What neither uses an extension nor is used by one. Python's own code is not built for sanitizers.
BESIDES = [
    f"--ignore=tests/test_{name}.py"
    for name in (
        "benchmarks", "client", "datastructures", "exceptions", "handshake_limits",
        "handshake_rules", "headers", "http11", "layers", "package", "run_tests", "server",
        "uri", "utils",
    )
]  # fmt: skip

FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def runtime(library: str) -> str:
    """Return the path of a library of the compiler's."""
    compiler = os.environ.get("CC", "cc")
    path = subprocess.run(
        [compiler, f"-print-file-name={library}"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(path):
        raise SystemExit(f"{compiler} comes without {library}")
    return path


def main() -> None:
    tree = instrumented.make(
        "sanitize",
        # Python is built to let signed numbers wrap around, and without assertions in its headers.
        compile_args=["-O1", "-g", "-fno-wrapv", "-UNDEBUG", *FLAGS],
        link_args=FLAGS,
    )
    reports = tree / "reports"
    reports.mkdir()
    environment = {
        **os.environ,
        "WEBSOCKETS_CODEC": "compiled",
        "WEBSOCKETS_BUILD_EXTENSION": "yes",
        "WEBSOCKETS_TEST_SLOWNESS": "5",
        "PYTHONPATH": str(tree),
        # The interpreter is not built this way: the runtime has to be there before it.
        "LD_PRELOAD": runtime("libasan.so"),
        # Python's own allocator would hide what is done to its blocks.
        "PYTHONMALLOC": "malloc",
        # An interpreter does not free all that it has when it ends. Freed memory is withheld for a
        # while to tell when it is used: not so long that tests see a process grow.
        "ASAN_OPTIONS": f"log_path={reports}/report:detect_leaks=0:quarantine_size_mb=16",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    # Resident memory says nothing with an allocator that keeps what was freed.
    chosen = "not (pure or TestAnApplicationThatDoesNotReceive)"
    # What UndefinedBehaviorSanitizer has to say goes to the standard error output of the process.
    command = [sys.executable, "-m", "pytest", "--capture=sys"]
    command += sys.argv[1:] or [*BESIDES, "-q", "-k", chosen]
    passed = instrumented.run(command, tree, environment)
    # A process that a test has started may have failed without failing the test.
    found = sorted(reports.iterdir())
    for report in found:
        print(f"\n{'=' * 30} {report.name}\n{report.read_text(errors='replace')}", flush=True)
    if found or not passed:
        raise SystemExit("FAILED: a sanitizer has something to report, or a test failed")
    print("ok: the sanitizers have nothing to report")


if __name__ == "__main__":
    main()
