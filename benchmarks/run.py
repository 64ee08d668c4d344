"""
Run the suite: ``run.py --output DIRECTORY``.

The peers take turns, several rounds of all of them, so that a noisy moment of the machine does not
hit one of them alone; each round begins with another peer. Of its turns, a peer's best counts.
Everything measured goes to DIRECTORY/results.json, from which report.py and charts.py make the
rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import micro
import report
import trustme
from cases import CASES, LOOPS, NO_LOOP, Case, plan
from measure import Failed, Settings, turn
from peers import HERE, Programs


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", info)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "system": platform.platform(),
        "load_average": os.getloadavg(),
    }


def rotated(peers: list[str], by: int) -> list[str]:
    by %= len(peers) or 1
    return peers[by:] + peers[:by]


def measure_case(
    settings: Settings, case: Case, loop: str, peers: list[str], rounds: int
) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    failed: set[str] = set()
    for number in range(rounds):
        for peer in rotated(peers, number):
            if peer in failed:
                continue
            key = {"case": case.name, "loop": loop, "peer": peer, "round": number}
            try:
                turns.append({**key, **turn(settings, peer, loop, case)})
            except Failed as exc:
                failed.add(peer)
                turns.append({**key, "error": str(exc)})
    return turns


def line(case: Case, loop: str, peers: list[str], turns: list[dict[str, Any]]) -> str:
    cells = []
    for peer in peers:
        figures = [t[case.figure] for t in turns if t["peer"] == peer and "error" not in t]
        cells.append(f"{peer} {min(figures):.4g}" if figures else f"{peer} FAILED")
    return f"{case.name:<26}{loop:<9}{'  '.join(cells)}"


def files_needed(case: Case) -> int:
    many = case.kind.split()[0] in ("broadcast", "memory", "handshake")
    return case.connections + 100 if many else 200


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """
    Return the results of an earlier run with those of a later one, of a part, in their place.

    A case is replaced on an event loop as a whole: ratios are always those of one run.
    """
    again = {(turn["case"], turn["loop"]) for turn in new["turns"]}
    known = {case["name"]: case for case in [*old["cases"], *new["cases"]]}
    kept = [turn for turn in old["turns"] if (turn["case"], turn["loop"]) not in again]
    part = {key: new[key] for key in ("made", "machine", "versions", "settings")}
    parts = [{**part, "measured": sorted(again)}]
    for each in reversed(old.get("parts", [])):
        left = [pair for pair in each["measured"] if tuple(pair) not in again]
        parts[:0] = [{**each, "measured": left}] if left else []
    return {
        **old,
        "versions": {**new["versions"], **old["versions"]},
        "parts": parts,
        "cases": [known[case.name] for case in CASES if case.name in known],
        "turns": kept + new["turns"],
        "codec": new["codec"] or old["codec"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--quick", action="store_true", help="the core of it, in three minutes")
    parser.add_argument("--only", default="", help="cases that this regular expression matches")
    parser.add_argument(
        "--merge", action="store_true", help="keep what DIRECTORY has of the cases left out"
    )
    parser.add_argument("--peers", default="", help="peers that this regular expression matches")
    parser.add_argument("--loop", choices=LOOPS, help="one event loop only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each turn")
    parser.add_argument("--tree", type=Path, default=HERE.parent, help="this library's directory")
    parser.add_argument("--node-modules", type=Path, help="directory that holds Node's ws")
    options = parser.parse_args()
    node = options.node_modules
    programs = Programs(options.tree.resolve(), node if node and (node / "ws").exists() else None)
    began = time.monotonic()

    with tempfile.TemporaryDirectory() as directory:
        certificate = Path(directory, "certificate.pem")
        issued = trustme.CA().issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(certificate)
        settings = Settings(
            programs,
            certificate,
            seconds=options.seconds or (0.3 if options.quick else 0.5),
            warmup=0.15 if options.quick else 0.2,
        )
        results: dict[str, Any] = {
            "made": datetime.date.today().isoformat(),
            "machine": machine(),
            "versions": programs.versions(),
            "settings": {
                "quick": options.quick,
                "only": options.only,
                "rounds": options.rounds,
                "seconds": settings.seconds,
                "warmup": settings.warmup,
            },
            "cases": [],
            "turns": [],
            "codec": [],
            "skipped": [],
        }
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for case in plan(options.quick):
            loops = [loop for loop in case.loops if loop in (options.loop or loop, NO_LOOP)]
            if not re.search(options.only, case.name) or not loops:
                continue
            if limit != resource.RLIM_INFINITY and limit < files_needed(case):
                results["skipped"].append(f"{case.name}: only {limit} open files are allowed")
                print(results["skipped"][-1])
                continue
            results["cases"].append(dataclasses.asdict(case))
            for loop in loops:
                peers = [peer for peer in case.peers if re.search(options.peers, peer)]
                peers = [peer for peer in peers if programs.available(peer, loop)]
                turns = measure_case(settings, case, loop, peers, case.rounds or options.rounds)
                results["turns"] += turns
                print(line(case, loop, peers, turns), flush=True)

    if not options.quick and re.search(options.only, "codec"):
        print("codec: two minutes")
        try:
            results["codec"] = micro.run_all(programs)
        except Failed as exc:
            results["turns"].append({"case": "codec", "loop": "", "peer": "", "error": str(exc)})
    results["settings"]["minutes"] = round((time.monotonic() - began) / 60, 1)

    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "results.json"
    written = results
    if options.merge and path.exists():
        written = merge(json.loads(path.read_text()), results)
    path.write_text(json.dumps(written, indent=1) + "\n")
    report.write(path)
    print(report.goals_table(report.Results(results)))
    print(f"{path.parent}/results.md has all of it; {results['settings']['minutes']} minutes")
    failed = [t for t in results["turns"] if "error" in t]
    for t in failed:
        print(f"FAILED: {t['case']} {t['loop']} {t['peer']}: {t['error']}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
