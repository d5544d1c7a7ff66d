"""Published tables of training, whole: every row is answered or says why, and the errors are what the documents say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from archsim.alone.sheet import ask_file
from archsim.alone.train import QUESTION

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"

TABLES = {
    "training/vtrain_single.csv": ("iteration_ms", 755, 0.08),
    "training/vtrain_multi.csv": ("iteration_ms", 57, 0.10),
    "training/mpt_fsdp.csv": ("tokens_per_s_per_gpu", 97, 0.10),
    "training/megatron_bridge.csv": ("tokens_per_s_per_gpu", 164, 0.16),
    "training/neusight_models.csv": ("iteration_ms", 80, 0.09),
    "chips/training_published.csv": ("iter_time_s", 17, 0.08),
}


@pytest.mark.skipif(not ORACLES.is_dir(), reason="the tables are not here")
@pytest.mark.parametrize("file", TABLES)
def test_a_table_is_answered(file: str, tmp_path: Path) -> None:
    metric, answered, aim = TABLES[file]
    with (ORACLES / file).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    shuffled = tmp_path / "rows.csv"
    with shuffled.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, sorted(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = ask_file(QUESTION, {}, shuffled).rows
    assert len(found) == len(rows)
    ratios = [
        float(row[metric]) / float(str(row[f"given_{metric}"]).split(" (")[0])
        for row in found
        if not row.get("error") and row.get(f"given_{metric}")
    ]
    assert len(ratios) >= answered
    assert all(row.get("error") or float(row["iteration_ms"]) > 0 for row in found)
    way = -1 if metric == "tokens_per_s_per_gpu" else 1
    assert sum(abs(ratio**way - 1) for ratio in ratios) / len(ratios) < aim
