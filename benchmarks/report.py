"""
Tables from results.json: ``report.py RESULTS.json`` prints which goals hold, and the ratios.

With ``--write``, the Markdown page and the charts next to the file are made again; with
``--readme``, the part of the README is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cases
from cases import GOALS, LIBRARIES, Goal

Turn = dict[str, Any]
# Besides the libraries.
OTHERS = (*cases.BOUNDS, "CPython")

README_CASES = ["rtt64", "many64", "pipe64", "text256", "pipe8k", "64k", "1m"]
README_TITLES = {
    "rtt64": "1 connection, 1 message of 64 bytes in flight",
    "many64": "100 connections, 1 message of 64 bytes in flight on each",
    "pipe64": "1 connection, 64 messages of 64 bytes in flight",
    "text256": "10 connections, 8 texts of 256 bytes in flight on each",
    "pipe8k": "1 connection, 16 messages of 8 KiB in flight",
    "64k": "4 connections, 2 messages of 64 KiB in flight on each",
    "1m": "1 connection, 2 messages of 1 MiB in flight",
}


class Results:
    """What a run has measured."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.cases: dict[str, Any] = {case["name"]: case for case in data["cases"]}
        self.turns: list[Turn] = [turn for turn in data["turns"] if "error" not in turn]

    @classmethod
    def load(cls, path: Path) -> Results:
        return cls(json.loads(path.read_text()))

    def best(self, case: str, loop: str, peer: str, figure: str | None = None) -> Turn | None:
        """Return the turn with the lowest of a figure, by default the one that counts."""
        name = figure or (self.cases[case]["figure"] if case in self.cases else "")
        wanted = (case, loop, peer)
        turns = [t for t in self.turns if (t["case"], t["loop"], t["peer"]) == wanted]
        return min((t for t in turns if name in t), key=lambda t: t[name], default=None)

    def figure(self, case: str, loop: str, peer: str, figure: str) -> float | None:
        turn = self.best(case, loop, peer, figure)
        return None if turn is None else turn[figure]

    def measured(self, goal: Goal, loop: str) -> float | None:
        """Return what a goal bounds: a ratio, or a figure."""
        value = self.figure(goal.case, loop, goal.peer, goal.figure)
        if value is None or goal.over is None:
            return value
        over = self.figure(goal.case, loop, goal.over, goal.figure)
        return None if not over else value / over


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def number(value: float | None) -> str:
    """Three digits that say something, and all those before the point."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2 if value >= 0.1 else 3}f}"


# ------------------------------------------------------------------------------------ goals


def goals_table(results: Results) -> str:
    """Ratio of this library over each peer, and the goal; those missed are in bold."""
    columns = [cases.PICOWS, cases.PICOWS_WEBSOCKETS, cases.WEBSOCKETS]
    more = "KiB more than without compression"
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    missed = held = 0
    for goal in GOALS:
        for loop in goal.loops:
            value = results.measured(goal, loop)
            if value is None:
                continue
            what = goal.case
            if goal.over is None:
                kib = goal.figure.removeprefix("kib_")
                what += f", {more}" if kib == "more" else f", KiB of {kib}"
            row = rows.setdefault((what, goal.peer, loop), {})
            good = value <= goal.limit
            held, missed = held + good, missed + (not good)
            cell = f"{value:.2f} ≤ {goal.limit:g}" if good else f"**{value:.2f} > {goal.limit:g}**"
            row[goal.over or "alone"] = cell
    head = ["", "loop", *(f"over {name}" for name in columns), "alone"]
    body = [
        [what + peer.removeprefix(cases.OURS), loop]
        + [row.get(column, "") for column in [*columns, "alone"]]
        for (what, peer, loop), row in rows.items()
    ]
    total = held + missed
    return table(head, body) + f"\n{held} of {total} goals hold.\n" if total else ""


# ------------------------------------------------------------------------------------- page


def _rate(turn: Turn) -> str:
    return f"{turn['msgs_per_s']:,}" if "msgs_per_s" in turn else ""


def _bytes(turn: Turn) -> str:
    return number(turn.get("reply_bytes"))


def _latency(turn: Turn) -> str:
    return f"{turn['p50_us']:,.0f} / {turn['p99_us']:,.0f}" if "p50_us" in turn else ""


SECTIONS: list[tuple[str, tuple[str, ...], str, tuple[str, ...]]] = [
    # title, kinds, unit of the figure that counts, further columns
    ("Echo servers", ("echo",), "CPU time a message", ("rate", "latency")),
    ("Echo clients", ("client echo",), "CPU time a message", ("rate",)),
    (
        "One way",
        ("client receive", "client json", "client send", "server receive", "server send"),
        "CPU time a message",
        ("rate",),
    ),
    ("Broadcast", ("broadcast",), "CPU time a recipient", ("latency",)),
    ("Handshakes", ("handshake", "handshake tls"), "CPU time a handshake", ("rate",)),
    ("Echo servers on TLS", ("echo tls",), "CPU time a message", ("rate", "latency")),
    ("Sans-I/O", ("sans-io",), "CPU time a message", ()),
    (
        "Echo servers that compress",
        ("echo deflate",),
        "CPU time a message",
        ("bytes", "rate", "latency"),
    ),
    ("Broadcast, compressed", ("broadcast deflate",), "CPU time a recipient", ("bytes", "latency")),
]
FURTHER: dict[str, tuple[str, Callable[[Turn], str]]] = {
    "rate": ("A second", _rate),
    "bytes": ("Bytes a message, on the wire to the client", _bytes),
    "latency": ("Round trip in microseconds, p50 / p99", _latency),
}


def _grid(results: Results, names: list[str], loop: str, cell: Callable[[Turn], str]) -> str:
    """One row a case, one column a peer."""
    found = {(name, peer): results.best(name, loop, peer) for name in names for peer in _PEERS}
    peers = [peer for peer in _PEERS if any(found[name, peer] for name in names)]
    rows = [
        [name, *("" if (turn := found[name, peer]) is None else cell(turn) for peer in peers)]
        for name in names
        if any(found[name, peer] for peer in peers)
    ]
    return table(["", *peers], rows) if any(any(row[1:]) for row in rows) else ""


_PEERS = (cases.OURS, *cases.ZLIBS, *LIBRARIES[1:], *cases.LEGACY, *OTHERS)


def page(results: Results) -> str:
    data = results.data
    machine, settings = data["machine"], data["settings"]
    command = "bench-quick" if settings.get("quick") else "bench"
    parts = [
        "# Benchmark results\n",
        f"Made by `make {command}`; docs/performance.md says what is measured and how. Lower is "
        "better, except for rates. Each figure is the best of "
        f"{settings['rounds']} turns of {settings['seconds']} s.\n",
        f"- {data['made']}, {settings.get('minutes', '?')} minutes\n"
        f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}\n"
        + "".join(f"- {name}: {version}\n" for name, version in data["versions"].items()),
    ]
    parts += _apart(data)
    parts += [f"Not measured: {reason}\n" for reason in data["skipped"]]
    for turn in data["turns"]:
        if "error" in turn:
            parts.append(f"Failed: {turn['case']}, {turn['loop']}, {turn['peer']}\n")
    goals = goals_table(results)
    if goals:
        parts += ["## Goals\n", "Ratio of this library over a peer, and its bound.\n", goals]
    for title, kinds, unit, further in SECTIONS:
        names = [name for name, case in results.cases.items() if case["kind"] in kinds]
        grids = []
        for loop in (*cases.LOOPS, cases.NO_LOOP):
            on = f" on {loop}" if loop else ""
            columns: list[tuple[str, Callable[[Turn], str]]] = [
                (f"{unit}, microseconds", lambda turn: number(turn["cpu_us"])),
                *(FURTHER[name] for name in further),
            ]
            for heading, cell in columns:
                grid = _grid(results, names, loop, cell)
                if grid:
                    grids += [f"{heading}{on}:\n", grid]
        if grids:
            parts += [f"## {title}\n", *grids]
    parts += _deflate_memory(results) + _negotiated(results)
    parts += _memory(results) + _imports(results) + _codec(results)
    return "\n".join(parts)


def _apart(data: dict[str, Any]) -> list[str]:
    """What was measured at another time than the rest."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for part in data.get("parts", []):
        names = found.setdefault((part["made"], part["versions"][cases.OURS]), {})
        names.update((name, None) for name, _ in part["measured"])
    return [
        f"Measured apart, on {made}, with this library {version}: {', '.join(names)}\n"
        for (made, version), names in found.items()
    ]


def _memory(results: Results) -> list[str]:
    if "memory" not in results.cases:
        return []
    rows = []
    for loop in cases.LOOPS:
        for peer in LIBRARIES:
            turn = results.best("memory", loop, peer)
            if turn:
                cells = [number(turn.get("kib_1000")), number(turn.get("kib_5000"))]
                rows.append([f"{peer}, {loop}", *cells])
    return ["## Memory\n", table(["KiB an idle connection", "of 1,000", "of 5,000"], rows)]


def _deflate_memory(results: Results) -> list[str]:
    name = "deflate memory"
    columns = {
        "kib_plain": "idle, not offered",
        "kib_idle": "idle, negotiated",
        "kib_active": "after 10 messages of 1 KiB",
    }
    rows = []
    for loop in cases.LOOPS:
        for peer in _PEERS:
            if results.best(name, loop, peer):
                cells = [number(results.figure(name, loop, peer, figure)) for figure in columns]
                rows.append([f"{peer}, {loop}", *cells])
    if not rows:
        return []
    head = ["KiB a connection, of 1,000", *columns.values()]
    return ["## Memory with compression\n", table(head, rows)]


def _negotiated(results: Results) -> list[str]:
    """What each server made of a browser's offer, in the header's words."""
    rows: dict[str, list[str]] = {}
    for turn in results.turns:
        if "negotiated" in turn:
            words = [
                key if value is True else f"{key}={value}"
                for key, value in turn["negotiated"].items()
                if value not in (False, 15)
            ]
            row = rows.setdefault(turn["peer"], ["; ".join(words) or "no parameters"])
            share = f"{turn['compressed']:.0%}"
            if turn["case"] == "deflate 100" and len(row) == 1:
                row.append(share)
    body = [[peer, *(*rows[peer], "")[:2]] for peer in _PEERS if peer in rows]
    head = ["", "Negotiated, offered client_max_window_bits", "Of 100 bytes, compressed"]
    return ["## What was negotiated\n", table(head, body)] if body else []


def _imports(results: Results) -> list[str]:
    if "import" not in results.cases:
        return []
    rows = [
        [peer, number(turn["import_ms"])]
        for peer in LIBRARIES
        if (turn := results.best("import", cases.NO_LOOP, peer))
    ]
    return ["## Import\n", table(["after `import asyncio, ssl`", "CPU milliseconds"], rows)]


def _codec(results: Results) -> list[str]:
    found = {
        (row["operation"], row["size"], row["implementation"]): row["us"]
        for row in results.data["codec"]
    }
    parts = ["## Codec\n", "Microseconds, median; `pyperf`.\n"] if found else []
    for operation in dict.fromkeys(key[0] for key in found):
        sizes = sorted({key[1] for key in found if key[0] == operation})
        names = [name for name in _PEERS if any((operation, size, name) in found for size in sizes)]
        rows = [
            [f"{size:,}", *(number(found.get((operation, size, name))) for name in names)]
            for size in sizes
        ]
        parts.append(table([f"{operation}, bytes", *names], rows))
    return parts


# ----------------------------------------------------------------------------------- README


def readme(results: Results) -> str:
    """The chart and the table that the README shows."""
    machine = results.data["machine"]
    blocks = [
        "![CPU time a message of an echo server](benchmarks/results/cpu.svg)\n",
        "CPU time that an echo server spends on a message, user and system together, in\n"
        "microseconds, asyncio / uvloop, without compression, on CPython "
        f"{results.data['versions']['Python']} and one core\nof a shared virtual machine "
        f"({machine['processor']}):\n",
    ]
    rows = []
    peers = [peer for peer in LIBRARIES if any(results.best("pipe64", x, peer) for x in _LOOPS)]
    for name in README_CASES:
        cells = []
        for peer in peers:
            turns = [results.best(name, loop, peer) for loop in _LOOPS]
            cells.append(" / ".join(number(t["cpu_us"]) if t else "?" for t in turns))
        rows.append([README_TITLES[name], *cells])
    blocks.append(table(["", *peers], rows))
    return "\n".join([*blocks, *_readme_deflate(results)])


def _readme_deflate(results: Results) -> list[str]:
    """What compression costs: columns are the peers that were measured."""
    rows: dict[str, tuple[str, str]] = {
        "JSON of 100 bytes, microseconds": ("deflate 100", "cpu_us"),
        "bytes sent back for it": ("deflate 100", "reply_bytes"),
        "JSON of 4 KiB, microseconds": ("deflate 4k", "cpu_us"),
        "bytes sent back for it ": ("deflate 4k", "reply_bytes"),
        "JSON of 64 KiB, microseconds": ("deflate 64k", "cpu_us"),
        "bytes sent back for it  ": ("deflate 64k", "reply_bytes"),
        "KiB of an idle connection": ("deflate memory", "kib_idle"),
        "KiB of one that has been active": ("deflate memory", "kib_active"),
    }
    columns = [x for x in _PEERS if any(results.best("deflate 4k", y, x) for y in _LOOPS)]
    if not columns:
        return []
    body = []
    for title, (case, figure) in rows.items():
        cells = []
        for peer in columns:
            values = [results.figure(case, loop, peer, figure) for loop in _LOOPS]
            values = values[:1] if figure == "reply_bytes" else values
            cells.append(" / ".join(number(value) or "?" for value in values))
        body.append([title.rstrip(), *cells])
    return [
        "With compression, as each negotiates it by default with a browser (10 connections with 8\n"
        "messages in flight, 4 with 2 of 64 KiB; 1,000 connections), asyncio / uvloop:\n",
        table(["", *columns], body),
    ]


_LOOPS = cases.LOOPS


def write(path: Path) -> None:
    """Make the page and the charts next to results.json."""
    import charts

    results = Results.load(path)
    (path.parent / "results.md").write_text(page(results))
    charts.write(results, path.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--readme", action="store_true")
    options = parser.parse_args()
    results = Results.load(options.results)
    if options.write:
        write(options.results)
    print(readme(results) if options.readme else goals_table(results), end="")


if __name__ == "__main__":
    main()
