"""Bus bandwidth against size of all-reduces, beside what was measured: lines are archsim's, dots measured.

``python -m archsim.validation.nccl.picture > docs/nccl_bandwidth.svg``
"""

from __future__ import annotations

from archsim.report.curves import Series, picture
from archsim.validation.framework import cases
from archsim.validation.nccl.suite import errors_of

_MACHINES = {"8xB200": "8xB200 (calibrated)", "8xH200": "8xH200 (predicted)", "8xH100 nccl-tests": "8xH100 (predicted)"}


def main() -> None:
    """Print the SVG."""
    series = []
    for machine, name in _MACHINES.items():
        mine = [case for case in cases("nccl") if (case["machine"], case["op"]) == (machine, "all_reduce")]
        mine.sort(key=lambda case: int(case["message_bytes"]))
        points = []
        for case, error in zip(mine[1:], errors_of(mine, {}), strict=True):
            size, measured = int(case["message_bytes"]), float(case["latency_us"]) * 1e-6
            points.append((size, 1.75e-9 * size / measured, 1.75e-9 * size / (measured * (1 + float(error)))))
        series.append(Series(name, [(size, ours) for size, _, ours in points]))
        series.append(Series(name, [(size, theirs) for size, theirs, _ in points], measured=True))
    print(
        picture(
            "NCCL's all-reduce on eight GPUs",
            "lines: archsim, three constants calibrated on 8xB200; dots: measured",
            ("bytes", "bus bandwidth, GB/s"),
            series,
            (True, False),
        ),
        end="",
    )


if __name__ == "__main__":
    main()
