"""Tasks that cannot end are told in a line: who waits for what, since when."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.cli import main

REDUCE = "collective: {op: all_reduce, bytes: 1 MiB, group: [0, 1, %s]}"


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (
            ["{name: a, stream: x, pause: 1 us, after: [b]}", "{name: b, stream: y, pause: 1 us, after: [a]}"],
            "'a' of rank 0 (stream x) waits for 'b' of rank 0 since 0 us; 'b' of rank 0 (stream y) waits for 'a'",
        ),
        (["{name: a, pause: 1 us, after: [bee]}", "{name: bea, pause: 1 us}"], "'bee' of rank 0: did you mean 'bea'?"),
        (["{name: a, receive: {source: 1}}", "{name: b, ranks: 1, pause: 1 us}"], "rank 1 sends 0 times to rank 0"),
        (["{name: a, send: {to: 1, bytes: 1 kB}}", "{name: b, ranks: 1, pause: 1 us}"], "which receives 0 times"),
        (["{name: a, ranks: [0, 1], %s}" % (REDUCE % 1)], "the group of 'a' of rank 0 names rank 1 twice"),
        (["{name: a, ranks: [0, 1, 3], %s}" % (REDUCE % 2)], "rank 3 joins 'a' of a group that it is not in"),
        (["{name: a, ranks: [0, 1], %s}" % (REDUCE % 2)], "names rank 2, which has no tasks"),
        (
            [
                "{name: p, pause: 3 us}",
                "{name: a, ranks: [0, 1], %s}" % (REDUCE % 2),
                "{name: b, ranks: 2, pause: 1 us}",
            ],
            "'a' of rank 0 (stream main) waits for rank 2 to join its all_reduce of [0, 1, 2] since 3 us",
        ),
        (["{name: a, pause: 1 us, repeat: 2}"], "'a': products and copies are repeated, nothing else"),
        (["{name: a, pause: 1 us, send: {to: 1, bytes: 1 kB}}"], "'a' is one of matmul, copy, send, receive"),
        (["{name: a, ranks: 9, pause: 1 us}", "{name: b, send: {to: 9, bytes: 1 kB}}"], "which receives 0 times"),
        (["{name: a, stream: x, pause: 1 us}", "{name: a, stream: y, pause: 1 us}"], "two streams of rank 0"),
    ],
)
def test_what_cannot_end_is_told(
    tasks: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tasks.yaml"
    lines = "".join(f"    - {task}\n" for task in tasks)
    file.write_text(f"name: bad\nsystem: dgx_h100\nworkload:\n  kind: tasks\n  tasks:\n{lines}")
    assert main(["run", str(file)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
