"""What ``archsim run`` does: from its options to runs, carried out and told."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.cli import convert as peers
from archsim.errors import InputError, Problem, shortened

if TYPE_CHECKING:
    from archsim.experiment import Findings
    from archsim.result import Result


def sources_of(runs: Sequence[str], given: dict[str, Any], overrides: Mapping[str, str], json: bool) -> list[Any]:
    """What to run: files of ours as they are, those of peers as they are understood; questions are answered here."""
    if not runs and "model" in given and peers.is_workload(str(given["model"])):
        runs = [given.pop("model")]  # a graph of operators is a run of its own, and no model's dimensions
    for name in ("chip", "system", "model"):
        if name in given:
            peers.tell(peers.notes_of(str(given[name])))
    if not runs:
        return [_run_of(given)]
    sources: list[Any] = []
    for text in runs:
        converted = peers.of_a_peer(text)
        if converted is None:
            if given:
                raise InputError(f"--{next(iter(given))} describes a run without a file: with {text} use --set")
            sources.append(text)
            continue
        if converted.what in ("network", "algorithm"):
            raise peers.not_a_run(text, converted)
        peers.tell(converted.notes)
        if converted.what == "case":
            if len(runs) > 1 or given:
                raise InputError([Problem("is a question, asked alone; --set gives more of it", text)])
            peers.answered(converted, overrides, json)
        elif converted.what == "workload":
            sources.append(peers.run_of(text, converted, given))
        else:
            sources.append(_run_of({**given, converted.what: text}))
    return sources


def carry_out(
    sources: Sequence[Any],
    overrides: Mapping[str, str],
    out: Path | None,
    overwrite: bool,
    brute_force: bool,
    what_if: bool,
    chakra: Path | None,
) -> list[Result | Findings]:
    """Runs and experiments, one after the other; each is written as soon as it is done."""
    from archsim.cli.output import output_folder, progress
    from archsim.experiment import ExperimentSpec, carried_out, experiment_spec
    from archsim.report.findings import write as write_findings
    from archsim.report.folder import write
    from archsim.runs import load
    from archsim.runs import run as simulate

    loaded = [experiment_spec(source, overrides) or load(source, overrides) for source in sources]  # before any work
    folders = _folders(out, [spec.name for spec in loaded])
    results: list[Result | Findings] = []
    with output_folder(out, overwrite), progress("run") as told:
        for i, (spec, folder) in enumerate(zip(loaded, folders, strict=True)):
            tell = partial(told, i, len(loaded))
            if isinstance(spec, ExperimentSpec):
                findings = carried_out(spec, tell)
                if folder is not None:
                    write_findings(findings, folder)
                results.append(findings)
                continue
            result = simulate(spec, brute_force=brute_force, progress=tell)
            if what_if:
                told(i, len(loaded), "asking what if")
                _ = result.what_if_s
            if folder is not None:
                write(result, folder)
            if chakra is not None:
                from archsim.report.chakra import write as write_trace

                write_trace(result, chakra)
            results.append(result)
    return results


def tell(results: Sequence[Result | Findings], json: bool, out: Path | None) -> None:
    """Print what came out."""
    from archsim.cli.output import console, print_json
    from archsim.experiment import Findings
    from archsim.report.findings import show as show_findings
    from archsim.report.terminal import show as show_result

    if json:
        documents = [result.to_json() for result in results]
        print_json(documents if len(documents) > 1 else documents[0])
        return
    for answer in results:
        if isinstance(answer, Findings):
            show_findings(answer, console())
        else:
            show_result(answer, console())
    if out is not None:
        print(f"results are in {out}", file=sys.stderr)


_TRAINING = {
    "batch": "batch",
    "input": "input",
    "dtype": "dtype",
    "tp": "tensor_parallel",
    "pp": "pipeline_parallel",
    "dp": "data_parallel",
    "micro_batch": "micro_batch",
    "schedule": "schedule",
}
"""Options of a training step, and what they set."""


def _run_of(options: dict[str, Any]) -> dict[str, Any]:
    """The run that the options of ``archsim run`` describe."""
    if not options:
        raise InputError("name a run file, or describe a run with --model, --chip, --input and --output")
    if "model" not in options:
        raise InputError([Problem("is missing: the model to run", "--model")])
    if ("chip" in options) == ("system" in options):
        raise InputError("give either --chip or --system: the machine to run it on")
    machine = "chip" if "chip" in options else "system"
    name = f"{_stem(options['model'])}_on_{_stem(options[machine])}"
    if options.pop("train", False):
        keys = _TRAINING
        workload: dict[str, Any] = {"kind": "training", "model": options["model"]}
        unfit = next((o for o in options if o not in (*keys, "model", machine)), None)
        if unfit is not None:
            raise InputError([Problem("says nothing of a training step", f"--{unfit}")])
        workload |= {key: options[option] for option, key in keys.items() if option in options}
        return {"name": f"training_{name}", machine: options[machine], "workload": workload}
    unfit = next((o for o in ("pp", "dp", "micro_batch", "schedule") if o in options), None)
    if unfit is not None:
        raise InputError([Problem("is of a training step: give --train too", f"--{unfit.replace('_', '-')}")])
    phase = options.get("phase", "both")
    if phase not in ("prefill", "decode", "both", "encode"):
        raise InputError([Problem(f"expected prefill, decode, both or encode, not '{phase}'", "--phase")])
    workload = {"kind": "transformer", "model": options["model"]}
    if phase != "both":
        workload["phases"] = [phase]
    for option, key in (
        ("batch", "batch"),
        ("input", "input"),
        ("images", "images"),
        ("output", "output"),
        ("dtype", "dtype"),
        ("tp", "tensor_parallel"),
    ):
        if option in options:
            workload[key] = options[option]
    run: dict[str, Any] = {"name": name, machine: options[machine], "workload": workload}
    if options.get("offload"):
        run["offload"] = {"host": "pcie4_workstation"}
        workload.setdefault("input", 512)
        workload.setdefault("output", 32)
    return run


def _stem(name: str) -> str:
    """The name of a shipped config or of a file; of its folder for a config.json, which says nothing."""
    path = Path(name)
    if path.name == "config.json" and path.parent.name:
        return path.parent.name
    return path.stem if path.suffix in (".yaml", ".yml", ".json") else path.name


def _folders(out: Path | None, names: list[str]) -> list[Path | None]:
    """Where each of several runs writes: the folder itself for one, a folder in it for each of many."""
    if out is None:
        return [None] * len(names)
    if len(names) == 1:
        return [out]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError([Problem(f"two runs are called '{twice}': their results need folders of their own", "--out")])
    for name in names:
        if not name.isprintable() or name.startswith(".") or {*"/\\:"} & {*name} or len(name.encode()) > 200:
            shown = shortened(name)
            raise InputError([Problem(f"a run called '{shown}' needs a plain name for a folder of its own", "--out")])
    return [out / name for name in names]
