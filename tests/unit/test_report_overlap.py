"""The picture of an overlap: every lane is there, and it is well formed."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from archsim.alone.t3 import QUESTION, ways_of
from archsim.report.overlap import picture


@pytest.mark.parametrize(
    "more", [{}, {"collective": "all_to_all", "way": "direct"}, {"collective": "all_gather"}, {"tracker": "no"}]
)
def test_every_lane_is_drawn(more: dict[str, str]) -> None:
    case = QUESTION.case({"M": "2048", "K": "256", "N": "1024", "tp": "4"} | more)
    ways = ways_of(case)
    played = ways.tracked(keeps=True)
    text = picture("a <small> one", played, ways)
    root = ET.fromstring(text)
    words = " ".join(root.itertext())
    for lane in ("a <small> one", "GEMM", f"{ways.gemm.stages} stages", "blocks of", "tracker", "memory", "link"):
        assert lane in words
    assert words.count("stage ") == ways.gemm.stages
    kinds = {what for _, what, *_ in played.events}
    assert {"stage", "link", "read"} <= kinds
    assert ("trigger" in kinds) == (played.dma_commands > 0)
    assert sum(n for _, what, _, _, n, _ in played.events if what == "link") == sum(played.sent.values())
