"""``make bench``: times of archsim, and of peers in the same run, line by line with what is aimed at.

An aim counts as met by what ran here, never by a rate that was recorded elsewhere. SCALE-Sim is installed into an
environment of its own (``build/peers``); other peers are given by variables:

    make bench RAMULATOR2=FOLDER   # of Ramulator 2.1's built Python package
    make bench BOOKSIM=BINARY      # of BookSim 2
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import (
    arrays,
    cost,
    dram,
    kernels,
    networks,
    overlap,
    scalesim,
    serving,
    systems,
    tasks,
    traces,
    training,
    whole_process,
)
from benchmarks.row import Row

_MARKS = {True: "met", False: "MISSED", None: ""}


def main() -> None:
    """Run all benchmarks, say each as it ends, and count the aims that are met."""
    groups: tuple[Callable[[], Iterator[Row]], ...] = (
        whole_process.measure,  # first: a child counts the memory of its parent
        cost.measure,
        kernels.measure,
        networks.measure,
        overlap.measure,
        training.measure,
        systems.measure,
        serving.measure,
        tasks.measure,
        arrays.measure,
        dram.measure,
        scalesim.measure,
        traces.measure,
    )
    rows = []
    print("CPU seconds unless said otherwise", flush=True)
    for group in groups:
        for row in group():
            rows.append(row)
            aim = f" (aim {row.aim})" if row.aim else ""
            print(f"{_MARKS[row.met]:6}  {row.what}: {row.measured}{aim}  [{row.how}]", flush=True)
    aims = [row for row in rows if row.met is not None]
    left = [row for row in rows if row.met is None and row.aim]
    print(f"{sum(bool(row.met) for row in aims)} of {len(aims)} aims met")
    if left:
        print(f"{len(left)} not compared, their peers did not run; to give them: {__doc__.partition('variables:')[2]}")
    out = Path("out")
    out.mkdir(exist_ok=True)
    (out / "benchmarks.json").write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
