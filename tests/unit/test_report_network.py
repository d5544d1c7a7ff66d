"""Pictures of networks and of curves: everything that is given is drawn, where its value says."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from archsim.report import curves, network
from archsim.report.curves import Series


def test_every_link_is_drawn_once_by_its_busier_way() -> None:
    drawn = network.picture("<mine>", 2, 3, [(0, 2), (2, 0), (2, 1), (1, 2)], [0.1, 0.9, 0.5, 0.0])
    ElementTree.fromstring(drawn)
    assert drawn.count("<path d=") == 2
    assert "0 to 2: 90% busy" in drawn
    assert "1 to 2: 50% busy" in drawn
    assert "busy for 90% of the time" in drawn
    assert "&lt;mine&gt;" in drawn


def test_links_around_a_grid_are_bows() -> None:
    ring = [(n, (n + 1) % 6) for n in range(6)]
    drawn = network.picture("ring", 6, 6, ring, [0.5] * 6, (6,))
    assert len(re.findall(r'd="M[^"]*Q', drawn)) == 1


def test_points_stand_where_their_values_say() -> None:
    series = [Series("a", [(0, 0), (10, 100)]), Series("a", [(5, 50)], measured=True), Series("b", [(10, 50)], True)]
    drawn = curves.picture("t", "s", ("x", "y"), series, (False, False))
    ElementTree.fromstring(drawn)
    circles = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    line = re.search(r'd="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', drawn)
    assert line is not None
    x1, y1, x2, y2 = (float(n) for n in line.groups())
    assert abs(circles[0][0] - (x1 + x2) / 2) < 0.11
    assert abs(circles[0][1] - (y1 + y2) / 2) < 0.11
    assert circles[1][0] == x2
    assert drawn.count(">a</text>") == drawn.count(">b</text>") == 1


def test_logarithmic_axes_have_ticks_at_powers_or_between_them() -> None:
    wide = curves.picture("t", "", ("x", "y"), [Series("a", [(1, 1), (1e6, 1e6)])], (True, True))
    assert ">1M</text>" in wide
    narrow = curves.picture("t", "", ("x", "y"), [Series("a", [(12, 12), (90, 90)])], (True, True))
    assert ">20</text>" in narrow
    assert ">50</text>" in narrow
