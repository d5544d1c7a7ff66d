"""A result as tables on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from archsim.errors import printable
from archsim.report import answers
from archsim.result import Result
from archsim.units import si
from archsim.workloads.answer import Answer


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _line(*parts: str) -> Text:
    """A line whose second part, fourth, and so on are bold."""
    return Text.assemble(*((printable(part), "bold" if i % 2 else "") for i, part in enumerate(parts)))


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def show(result: Result, console: Console) -> None:
    """Print totals, phases, op kinds, components, memory and the critical path."""
    _head(result, console)
    if result.segments:
        console.print(_phases(result))
        console.print()
    for answer in result.answers:
        _answer(answer, console)
    if result.segments:
        console.print(_kinds(result))
        console.print()
    for table in (_components(result), *([_energy(result)] if result.energy_j else []), _memory(result)):
        console.print(table)
        console.print()
    console.print(_critical_path(result))


def _head(result: Result, console: Console) -> None:
    system, chip = result.machine.spec, result.machine.spec.chip
    chips = f"{system.chips} x {chip.name}" if system.chips > 1 else chip.name
    clock = si(chip.clock, "Hz", 4)
    power = si(result.energy_j / result.time_s if result.time_s else 0.0, "W", 4)
    console.print(_line("", result.name, f"  on {chips} ({chip.technology.name}, {clock})"))
    band = result.time_band_s
    within = "" if band is None else f" ({si(band[0], 's', 4)} to {si(band[1], 's', 4)})"
    console.print(
        _line(
            "time ",
            si(result.time_s, "s", 4),
            f"{within}   {result.cycles['chip']:,} chip cycles   energy ",
            si(result.energy_j, "J", 4),
            f"   mean power {power}   area ",
            f"{result.area_mm2:,.1f} mm2",
            "   bound by ",
            result.bound_by,
        )
    )
    if result.hidden_s:
        console.print(_line("communication hidden behind what produces it ", si(result.hidden_s, "s", 4)))
    for note in result.plan.notes:
        console.print(Text(f"note: {printable(note)}", "dim"))
    console.print(Text(printable(f"left out: {'; '.join(result.left_out)}"), "dim"))
    console.print()


def _answer(answer: Answer, console: Console) -> None:
    """What a source answers, such as latencies of requests."""
    heads, rows = answers.statistics(answer.summary)
    rows = [[name, *(value.replace("\xa0", " ") for value in values)] for name, *values in rows]
    if rows:
        console.print(_table(answer.title.lower(), ["", *heads], rows))
    else:
        console.print(Text(printable(answer.title.lower()), "bold"))
    single = ", ".join(f"{name} {value}" for name, value in answers.single(answer.summary))
    console.print(Text(printable(single.replace("\xa0", " "))))
    console.print()


def _phases(result: Result) -> Table:
    rows = [
        [
            row["segment"],
            si(row["time_s"], "s", 4),
            f"{row['steps']:,}",
            si(row["step_s"], "s", 4),
            f"{row['tokens_per_s']:,.1f}",
        ]
        for row in result.segment_rows()
    ]
    return _table("phases", ["phase", "time", "steps", "per step", "tokens/s"], rows)


def _kinds(result: Result) -> Table:
    rows = [
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
    ]
    return _table("by op kind", ["phase", "kind", "time", "share", "FLOPs", "bytes", "energy", "bound by"], rows)


def _components(result: Result) -> Table:
    rows = [
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
    ]
    heads = ["component", "kind", "busy", "utilisation", "critical", "energy", "share", "area mm2"]
    return _table("by component", heads, rows)


def _energy(result: Result) -> Table:
    rows = [
        [part, si(joules, "J"), _percent(joules / result.energy_j)] for part, joules in result.energy_by_part.items()
    ]
    return _table("energy by part", ["part", "energy", "share"], rows)


def _memory(result: Result) -> Table:
    rows = [
        [
            row["memory"],
            si(row["peak_bytes"], "B", 4),
            si(row["capacity_bytes"], "B", 4),
            _percent(row["peak_bytes"] / row["capacity_bytes"]),
        ]
        for row in result.memory_rows()
    ]
    return _table("memory of a chip", ["tier", "peak", "capacity", "full"], rows)


def _critical_path(result: Result) -> Table:
    rows, asked = [], False
    for name, facts in result.critical_path().items():
        row = [name, si(facts["time_s"], "s", 4), _percent(facts["time_s"] / result.time_s)]
        if "run_s_if_twice_as_fast" in facts:
            asked = True
            row += [si(facts["run_s_if_twice_as_fast"], "s", 4), f"{facts['speedup_if_twice_as_fast']:.2f}x"]
        rows.append(row)
    columns = ["resource", "on the path", "share"]
    if not asked:
        return _table("critical path", columns, rows)
    return _table(
        "critical path, and what a resource twice as fast would gain", [*columns, "run would take", "speedup"], rows
    )
