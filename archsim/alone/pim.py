"""Memory that computes asked alone: products of a matrix and a vector, instruction traces."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from archsim.alone.question import Case, Column, Figures, Output, Question

_SHOWN = 2000
"""cycles of a picture at most"""


def answers(cases: Sequence[Case]) -> list[Figures]:
    """Figures of what memory is asked to compute."""
    from archsim.pim import answer

    return [answer(case).figures for case in cases]


def _written(case: Case, outputs: Mapping[str, Path]) -> Figures:
    """The answer; the busiest channel's commands and a picture of them as well."""
    from archsim.components.pim.timeline import svg
    from archsim.files import write_text, writing
    from archsim.pim import answer

    result = answer(case, log=True)
    if "picture" in outputs:
        what = " ".join(f"{column.name} {case[column.name]}" for column in QUESTION.columns if column.name in case)
        span = min(_SHOWN, result.commands[-1].cycle + 1) if result.commands else _SHOWN
        write_text(outputs["picture"], svg(result.commands, f"{what}: commands of a channel", 0, span))
    if "commands" in outputs:
        with writing(outputs["commands"]) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("cycle", "command", "row"))
            writer.writerows((c.cycle, c.name, c.row if c.row >= 0 else "") for c in result.commands)
    return result.figures


_ABOUT = """Ask processing in memory alone: a matrix times a vector, or a trace of instructions.

    \b
    archsim pim --device aim -m 4096 -k 4096
    archsim pim --device hbm_pim -m 4096 -k 1024 --no-refresh
    archsim pim --device aim --trace layer.trace --commands commands.csv
    archsim pim --cases pim_cases.csv --out answers.csv      columns device, M, K, channels, operation, trace

    A trace has lines such as 'AiM WR_GB 64 0 0xffffffff' and ends with 'AiM EOC'.
"""

QUESTION = Question(
    name="pim",
    about=_ABOUT,
    columns=(
        Column("device", "aim, pim_gpt, hbm_pim, or a chip with PIM channels.", kind="named"),
        Column("M", "Outputs of a product, elements of another operation.", "-m"),
        Column("K", "Inputs of a product.", "-k"),
        Column("operation", "gemv; of hbm_pim also add, mul, relu.", "--op"),
        Column("channels", "In place of the device's."),
        Column("trace", "AiM instructions in place of a product.", kind="file", metavar="FILE"),
        Column("refresh", "Whether refreshes happen.", "--refresh/--no-refresh", "yes"),
        Column("accounting", "hardware, or aim_simulator."),
    ),
    answers=answers,
    figures=("cycles", "time_us", "channels_used", "activates", "refreshes", "macs", "row_hits", "energy_nj"),
    outputs=(
        Output("commands", "OUT.csv", "For the busiest channel's."),
        Output("picture", "OUT.svg", "For its commands over time."),
    ),
    written=_written,
    compiled=lambda options: options.get("device") != "hbm_pim",
)
