#!/usr/bin/env python3
"""Prints what actors_benchmark measured, beside the targets, as Markdown.

Two tables: what actors do among themselves, and with Asio, beside what plain
Asio takes for the same.

    table.py FILE.json...      files of --benchmark_format=json, or - for stdin
    table.py --run PROGRAM     runs PROGRAM first: every benchmark in a process
                               of its own, five rounds (--rounds N), only those
                               that match --filter REGEX

Figures are medians over all files and repetitions: nanoseconds an item, bytes
for idle_memory. A ratio is how many items there are for one of plain Asio's.
In bold what misses its target.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys

# workload: targets of the dispatchers pool and shared on 1 and 2 threads
TARGETS = {
    "ping_pong": ((20, 40), (75, 100)),
    "ping_pong/class": ((20, 40), (75, 100)),
    "ping_pong/cross": ((None, None), (None, None)),
    "pairs": ((22, 12), (85, 90)),
    "flood": ((45, 60), (60, 100)),
    "fan_in": ((25, 50), (60, 100)),
    "ring": ((25, 40), (75, 100)),
    "spawn": ((200, 220), (450, 450)),
    "spawn/2x": ((None, 120), (None, None)),
    "spawn_yield": ((None, None), (None, None)),
    "spawn_yield/2x": ((None, None), (None, None)),
    "idle_memory": ((400, 400), (600, 600)),
    "ask": ((60, 80), (200, 250)),
    "ask_timeout": ((90, 90), (None, None)),
    "restart": ((2000, 2000), (None, None)),
    "timer": ((None, None), (None, None)),
}
# workload with Asio: the most nanoseconds, the least ratio
WITH_ASIO = {
    "ask_asio": (300, None),
    "echo": (None, 1.0),
}
COLUMNS = [("pool", 1), ("pool", 2), ("shared", 1), ("shared", 2)]


def place(name):
    """The row and the column of a benchmark, or None when it has none."""
    workload, *parts = name.rsplit("/", 2)
    if len(parts) != 2:
        return None
    dispatcher, threads = parts
    if dispatcher == "cross":
        return f"{workload}/cross", ("pool", 2)
    if threads == "2x":
        return f"{workload}/2x", (dispatcher, 2)
    return workload, (dispatcher, int(threads))


def together(name):
    """What takes turns when it is run: a ratio wants both in one minute."""
    workload = name.split("/")[0]
    return workload if workload in WITH_ASIO else name


def run(program, pattern, rounds):
    """The runs of each benchmark, each in a fresh process."""
    listed = subprocess.run(
        [program, "--benchmark_list_tests", f"--benchmark_filter={pattern}"],
        check=True, stdout=subprocess.PIPE, text=True)
    names = listed.stdout.split()
    for _, group in itertools.groupby(names, together):
        group = list(group)
        for number, name in itertools.product(range(rounds), group):
            print(f"\r{number + 1}/{rounds} {name:30}", end="",
                  file=sys.stderr, flush=True)
            done = subprocess.run(
                [program, f"--benchmark_filter=^{name}$",
                 "--benchmark_format=json"],
                check=True, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, timeout=120)
            yield from json.loads(done.stdout)["benchmarks"]
    print(f"\r{'':40}\r", end="", file=sys.stderr)


def load(files):
    for file in files:
        with sys.stdin if file == "-" else open(file) as stream:
            yield from json.load(stream)["benchmarks"]


def collect(runs):
    """{(row, column): (figure, hand-over)}, and the hand-over by itself."""
    figures, handovers, probe = {}, {}, []
    for r in runs:
        if r["run_type"] != "iteration":
            continue
        if r["name"] == "handover":
            probe.append(r["ns"])
        elif where := place(r["name"]):
            figures.setdefault(where, []).append(
                r.get("bytes_per_actor", r.get("ns")))
            for key in ("handover_before", "handover_after"):
                if key in r:
                    handovers.setdefault(where, []).append(r[key])
    return ({k: statistics.median(v) for k, v in figures.items()},
            {k: statistics.median(v) for k, v in handovers.items()},
            statistics.median(probe) if probe else None)


def number(x, target=None):
    if x is None:
        return ""
    text = f"{x:.0f}" if x >= 100 else f"{x:.1f}"
    return f"**{text}**" if target is not None and x > target else text


def show(rows):
    """Nothing for a table that has only its head."""
    if len(rows) > 2:
        print()
        for cells in rows:
            print("| " + " | ".join(cells) + " |")


def table(figures, handovers, probe):
    head = ["workload"]
    for dispatcher, threads in COLUMNS:
        head += [f"`{dispatcher}` {threads}, target", "measured"]
        if threads == 2:
            head.append("hand-over")
    rows = [head, ["---"] * len(head)]
    found = {row for row, _ in figures}
    for row in [*TARGETS, *sorted(found - set(TARGETS) - set(WITH_ASIO))]:
        if row not in found:
            continue
        targets = TARGETS.get(row, ((None, None), (None, None)))
        cells = [f"`{row}`" + (" (bytes)" if row == "idle_memory" else "")]
        for i, column in enumerate(COLUMNS):
            target = targets[i // 2][i % 2]
            where = (row, column)
            cells.append("" if target is None else f"≤ {target}")
            cells.append(number(figures.get(where), target))
            if column[1] == 2:
                cells.append(number(handovers.get(where)))
        rows.append(cells)
    show(rows)
    if probe is not None:
        print(f"\n`handover` by itself: {number(probe)} ns.")


def table_with_asio(figures):
    head = ["workload", "target", "measured", "plain Asio", "ratio, target",
            "ratio"]
    rows = [head, ["---"] * len(head)]
    for workload, (most, least) in WITH_ASIO.items():
        plain = figures.get((workload, ("asio", 1)))
        for dispatcher in ("guest", "pool", "shared"):
            ours = figures.get((workload, (dispatcher, 1)))
            if ours is None:
                continue
            ratio = ""
            if plain is not None:
                ratio = f"{plain / ours:.2f}"
                if least is not None and float(ratio) < least:
                    ratio = f"**{ratio}**"
            rows.append([
                f"`{workload}/{dispatcher}/1`",
                "" if most is None else f"≤ {most}", number(ours, most),
                number(plain), "" if least is None else f"≥ {least}", ratio])
    show(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE.json")
    parser.add_argument("--run", metavar="PROGRAM")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--filter", default=".", metavar="REGEX")
    args = parser.parse_args()
    if bool(args.run) == bool(args.files):
        parser.error("either files or --run PROGRAM")
    runs = (run(args.run, args.filter, args.rounds)
            if args.run else load(args.files))
    figures, handovers, probe = collect(runs)
    table(figures, handovers, probe)
    table_with_asio(figures)


if __name__ == "__main__":
    main()
