"""``archsim plan``: all ways to cut a step of training over GPUs, ranked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from archsim.cli.output import console, output_file, print_json, progress
from archsim.errors import InputError, Problem


def plan_training(asked: Mapping[str, str | None], top: int, out: Path | None, as_json: bool) -> None:
    """Rank the plans, print the best, write all."""
    from archsim.alone.sheet import placed
    from archsim.alone.train import QUESTION
    from archsim.cli.tables import table
    from archsim.files import csv_text, write_text
    from archsim.training.cases import setup_of
    from archsim.training.plans import plans
    from archsim.units import whole

    output_file(out)
    case = {name: text for name, text in asked.items() if text}
    for name, flag in (("model", "--model"), ("gpus", "--gpus"), ("global_batch", "--batch")):
        if name not in case:
            raise InputError([Problem("is missing", flag)])
    try:
        gpus = whole(case.pop("gpus"), 1, 2**20)
    except InputError as error:
        raise InputError([Problem(problem.message, "--gpus") for problem in error.problems]) from None
    try:
        setup = setup_of(QUESTION.case(case))
        with progress("plans") as told:
            found = plans(setup, gpus, told)
    except InputError as error:
        raise InputError([placed(problem, QUESTION) for problem in error.problems]) from None
    best = found[0] if found[0].found is not None else None
    rows = [plan.row(best) for plan in found]
    if out is not None:
        write_text(out, csv_text(rows))
    if as_json:
        print_json(rows if out is None else rows[:top])
        return
    shown = rows[:top] + [row for row in rows[top:] if "fit" in row["why"]][:3]
    columns = tuple(shown[0])
    console().print(table(columns, [tuple(row.values()) for row in shown], columns[:-1]))
    fit = sum(plan.over_bytes <= 0 for plan in found)
    console().print(f"{len(found)} plans, {fit} fit {setup.timer.memory_bytes / 1e9:.0f} GB; {setup.framework.name}")
