"""Build the compiled codec; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup

SWITCH = "WEBSOCKETS_BUILD_EXTENSION"
# Building translates the Cython source; source distributions are made without doing so.
BUILDING = not {"sdist", "egg_info"}.intersection(sys.argv)


def extensions() -> list[Extension]:
    """
    Return the extensions to build, as the environment asks.

    ``WEBSOCKETS_BUILD_EXTENSION`` is ``yes`` (failing to compile fails the build), ``no``
    (leave the extension out; wheels are for any platform) or unset (try; without a working
    compiler the library is installed in pure Python).
    """
    wanted = os.environ.get(SWITCH) or "auto"
    if wanted not in {"yes", "no", "auto"}:
        raise SystemExit(f"{SWITCH} must be yes, no or unset, not {wanted!r}")
    if wanted == "no":
        return []
    extension = Extension(
        "websockets._speedups",
        sources=["websockets/_speedups.pyx"],
        extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3", "-g0"],
    )
    if not BUILDING:
        return [extension]
    from Cython.Build import cythonize

    # The generated C goes under build/, out of the source tree and of the sdist.
    built: list[Extension] = cythonize([extension], build_dir="build/cython")
    # cythonize() makes new Extension objects and drops this attribute.
    built[0].optional = wanted == "auto"
    return built


setup(ext_modules=extensions())
