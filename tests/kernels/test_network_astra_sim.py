"""The ASTRA-sim accounting answers as ASTRA-sim does, to the cycle."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from archsim.components.network.cases import astra_sim_cycles as cycles
from archsim.errors import InputError

ORACLE = Path(__file__).parents[2].parent / "shared" / "oracles" / "network" / "astra.csv"
FIELDS = (
    "backend",
    "collective",
    "comm_size_bytes",
    "npus_per_dim",
    "topology",
    "bandwidth_GiBps",
    "latency_ns",
    "implementation",
    "preferred_dataset_splits",
    "active_chunks_per_dim",
    "collective_optimization",
    "num_queues_per_dim",
    "endpoint_delay_ns",
    "local_mem_bw_GBps",
    "cycles_ns_max",
)

# Runs of ASTRA-sim 2 (commit 518bd513) with its analytical network (599a047).
COPIED = """\
aware,all_reduce,1024,4,Ring,50.0,500.0,ring,4,1,localBWAware,1,10,1600,12304
aware,all_reduce,1024,4,Switch,50.0,500.0,direct,4,1,localBWAware,1,10,1600,8144
aware,all_gather,1048576,8,Ring,50.0,500.0,ring,4,1,localBWAware,1,10,1600,151016
aware,reduce_scatter,1073741824,8,Ring,50.0,500.0,ring,4,1,localBWAware,1,10,1600,19275884
aware,all_to_all,1073741824,16,FullyConnected,50.0,500.0,direct,4,1,localBWAware,1,10,1600,1252080
aware,reduce_scatter,1048576,16,Switch,50.0,500.0,direct,4,1,localBWAware,1,10,1600,23720
aware,all_reduce,1073741824,64,Ring,50.0,500.0,ring,4,1,localBWAware,1,10,1600,41613556
aware,all_to_all,1073741824,64,Ring,50.0,500.0,ring,4,1,localBWAware,1,10,1600,634112680
aware,all_reduce,1048576,64,Switch,50.0,500.0,direct,4,1,localBWAware,1,10,1600,47056
aware,all_reduce,16777216,8,Switch,100.0,250.0,ring,4,1,localBWAware,1,10,1600,602852
aware,all_to_all,16777216,8,Ring,100.0,250.0,direct,4,1,localBWAware,1,10,1600,197360
aware,all_reduce,16777216,16,Ring,100.0,250.0,direct,4,1,localBWAware,1,10,1600,709084
aware,all_reduce,16777216,8,Ring,100.0,250.0,halvingDoubling,4,1,localBWAware,1,10,1600,494776
aware,all_gather,16777216,8,Ring,100.0,250.0,halvingDoubling,4,1,localBWAware,1,10,1600,1882152
aware,all_reduce,16777216,64,FullyConnected,100.0,250.0,halvingDoubling,4,1,localBWAware,1,10,1600,335304
aware,reduce_scatter,16777216,64,Ring,100.0,250.0,halvingDoubling,4,1,localBWAware,1,10,1600,547100
aware,all_reduce,67108864,8,Ring,450.0,700.0,ring,4,2,localBWAware,1,10,1600,247960
aware,all_reduce,67108864,8,Ring,450.0,700.0,ring,4,8,localBWAware,1,10,1600,243760
aware,all_reduce,16777216,8,Switch,400.0,936.25,ring,4,2,localBWAware,1,10,3350,128808
unaware,all_reduce,1073741824,8,Switch,50.0,500.0,direct,4,1,localBWAware,1,10,1600,5259772
unaware,all_gather,1073741824,16,Ring,50.0,500.0,ring,4,1,localBWAware,1,10,1600,300030640
unaware,all_reduce,1048576,4/4,Ring/Switch,200.0/50.0,100.0/500.0,ring/halvingDoubling,4,1,localBWAware,2,10,1600,26510
unaware,all_reduce,1048576,4/4,Ring/Switch,200.0/50.0,100.0/500.0,ring/halvingDoubling,4,1,baseline,2,10,1600,25844
unaware,all_gather,1048576,4/4,Ring/Switch,200.0/50.0,100.0/500.0,ring/halvingDoubling,4,1,localBWAware,2,10,1600,48340
unaware,all_to_all,1048576,4/4,Ring/Switch,200.0/50.0,100.0/500.0,ring/direct,4,1,localBWAware,2,10,1600,7240
unaware,reduce_scatter,1048576,8/8,FullyConnected/Switch,450.0/50.0,250.0/2000.0,direct/halvingDoubling,4,1,localBWAware,2,10,1600,25585
unaware,all_to_all,1073741824,8/8,FullyConnected/Switch,450.0/50.0,250.0/2000.0,direct/direct,4,1,localBWAware,2,10,1600,1327754
unaware,all_reduce,1073741824,8/8/16,Ring/Ring/Ring,100.0/100.0/100.0,300.0/300.0/300.0,ring/ring/ring,4,1,localBWAware,2,10,1600,13406108
aware,all_reduce,16777216,64,Switch,100.0,250.0,doubleBinaryTree,4,1,localBWAware,1,10,1600,4978248
unaware,all_reduce,1048576,4/4,Ring/Switch,200.0/50.0,100.0/500.0,ring/ring,1,1,baseline,2,10,1600,46286
"""


@pytest.mark.parametrize("line", COPIED.splitlines())
def test_copied_rows(line: str) -> None:
    row = dict(zip(FIELDS, line.split(","), strict=True))
    assert cycles(row) == int(row["cycles_ns_max"])


@pytest.mark.skipif(not ORACLE.exists(), reason="the table of ASTRA-sim runs is not on this machine")
def test_all_rows() -> None:
    with ORACLE.open() as file:
        rows = list(csv.DictReader(file))
    wrong = [r for r in rows if cycles(r) != int(r["cycles_ns_max"])]
    assert wrong == []
    assert len(rows) > 250


def test_wrong_questions_are_refused() -> None:
    row = dict(zip(FIELDS, COPIED.splitlines()[0].split(","), strict=True))
    for change in (
        {"implementation": "tree"},
        {"implementation": "doubleBinaryTree/ring", "topology": "Ring/Ring", "npus_per_dim": "4/4"},
        {"implementation": "doubleBinaryTree", "npus_per_dim": "6"},
        {"collective": "broadcast"},
        {"npus_per_dim": "1"},
        {"implementation": "halvingDoubling", "npus_per_dim": "6"},
        {"implementation": "halvingDoubling", "collective": "all_to_all"},
        {"implementation": "halvingDoubling", "active_chunks_per_dim": "2"},
        {"implementation": "ring/ring"},
        {
            "implementation": "ring/ring",
            "topology": "Ring/Ring",
            "npus_per_dim": "4/4",
            "bandwidth_GiBps": "1/1",
            "latency_ns": "1/1",
        },
    ):
        with pytest.raises(InputError):
            cycles({**row, **change})
