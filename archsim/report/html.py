"""The report of a result folder: one HTML file that asks nothing of the network.

Everything in it is read from ``result.json`` and ``timeline.json``, so that a report can be made again from a
folder alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from archsim.errors import InputError, Problem, shortened
from archsim.files import parse_json, read_text, write_text
from archsim.report import answers, floor_plan, fullness, lanes, streams
from archsim.report.folding import FoldedOp, FoldedPhase, fold_ops, fold_phases
from archsim.report.pictures import (
    ACTION_KINDS,
    KINDS,
    SHAPES,
    Part,
    action_kind,
    bar_rows,
    kind_class,
    legend,
    percent,
    plain,
    quantity,
    resource_classes,
    roofline,
    roofs,
    shape_mark,
    short,
    stacked,
    treemap,
)

_TEXT = ' class="text"'
_MOST_BYTES = 2**29
_MAX_OPS = 400  # rows of the table and dots of the roofline, longest first


def write(folder: Path) -> Path:
    """Write ``report.html`` into a result folder; returns its path.

    Raises
    ------
    InputError: the folder holds no result. RunFailed: the report cannot be written.
    """
    file, trace, path = folder / "result.json", folder / "timeline.json", folder / "report.html"
    if not file.is_file():
        raise InputError(f"'{folder}' is no result folder: it holds no result.json")
    document = parse_json(read_text(file, _MOST_BYTES), str(file))
    timeline = parse_json(read_text(trace, _MOST_BYTES), str(trace)) if trace.is_file() else None
    try:
        page = to_page(document, timeline)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        message = f"holds no result of this version of archsim ({shortened(repr(error))})"
        raise InputError([Problem(message, str(file))]) from None
    write_text(path, page)
    return path


def to_page(document: Mapping[str, Any], timeline: Mapping[str, Any] | None = None) -> str:
    """The page of a result, given as the content of ``result.json`` and ``timeline.json``."""
    here = Path(__file__).parent
    ops = fold_ops(document["ops"])
    shown = set(map(id, sorted(ops, key=lambda op: -op.time_s)[:_MAX_OPS]))
    listed = [op for op in ops if id(op) in shown]
    phases = fold_phases(document["segments"])
    colours = resource_classes(document["machine"], [path for op in ops for path in op.busy_s])
    sections = [
        _header(document, phases),
        *(
            _section(document[name]["title"], answers.section(document[name], document["time_s"]))
            for name in document.get("answers", ())
        ),
        _section("Where the time goes", _time(document, ops, phases, colours) if phases else ""),
        _section(
            "Critical path",
            _critical_path(document, colours),
            "What limits the run, and what it would take were one resource twice as fast, the mapping unchanged.",
        ),
        _section(
            "Roofline of a chip",
            _roofline(document, listed, phases),
            "Every distinct op, its layers and steps together: area by its share of the run, colour by kind. "
            "Its pace is FLOPs over its time, or over the time its busiest resource was held where that is "
            "longer, since data may be loaded ahead. Bandwidths are the sustained ones.",
        ),
        _section(
            "Pipelines in space",
            floor_plan.picture(document.get("pipelines", ())),
            "The computing units of each stage on the mesh, the darker the longer it takes, and the time of each.",
        ),
        _section(
            "Ranks and streams",
            streams.picture(document.get("tasks", ()), document["time_s"]),
            "What each stream of each distinct rank does when; lines join tasks of different streams that wait for "
            "each other.",
        ),
        _section(
            "Timeline",
            _timeline(document, timeline, colours),
            "What holds each resource. Above, the share of time it is busy over the whole step; below, one "
            "layer closely: solid while an op computes or streams, striped for loads that run ahead of their "
            "op, pale from an op's start to its end. timeline.json holds all of it, for ui.perfetto.dev.",
        ),
        '<div class="columns">'
        + _section("Energy", _energy(document))
        + _section("Memory of a chip", _memory(document, colours))
        + "</div>",
        _section(
            "Memory over time",
            fullness.picture(document.get("memory_over_time", {}), document["memory"], document["time_s"]),
            "What a memory holds from one task to the next; the height is its capacity.",
        ),
        _section("Area", _area(document, colours)),
        _section(
            "Ops",
            _op_table(listed, len(ops), document["time_s"]) if listed else "",
            "Layers and steps of equal ops are one row and summed; FLOPs and bytes are those of a rank. "
            "A click on a heading sorts.",
        ),
        _section("Components", _component_table(document)),
    ]
    data = json.dumps([_op_tip(op, document["time_s"]) for op in listed], ensure_ascii=False).replace("</", "<\\/")
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(document['name'])}</title>",
            f"<style>{(here / 'page.css').read_text(encoding='utf-8')}</style></head><body><main>",
            *(section for section in sections if section),
            f"<footer>archsim {escape(document['version'])} · digest {escape(document['digest'])}</footer></main>",
            '<div id="tip" role="tooltip" hidden></div>',
            f'<script type="application/json" id="ops">{data}</script>',
            f"<script>{(here / 'page.js').read_text(encoding='utf-8')}</script></body></html>\n",
        ]
    )


def _section(title: str, body: str, text: str = "") -> str:
    if not body:
        return ""
    about = f'<p class="about">{escape(text)}</p>' if text else ""
    return f"<section><h2>{escape(title)}</h2>{about}{body}</section>"


# -- header


def _header(document: Mapping[str, Any], phases: Sequence[FoldedPhase]) -> str:
    machine, workload = document["machine"], document["workload"]
    time_s, energy_j = document["time_s"], document["energy_j"]["total"]
    power = energy_j / time_s if time_s else 0.0
    chips = machine["chips"]
    what = f"{chips} × {machine['chip']}" if chips > 1 else machine["chip"]
    if machine["name"] != machine["chip"]:
        what += f" ({machine['name']})"
    ranks = f" on {workload['ranks']} ranks" if workload["ranks"] > 1 else ""
    per_chip = f"{quantity(power / chips, 'W')} a chip" if chips > 1 else ""
    if machine["tdp_w"]:
        per_chip += f"{', ' if per_chip else ''}{percent(power / chips / machine['tdp_w'])} of TDP"
    clocks = [
        f"{n:,} cycles of {short(name)}" if name != "chip" else f"{n:,} cycles"
        for name, n in document["cycles"].items()
    ]
    tiles = [
        ("time", quantity(time_s, "s", 4), "<br>".join(escape(c) for c in clocks)),
        (
            "energy",
            quantity(energy_j, "J", 4),
            f"{quantity(energy_j / tokens, 'J')} a token" if (tokens := sum(p.tokens for p in phases)) else "",
        ),
        ("mean power", quantity(power, "W", 4), per_chip),
        (
            "area",
            f"{plain(document['area_mm2']['total'], 4)} mm²",
            f"{plain(document['area_mm2']['total'] / chips, 4)} mm² a chip" if chips > 1 else "",
        ),
        (
            "bound by",
            escape(short(document["bound_by"])),
            percent(document["critical_path"][document["bound_by"]]["time_s"] / time_s) + " of the time"
            if document["bound_by"] in document["critical_path"] and time_s
            else "",
        ),
    ]
    if hidden_s := document.get("hidden_s"):
        left_s = sum(op["time_s"] * op.get("share", 1.0) for op in document["ops"] if op["kind"] == "collective")
        share = hidden_s / (hidden_s + left_s)
        tiles.append(
            ("communication hidden", quantity(hidden_s, "s", 4), f"{percent(share)} of all, by track and trigger")
        )
    tiles += [
        (
            f"{escape(p.name)}, tokens/s",
            plain(p.tokens_per_s),
            f"{quantity(p.time_s / p.steps, 's', 4)} a step" if p.steps > 1 else f"{quantity(p.time_s, 's', 4)}",
        )
        for p in phases[:4]
        if p.tokens
    ]
    cards = "".join(
        f'<div class="tile"><span>{label}</span><strong>{value}</strong><span>{note}</span></div>'
        for label, value, note in tiles
    )
    left_out = [f"left out: {what}" for what in document.get("left_out", ())]
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*document["notes"], *left_out))
    return (
        f"<header><h1>{escape(document['name'])}</h1><p>{escape(workload['name'])}{ranks} · {escape(what)} · "
        f"{escape(machine['technology'])} · {quantity(machine['clock_hz'], 'Hz', 4)}</p>"
        f'<div class="tiles">{cards}</div>{f"<ul class=notes>{notes}</ul>" if notes else ""}</header>'
    )


# -- time


def _time(
    document: Mapping[str, Any], ops: Sequence[FoldedOp], phases: Sequence[FoldedPhase], colours: Mapping[str, str]
) -> str:
    run_s = document["time_s"]
    held: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    bounds: dict[str, float] = defaultdict(float)
    for op in ops:
        held[op.phase][op.kind][op.bound_by] += op.time_s
        bounds[op.bound_by] += op.time_s
    longest = max((sum(b.values()) for kinds in held.values() for b in kinds.values()), default=0.0)
    blocks = []
    for phase in phases:
        kinds = sorted(held[phase.name].items(), key=lambda item: -sum(item[1].values()))
        rows = []
        for kind, by in kinds:
            total = sum(by.values())
            parts = [
                Part(
                    seconds,
                    colours.get(path, "r9"),
                    short(path),
                    f"{kind} bound by {path}\n{quantity(seconds, 's', 4)}, {percent(seconds / run_s)} of the run",
                )
                for path, seconds in sorted(by.items(), key=lambda item: -item[1])
                if seconds
            ]
            rows.append(
                (
                    f'<i class="dab {kind_class(kind)}"></i>{escape(kind.replace("_", " "))}',
                    stacked(parts, longest),
                    f"{quantity(total, 's')} <small>{percent(total / run_s)}</small>",
                )
            )
        many = f" × {phase.copies}" if phase.copies > 1 else ""
        steps = f", {phase.steps:,} steps" if phase.steps > 1 else ""
        rate = f", {plain(phase.tokens_per_s)} tokens/s" if phase.tokens else ""
        blocks.append(
            f"<div><h3>{escape(phase.name)}{many} <small>{quantity(phase.time_s, 's', 4)}, "
            f"{percent(phase.time_s / run_s if run_s else 0.0)} of the run{steps}{rate}</small></h3>"
            f"{bar_rows(rows)}</div>"
        )
    entries = [
        (colours.get(path, "r9"), f"bound by {short(path)}")
        for path, seconds in sorted(bounds.items(), key=lambda item: -item[1])
        if seconds
    ]
    return legend(entries) + f'<div class="columns">{"".join(blocks)}</div>'


def _critical_path(document: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    run_s = document["time_s"]
    rows = []
    for path, facts in document["critical_path"].items():
        seconds, faster = facts["time_s"], facts.get("run_s_if_twice_as_fast")
        colour = colours.get(path, "r9")
        on_path = stacked([Part(seconds, colour, "", f"{path}: {quantity(seconds, 's', 4)} on the path")], run_s)
        gained = ""
        if faster is not None:
            less = f"{path} twice as fast: {quantity(run_s - faster, 's', 4)} less"
            gain = stacked([Part(run_s - faster, colour, "", less)], run_s)
            gained = (
                f"<td class=wide>{gain}</td><td>{quantity(faster, 's', 4)}</td>"
                f"<td><b>{facts['speedup_if_twice_as_fast']:.2f}×</b></td>"
            )
        rows.append(
            f"<tr><th scope=row>{escape(short(path))}</th><td class=wide>{on_path}</td>"
            f"<td>{quantity(seconds, 's', 4)}</td><td>{percent(seconds / run_s)}</td>{gained}</tr>"
        )
    asked = any("run_s_if_twice_as_fast" in facts for facts in document["critical_path"].values())
    head = (
        "<tr><th scope=col>resource</th><th scope=col colspan=3>on the critical path</th>"
        + (
            "<th scope=col class=wide>saved, were it twice as fast</th><th scope=col>run takes</th>"
            "<th scope=col>speedup</th>"
            if asked
            else ""
        )
        + "</tr>"
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Critical path"><table class="plain"><thead>'
        f"{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
        if rows
        else ""
    )


# -- roofline


def _roofline(document: Mapping[str, Any], ops: Sequence[FoldedOp], phases: Sequence[FoldedPhase]) -> str:
    machine = document["machine"]
    limits = roofs(machine, document["energy_j"]["by_action"])
    counted = {op.phase for op in ops if op.flops and op.rate}
    names = [phase.name for phase in phases if phase.name in counted]
    if not names:
        return ""
    tiers = sorted(
        (path for path in machine["memories"] if any(op.traffic.get(path) for op in ops)),
        key=lambda path: path != machine["main_memory"],
    )
    heads, panels = [], []
    for n, path in enumerate(tiers):
        heads.append(
            f'<input type="radio" name="tier" id="tier{n}"{" checked" if n == 0 else ""}>'
            f'<label for="tier{n}">traffic with {escape(short(path))}</label>'
        )
        panels.append(
            '<div class="panel">'
            + "".join(
                f'<div class="{css}">{roofline(ops, limits, path, names, document["time_s"], width, height)}</div>'
                for css, width, height in (("broad", 1080, 520), ("narrow", 400, 440))
            )
            + "</div>"
        )
    kinds = [kind for kind in KINDS if any(op.kind == kind and op.flops for op in ops)]
    kinds += sorted({op.kind for op in ops if op.flops} - set(KINDS))
    marks = "".join(f"<li>{shape_mark(SHAPES[i % len(SHAPES)])}{escape(name)}</li>" for i, name in enumerate(names))
    return (
        legend((kind_class(kind), kind.replace("_", " ")) for kind in kinds)
        + (f'<ul class="legend">{marks}</ul>' if len(names) > 1 else "")
        + f'<div class="tabs">{"".join(heads)}{"".join(panels)}</div>'
    )


def _op_tip(op: FoldedOp, run_s: float) -> str:
    intensity = ", ".join(f"{plain(op.flops / n)} per byte of {short(path)}" for path, n in op.traffic.items() if n)
    held = ", ".join(f"{short(path)} {quantity(seconds, 's')}" for path, seconds in op.busy_s.items() if seconds)
    lines = [
        f"{op.phase}: {op.name}{f' × {op.copies}' if op.copies > 1 else ''}",
        f"{op.kind} on {short(op.engine)}, {quantity(op.time_s, 's', 4)} of the run "
        f"({percent(op.time_s / run_s if run_s else 0.0)})",
    ]
    if op.flops:
        lines.append(f"{quantity(op.flops, 'FLOP')} at {quantity(op.rate, 'FLOP/s')}")
        if intensity:
            lines.append(f"FLOP {intensity}")
    lines.append(f"bound by {short(op.bound_by)}; held: {held}")
    if op.why:
        lines.append(op.why)
    return "\n".join(lines)


# -- timeline


def _timeline(document: Mapping[str, Any], timeline: Mapping[str, Any] | None, colours: Mapping[str, str]) -> str:
    if timeline is None:
        return ""
    steps = lanes.read(timeline)
    machine = document["machine"]
    order = ["host", *machine["engines"], *machine["memories"], "chip.dma", "network"]
    kinds = {event.kind for events in steps.values() for event in events}
    entries = [
        (kind_class(kind), kind.replace("_", " ")) for kind in (*KINDS, *sorted(kinds - set(KINDS))) if kind in kinds
    ]
    drawn = [lanes.lanes(where, steps[where], order, colours) for where in lanes.chosen(steps)]
    return legend(entries) + "".join(drawn) if drawn else ""


# -- energy, area, memory


def _energy(document: Mapping[str, Any]) -> str:
    total = document["energy_j"]["total"]
    if not total:
        return ""
    by_component: dict[str, float] = document["energy_j"]["by_component"]
    actions: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for name, joules in document["energy_j"]["by_action"].items():
        path = max((p for p in by_component if name.startswith(f"{p}.")), key=len, default="")
        actions[path].append((name[len(path) + 1 :] if path else name, joules))
    largest = max(by_component.values())
    rows, seen = [], set()
    for path, joules in sorted(by_component.items(), key=lambda item: -item[1]):
        parts = []
        for action, spent in sorted(actions[path], key=lambda item: -item[1]):
            sort = action_kind(action)
            if spent:
                seen.add(sort)
            parts.append(
                Part(
                    spent,
                    f"a{ACTION_KINDS.index(sort)}",
                    action.replace("_", " "),
                    f"{path}: {action}\n{quantity(spent, 'J', 4)}, {percent(spent / total)} of all",
                )
            )
        rows.append(
            (
                escape(short(path)) if path != "chip" else "whole chip",
                stacked(parts, largest),
                f"{quantity(joules, 'J')} <small>{percent(joules / total)}</small>",
            )
        )
    return legend((f"a{i}", sort) for i, sort in enumerate(ACTION_KINDS) if sort in seen) + bar_rows(rows)


def _area(document: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    if not document["area_mm2"]["total"]:
        return ""
    return treemap(document["area_mm2"]["by_block"], colours)


def _memory(document: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    rows = []
    for path, facts in document["memory"].items():
        peak, capacity = facts["peak_bytes"], facts["capacity_bytes"]
        share = peak / capacity if capacity else 0.0
        bar = stacked(
            [
                Part(
                    peak,
                    colours.get(path, "r9"),
                    percent(share),
                    f"{path}: {quantity(peak, 'B', 4)} of {quantity(capacity, 'B', 4)}",
                )
            ],
            capacity,
        )
        rows.append(
            (
                escape(short(path)),
                bar.replace('class="bar"', 'class="bar of"'),
                f"{quantity(peak, 'B')} <small>of {quantity(capacity, 'B')}</small>",
            )
        )
    return bar_rows(rows) + '<p class="about">Tensors that stay; tiles in flight are not counted.</p>'


# -- tables


def _table(name: str, columns: Sequence[str], rows: Iterable[Sequence[tuple[Any, str]]], filtered: bool) -> str:
    """A table that can be sorted; a cell is what it is sorted by and its HTML."""
    rows = list(rows)
    words = [bool(rows) and isinstance(value, str) for value, _ in (rows[0] if rows else ())]
    words += [False] * (len(columns) - len(words))
    head = "".join(
        f'<th scope="col"{_TEXT if word else ""}><button type="button">{escape(column)}</button></th>'
        for column, word in zip(columns, words, strict=True)
    )
    body = []
    for row in rows:
        cells = "".join(
            f'<td{_TEXT if word else ""} data-v="{escape(str(value))}">{html}</td>'
            for (value, html), word in zip(row, words, strict=True)
        )
        body.append(f"<tr>{cells}</tr>")
    search = (
        f'<input type="search" placeholder="Filter {escape(name)}" aria-label="Filter {escape(name)}">'
        if filtered
        else ""
    )
    return (
        f'{search}<div class="scroll tall" tabindex="0" role="region" aria-label="Table of {escape(name)}">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _number(value: float, unit: str, digits: int = 3) -> tuple[float, str]:
    return value, quantity(value, unit, digits) if value else '<span class="none">0</span>'


def _share(value: float | None) -> tuple[float, str]:
    return (-1.0, "") if value is None else (value, percent(value))


def _op_table(ops: Sequence[FoldedOp], of: int, run_s: float) -> str:
    columns = (
        "phase",
        "op",
        "×",
        "kind",
        "engine",
        "bound by",
        "time",
        "share",
        "FLOPs",
        "FLOP/s",
        "bytes",
        "FLOP/byte",
        "util.",
        "energy",
        "why",
    )
    rows = [
        [
            (op.phase, escape(op.phase)),
            (op.name, f"<b>{escape(op.name)}</b>"),
            (op.copies, f"{op.copies:,}"),
            (op.kind, f'<i class="dab {kind_class(op.kind)}"></i>{escape(op.kind.replace("_", " "))}'),
            (op.engine, escape(short(op.engine))),
            (op.bound_by, escape(short(op.bound_by))),
            _number(op.time_s, "s", 4),
            _share(op.time_s / run_s if run_s else 0.0),
            _number(op.flops, ""),
            _number(op.rate, ""),
            _number(op.bytes, "B"),
            (op.flops / op.bytes if op.bytes else 0.0, plain(op.flops / op.bytes) if op.bytes and op.flops else ""),
            _share(op.utilisation),
            _number(op.energy_j, "J"),
            (op.why, escape(op.why)),
        ]
        for op in ops
    ]
    note = f'<p class="about">The longest {len(ops)} of {of} distinct ops.</p>' if len(ops) < of else ""
    return note + _table("ops", columns, rows, filtered=True)


def _component_table(document: Mapping[str, Any]) -> str:
    columns = ("component", "kind", "busy", "utilisation", "on the critical path", "energy", "share", "area, mm²")
    total = document["energy_j"]["total"]
    rows = [
        [
            (row["component"], f"<b>{escape(row['component'])}</b>"),
            (row["kind"], escape(row["kind"])),
            _share(row["busy"]),
            _share(row["utilisation"]),
            _number(row["critical_s"], "s", 4),
            _number(row["energy_j"], "J", 4),
            _share(row["energy_j"] / total if total else 0.0),
            (row["area_mm2"], plain(row["area_mm2"], 4)),
        ]
        for row in document["components"]
    ]
    return _table("components", columns, rows, filtered=False)
