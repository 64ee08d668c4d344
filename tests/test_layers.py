"""Imports go one way, from what waits to what does not, and the two codecs are in step.

The modules are read, not imported, so that a module that nothing else needs is judged too.
Imports for type checkers and imports inside functions do not count: they are lazy.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

import websockets
from websockets import _codec

from .conftest import expected_codecs

PACKAGE = Path(websockets.__file__).parent

# Each line may import from the lines above it, never from its own or one below.
LAYERS = [
    {"version", "typing", "environment", "former"},
    {"exceptions"},
    {"frames", "datastructures", "uri"},
    {"_codec", "_speedups", "headers", "http11", "extensions.base"},
    {"codec", "credentials", "extensions", "proxy", "redirect"},
    {"settings", "utils"},
    {"protocol"},
    {"client", "server", "connection"},
    {"routing", "session"},
    {"asyncio", "sync", "trio"},
    {"legacy", "cli"},
    {"__main__", "auth"},
]

# Wheels hold no Cython: there, the compiled modules cannot be read.
with_sources = pytest.mark.skipif(
    not (PACKAGE / "_speedups.pyx").exists(), reason="the Cython modules are not here"
)

# A runtime waits in its own way; the others do not know it.
RUNTIMES = {"asyncio", "sync", "trio", "legacy"}

# What runs on one of them, or leads there.
PROGRAMS = {"auth", "cli", "__main__"}

# Whoever imports one of these waits, or lets another wait.
WAITING = {
    "_socket", "_thread", "anyio", "asyncio", "concurrent", "curio", "greenlet", "multiprocessing",
    "queue", "select", "selectors", "signal", "socket", "socketserver", "ssl", "subprocess",
    "threading", "trio", "uvloop",
}  # fmt: skip

# Only the wall clock, for the Date header; time in general is an argument.
CLOCKS = {"time": {"server"}, "datetime": set(), "sched": set()}

# logging imports it.
UNAVOIDABLE = {"threading", "_thread"}


def is_type_checking(test):
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def eager(body):
    """Yield the statements that run when the module is imported."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and is_type_checking(node.test):
            yield from eager(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from eager(getattr(node, field, []))


def imports_of(tree, module, is_package):
    """Return the absolute names of the modules that a module imports when it is imported."""
    names = set()
    parts = ["websockets", *module.split(".")] if module else ["websockets"]
    package = parts if is_package else parts[:-1]
    for node in eager(tree.body):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if node.level and not node.module:  # from . import module
                names |= {f"{source}.{alias.name}" for alias in node.names}
            else:
                names.add(source)
    return names


def pyx_imports(path):
    """Return what a Cython module imports, C declarations included."""
    names = set()
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts)
    source = re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)
    for line in source.splitlines():
        if match := re.match(r"\s*from\s+(\S+)\s+c?import\s", line):
            names.add(resolve_name(match[1], package))
        elif match := re.match(r"\s*c?import\s+(\S.*)", line):
            names |= {name.split()[0] for name in match[1].split(",")}
        else:
            assert not re.match(r"\s*(from|c?import|include)\b", line), line
    return names


def modules():
    """Return the module names within the package, each with what it imports."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = imports_of(ast.parse(path.read_text()), name, is_package)
    for path in PACKAGE.rglob("*.pyx"):
        found[".".join(path.relative_to(PACKAGE).with_suffix("").parts)] = pyx_imports(path)
    return found


MODULES = modules()


def layer_of(module):
    name = module if any(module in layer for layer in LAYERS) else module.split(".")[0]
    for number, layer in enumerate(LAYERS):
        if name in layer:
            return number
    raise AssertionError(f"{module} belongs to no layer")


def ours(names):
    return {name.removeprefix("websockets.") for name in names if name.startswith("websockets.")}


def test_reading_imports():
    """The reader sees what it must, and only that."""
    tree = ast.parse(
        "import a.b, c\n"
        "from .d import x\n"
        "from . import e\n"
        "from ..f import y\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import lazy1\nelse:\n    import g\n"
        "try:\n    import h\nexcept ImportError:\n    import i\nfinally:\n    import j\n"
        "if c:\n    import k\n"
        "def function():\n    import lazy2\n"
        "class C:\n    import l\n    def method(self):\n        import lazy3\n"
        "with c:\n    import m\n"
    )
    assert imports_of(tree, "pkg.mod", False) == {
        "a.b", "c", "websockets.pkg.d", "websockets.pkg.e", "websockets.f", "typing",
        *"ghijklm",
    }  # fmt: skip
    assert imports_of(ast.parse("from .x import y\nfrom . import z"), "pkg", True) == {
        "websockets.pkg.x",
        "websockets.pkg.z",
    }


def test_all_modules_are_here():
    for module in ("exceptions", "frames", "codec", "protocol", "client", "server", "session"):
        assert module in MODULES
    assert "asyncio.connection" in MODULES
    assert "_codec" in MODULES


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_go_one_way(module):
    layer = layer_of(module)
    for imported in ours(MODULES[module]):
        if module.split(".")[0] == imported.split(".")[0]:
            continue  # within a subpackage
        assert layer_of(imported) < layer, f"{module} imports {imported}"


def test_subpackages_have_no_cycles():
    for module in MODULES:
        seen, left = set(), ours(MODULES[module])
        while left:
            name = left.pop()
            assert name != module, f"{module} imports itself, through others"
            if name not in seen:
                seen.add(name)
                left |= ours(MODULES.get(name, set()))


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] in RUNTIMES])
def test_runtimes_do_not_know_each_other(module):
    own = module.split(".")[0]
    others = {name.split(".")[0] for name in ours(MODULES[module])} & RUNTIMES - {own}
    # The original API is a skin over the asyncio runtime.
    assert others <= ({"asyncio"} if own == "legacy" else set())


CORE = [name for name in MODULES if name.split(".")[0] not in RUNTIMES | PROGRAMS]


@pytest.mark.parametrize("module", CORE)
def test_core_does_not_wait(module):
    tops = {name.split(".")[0] for name in MODULES[module]}
    assert not tops & WAITING
    for clock, users in CLOCKS.items():
        assert clock not in tops or module in users


@pytest.mark.parametrize("module", [name for name in CORE if name != "_speedups"])
def test_core_does_not_wait_when_imported(module):
    """Nor does anything it imports, in a fresh interpreter."""
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, {'.'.join(['websockets', module]).rstrip('.')}; print(*sys.modules)",
        ],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "websockets" in loaded
    assert not set(loaded) & (WAITING - UNAVOIDABLE)
    assert not {name for name in loaded if name.split(".")[0] == "websockets"} & {
        f"websockets.{runtime}" for runtime in RUNTIMES
    }


def test_no_runtime_dependency():
    """All that is imported is in the standard library, extras aside."""
    optional = {"uvloop", "python_socks", "trio", "werkzeug", "zlib_ng", "isal"}
    for module, names in MODULES.items():
        if (PACKAGE / f"{module.replace('.', '/')}.pyx").exists():
            names = {
                name for name in names if name.split(".")[0] not in ("cython", "cpython", "libc")
            }
        tops = {name.split(".")[0] for name in names} - {"websockets"}
        assert tops <= sys.stdlib_module_names | optional, module


# The two codecs


def python_outline(path):
    """Return the public definitions of a module in their order, methods as ``Class.method``."""
    outline = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            outline.append(node.name)
            if isinstance(node, ast.ClassDef):
                outline += [
                    f"{node.name}.{item.name}"
                    for item in node.body
                    if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")
                ]
        elif isinstance(node, ast.Assign) and node.targets[0].id.isupper():
            outline.append(node.targets[0].id)
    return outline


def cython_outline(path):
    outline, owner = [], ""
    for line in path.read_text().splitlines():
        if match := re.match(r"cdef class ([^\W_]\w*)", line):
            owner = match[1]
            outline.append(owner)
        elif match := re.match(r"( *)(?:cp)?def (?:\w+ )?(\w+)\(", line):
            if not match[1]:
                owner = ""
            if not match[2].startswith("_"):
                outline.append(f"{owner}.{match[2]}" if owner else match[2])
        elif match := re.match(r"([A-Z_]+) = ", line):
            outline.append(match[1])
    return outline


TWINS = [("_codec.py", "_speedups.pyx"), ("asyncio/_channel.py", "asyncio/_speedups.pyx")]


@with_sources
@pytest.mark.parametrize("pure, compiled", TWINS)
def test_twins_have_the_same_names_in_the_same_order(pure, compiled):
    names = python_outline(PACKAGE / pure)
    assert len(names) > 5
    # What NextMessage does, Python's own coroutines do for the twin.
    assert names == [
        name for name in cython_outline(PACKAGE / compiled) if not name.startswith("NextMessage")
    ]


@with_sources
def test_every_cython_module_has_a_twin():
    """Where there is no compiler, all works the same."""
    assert {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.pyx")} == {
        compiled for _, compiled in TWINS
    }


PUBLIC = [name for name in python_outline(PACKAGE / "_codec.py") if name != "IMPLEMENTATION"]


def resolve(module, name):
    value = module
    for part in name.split("."):
        value = inspect.getattr_static(value, part)
    return value


@pytest.mark.parametrize("name", PUBLIC)
def test_codecs_promise_the_same(codec, name):
    """Values, documentation, and names and defaults of parameters."""
    theirs, ours = resolve(codec, name), resolve(_codec, name)
    if name.isupper():
        assert theirs == ours
        return
    assert inspect.getdoc(theirs) == inspect.getdoc(ours)
    if inspect.isroutine(ours):
        shape = [
            [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]
            for function in (theirs, ours)
        ]
        assert shape[0] == shape[1]


def test_codecs_list_the_same_names(codec):
    assert set(codec.__all__) == set(_codec.__all__)
    assert (
        codec.IMPLEMENTATION
        == {"_codec": "pure", "_speedups": "compiled"}[codec.__name__.rpartition(".")[2]]
    )


def import_codec(choice, blocked=""):
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys\n{blocked}\nimport websockets.codec as c, websockets.protocol\n"
            "print(c.IMPLEMENTATION, c.FrameReader.__module__)\n"
            "print(all(hasattr(c, name) for name in c.__all__))",
        ],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "WEBSOCKETS_CODEC": choice},
        capture_output=True,
        text=True,
    )


BLOCKED = "sys.modules['websockets._speedups'] = None"


@pytest.mark.parametrize("choice", ["", "compiled", "pure"])
def test_codec_switch(choice):
    if choice == "pure" or expected_codecs() == ["pure"]:
        chosen = "pure websockets._codec"
    else:
        chosen = "compiled websockets._speedups"
    if choice == "compiled" and expected_codecs() == ["pure"]:
        pytest.skip("the compiled codec was left out")
    assert import_codec(choice).stdout == f"{chosen}\nTrue\n"


def test_codec_falls_back():
    assert import_codec("", BLOCKED).stdout == "pure websockets._codec\nTrue\n"


def test_codec_forced_and_absent():
    error = import_codec("compiled", BLOCKED).stderr
    assert "ImportError: WEBSOCKETS_CODEC=compiled, but the compiled codec is not" in error
    assert "WEBSOCKETS_BUILD_EXTENSION=yes" in error, "it says how to build it"


def test_codec_switch_with_a_typing_error():
    error = import_codec("fast").stderr
    assert "ImportError: WEBSOCKETS_CODEC must be 'compiled' or 'pure', not 'fast'" in error
