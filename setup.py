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
    modules = [
        Extension(
            name,
            sources=[f"{name.replace('.', '/')}.pyx"],
            extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3", "-g0"],
        )
        for name in ("websockets._speedups", "websockets.asyncio._speedups")
    ]
    if not BUILDING:
        return modules
    from Cython.Build import cythonize

    # The generated C goes under build/, out of the source tree and of the sdist.
    built: list[Extension] = cythonize(modules, build_dir="build/cython")
    for module in built:
        # cythonize() makes new Extension objects and drops this attribute.
        module.optional = wanted == "auto"
    return built


setup(ext_modules=extensions())
