"""The commands. Each is thin: it reads its options, calls the library, and prints."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from archsim.errors import ArchsimError, InputError, Problem

from . import BROKEN_PIPE, INTERRUPTED


class _Commands(TyperGroup):
    """Turns what commands raise to messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ArchsimError as error:
            sys.stdout.flush()
            print(error, file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(BROKEN_PIPE) from None


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
            raise InputError([Problem(f"'{pair}' is not written like chip.clock='1 GHz'", "--set")])
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
    model: Annotated[str | None, typer.Option(help="Model: shipped name, our YAML or a config.json.")] = None,
    chip: Annotated[str | None, typer.Option(help="Chip: shipped name or file.")] = None,
    system: Annotated[str | None, typer.Option(help="System of chips: shipped name or file.")] = None,
    phase: Annotated[str | None, typer.Option(help="prefill, decode, both, or encode.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences.")] = None,
    input: Annotated[int | None, typer.Option(help="Tokens of each prompt.")] = None,
    output: Annotated[int | None, typer.Option(help="Tokens that each sequence answers.")] = None,
    dtype: Annotated[str | None, typer.Option(help="bf16, int8, int4, ...")] = None,
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel ranks.")] = None,
) -> None:
    """Run a workload on a machine.

    \b
    archsim run llama_3_8b_on_tpu_v4i                        a shipped run
    archsim run my_run.yaml --out results/my_run             a file; tables, timeline, report to a folder
    archsim run my_run.yaml --set chip.clock='1.2 GHz' --set workload.batch=16
    archsim run a.yaml b.yaml --json                         several; one JSON list
    archsim run --model llama-3-8b --chip tpu_v4i --phase decode --batch 8 --input 2048 --output 128
    archsim run --model ./config.json --system 4x_a100 --tp 4 --input 512 --output 64
    """
    from archsim.cli.output import console, output_folder, print_json, progress

    overrides = _overrides(set_)
    options = {
        "model": model,
        "chip": chip,
        "system": system,
        "phase": phase,
        "batch": batch,
        "input": input,
        "output": output,
        "dtype": dtype,
        "tp": tp,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if runs and given:
        raise InputError(f"--{next(iter(given))} describes a run without a file: with {runs[0]} use --set")
    sources: list[Any] = [*runs] if runs else [_run_of(given)]

    from archsim.runs import load
    from archsim.runs import run as simulate

    loaded = [load(source, overrides) for source in sources]  # all problems before any work
    folders = _folders(out, [spec.name for spec in loaded])
    results = []
    with output_folder(out, overwrite), progress("run") as told:
        for i, (spec, folder) in enumerate(zip(loaded, folders, strict=True)):
            result = simulate(spec, brute_force=brute_force, progress=partial(told, i, len(loaded)))
            if folder is not None:
                result.write(folder)
            results.append(result)
    if json:
        documents = [result.to_json() for result in results]
        print_json(documents if len(documents) > 1 else documents[0])
        return
    for result in results:
        result.print(console())
    if out is not None:
        print(f"results are in {out}", file=sys.stderr)


def _run_of(options: dict[str, Any]) -> dict[str, Any]:
    """The run that the options of ``archsim run`` describe."""
    if not options:
        raise InputError("name a run file, or describe a run with --model, --chip, --input and --output")
    if "model" not in options:
        raise InputError([Problem("is missing: the model to run", "--model")])
    if ("chip" in options) == ("system" in options):
        raise InputError("give either --chip or --system: the machine to run it on")
    machine = "chip" if "chip" in options else "system"
    phase = options.get("phase", "both")
    if phase not in ("prefill", "decode", "both", "encode"):
        raise InputError([Problem(f"expected prefill, decode, both or encode, not '{phase}'", "--phase")])
    workload = {"kind": "transformer", "model": options["model"]}
    if phase != "both":
        workload["phases"] = [phase]
    for option, key in (
        ("batch", "batch"),
        ("input", "input"),
        ("output", "output"),
        ("dtype", "dtype"),
        ("tp", "tensor_parallel"),
    ):
        if option in options:
            workload[key] = options[option]
    name = f"{_stem(options['model'])}_on_{_stem(options[machine])}"
    return {"name": name, machine: options[machine], "workload": workload}


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
    return [out / name for name in names]


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
    json: Json = False,
) -> None:
    """Show a resolved config and the origin of every value.

    \b
    archsim show tpu_v4i
    archsim show models/llama_3_8b                           where chips and models share a name
    archsim show my_chip.yaml --set clock='1.2 GHz'
    archsim show --chip tpu_v4i --area                       a tree of mm2
    """
    from archsim.cli import show as view
    from archsim.config import Origin, resolve_named

    if (name is None) == (chip is None):
        raise InputError("name one config to show, or a chip with --chip; 'archsim list' names them all")

    found = name if name is not None else str(resolve_named("chips", str(chip), Origin("--chip")))
    view.show(found, _overrides(set_), area, json)


@app.command(name="list")
def list_(
    category: Annotated[str | None, typer.Argument(metavar="CATEGORY", help="Only this one.")] = None,
    json: Json = False,
) -> None:
    """List what is shipped.

    Categories: chips, systems, models, technology, links, drams, kernels, calibrations, collectives, runs, sweeps,
    components, workloads, suites.

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
    json: Json = False,
) -> None:
    """Compare with published and measured figures.

    \b
    archsim validate
    archsim validate scalesim --json
    archsim validate chips --pictures out                    predicted against measured, a panel per chip and kernel
    archsim list suites

    The exit code is 1 if a figure lies outside its tolerance.
    """
    from archsim.cli.output import output_folder, print_json, progress
    from archsim.validation.framework import run_suites, write_pictures

    with output_folder(pictures, overwrite=True), progress("validate") as told:
        rows = run_suites(suites or [], told)
        if pictures is not None:
            write_pictures(suites or [], pictures)
    if json:
        print_json(rows)
    else:
        from archsim.cli.tables import print_claims

        print_claims(rows)
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A result folder.")]) -> None:
    """Make the HTML report of a result folder again.

    \b
    archsim report results/my_run
    """
    if not (folder / "result.json").is_file():
        raise InputError(f"'{folder}' is no result folder: it holds no result.json")
    from archsim.report import html

    html.write(folder)


@app.command()
def gemm(
    m: Annotated[int | None, typer.Option("-M", metavar="M", help="Rows of the left-hand side.")] = None,
    k: Annotated[int | None, typer.Option("-K", metavar="K", help="Depth.")] = None,
    n: Annotated[int | None, typer.Option("-N", metavar="N", help="Columns of the right-hand side.")] = None,
    array: Annotated[str | None, typer.Option(metavar="RxC", help="Rows and columns.")] = None,
    dataflow: Annotated[str | None, typer.Option(help="ws, os or is.")] = None,
    accounting: Annotated[str, typer.Option(help="Who counts: hardware, scalesim or onnxim.")] = "hardware",
    cases: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="One case a row.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="For rows and answers.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Busy PEs over time, one case.")] = None,
    json: Json = False,
) -> None:
    """Ask a systolic array alone for a matrix product.

    \b
    archsim gemm --array 128x128 --dataflow ws -M 2048 -K 4096 -N 4096
    archsim gemm --array 32x32 --dataflow os -M 200 -K 64 -N 96 --picture fill_and_drain.svg
    archsim gemm --cases layers.csv --out answers.csv        columns M, K, N, rows, cols, dataflow
    archsim gemm --cases layers.csv --array 32x32 --dataflow os --accounting scalesim --json

    An option fills its column where the file has none; other columns pass through.
    """
    from archsim.cli import gemm as one_part

    options = {"M": m, "K": k, "N": n, "array": array, "dataflow": dataflow}
    given = {key: value for key, value in options.items() if value is not None}
    one_part.gemm(given, accounting, cases, out, picture, json)


@app.command()
def pim(
    device: Annotated[str | None, typer.Option(help="aim, pim_gpt, hbm_pim, or a chip with PIM channels.")] = None,
    m: Annotated[int | None, typer.Option("-m", help="Outputs of a product, elements of another operation.")] = None,
    k: Annotated[int | None, typer.Option("-k", help="Inputs of a product.")] = None,
    operation: Annotated[str | None, typer.Option("--op", help="gemv; of hbm_pim also add, mul, relu.")] = None,
    channels: Annotated[int | None, typer.Option(help="In place of the device's.")] = None,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="AiM instructions in place of a product.")] = None,
    refresh: Annotated[bool | None, typer.Option("--refresh/--no-refresh", help="Whether refreshes happen.")] = None,
    accounting: Annotated[str | None, typer.Option(help="hardware, or aim_simulator.")] = None,
    commands: Annotated[Path | None, typer.Option(metavar="OUT.csv", help="For the busiest channel's.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="OUT.svg", help="For its commands over time.")] = None,
    cases: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="One case a row.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="For rows and answers.")] = None,
    json: Json = False,
) -> None:
    """Ask processing in memory alone: a matrix times a vector, or a trace of instructions.

    \b
    archsim pim --device aim -m 4096 -k 4096
    archsim pim --device hbm_pim -m 4096 -k 1024 --no-refresh
    archsim pim --device aim --trace layer.trace --commands commands.csv
    archsim pim --cases cases.csv --out answers.csv          columns device, M, K, channels, operation, trace

    A trace has lines such as 'AiM WR_GB 64 0 0xffffffff' and ends with 'AiM EOC'.
    """
    from archsim.cli import pim as one_part

    options = {
        "device": device,
        "M": m,
        "K": k,
        "operation": operation,
        "channels": channels,
        "trace": trace,
        "refresh": None if refresh is None else str(refresh).lower(),
        "accounting": accounting,
    }
    given = {key: str(value) for key, value in options.items() if value is not None}
    one_part.pim(given, commands, picture, cases, out, json)


@app.command()
def dram(
    preset: Annotated[str | None, typer.Option(help="Device: shipped name or file.")] = None,
    policy: Annotated[str | None, typer.Option(help="Controller: frfcfs, frfcfs_ramulator, closed_page, ...")] = None,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Requests, for Ramulator or DRAMsim3.")] = None,
    pattern: Annotated[str | None, typer.Option(help="Requests of a pattern instead: seq_rd, rand_rw21, ...")] = None,
    requests: Annotated[int | None, typer.Option(help="How many of the pattern.")] = None,
    stream: Annotated[
        list[str] | None, typer.Option(metavar="WORDS", help="Requests of loops: 'RD 0 rowx100 32x32 gap=4'.")
    ] = None,
    arbitration: Annotated[str, typer.Option(help="Among streams: round_robin or priority.")] = "round_robin",
    brute_force: Annotated[bool, typer.Option("--brute-force", help="Play repetitions of a stream, too.")] = False,
    commands: Annotated[
        Path | None, typer.Option(metavar="OUT", help="For the first million commands: .csv, or text to read.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="OUT.svg", help="For the banks over time.")] = None,
    window: Annotated[str, typer.Option(metavar="FIRST:TICKS", help="What the picture shows.")] = "0:1000",
    cases: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="One case a row.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="For rows and answers.")] = None,
    json: Json = False,
) -> None:
    """Ask a DRAM channel alone, command by command.

    \b
    archsim dram --preset hbm3_16gb_8hi_6400 --trace requests.txt
    archsim dram --preset ddr4_8gb_x8_3200aa --pattern rand_rw21 --requests 100000 --commands commands.csv
    archsim dram --preset hbm3_16gb_8hi_6400 --stream 'RD 0 32x33554432'          a gigabyte in order
    archsim dram --preset ddr5_16gb_x8_6400an --stream 'RD 0 64x999' --stream 'WR 0x100000 rowx9 64x9 below=8'
    archsim dram --preset gddr6_8gb_x16_14000 --pattern rand_rw21 --requests 500 --picture banks.svg
    archsim dram --cases cases.csv --out answers.csv         columns preset, policy, trace or pattern and n_req

    Lines of a trace are 'LD 0x40' and 'ST 0x80', or '0x40 READ 0' with the first cycle to offer it in. A stream is RD
    or WR, the first byte (or a place, as bank:3/row:9), loops as STRIDExCOUNT from the outside in (bytes, or a level as
    in rowx9), and gap=TICKS between arrivals, after=STREAM (a number from 0), below=REQUESTS that wait at most.
    """
    from archsim.cli import dram as one_part

    options = {"preset": preset, "policy": policy, "trace": trace, "pattern": pattern, "n_req": requests}
    given = {key: str(value) for key, value in options.items() if value is not None}
    outputs = one_part.Outputs(commands, picture, window, out, json)
    one_part.dram(given, stream or [], arbitration, brute_force, cases, outputs)


@app.command()
def kernel(
    chip: Annotated[str | None, typer.Option(help="GPU: shipped name or file.")] = None,
    op: Annotated[str, typer.Option(help="gemm, attention, moe or elementwise.")] = "gemm",
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16, int8, fp8, fp8_block, ...")] = None,
    m: Annotated[int | None, typer.Option("-m", metavar="M", help="Rows of the left-hand side.")] = None,
    n: Annotated[int | None, typer.Option("-n", metavar="N", help="Columns of the right-hand side.")] = None,
    k: Annotated[int | None, typer.Option("-k", metavar="K", help="Depth.")] = None,
    with_: Annotated[list[str] | None, typer.Option("--with", metavar="KEY=VALUE", help="Any other column.")] = None,
    cases: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="One case a row.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="For rows and answers.")] = None,
    json: Json = False,
) -> None:
    """Ask a GPU alone for a kernel: latency with its 5% to 95% band, power, energy, rate, bound and tile.

    \b
    archsim kernel --chip h100_sxm --op gemm --dtype bfloat16 -m 4096 -n 4096 -k 4096
    archsim kernel --chip a100_sxm --op attention --with phase=decode --with batch=16 --with isl=1 --with kv_len=4096 \\
        --with heads=32 --with kv_heads=8 \\
        --with head_dim=128 --with window=4096    (latent: head_dim=576 v_head_dim=512 kv_shared=1)
    archsim kernel --chip h100_sxm --op elementwise --with function=rmsnorm --with rows=4096 --with cols=8192
    archsim kernel --cases gemms.csv --out answers.csv       columns device, dtype, m, n, k
    archsim kernel --op moe --cases moe.csv --json           num_tokens, hidden, inter, topk, experts, tp, ep, ...

    An option fills its column where the file has none; other columns pass through. How a case was measured (column
    'measurement': replay, power, profiler, ...) adds the host's gaps and sets the operands' activity.
    """
    from archsim.cli import kernel as one_part

    options = {"m": m, "n": n, "k": k, "dtype": dtype}
    given = {key: value for key, value in options.items() if value is not None}
    one_part.kernel(chip, op, given, with_ or [], cases, out, json)


@app.command()
def calibrate(
    name: Annotated[str, typer.Argument(help="Calibration: shipped name or file.")] = "nvidia",
    stage: Annotated[list[str] | None, typer.Option(help="Only these stages.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Instead of the shipped kernels.")] = None,
    json: Json = False,
) -> None:
    """Fit kernel parameters to measured rows; write them with intervals, and report errors on chips left out.

    \b
    archsim calibrate nvidia                                 writes configs/kernels/nvidia.yaml
    archsim calibrate nvidia --stage 'gemm bf16' --out mine.yaml
    archsim calibrate my_calibration.yaml --json
    """
    from archsim.cli import calibrate as tool

    tool.calibrate(name, stage or [], out, json)


@app.command()
def collective(
    op: Annotated[str | None, typer.Option(help="all_reduce, all_gather, reduce_scatter, all_to_all, ...")] = None,
    bytes: Annotated[str | None, typer.Option(help="Bytes of each rank: 1GiB, 64MB, 4096.")] = None,
    ranks: Annotated[str | None, typer.Option(help="Ranks; of each dimension, innermost first: 8/4.")] = None,
    topology: Annotated[str | None, typer.Option(help="ring, switch, switch/ring, torus:4x4x4, a file, ...")] = None,
    link: Annotated[str | None, typer.Option(help="Shipped link (archsim list links); nvlink4 if absent.")] = None,
    bandwidth: Annotated[str | None, typer.Option(help="Of a link, instead: '100 GB/s'.")] = None,
    latency: Annotated[str | None, typer.Option(help="Of a link, instead: '500 ns'.")] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(help="ring, direct, halving_doubling, ..., or a file of steps or of a Chakra trace."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Prove that every rank ends with its data.")] = False,
    routing: Annotated[
        str | None, typer.Option(help="On a graph: shortest, dimension_order, ecmp or adaptive.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="On a graph: message or flow.")] = None,
    degraded: Annotated[
        str | None, typer.Option(help="Links that keep a share of their bandwidth: 0-1=0.5, 1:8-switch=0.5.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="The graph with its busy links.")] = None,
    traffic: Annotated[str | None, typer.Option(help="On routers: uniform, transpose, tornado, ...")] = None,
    load: Annotated[float | None, typer.Option(help="On routers: flits that a node makes in a cycle.")] = None,
    cases: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="One case a row.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="For rows and answers.")] = None,
    json: Json = False,
) -> None:
    """Ask a network alone: a collective, or traffic on routers.

    \b
    archsim collective --op all_reduce --bytes 1GiB --ranks 64 --topology ring --link nvlink4
    archsim collective --op all_reduce --bytes 1GiB --ranks 8/4 --topology switch/ring --link nvlink4/infiniband_ndr
    archsim collective --op all_reduce --bytes 64MB --ranks 16 --topology switch --algorithm double_binary_tree --check
    archsim collective --op all_reduce --bytes 64MB --ranks 4 --topology switch --algorithm my_steps.yaml
    archsim collective --op all_to_all --bytes 1MB --topology torus:8x8 --routing dimension_order --picture torus.svg
    archsim collective --algorithm my_trace.0.et --topology torus:8 --link nvlink4 --check --op all_reduce
    archsim collective --op all_reduce --bytes 1GiB --ranks 1024 --topology ring --degraded 0-1=0.5
    archsim collective --op all_reduce --bytes 1MB --topology my_network.yaml --routing ecmp
    archsim collective --topology mesh8x8 --traffic transpose --load 0.1
    archsim collective --cases cases.csv --out answers.csv

    The columns of a file say who is asked: op, bytes, ranks, topology the model of the hardware; backend, collective,
    comm_size_bytes, npus_per_dim, implementation, ... the model as ASTRA-sim counts; system (or device), collective,
    nranks, bytes NCCL by its protocols; op_name, node_num, hidden_size, num_token, num_topk DeepEP's exchange of
    experts; traffic and injection_rate_flits_per_node_cycle, num_vcs, ... routers, flit by flit, as BookSim's.
    """
    from archsim.cli import collective as one_part

    options = {
        "op": op,
        "bytes": bytes,
        "ranks": ranks,
        "topology": topology,
        "link": link,
        "bandwidth": bandwidth,
        "latency": latency,
        "algorithm": algorithm,
        "routing": routing,
        "level": level,
        "degraded": degraded,
        "traffic": traffic,
        "injection_rate_flits_per_node_cycle": load,
    }
    given = {key: str(value) for key, value in options.items() if value is not None}
    one_part.collective(given, check, picture, cases, out, json)
