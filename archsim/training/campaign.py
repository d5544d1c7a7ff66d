"""A row's question after many steps: how long they take on machines that fail, with checkpoints."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from archsim.config import load_spec, shipped
from archsim.errors import InputError, Problem, nearest, shortened
from archsim.training.endurance import RECOVERIES, CheckpointSpec, Endured, Job, Saving, best_every, endure
from archsim.training.setup import Setup
from archsim.training.step import Step
from archsim.training.timer import PS
from archsim.units import BANDWIDTH, parse, whole
from archsim.workloads.parameters import parameters
from archsim.workloads.step.layer import element_bytes

HOUR_S = 3600
NAMES = ("steps", "checkpoint", "every", "storage", "mtbf_h", "recovery", "restart_s", "seed")
"""columns of it; without ``steps`` only a step is asked for"""
_RESTART_S = 300.0
"""until a machine has taken the place of a lost one, where nobody says: assumed, a spare that stands ready"""
_EVERY = 100
"""steps between checkpoints, where nobody says and nothing fails"""


def campaign(case: Mapping[str, Any], setup: Setup, found: Step) -> dict[str, Any]:
    """Figures of many steps; none where a row does not ask for them.

    Raises
    ------
    InputError: a column says what cannot be, or speaks of many steps where a row does not ask for them.
    """
    said = {name: str(case.get(name, "")).strip() for name in NAMES}
    if not said["steps"]:
        other = next((name for name in NAMES if said[name]), None)
        if other is not None:
            raise InputError([Problem("speaks of many steps: say how many with 'steps'", path=other)])
        return {}
    saving = _saving(said, setup, found)
    job = _job(said, setup, found, saving)
    return _told(job, saving, endure(job, saving))


def _number(said: Mapping[str, str], name: str, usual: float, least: float = 0.0) -> float:
    text = said[name]
    try:
        value = float(text) if text else usual
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        raise InputError([Problem(f"expected a number of at least {least:g}, not '{shortened(text)}'", path=name)])
    return value


def _whole(said: Mapping[str, str], name: str, usual: int, least: int) -> int:
    try:
        return whole(said[name].replace(",", ""), least, 2**40) if said[name] else usual
    except InputError as error:
        raise InputError([Problem(problem.message, path=name) for problem in error.problems]) from None


@functools.lru_cache(maxsize=64)
def _how(name: str) -> CheckpointSpec:
    if not name.endswith((".yaml", ".yml")) and name not in shipped("checkpoints"):
        raise InputError(
            [Problem(f"no way of saving is called '{shortened(name)}': {nearest(name, shipped('checkpoints'))}")]
        )
    return load_spec(name, CheckpointSpec, category="checkpoints")


def _saving(said: Mapping[str, str], setup: Setup, found: Step) -> Saving | None:
    """How a checkpoint is made: weights and the optimizer's state, of replicas that hold the same by one of them."""
    name = said["checkpoint"]
    if not name or name == "none":
        unfit = next((other for other in ("every", "storage") if said[other]), None)
        if unfit is not None:
            raise InputError([Problem("is of checkpoints: say how they are made with 'checkpoint'", path=unfit)])
        return None
    try:
        how = _how(name)
    except InputError as error:
        raise InputError([Problem(problem.message, path="checkpoint") for problem in error.problems]) from None
    if said["storage"]:
        try:
            rate = int(parse(said["storage"], BANDWIDTH))
        except InputError as error:
            raise InputError([Problem(problem.message, path="storage") for problem in error.problems]) from None
        how = how.model_copy(update={"node_bandwidth": rate, "total_bandwidth": rate * 2**20})
    optimizer = setup.framework.optimizer
    each = element_bytes(setup.dtype) + (optimizer.state_bytes if optimizer is not None else 0.0)
    total = round(parameters(setup.model)["total"] * each)
    hidden = (found.ps - found.parts.get("optimizer", 0)) / PS
    held = max(one.weights + one.optimizer for one in found.stage_held), found.away.weights + found.away.optimizer
    return Saving.of(how, held, total, setup.cut.gpus, setup.fabric.node, hidden)


def _job(said: Mapping[str, str], setup: Setup, found: Step, saving: Saving | None) -> Job:
    steps = _whole(said, "steps", 1, 1)
    mtbf_s = _number(said, "mtbf_h", 0.0) * HOUR_S
    recovery = said["recovery"] or "rollback"
    if recovery not in RECOVERIES:
        raise InputError(
            [
                Problem(
                    f"no recovery is called '{shortened(recovery)}': {nearest(recovery, RECOVERIES)}", path="recovery"
                )
            ]
        )
    if recovery != "rollback" and setup.cut.pipeline < 3:
        raise InputError(
            [
                Problem(
                    f"'{recovery}' needs a stage between two others, not {setup.cut.pipeline} stages", path="recovery"
                )
            ]
        )
    weights = max(one.weights for one in found.stage_held) + found.away.weights
    job = Job(
        steps,
        found.seconds,
        steps,
        setup.cut.gpus / mtbf_s if mtbf_s else 0.0,
        recovery,
        _number(said, "restart_s", _RESTART_S),
        2 * setup.fabric.send(weights, 0, setup.cut.apart("pp")),
        _whole(said, "seed", 0, 0),
    )
    if saving is None:
        return job
    every = _whole(said, "every", best_every(job, saving) or _EVERY, 1)
    return Job(**{**vars(job), "every": min(every, steps)})


def _told(job: Job, saving: Saving | None, found: Endured) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "run_h": found.seconds / HOUR_S,
        "goodput_pct": 100 * job.steps * job.step_s / found.seconds,
        "failures": found.failures,
        "steps_again": found.steps_again,
        "incomplete_steps": found.incomplete,
    }
    if saving is not None:
        figures |= {
            "checkpoint_every": job.every,
            "checkpoint_every_best": best_every(job, saving),
            "checkpoint_stall_ms": 1e3 * found.stopped_s / found.saved if found.saved else None,
            "checkpoint_write_s": saving.copy_s + saving.write_s,
        }
    return figures
