"""Charts from results.json, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cases
import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:
    from report import Results

# This library stands out; the bounds, which are no competitors, are grey.
COLORS = {
    cases.OURS: "#d1495b",
    cases.PURE: "#eda6b0",
    cases.PICOWS: "#00798c",
    cases.PICOWS_WEBSOCKETS: "#5bb5c4",
    cases.AIOHTTP: "#edae49",
    cases.WEBSOCKETS: "#30638e",
    cases.TCP: "#c8c8c8",
    cases.NODE: "#a0a0a0",
    cases.C: "#707070",
}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "websockets",  # the same figures make the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}
ECHO = ["rtt64", "many64", "pipe64", "text256", "rtt8k", "pipe8k", "64k", "1m", "1mtext"]


def write(results: Results, directory: Path) -> None:
    with pyplot.rc_context(STYLE):
        for name, chart in [("cpu", cpu), ("throughput", throughput), ("memory", memory)]:
            figure = chart(results)
            if figure is not None:
                figure.savefig(
                    directory / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight"
                )
                pyplot.close(figure)


def cpu(results: Results) -> Any:
    """CPU time a message, by case and peer: one panel an event loop."""
    loops = [x for x in cases.LOOPS if any(results.best(c, x, cases.OURS) for c in ECHO)]
    if not loops:
        return None
    figure, panels = pyplot.subplots(
        len(loops), 1, figsize=(10, 3.4 * len(loops)), squeeze=False, layout="constrained"
    )
    for panel, loop in zip(panels[:, 0], loops, strict=True):
        names = [c for c in ECHO if results.best(c, loop, cases.OURS)]
        peers = [p for p in COLORS if any(results.best(c, loop, p) for c in names)]
        width = 0.84 / len(peers)
        for index, peer in enumerate(peers):
            at, heights = [], []
            for position, name in enumerate(names):
                turn = results.best(name, loop, peer)
                if turn:
                    at.append(position - 0.42 + (index + 0.5) * width)
                    heights.append(turn["cpu_us"])
            panel.bar(at, heights, width * 0.92, color=COLORS[peer], label=peer)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set_xticks(range(len(names)), names)
        panel.grid(axis="x", visible=False)
        panel.set_ylabel("microseconds, log scale")
        panel.set_title(f"CPU time a message of an echo server, {loop}", loc="left", weight="bold")
    # The bounds that run on no loop are in the first panel only.
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure


def throughput(results: Results) -> Any:
    """Bytes echoed a second against the size of a message, on asyncio."""
    loop = cases.ASYNCIO
    names = [
        name
        for name, case in results.cases.items()
        if case["kind"] == "echo"
        and (name.startswith("sweep") or name in ("pipe64", "pipe8k"))
        and results.best(name, loop, cases.OURS)
    ]
    if len(names) < 3:
        return None
    names.sort(key=lambda name: results.cases[name]["size"])
    figure, panel = pyplot.subplots(figsize=(10, 4.2), layout="constrained")
    for peer, color in COLORS.items():
        points = [
            (results.cases[name]["size"], max(turn["MB_per_s"] for turn in turns))
            for name in names
            if (
                turns := [
                    t
                    for t in results.turns
                    if (t["case"], t["loop"], t["peer"]) == (name, loop, peer)
                ]
            )
        ]
        if points:
            panel.plot(
                *zip(*points, strict=True),
                color=color,
                label=peer,
                marker="o",
                markersize=3,
                linewidth=2.4 if peer == cases.OURS else 1.3,
            )
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _size(value)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_xlabel("bytes in a message")
    panel.set_ylabel("megabytes echoed a second")
    panel.set_title("Throughput of an echo server on one core, asyncio", loc="left", weight="bold")
    figure.legend(loc="outside right upper")
    return figure


def _size(value: float) -> str:
    for unit in ["", " Ki"]:
        if value < 1024:
            return f"{value:.0f}{unit}"
        value /= 1024
    return f"{value:.0f} Mi"


def memory(results: Results) -> Any:
    """Resident memory of a server against its idle connections."""
    loops = [x for x in cases.LOOPS if results.best("memory", x, cases.OURS)]
    if not loops:
        return None
    figure, panels = pyplot.subplots(
        1, len(loops), figsize=(5 * len(loops), 3.8), squeeze=False, sharey=True
    )
    figure.set_layout_engine("constrained")
    for panel, loop in zip(panels[0], loops, strict=True):
        for peer, color in COLORS.items():
            turn = results.best("memory", loop, peer)
            if turn:
                points = sorted((int(count), kib / 1024) for count, kib in turn["rss_kib"].items())
                panel.plot(
                    *zip(*points, strict=True),
                    color=color,
                    label=peer,
                    marker="o",
                    markersize=3,
                    linewidth=2.4 if peer == cases.OURS else 1.3,
                )
        panel.set_xlabel("idle connections")
        panel.set_title(f"Resident memory of a server, {loop}", loc="left", weight="bold")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        panel.set_ylim(bottom=0)
    panels[0, 0].set_ylabel("MiB")
    panels[0, 0].legend(loc="upper left", fontsize=8)
    return figure
