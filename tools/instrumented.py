"""Copy the tree and build its extensions there in a way of their own, beside the normal build.

What the sanitizers and the measurement of coverage have in common.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Distribution, Extension  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent

# Environments, caches, and what was built.
LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.pyd"
)


def make(
    name: str,
    *,
    compile_args: Sequence[str],
    link_args: Sequence[str] = (),
    macros: Sequence[tuple[str, str]] = (),
    directives: Mapping[str, Any] | None = None,
    amend: Callable[[str], str] = str,
) -> Path:
    """Make the tree anew under ``build/``, with every Cython module of the package built in it.

    Args:
        name: name of the directory.
        compile_args: options for the compiler, after those that Python was built with.
        link_args: options for the linker.
        macros: names and values for the preprocessor.
        directives: compiler directives for Cython.
        amend: what is to be done to the C that Cython has generated.

    Returns:
        The directory: the working directory, and where to import from, of what is run in it.
    """
    tree = ROOT / "build" / name
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    with contextlib.chdir(tree):
        modules = [
            Extension(
                ".".join(source.with_suffix("").parts),
                sources=[str(source)],
                extra_compile_args=list(compile_args),
                extra_link_args=list(link_args),
                define_macros=list(macros),
            )
            for source in sorted(Path("websockets").rglob("*.pyx"))
        ]
        # The generated C stays beside its source: there, coverage's plugin looks for it.
        modules = cythonize(  # type: ignore[no-untyped-call]
            modules, compiler_directives=dict(directives or {}), emit_linenums=True
        )
        for module in modules:
            generated = Path(module.sources[0])
            generated.write_text(amend(generated.read_text()))
        build = Distribution({"name": name, "ext_modules": modules}).get_command_obj("build_ext")
        build.inplace = True
        build.parallel = len(modules)
        build.ensure_finalized()
        build.run()
    return tree


def run(command: Sequence[str], tree: Path, environment: Mapping[str, str]) -> bool:
    """Run a command in such a tree; return whether it succeeded."""
    return subprocess.run(command, cwd=tree, env=environment).returncode == 0
