"""The commands. Each is thin: it reads its options, calls the library, and prints."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from archsim.errors import ArchsimError, InputError, Problem, printable, shortened
from archsim.files import reason

from . import BROKEN_PIPE, FAILED, INTERRUPTED, alone, plan

if TYPE_CHECKING:
    pass


class _Commands(TyperGroup):
    """Turns what commands raise to messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ArchsimError as error:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            _tell(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(BROKEN_PIPE) from None
        except OSError as error:  # a full disk, most likely that of stdout
            _tell(f"cannot go on: {f'{error.filename}: ' if error.filename else ''}{reason(error)}")
            raise typer.Exit(FAILED) from None
        except MemoryError:
            _tell("cannot go on: there is not enough memory")
            raise typer.Exit(FAILED) from None


def _tell(error: object) -> None:
    """What went wrong, on stderr."""
    for line in str(error).splitlines():
        print(printable(line), file=sys.stderr)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a value of the config; may be given again."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over the results that DIR holds.")]


def _overrides(pairs: list[str] | None) -> dict[str, str]:
    """``path=value`` texts as a mapping."""
    overrides: dict[str, str] = {}
    for pair in pairs or ():
        path, equals, value = pair.partition("=")
        if not equals or not path:
            raise InputError([Problem(f"'{shortened(pair)}' is not written like chip.clock='1 GHz'", "--set")])
        if path in overrides:
            raise InputError([Problem("is set twice", "--set", path=path)])
        overrides[path] = value
    return overrides


@app.callback(invoke_without_command=True)
def archsim(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Simulate AI hardware: a machine in YAML, a workload, and cycles, energy and area with their origins.

    \b
    archsim list                                             what is shipped
    archsim run --model llama-3-8b --chip tpu_v4i --phase decode --batch 8 --input 2048 --output 128
    archsim show tpu_v4i                                     a chip with the origin of every value
    archsim new                                              files to try: a run, a chip, a config.json, cases, ...
    archsim COMMAND --help                                   more examples

    Exit codes: 0 done, 1 a run or a validation failed, 2 bad input.
    """
    if version:
        from archsim import __version__

        print(f"archsim {__version__}")
        raise typer.Exit


@app.command()
def run(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Files or names.")] = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="New folder for all results.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    brute_force: Annotated[
        bool, typer.Option("--brute-force", help="Simulate every repetition, not just one; the answer is equal.")
    ] = False,
    what_if: Annotated[
        bool, typer.Option("--what-if", help="Ask what each resource twice as fast would gain; a simulation each.")
    ] = False,
    chakra: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For a Chakra trace of the run, a file for each rank.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model: shipped name, our YAML or a config.json.")] = None,
    chip: Annotated[str | None, typer.Option(help="Chip: shipped name or file.")] = None,
    system: Annotated[str | None, typer.Option(help="System of chips: shipped name or file.")] = None,
    phase: Annotated[str | None, typer.Option(help="prefill, decode, both, or encode.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences.")] = None,
    input: Annotated[int | None, typer.Option(help="Tokens of each prompt.")] = None,
    images: Annotated[int | None, typer.Option(help="Images of each prompt, whose tokens are among its.")] = None,
    output: Annotated[int | None, typer.Option(help="Tokens that each sequence answers.")] = None,
    dtype: Annotated[str | None, typer.Option(help="bf16, int8, int4, ...")] = None,
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel ranks.")] = None,
    offload: Annotated[
        bool, typer.Option("--offload", help="Weights that do not fit live in the host's memory; says what is where.")
    ] = False,
    train: Annotated[bool, typer.Option("--train", help="A step of training instead of inference.")] = False,
    pp: Annotated[int | None, typer.Option(help="Training: pipeline stages.")] = None,
    dp: Annotated[int | None, typer.Option(help="Training: data-parallel replicas.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Training: sequences computed at a time.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Training: 1f1b or gpipe.")] = None,
) -> None:
    """Run a workload on a machine.

    \b
    archsim run llama_3_8b_on_tpu_v4i                        a shipped run
    archsim run my_run.yaml --out results/my_run             a file; tables, timeline, report to a folder
    archsim run my_run.yaml --set chip.clock='1.2 GHz' --set workload.batch=16
    archsim run a.yaml b.yaml --json                         several; one JSON list
    archsim run --model llama-3-8b --chip tpu_v4i --phase decode --batch 8 --input 2048 --output 128
    archsim run --model ./config.json --system dgx_a100 --tp 4 --input 512 --output 64
    archsim run --model mixtral-8x7b --chip rtx4090 --offload --input 64 --output 5
    archsim run --model gpt3-175b --system selene --train --tp 8 --pp 16 --dp 8 --batch 1536 --micro-batch 1
    archsim run my_run.yaml --chakra traces/my_run           the run as a trace for ASTRA-sim and others
    archsim run my_trace.0.json --system dgx_h100            a recorded trace; or a file of another simulator

    Files of others (traces of PyTorch, Chrome and Chakra, configurations of SCALE-Sim, ONNXim, Timeloop, DRAMsim3,
    BookSim, ASTRA-sim, ...) run as they are, or stand where a chip, a system or a model is named; what they say that is
    not modelled is told. Where they describe a question, --set gives what is missing: --set trace=requests.txt.
    """
    from archsim.cli import running

    options = {
        "model": model,
        "chip": chip,
        "system": system,
        "phase": phase,
        "batch": batch,
        "input": input,
        "images": images,
        "output": output,
        "dtype": dtype,
        "tp": tp,
        "pp": pp,
        "dp": dp,
        "micro_batch": micro_batch,
        "schedule": schedule,
        "train": train or None,
        "offload": offload or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    overrides = _overrides(set_)
    sources = running.sources_of(runs or [], given, overrides, json)
    if sources:
        results = running.carry_out(sources, overrides, out, overwrite, brute_force, what_if, chakra)
        running.tell(results, json, out)


@app.command()
def sweep(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="Sweep file, or shipped name.")],
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of points, table and plot.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes.")] = 1,
    resume: Annotated[bool, typer.Option(help="Take the points that DIR holds already as done.")] = True,
    json: Json = False,
) -> None:
    """Run a design space, and find the points that none beats.

    \b
    archsim sweep my_sweep.yaml --out results/sweep --workers 8
    archsim sweep my_sweep.yaml --out results/sweep          again: goes on where it was stopped
    archsim sweep my_sweep.yaml --set base.workload.batch=4

    \b
    base: llama_3_8b_on_tpu_v4i
    grid:
      chip.clock: [0.8 GHz, 1.05 GHz, 1.4 GHz]
      workload.batch: [1, 8, 64]
    objectives: [time_s, energy_j.total]

    A point that cannot run is a row with its error; the exit code is 1 only if no point could.
    """
    from archsim.cli.output import print_json, progress
    from archsim.sweeps import sweep as simulate
    from archsim.sweeps.table import records

    with progress("sweep") as told:
        table = simulate(sweep, out, workers, resume, overrides=_overrides(set_), progress=told)
    if json:
        print_json(records(table))
    else:
        from archsim.cli.tables import print_sweep

        print_sweep(table)
        if out is not None:
            print(f"results are in {out}", file=sys.stderr)
    if table["error"].ne("").all():
        raise typer.Exit(1)


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="A shipped name or a file of any kind.")] = None,
    chip: Annotated[str | None, typer.Option("--chip", metavar="CHIP", help="A chip, in place of a name.")] = None,
    set_: Set = None,
    area: Annotated[bool, typer.Option("--area", help="The area of each part instead.")] = False,
    power: Annotated[
        bool, typer.Option("--power", help="What the chip draws at rest, at most and under kernels.")
    ] = False,
    cost: Annotated[bool, typer.Option("--cost", help="What its dies, memory and package cost to make.")] = False,
    json: Json = False,
) -> None:
    """Show a resolved config and the origin of every value.

    \b
    archsim show tpu_v4i
    archsim show models/llama_3_8b                           where chips and models share a name
    archsim show my_chip.yaml --set clock='1.2 GHz'
    archsim show --chip tpu_v4i --area                       a tree of mm2
    archsim show --chip h100_sxm --area --power --cost       watts, and USD of dies, memory and package
    """
    from archsim.cli import show as view
    from archsim.config import Origin, resolve_named

    if (name is None) == (chip is None):
        raise InputError("name one config to show, or a chip with --chip; 'archsim list' names them all")

    found = name if name is not None else str(resolve_named("chips", str(chip), Origin("--chip")))
    asked = {"area": area, "power": power, "cost": cost}
    view.show(found, _overrides(set_), [view for view, wanted in asked.items() if wanted], json)


@app.command(name="list")
def list_(
    category: Annotated[str | None, typer.Argument(metavar="CATEGORY", help="Only this one.")] = None,
    json: Json = False,
) -> None:
    """List what is shipped.

    Categories: chips, systems, models, technology, links, drams, kernels, calibrations, collectives, engines, runs,
    sweeps, components, workloads, row_policies, schedules, engine_policies, routers, autoscalers, suites.

    \b
    archsim list
    archsim list chips
    archsim list --json
    """
    from archsim.cli import show as view

    view.list_all(category, json)


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(help="run, sweep, chip, system, model, ... or a part.")] = "run",
) -> None:
    """Print the JSON schema of a config.

    Editors that know it complete and check while you type.

    \b
    archsim schema run > run.schema.json
    archsim schema systolic_array
    """
    from archsim.cli import show as view

    view.schema(kind)


@app.command()
def validate(
    suites: Annotated[list[str] | None, typer.Argument(metavar="SUITE", help="Only these.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For pictures of the suites that have some.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="For the misses of this run, which are then on record.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes.")] = 1,
    json: Json = False,
) -> None:
    """Compare with published and measured figures.

    \b
    archsim validate
    archsim validate scalesim --json
    archsim validate chips --pictures out                    predicted against measured, a panel per chip and kernel
    archsim validate systolic scalesim_sparse --workers 2    side by side
    archsim validate models --record misses.csv              after a change whose misses are accepted
    archsim list suites

    Misses that are on record (validation/misses.csv), and no worse, are told and accepted. The exit code is 1 if a
    figure lies outside its tolerance that is not on record, or has an error that has grown.
    """
    from archsim.cli.output import output_file, output_folder, print_json, progress
    from archsim.validation import misses
    from archsim.validation.framework import run_suites, write_pictures

    known = misses.read()
    output_file(record)
    with output_folder(pictures, overwrite=True), progress("validate") as told:
        rows = run_suites(suites or [], told, workers)
        if pictures is not None:
            write_pictures(suites or [], pictures)
    if record is not None:
        misses.record(rows, record)
    for row in rows:
        row["status"] = misses.status(row, known)
    if json:
        print_json(rows)
    else:
        from archsim.cli.tables import print_claims

        print_claims(rows)
    if record is None and any(row["status"] in ("new", "worse") for row in rows):
        raise typer.Exit(1)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to.")] = Path(),
    overwrite: Overwrite = False,
) -> None:
    """Write small files of every kind to begin with: runs, a chip, a model, cases, traces, a network.

    \b
    archsim new                                              here; the examples of all commands name these files
    archsim new first_steps
    """
    from archsim.cli import new as files

    files.new(folder, overwrite)


@app.command()
def convert(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Of another tool, or a trace.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="Where to; a .csv for the table of a GPU's trace.")
    ] = None,
    chip: Annotated[str | None, typer.Option(help="Of a workload: the chip to run it on.")] = None,
    system: Annotated[str | None, typer.Option(help="Of a workload: the system to run it on.")] = None,
    model: Annotated[str | None, typer.Option(help="Of an execution without one: the model.")] = None,
) -> None:
    """Write a file of another tool as ours, with a note for each thing that is not carried over.

    \b
    archsim convert my_layers.csv --chip tpu_v4i --out layers.yaml        SCALE-Sim's topology, as a run
    archsim convert my_array.cfg                                          SCALE-Sim's array, as a chip
    archsim convert my_profile.json --out profile.csv                     a profiler's trace, as a table

    Chips, systems, models, runs and algorithms are YAML; what describes a question is a CSV for --cases.
    """
    from archsim.cli import convert as peers

    options = {"chip": chip, "system": system, "model": model}
    peers.convert(file, {name: value for name, value in options.items() if value is not None}, out)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A result folder.")]) -> None:
    """Make the HTML report of a result folder again.

    \b
    archsim report results/my_run
    """
    from archsim.report import html

    html.write(folder)


@app.command()
def calibrate(
    name: Annotated[str, typer.Argument(help="Calibration: shipped name or file.")] = "nvidia",
    stage: Annotated[list[str] | None, typer.Option(help="Only these stages.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="If absent, NAME.yaml here.")] = None,
    json: Json = False,
) -> None:
    """Fit kernel parameters to measured rows; write them with intervals, and report errors on chips left out.

    \b
    archsim calibrate nvidia                                 writes nvidia.yaml; a chip's engine names it as 'kernels'
    archsim calibrate nvidia --stage 'gemm bf16' --out mine.yaml
    archsim calibrate my_calibration.yaml --json
    """
    from archsim.cli import calibrate as tool

    tool.calibrate(name, stage or [], out, json)


app.command(name="plan")(plan.command)
alone.commands(app)
