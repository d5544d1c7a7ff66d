"""Predicted against measured as SVG: a panel per chip and kernel, with a histogram of the errors below it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy as np

Pairs = Mapping[tuple[str, str], tuple[np.ndarray, ...]]

_SIDE, _BARS, _LEFT, _TOP = 150, 34, 190, 74
_COLUMN, _ROW = _SIDE + 40, _SIDE + _BARS + 50
_NOTE = 900  # width that the note needs
_BINS = np.linspace(-0.5, 0.5, 41)
_STYLE = """\
svg{background:#fff;font:11px system-ui,sans-serif;color:#222}
text{fill:#222}.title{font-size:13px;font-weight:600}.note{fill:#555}
.frame{fill:none;stroke:#999}.equal{stroke:#999}.tick{stroke:#ddd}
circle{fill:#2166ac;fill-opacity:.35}rect.bar{fill:#2166ac}.zero{stroke:#b2182b}"""


def picture(pairs: Pairs, quantity: str = "time", unit: str = "us") -> str:
    """The page.

    Parameters
    ----------
    pairs: (kernel, chip) to measured and predicted values, and what else, [rows].
    """
    kernels = list(dict.fromkeys(kernel for kernel, _ in pairs))
    chips = {kernel: [chip for known, chip in pairs if known == kernel] for kernel in kernels}
    wide, tall = max(_NOTE, _LEFT + max(map(len, chips.values())) * _COLUMN), _TOP + len(kernels) * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{tall}" viewBox="0 0 {wide} {tall}" '
        'role="img">',
        f"<title>GPU kernels: predicted against measured {quantity}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="8" y="20">GPU kernels: predicted (up) against measured {quantity} (right)</text>',
        '<text class="note" x="8" y="38">Logarithmic scales. Above a panel: mean absolute and mean signed error; '
        "below it: relative errors from -50% to +50%, the outermost bars hold what lies beyond.</text>",
    ]
    for row, kernel in enumerate(kernels):
        top = _TOP + row * _ROW
        parts.append(f'<text class="title" x="8" y="{top + _SIDE / 2}">{escape(kernel)}</text>')
        for column, chip in enumerate(chips[kernel]):
            measured, predicted = pairs[kernel, chip][:2]
            parts.append(_panel(chip, measured, predicted, unit, _LEFT + column * _COLUMN, top))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(chip: str, measured: np.ndarray, predicted: np.ndarray, unit: str, left: float, top: float) -> str:
    low = math.floor(math.log10(min(measured.min(), predicted.min())))
    high = math.ceil(math.log10(max(measured.max(), predicted.max())))

    def place(value: float) -> float:
        return _SIDE * (math.log10(value) - low) / (high - low)

    error = predicted / measured - 1.0
    text = f"{escape(chip)}: {np.abs(error).mean():.1%}, {error.mean():+.1%}"
    parts = [f'<g transform="translate({left},{top})">', f'<text x="0" y="-4">{text}</text>']
    for decade in range(low + 1, high):
        at = place(10.0**decade)
        parts.append(f'<path class="tick" d="M{at:.1f} 0V{_SIDE}M0 {_SIDE - at:.1f}H{_SIDE}"/>')
    parts.append(
        f'<path class="equal" d="M0 {_SIDE}L{_SIDE} 0"/><rect class="frame" width="{_SIDE}" height="{_SIDE}"/>'
    )
    parts += [
        f'<circle cx="{place(m):.1f}" cy="{_SIDE - place(p):.1f}" r="1.6"/>'
        for m, p in zip(measured.tolist(), predicted.tolist(), strict=True)
    ]
    parts.append(f'<text class="note" x="0" y="{_SIDE + 11}">{_shown(low, unit)}</text>')
    parts.append(f'<text class="note" x="{_SIDE}" y="{_SIDE + 11}" text-anchor="end">{_shown(high, unit)}</text>')
    counts, _ = np.histogram(np.clip(error, _BINS[0], _BINS[-1]), _BINS)
    step = _SIDE / counts.size
    base = _SIDE + 14 + _BARS
    for i, count in enumerate(counts.tolist()):
        if count:
            height = _BARS * count / counts.max()
            parts.append(
                f'<rect class="bar" x="{i * step:.2f}" y="{base - height:.1f}" width="{step - 0.5:.2f}" '
                f'height="{height:.1f}"/>'
            )
    parts.append(f'<path class="zero" d="M{_SIDE / 2} {base - _BARS}V{base}"/></g>')
    return "".join(parts)


def _shown(power: int, unit: str) -> str:
    return f"1e{power} {unit}" if power > 4 or power < 0 else f"{10**power} {unit}"
