"""Area and energy of the tensor engines with and without each technique, as an SVG that stands alone.

``python -m archsim.validation.tpe.picture > docs/tensor_engines.svg``
"""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from archsim.config import load_spec
from archsim.machine import ChipSpec, Machine, SystemSpec

_ENGINES = {
    "systolic, OS": ("tpe_systolic_os_baseline", "tpe_systolic_os_opt1", "OPT1"),
    "systolic, WS": ("tpe_systolic_ws_baseline", "tpe_systolic_ws_opt1", "OPT1"),
    "3D cube": ("tpe_cube_baseline", "tpe_cube_opt1", "OPT1"),
    "adder tree": ("tpe_tree_baseline", "tpe_tree_opt2", "OPT2"),
    "2D matrix": ("tpe_matrix_2d_baseline", "tpe_matrix_2d_opt1", "OPT1"),
}
_ABSTRACT = {
    "systolic, OS": (1.27, 1.04),
    "3D cube": (1.28, 1.56),
    "adder tree": (1.56, 1.49),
    "2D matrix": (1.44, 1.20),
}
"""Area and energy efficiency over the baseline, abstract of the paper, SMIC 28 nm."""

_WIDTH, _ROW, _LEFT, _TOP = 920, 74, 130, 78
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.dim { fill: #59636e } .base { fill: #8c959f } .tech { fill: #0072b2 }
@media (prefers-color-scheme: dark) { svg { background: #0d1117 } text { fill: #e6edf3 } .dim { fill: #9198a1 }
.base { fill: #6e7681 } .tech { fill: #56b4e9 } }
"""


class _Figures(NamedTuple):
    """Of one engine: MACs per second and mm² (1e12), and picojoules per MAC."""

    density: float
    energy_pj: float


def figures(chip: str) -> _Figures:
    """From the synthesis reports, at the best clock the design closed."""
    spec = load_spec(chip, ChipSpec, category="chips")
    machine = Machine(SystemSpec(name=chip, chip=spec))
    engine = machine.components["chip.tpe"]
    slots = engine.slots() * engine.spec.count  # type: ignore[attr-defined]
    area = sum(engine.area_mm2(machine.technology).values())
    energy = engine.energy_per_action(machine.technology)["mac_int8"]
    return _Figures(slots * spec.clock / area / 1e12, energy / 1e-12)


def picture() -> str:
    """Bars of throughput per area and of energy per MAC."""
    rows = [(name, figures(base), figures(better), label) for name, (base, better, label) in _ENGINES.items()]
    panels = (
        ("throughput per area, TMAC/s/mm²", 0, [(a.density, b.density) for _, a, b, _ in rows]),
        ("energy per MAC, pJ", 1, [(a.energy_pj, b.energy_pj) for _, a, b, _ in rows]),
    )
    width = (_WIDTH - _LEFT - 20) / 2
    parts = [
        '<text class="title" x="16" y="26">Tensor engines with and without their technique, SAED 32 nm reports</text>',
        '<rect class="base" x="16" y="42" width="12" height="12"/><text class="dim" x="34" y="53">baseline MAC</text>',
        '<rect class="tech" x="140" y="42" width="12" height="12"/><text class="dim" x="158" y="53">with technique '
        "(ratio; the abstract's, SMIC 28 nm, in brackets)</text>",
    ]
    for title, column, values in panels:
        left = _LEFT + column * (width + 10)
        full = max(max(pair) for pair in values)
        parts.append(f'<text class="dim" x="{left:.0f}" y="{_TOP}">{escape(title)}</text>')
        for i, ((name, _, _, label), pair) in enumerate(zip(rows, values, strict=True)):
            y = _TOP + 14 + i * _ROW
            if column == 0:
                parts.append(f'<text x="16" y="{y + 24}">{escape(name)}</text>')
            better = pair[1] / pair[0] if column == 0 else pair[0] / pair[1]
            printed = _ABSTRACT.get(name)
            beside = f" ({printed[column]:.2f}x)" if printed else ""
            texts = (f"{pair[0]:.3g}", f"{pair[1]:.3g}  {label}: {better:.2f}x{beside}")
            for j, (value, text) in enumerate(zip(pair, texts, strict=True)):
                length = (width - 190) * value / full
                parts.append(
                    f'<rect class="{("base", "tech")[j]}" x="{left:.0f}" y="{y + 24 * j}" width="{length:.1f}" '
                    f'height="18"/><text x="{left + length + 6:.1f}" y="{y + 24 * j + 14}">{escape(text)}</text>'
                )
    height = _TOP + 24 + len(rows) * _ROW
    remark = "No baseline tree is in the reports: MAC and clock are the OS array's (assumed). 2D matrix: PEs alone."
    parts.append(f'<text class="dim" x="16" y="{height - 12}">{remark}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="Throughput per area and energy per MAC of five tensor engines">'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    print(picture(), end="")
