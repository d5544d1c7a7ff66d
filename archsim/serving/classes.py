"""Classes of requests with objectives of their own, such as ``chat=0.7:ttft=300ms,tpot=20ms;batch=0.3:e2e=60s``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.errors import shortened, wrong
from archsim.workloads.served import Objectives, kept

_EXAMPLES = {"ttft": "ttft=500ms", "tpot": "tpot=20ms", "e2e": "e2e=5s", "workflow": "workflow=30s"}


def objectives_of(text: str, column: str = "slo", of: Sequence[str] = ("ttft", "tpot", "e2e")) -> Objectives:
    """Objectives written as ``ttft=500ms,tpot=20ms``, in seconds.

    Parameters
    ----------
    of: latencies that may have one.

    Raises
    ------
    InputError: one is not a latency, or not written so.
    """
    found = {}
    for part in text.split(",") if text else ():
        match = re.fullmatch(rf"\s*({'|'.join(of)})\s*=\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", part)
        if match is None:
            said = " or ".join(_EXAMPLES[name] for name in of)
            raise wrong(column, f"'{shortened(part.strip(), 40)}' is not written like {said}")
        found[f"{match[1]}_s"] = float(match[2]) / (1e3 if match[3] == "ms" else 1.0)
    return found


@dataclass(frozen=True)
class SloClass:
    """Requests that have the same objectives.

    Attributes
    ----------
    share: of all requests.
    """

    name: str
    share: float
    objectives: Objectives


def classes_of(text: str) -> list[SloClass]:
    """Classes as they are written.

    Raises
    ------
    InputError: one is not written so, two have a name, or their shares are not those of all requests.
    """
    found = list[SloClass]()
    for part in text.split(";"):
        match = re.fullmatch(r"\s*(\w+)\s*=\s*(\d*\.?\d+)\s*:(.+)", part)
        if match is None:
            raise wrong("classes", f"'{shortened(part.strip())}' is not written like chat=0.7:ttft=300ms,tpot=20ms")
        found.append(SloClass(match[1], float(match[2]), objectives_of(match[3], "classes")))
    if len({one.name for one in found}) < len(found):
        raise wrong("classes", "two classes have one name")
    if not math.isclose(total := sum(one.share for one in found), 1.0, abs_tol=1e-6):
        raise wrong("classes", f"shares sum to {total:g}, not to 1")
    return found


def by_class(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[SloClass], seed: int, last_s: float
) -> dict[str, Any]:
    """How many requests keep the objectives of their class, all and of each; whose class each is is drawn.

    Parameters
    ----------
    last_s: when the last request had its answer.
    """
    drawn = np.random.default_rng(seed).choice(len(classes), size=len(rows), p=[one.share for one in classes])
    good = [kept(row, classes[i].objectives) for row, i in zip(rows, drawn.tolist(), strict=True)]
    found: dict[str, Any] = {"goodput_per_s": sum(good) / last_s if last_s else 0.0}
    found["kept_share"] = sum(good) / len(rows) if rows else 0.0
    for number, one in enumerate(classes):
        mine = [ok for ok, i in zip(good, drawn.tolist(), strict=True) if i == number]
        found[f"kept_share_{one.name}"] = sum(mine) / len(mine) if mine else None
    return found
