"""``make bench``: times of archsim, and of peers in the same run, as a table with ratios.

Peers are installed into an environment of their own (``build/peers``); one that cannot be had is left out and
said so.
"""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import arrays, cost, dram, kernels, networks, scalesim, whole_process


def main() -> None:
    """Run all benchmarks and print what was measured against what is aimed at."""
    console = Console()
    rows = []
    groups = (whole_process, cost, kernels, networks, arrays, dram, scalesim)  # a child counts the memory of its parent
    for group in groups:
        with console.status(f"{group.__name__}"):
            rows += group.measure()
    table = Table("what", "measured", "aim", "how", title="benchmarks (CPU seconds unless said otherwise)", box=None)
    for row in rows:
        table.add_row(row["what"], row["measured"], row["aim"], row["how"])
    console.print(table)
    out = Path("out")
    out.mkdir(exist_ok=True)
    (out / "benchmarks.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
