"""A chip of one's own, described in Python instead of YAML, against a change of it."""

import archsim

chip = {
    "name": "my NPU",
    "technology": "n7",
    "clock": "1 GHz",
    "engines": {
        "array": {"kind": "systolic_array", "rows": 64, "columns": 64, "dataflow": ["ws", "os", "is"]},
        "vector": {"kind": "vector_unit", "lanes": 256},
    },
    "memories": {
        "scratchpad": {"kind": "sram", "capacity": "8 MiB", "banks": 16, "width_bits": 256},
        "hbm": {"kind": "dram", "standard": "HBM2E", "capacity": "16 GB", "bandwidth": "460 GB/s"},
    },
}
workload = {"kind": "transformer", "model": "gpt2", "input": 256, "output": 32, "batch": 4, "dtype": "int8"}

for rows in (64, 128, 256):
    result = archsim.run(
        {"name": f"{rows} rows", "chip": chip, "workload": workload}, {"chip.engines.array.rows": rows}
    )
    print(f"{rows:>4} rows: {1e3 * result.time_s:7.2f} ms  {1e3 * result.energy_j:7.1f} mJ  {result.area_mm2:6.1f} mm2")
