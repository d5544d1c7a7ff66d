"""Which dataflow suits which product? One array asked for three shapes under all three dataflows."""

from archsim.components.compute.gemm_cases import answer

SHAPES = {"square": (1024, 1024, 1024), "tall": (8192, 256, 256), "a token": (1, 4096, 4096)}

cases = [
    {"shape": name, "M": m, "K": k, "N": n, "rows": 128, "cols": 128, "dataflow": dataflow}
    for name, (m, k, n) in SHAPES.items()
    for dataflow in ("os", "ws", "is")
]
for row in answer(cases):
    print(f"{row['shape']:>8} {row['dataflow']}: {row['total_cycles']:>9,} cycles, {row['utilisation']:5.1f}% used")
