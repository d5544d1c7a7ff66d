"""A result as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from archsim.units import si

if TYPE_CHECKING:
    from archsim.result import Result


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table


def show(result: Result, console: Console) -> None:
    """Print totals, phases, op kinds, components, memory and the critical path."""
    system, chip = result.machine.spec, result.machine.spec.chip
    chips = f"{system.chips} x {chip.name}" if system.chips > 1 else chip.name
    clock = si(chip.clock, "Hz", 4)
    console.print(f"[bold]{result.name}[/bold]  on {chips} ({chip.technology.name}, {clock})")
    console.print(
        f"time [bold]{si(result.time_s, 's', 4)}[/bold]   {result.cycles['chip']:,} chip cycles   "
        f"energy [bold]{si(result.energy_j, 'J', 4)}[/bold]   "
        f"mean power {si(result.energy_j / result.time_s if result.time_s else 0.0, 'W', 4)}   "
        f"area [bold]{result.area_mm2:,.1f} mm2[/bold]   bound by [bold]{result.bound_by}[/bold]"
    )
    for note in result.program.notes:
        console.print(f"note: {note}", style="dim")
    console.print(f"left out: {'; '.join(result.left_out)}", style="dim")
    console.print()
    console.print(
        _table(
            "phases",
            ["phase", "time", "steps", "per step", "tokens/s"],
            [
                [
                    row["segment"],
                    si(row["time_s"], "s", 4),
                    f"{row['steps']:,}",
                    si(row["step_s"], "s", 4),
                    f"{row['tokens_per_s']:,.1f}",
                ]
                for row in result.segment_rows()
            ],
        )
    )
    console.print()
    console.print(
        _table(
            "by op kind",
            ["phase", "kind", "time", "share", "FLOPs", "bytes", "energy", "bound by"],
            [
                [
                    row["segment"],
                    row["kind"],
                    si(row["time_s"], "s", 4),
                    _percent(row["share"]),
                    si(row["flops"], ""),
                    si(row["bytes"], "B"),
                    si(row["energy_j"], "J"),
                    row["bound_by"],
                ]
                for row in result.kind_rows()
            ],
        )
    )
    console.print()
    console.print(
        _table(
            "by component",
            ["component", "kind", "busy", "utilisation", "critical", "energy", "share", "area mm2"],
            [
                [
                    row["component"],
                    row["kind"],
                    _percent(row["busy"]),
                    _percent(row["utilisation"]),
                    si(row["critical_s"], "s"),
                    si(row["energy_j"], "J"),
                    _percent(row["energy_j"] / result.energy_j if result.energy_j else 0.0),
                    f"{row['area_mm2']:,.1f}",
                ]
                for row in result.component_rows()
            ],
        )
    )
    console.print()
    console.print(
        _table(
            "memory of a chip",
            ["tier", "peak", "capacity", "full"],
            [
                [
                    row["memory"],
                    si(row["peak_bytes"], "B", 4),
                    si(row["capacity_bytes"], "B", 4),
                    _percent(row["peak_bytes"] / row["capacity_bytes"]),
                ]
                for row in result.memory_rows()
            ],
        )
    )
    console.print()
    console.print(
        _table(
            "critical path, and what a resource twice as fast would gain",
            ["resource", "on the path", "share", "run would take", "speedup"],
            [
                [
                    name,
                    si(seconds, "s", 4),
                    _percent(seconds / result.time_s),
                    si(result.what_if_s[name], "s", 4),
                    f"{result.time_s / result.what_if_s[name]:.2f}x",
                ]
                for name, seconds in result.time_by_bound.items()
            ],
        )
    )
