"""``archsim calibrate``: fit kernel parameters to measured rows."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from archsim.cli.output import console, output_file, print_json
from archsim.errors import InputError, Problem
from archsim.files import write_text


def calibrate(name: str, stages: Sequence[str], out: Path | None, as_json: bool) -> None:
    """Fit, write the kernels' config and report what was found."""
    from archsim.calibration import calibrate as fit
    from archsim.calibration import shipped

    spec, folder = shipped(name)
    target = out if out is not None else Path(f"{Path(spec.kernels).stem}.yaml")
    output_file(target)
    if out is None and target.exists():
        raise InputError([Problem(f"'{target}' is there already: name a file, this one to write over it", "--out")])
    kernels, results = fit(
        spec, folder, stages, lambda stage: print(f"fitting {stage}", file=sys.stderr) if sys.stderr.isatty() else None
    )
    header = (
        f"# Written by `archsim calibrate {name}` from configs/calibrations; `archsim schema kernel` explains it.\n"
        "# Parameters without an interval are stated: shapes of kernels, formats, and what 'source' calls assumed.\n"
    )
    data = kernels.model_dump(mode="json", exclude_none=True)
    write_text(target, header + yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None))
    print(f"kernels are in {target}", file=sys.stderr)
    if as_json:
        print_json([dataclasses.asdict(result) for result in results])
        return
    from archsim.cli.tables import table

    found = [
        (r.name, path, value, f"{r.intervals[path][0]:g} to {r.intervals[path][1]:g}")
        for r in results
        for path, value in r.values.items()
    ]
    console().print(table(("stage", "parameter", "value", "95% interval"), found, ("value",)))
    rows = [
        (
            r.name,
            chip,
            errors.rows,
            f"{errors.mean_absolute:.1%}",
            f"{errors.mean_signed:+.1%}",
            f"{r.left_out[chip].mean_absolute:.1%}" if chip in r.left_out else "",
            f"{r.left_out[chip].mean_signed:+.1%}" if chip in r.left_out else "",
        )
        for r in results
        for chip, errors in r.errors.items()
    ]
    columns = ("stage", "chip", "rows", "mean absolute", "mean signed", "left out: absolute", "signed")
    console().print(table(columns, rows, columns[2:]))
