"""``archsim show``, ``list`` and ``schema``: configs, names and schemas for reading."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim import registry
from archsim.cli.output import print_json, say
from archsim.errors import InputError, nearest
from archsim.files import lines

if TYPE_CHECKING:
    from pydantic import BaseModel

    from archsim.config import Tree

_SPECS = {
    "chips": "archsim.machine:ChipSpec",
    "systems": "archsim.machine:SystemSpec",
    "models": "archsim.workloads.model:ModelSpec",
    "technology": "archsim.model.technology:TechnologySpec",
    "runs": "archsim.run_spec:RunSpec",
    "sweeps": "archsim.sweeps:SweepSpec",
    "experiments": "archsim.experiment:ExperimentSpec",
    "links": "archsim.components.network.link:LinkSpec",
    "costs": "archsim.cost:CostSpec",
    "kernels": "archsim.components.compute.gpu_kernels:GpuKernelsSpec",
    "calibrations": "archsim.calibration:CalibrationSpec",
    "engines": "archsim.workloads.engine_spec:EngineSpec",
    "workflows": "archsim.workloads.workflow_spec:WorkflowSpec",
    "drams": "archsim.components.memory.command_level.preset:DramPreset",
    "frameworks": "archsim.workloads.step.framework:FrameworkSpec",
    "offloads": "archsim.training.offload:OffloadSpec",
    "steps": "archsim.training.steps:StepSpec",
    "checkpoints": "archsim.training.endurance:CheckpointSpec",
    "hybrids": "archsim.workloads.step.kinds:HybridSpec",
    "hosts": "archsim.offloading:HostSpec",
    "operators": "archsim.workloads.operators:OperatorsSpec",
    "training_kernels": "archsim.components.compute.gpu_training:TrainingKernelsSpec",
}
_COLLECTIVES = (
    "archsim.components.network.nccl:NcclSpec",
    "archsim.components.network.expert_parallel:ExpertParallelSpec",
    "archsim.training.fabric:ExchangesSpec",
    "archsim.components.network.gpu_library:GpuLibrariesSpec",
)
"""what a file in the folder of collectives may be: its keys say which"""
_Path = tuple[str, ...]
_PARTS = {"components": "archsim.components", "workloads": "archsim.workloads", "row_policies": "archsim.row_policies"}
_NAMED = {name: f"archsim.{name}" for name in (*_PARTS, "schedules", "engine_policies", "routers", "autoscalers")}


def _spec(category: str) -> type[BaseModel]:
    return _class(_SPECS[category])


def _class(place: str) -> type[BaseModel]:
    module, _, name = place.partition(":")
    spec: type[BaseModel] = getattr(importlib.import_module(module), name)
    return spec


def _share(spec: type[BaseModel], keys: set[str]) -> float:
    """Share of a file's keys that a spec has."""
    return len(keys & set(spec.model_fields)) / len(keys)


# --- show ----------------------------------------------------------------------------------------------


def show(name: str, overrides: Mapping[str, str], views: Collection[str], as_json: bool) -> None:
    """Print the resolved config with origins, or its ``area``, ``power`` and ``cost``, as ``views`` name them."""
    from archsim import registry
    from archsim.config import build, dump, load_tree, locate
    from archsim.experiment import GROUP

    category = _category(name)
    if category == "collectives":
        keys = set(load_tree(locate(name)).data())
        spec = max((_class(place) for place in _COLLECTIVES), key=lambda kind: _share(kind, keys))
    elif category == "experiments":
        spec = registry.find(GROUP, str(load_tree(locate(name)).data().get("kind"))).Spec
    else:
        spec = _spec(category)
    tree = load_tree(name, overrides, spec, category)
    built = build(tree, spec)
    data = dump(built)
    if views:
        _show_views(built, category, views, as_json)
    elif as_json:
        origins = {".".join(path): _origin(tree, data, path) for path in _leaves(data)}
        print_json({"config": data, "origins": origins})
    else:
        shown = list(_lines(data, (), lambda path: _origin(tree, data, path)))
        width = min(max(len(text) for text, _ in shown), 60)
        for text, origin in shown:
            say(f"{text:<{width}}  # {origin}" if origin else text)


def _category(name: str) -> str:
    """Which kind of config a name or file is: by its folder, by the shipped names, or by its keys."""
    from archsim.config import load_tree, locate

    path = locate(name)
    if path.parent.name in (*_SPECS, "collectives"):
        return path.parent.name
    keys = set(load_tree(path).data())
    fit = {
        category: _share(_spec(category), keys)
        for category in ("runs", "chips", "systems", "technology", "sweeps", "links")
    }
    best = max(fit, key=lambda category: fit[category])
    return best if fit[best] > 0.5 else "models"


def _leaves(data: Any, path: _Path = ()) -> Iterator[_Path]:
    if isinstance(data, dict | list) and data:
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path


def _origin(tree: Tree, data: Any, path: _Path) -> str:
    """Where a value was written, ``default`` where it was not; shipped files by their names."""
    from archsim.config import CONFIGS

    node = tree
    for key in path:
        child = node.child(key)
        if child is None:
            # Keys that the resolved config lacks were read and translated: their place is the best there is.
            translated = not isinstance(node.value, dict) or not set(node.value) <= set(data)
            if not translated:
                return "default"
            break
        node, data = child, data[key if isinstance(data, dict) else int(key)]
    return str(node.place).removeprefix(f"{CONFIGS}/")


def _lines(data: Any, path: _Path, origin: Callable[[_Path], str]) -> Iterator[tuple[str, str]]:
    """YAML, line by line, with the origin of the value on it; what is left open is left out."""
    indent = "  " * len(path)
    for key, value in data.items():
        at = (*path, key)
        if value is None and origin(at) == "default":
            continue
        if key == "technology":  # a table of its own, longer than all the rest
            yield f"{indent}{key}: {value['name']}", origin((*at, "name"))
        elif isinstance(value, dict) and value:
            yield f"{indent}{key}:", ""
            yield from _lines(value, at, origin)
        elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            yield f"{indent}{key}:", ""
            for i, item in enumerate(value):
                yield f"{indent}- {_flow(item)}", origin((*at, str(i)))
        else:
            yield f"{indent}{key}: {_flow(value)}", origin(at)


def _flow(value: Any) -> str:
    """A value on one line of YAML, text in quotes only where it needs them."""
    from archsim.config import parse_value

    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and value and not set(value) & set(",[]{}#\n\"'"):
        try:
            if parse_value(value) == value:
                return value
        except InputError:
            pass
    return json.dumps(value, ensure_ascii=False)


def _show_views(built: Any, category: str, views: Collection[str], as_json: bool) -> None:
    """Area, power and cost of a chip, or of that of a system or a run."""
    from archsim.cost import cost
    from archsim.machine import area_tree
    from archsim.power import power

    if category == "runs":
        built, category = (built.chip, "chips") if getattr(built, "chip", None) else (built.system, "systems")
    if category not in ("chips", "systems"):
        raise InputError(f"--{next(iter(views))} is of a chip, a system or a run, not of {category}")
    chip = built.chip if category == "systems" else built
    if as_json:
        found: dict[str, Any] = {}
        if "area" in views:
            found["area"] = _area_data(area_tree(built))
        if "power" in views:
            found["power"] = power(chip)
        if "cost" in views:
            found["cost"] = cost(chip)
        print_json(found["area"] if tuple(views) == ("area",) else found)
        return
    if "area" in views:
        _tell_area(area_tree(built))
        if chip.die is None:
            known = "its published area" if chip.die_area is not None else "the sum of parts that are modelled"
            say(f"no floor plan of the die is known: what is shown is {known}")
    if "power" in views:
        for row in power(chip):
            say(f"{row['what']:<36}  {row['watts']:10.1f} W   {row['source']}")
    if "cost" in views:
        for row in cost(chip):
            usd = f"{row['usd']:10.0f} USD" if row["usd"] is not None else f"{'?':>10}    "
            say(f"{row['what']:<10}  {row['amount']:<20}  {usd}   {row['source']}")


def _area_data(node: Any) -> dict[str, Any]:
    name, mm2, children = node
    return {"name": name, "mm2": mm2, "children": [_area_data(child) for child in children]}


def _tell_area(tree: Any) -> None:
    def told(node: Any, level: int) -> Iterator[tuple[str, float]]:
        name, mm2, children = node
        yield "  " * level + name, mm2
        for child in children:
            yield from told(child, level + 1)

    rows = list(told(tree, 0))
    width = max(len(name) for name, _ in rows)
    for name, mm2 in rows:
        share = mm2 / tree[1] if tree[1] else 0.0
        say(f"{name:<{width}}  {mm2:12.4f} mm2  {share:6.1%}")


# --- list ----------------------------------------------------------------------------------------------


def list_all(category: str | None, as_json: bool) -> None:
    """Print the names of all categories, or of one."""
    categories = [
        "chips",
        "systems",
        "models",
        "technology",
        "links",
        "costs",
        "drams",
        "hybrids",
        "frameworks",
        "steps",
        "offloads",
        "checkpoints",
        "hosts",
        "operators",
        "kernels",
        "training_kernels",
        "calibrations",
        "collectives",
        "engines",
        "workflows",
        "runs",
        "sweeps",
        "experiments",
    ]
    categories += [*_NAMED, "suites"]
    if category is not None and category not in categories:
        raise InputError(f"no category is called '{category}': {nearest(category, categories)}")
    names = {c: _names(c) for c in (categories if category is None else [category])}
    if as_json:
        print_json(names if category is None else names[category])
        return
    for title, entries in names.items():
        if category is None:
            say(f"{title}:")
        width = max((len(name) for name in entries), default=0)
        for name, remark in entries.items():
            say(("  " if category is None else "") + f"{name:<{width}}  {remark}".rstrip())


def _names(category: str) -> dict[str, str]:
    """Names of a category, each with what the first line of its file says of it."""
    from archsim.config import CONFIGS, shipped

    if category in _NAMED:
        return dict.fromkeys(registry.names(_NAMED[category]), "")
    if category == "suites":
        suites = sorted(CONFIGS.with_name("validation").glob("*/suite.py"))
        return {path.parent.name: _remark(path) for path in suites}
    return {name: _remark(path) for name, path in shipped(category).items()}


def _remark(path: Path) -> str:
    first = next((text for _, text in lines(path)), "")
    return first.strip('#" \n') if first.startswith(("#", '"""')) else ""


# --- schema --------------------------------------------------------------------------------------------


def schema(kind: str) -> None:
    """Print the JSON schema of a config or of a part."""
    kinds = {category.removesuffix("s"): category for category in _SPECS}
    parts = {name: group for group in _PARTS.values() for name in registry.names(group)}
    if kind in kinds:
        spec = _spec(kinds[kind])
    elif kind in parts:
        spec = registry.find(parts[kind], kind).Spec
    else:
        raise InputError(f"no config or part is called '{kind}': {nearest(kind, [*kinds, *parts])}")
    document = spec.model_json_schema()
    definitions = document.get("$defs", {})
    if spec.__name__ in definitions:  # it may hold its like, and is told by reference
        document = {"$defs": definitions, **definitions[spec.__name__]}
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **document})
