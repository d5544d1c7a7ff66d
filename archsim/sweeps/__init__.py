"""Many points of a design space: what each costs, and which of them none beats.

A sweep is a YAML file::

    base: llama_3_8b_on_tpu_v4i          # a run: shipped name, file, or in full
    grid:                                # every combination
      chip.clock: [0.8 GHz, 1.05 GHz]
      workload.batch: [1, 8, 64]
    list:                                # each of these with each combination of the grid
      - {chip: tpu_v4i}
      - {chip: tpu_v3, chip.launch: 2 us}
    objectives: [time_s, energy_j.total]   # or {tokens_per_s: max, time_s: min}

A point is keyed by its resolved config, the content of every file that it reads, and the code, shipped configs and
calibrations that answer: where one of them changes, it is simulated again. Its result is written under that key as soon
as it is known and as a whole or not at all, so a sweep that was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.config import Source
from archsim.errors import InputError
from archsim.sweeps.points import Point, SweepSpec, points_of
from archsim.sweeps.store import Store
from archsim.sweeps.work import Record, simulate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Point", "Record", "SweepSpec", "sweep"]


def sweep(
    source: Source,
    out: Path | str | None = None,
    workers: int = 1,
    resume: bool = True,
    *,
    overrides: Mapping[str, Any] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> pd.DataFrame:
    """Run all points of a sweep.

    Parameters
    ----------
    source: a sweep file, a shipped name, or a mapping.
    out: folder for results, table and plot; may hold an earlier state of the sweep. None keeps nothing.
    workers: processes. With more than one, a script guards its top level by ``if __name__ == "__main__"``.
    resume: take points that ``out`` holds already as done.
    overrides: path to value, such as ``{"base.workload.batch": 4}``.
    progress: told points done, points in all, and what is at work.

    Returns
    -------
    One row a point, in the order of the sweep whatever the number of workers: the values that make the point,
    its figures, whether it lies on the Pareto front, its key, and its error if it has one.
    """
    if workers < 1:
        raise InputError(f"workers are at least 1, not {workers}")
    spec, points = points_of(source, overrides or {})
    store = Store(None if out is None else Path(out))
    records = {point.key: Record(point.key, error=point.problem) for point in points if point.run is None}
    wanted = {point.key: point.run for point in points if point.run is not None}
    if not wanted:
        raise InputError(points[0].problem)
    if resume:
        records |= {key: record for key in wanted if (record := store.read(key)) is not None}
    todo = {key: run for key, run in wanted.items() if key not in records}
    told = progress or (lambda done, total, what: None)
    told(len(wanted) - len(todo), len(wanted), spec.name)
    for done, record in enumerate(simulate(todo, store, workers), len(wanted) - len(todo) + 1):
        spec.check(record)
        records[record.key] = record
        told(done, len(wanted), spec.name)

    from archsim.sweeps.table import make_table, plot, table_csv

    for record in records.values():
        spec.check(record)
    table = make_table(spec, points, records)
    store.write_text("points.csv", table_csv(table))
    store.write_json("sweep.json", spec.model_dump(mode="json"))
    if store.folder is not None:
        plot(table, list(spec.objectives), store.folder)
    return table
