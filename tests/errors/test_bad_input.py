"""What a user can get wrong: exit code 2, a message that names the place and the cure, and no traceback."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from archsim.cli import main

TOY = Path(__file__).parent / "toy"

FILES = {path.name: path.read_text() for path in TOY.iterdir()}
LLAMA = """{"model_type": "llama", "hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2,
"vocab_size": 1000, "max_position_embeddings": 512, "intermediate_size": 512}"""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@dataclass(frozen=True)
class Case:
    """A command in a folder that holds the toy machine and some files more, and what it must say."""

    name: str
    command: str
    says: tuple[str, ...]
    files: dict[str, str | bytes] = field(default_factory=dict)


def run(name: str, text: str | bytes, *says: str) -> Case:
    """``archsim run`` of a file of this text."""
    return Case(name, "run bad.yaml", says, {"bad.yaml": text})


def edited(name: str, old: str, new: str, *says: str) -> Case:
    """``archsim run`` of the toy with one place of its files changed."""
    changed = {file: text.replace(old, new, 1) for file, text in FILES.items()}
    return Case(name, "run run.yaml", says, dict(changed))


def override(name: str, pair: str, *says: str) -> Case:
    """``archsim run`` of the toy with one override."""
    return Case(name, f"run run.yaml --set '{pair}'", says)


def model(name: str, text: str, *says: str) -> Case:
    """``archsim run`` of a model from a config.json of this text."""
    return Case(name, "run --model ./config.json --chip chip.yaml --input 8 --output 2", says, {"config.json": text})


def sweep(name: str, text: str, *says: str, options: str = "") -> Case:
    """``archsim sweep`` of a file of this text."""
    return Case(name, f"sweep bad.yaml {options}", says, {"bad.yaml": text})


def gemm(name: str, options: str, *says: str, rows: str = "") -> Case:
    """``archsim gemm`` with these options, and cases.csv beside it."""
    return Case(name, f"gemm {options}", says, {"cases.csv": rows})


CASES = [
    # --- files that cannot be read
    Case("no such run", "run rum.yaml", ("cannot read 'rum.yaml'", "did you mean 'run.yaml'")),
    Case("a folder for a run", "run ./folder", ("Is a directory",), {"folder/x": ""}),
    Case("no such shipped run", "run lama_on_nothing", ("no run is called 'lama_on_nothing'",)),
    run("empty", "", "bad.yaml: this is empty"),
    run("only a list", "- a\n", "bad.yaml:1:1", "a config is a mapping"),
    run("truncated", "name: a\nchip: {name: b", "bad.yaml:", "no valid YAML"),
    run("tabs", "name: a\nchip:\n\tname: b\n", "bad.yaml:3:1", "no valid YAML"),
    run("no UTF-8", b"name: a\nnotes: \xff\n", "bad.yaml:2:8", "0xff"),
    run("billion laughs", LAUGHS, "bad.yaml", "more than 100000 values"),
    run("too deep", "a: " + "[" * 200 + "]" * 200, "nested more than 64 levels deep"),
    run("too large", "#" * 9_000_000, "too large"),
    run(
        "written twice",
        f"{FILES['run.yaml']}name: again\n",
        "bad.yaml:8:1",
        "'name' is written twice, first at line 2",
    ),
    run("extends itself", "extends: bad.yaml\n", "bad.yaml:1:1", "circle: bad.yaml -> bad.yaml"),
    run("extends nothing", "extends: none.yaml\n", "bad.yaml:1:1", "cannot read 'none.yaml'"),
    run("extends no config", "extends: tpu_v9\n", "bad.yaml:1:1", "no config is called 'tpu_v9'"),
    run("an unknown tag", "name: !secret a\n", "bad.yaml:1:7", "the tag '!secret' is not known"),
    # --- values
    edited(
        "unknown key",
        "name: toy\nchip",
        "nmae: toy\nchip",
        "run.yaml:2:1: nmae: unknown key: did you mean 'name'?",
        "run.yaml:2:1: name: 'name' is missing: what the run is called",
    ),
    edited(
        "unknown key deep down",
        "rows: 16",
        "rowz: 16",
        "chip.yaml:6:31: chip.engines.mxu.rowz: unknown key",
        "did you mean 'rows'?",
        "'rows' is missing",
    ),
    edited("no unit", "1 GHz", "1", "chip.yaml:4:1: chip.clock: 1 has no unit", "like '1.4 GHz'"),
    edited("unit of another quantity", "1 GHz", "1 GB", "chip.clock: 'GB' is no unit of frequency", "1.4 GHz"),
    edited(
        "misspelt unit",
        "1 MiB",
        "1 mib",
        "chip.yaml:9:24: chip.memories.buffer.capacity",
        "did you mean 'MiB'?",
    ),
    edited("negative size", "1 MiB", "-1 MiB", "chip.memories.buffer.capacity: '-1 MiB' is negative"),
    edited("zero bandwidth", "256 GB/s", "0 GB/s", "'0 GB/s' is zero"),
    edited("zero rows", "rows: 16", "rows: 0", "chip.engines.mxu.rows: expected at least 1, not 0"),
    edited("half a row", "rows: 16", "rows: 16.5", "expected a whole number, not 16.5"),
    edited("text for a number", "m: 64", "m: many", "run.yaml:7:17: workload.gemms.0.m: expected a whole number"),
    edited(
        "a list for a name",
        "name: toy\nchip",
        "name: [toy]\nchip",
        "run.yaml:2:1: name: expected text, not a list",
    ),
    edited("NaN", "1 W", ".nan", "chip.yaml:12:15", "'.nan' is no finite number"),
    edited("NaN with a unit", "1 W", "nan W", "chip.static_power: 'nan W' is no power"),
    edited("unknown choice", "columns: 16", "columns: 16, dataflow: sw", "chip.engines.mxu.dataflow", "'ws'"),
    edited(
        "unknown format",
        "kind: gemm",
        "kind: gemm\n  dtype: bf61",
        "run.yaml:6:3: workload.dtype: expected",
        "did you mean 'bf16'?",
    ),
    edited(
        "unknown part",
        "kind: vector_unit",
        "kind: vector_unti",
        "chip.yaml:7:9: chip.engines.vpu.kind",
        "did you mean 'vector_unit'?",
    ),
    edited("part without a kind", "kind: vector_unit, ", "", "chip.yaml:7:3: chip.engines.vpu: 'kind' is missing"),
    edited(
        "unknown workload",
        "kind: gemm",
        "kind: gem",
        "workload.kind: no workload is called 'gem'",
        "did you mean 'gemm'?",
    ),
    edited("no workload", "workload:", "notes:", "run.yaml", "workload: 'workload' is missing: what runs on it"),
    edited(
        "unknown technology",
        "technology.yaml",
        "n8",
        "chip.yaml:3:1: chip.technology",
        "no technology is called 'n8': did you mean",
    ),
    edited(
        "unknown chip",
        "chip: chip.yaml",
        "chip: tpu_v4ii",
        "run.yaml:3:1: chip: no chip is called 'tpu_v4ii'",
        "did you mean 'tpu_v4i'?",
    ),
    edited(
        "missing chip file",
        "chip: chip.yaml",
        "chip: chop.yaml",
        "run.yaml:3:1: chip: cannot read 'chop.yaml'",
        "did you mean 'chip.yaml'?",
    ),
    edited(
        "two machines",
        "chip: chip.yaml",
        "chip: chip.yaml\nsystem: {name: s, chip: chip.yaml}",
        "name either a 'chip' or a 'system'",
    ),
    # --- machines that cannot be, and work that no machine can do
    edited(
        "a memory for an engine",
        "vpu: {kind: vector_unit, lanes: 64}",
        "vpu: {kind: sram, capacity: 1 KiB, width_bits: 8}",
        "chip.vpu",
        "is not an engine",
    ),
    edited(
        "placement in no memory",
        "static_power",
        "placement: {weight: stoer}\nstatic_power",
        "placement",
        "did you mean 'store'?",
    ),
    edited(
        "shares of no memory",
        "static_power",
        "placement: {weight: {store: 0.5, stoer: 0.5}}\nstatic_power",
        "placement.weight names the memory 'stoer'",
        "did you mean 'store'?",
    ),
    edited(
        "shares that are not all",
        "static_power",
        "placement: {weight: {store: 0.5, buffer: 0.4}}\nstatic_power",
        "placement.weight: shares add up to 0.9, not to 1",
    ),
    edited(
        "a cache in two memories",
        "static_power",
        "placement: {kv: {store: 0.5, buffer: 0.5}}\nstatic_power",
        "placement.kv: only weights live in several memories",
    ),
    edited(
        "weights in two memories without layers",
        "static_power",
        "placement: {weight: {store: 0.5, buffer: 0.5}}\nstatic_power",
        "runs no layers whose weights could live in buffer",
    ),
    edited(
        "copies that cross nothing",
        "static_power",
        "dma: {kind: dma}\nstatic_power",
        "a DMA engine has a 'bandwidth' or a 'link'",
    ),
    edited(
        "missing price",
        "  mac_bf16: {energy",
        "  mac_bf61: {energy",
        "technology 'toy' has no entry 'mac_bf16'",
        "did you mean 'mac_bf61'?",
    ),
    edited(
        "a format that no engine has",
        "kind: gemm",
        "kind: gemm\n  dtype: fp32",
        "cannot multiply fp32 by fp32",
    ),
    edited("too large for the memory", "n: 256}", "n: 1000000}", "does not fit", "chip.store would hold"),
    Case(
        "more ranks than chips",
        "run --model ./config.json --chip chip.yaml --input 8 --output 2 --tp 4",
        ("4 ranks", "1 chip"),
        {"config.json": LLAMA},
    ),
    Case(
        "heads that do not divide",
        "run --model ./config.json --chip chip.yaml --input 8 --output 2 --tp 3",
        ("3",),
        {"config.json": LLAMA},
    ),
    # --- models
    model(
        "model without its fields",
        '{"model_type": "llama", "hidden_size": 256}',
        "config.json:1:1: workload.model",
        "num_hidden_layers",
        "is missing",
    ),
    model(
        "unsupported architecture",
        '{"model_type": "lama"}',
        "models of type 'lama' are not supported",
        "did you mean 'llama'?",
    ),
    model("unsupported class", '{"architectures": ["LamaForCausalLM"]}', "'LamaForCausalLM' is not supported"),
    model("truncated JSON", '{"model_type": "llama", "hidden_size":', "config.json:", "no valid YAML"),
    model("negative width", LLAMA.replace("256", "-256"), "hidden_size", "-256"),
    model("a list for a model", "[1, 2]", "workload.model", "config.json:1:1"),
    Case(
        "unknown model",
        "run --model lama-3-8b --chip chip.yaml --input 8 --output 2",
        ("workload.model: no model is called 'lama-3-8b'", "did you mean 'llama-3-8b'?"),
    ),
    # --- overrides
    override("no equals sign", "chip.clock", "--set", "'chip.clock' is not written like"),
    override("unknown path", "chip.clok=1 GHz", "chip has no 'clok': did you mean 'clock'?"),
    override(
        "unknown part in a path",
        "chip.memories.bufer.capacity=1 MiB",
        "chip.memories has no 'bufer'",
        "did you mean 'buffer'?",
    ),
    override("past the end of a list", "workload.gemms.1.m=5", "workload.gemms is a list of 1"),
    override("into a value", "chip.clock.speed=5", "chip.clock is '1 GHz', which has no 'speed' in it"),
    override("wrong value", "chip.clock=fast", "override: chip.clock: 'fast' is no frequency"),
    override("no YAML", "chip.clock=[1", "override: chip.clock: no valid YAML"),
    override("wrong name", "chip=tpu_v44", "override: chip: no chip is called 'tpu_v44'"),
    Case("set twice", "run run.yaml --set name=a --set name=b", ("--set: name: is set twice",)),
    # --- the command line
    Case("no such command", "rum run.yaml", ("No such command 'rum'",)),
    Case("no such option", "run run.yaml --sett a=b", ("No such option: --sett",)),
    Case("nothing to run", "run", ("name a run file",)),
    Case("a file and a model", "run run.yaml --model llama-3-8b", ("--model describes a run without a file",)),
    Case("no machine", "run --model llama-3-8b --input 8", ("give either --chip or --system",)),
    Case("no model", "run --chip tpu_v4i", ("--model: is missing",)),
    Case("no prompt", "run --model llama-3-8b --chip tpu_v4i", ("workload: 'input' is missing",)),
    Case(
        "unknown phase",
        "run --model llama-3-8b --chip tpu_v4i --phase prefil",
        ("--phase: expected prefill",),
    ),
    Case(
        "batch of none",
        "run --model llama-3-8b --chip tpu_v4i --input 8 --output 2 --batch 0",
        ("workload.batch: expected at least 1, not 0",),
    ),
    Case(
        "batch of words",
        "run --model llama-3-8b --chip tpu_v4i --batch many",
        ("Invalid value for '--batch'",),
    ),
    Case("two runs of one name", "run run.yaml run.yaml --out out", ("two runs are called 'toy'",)),
    # --- where results go
    Case(
        "results there already",
        "run run.yaml --out taken",
        ("--out: 'taken' holds files already", "--overwrite"),
        {"taken/result.json": "{}"},
    ),
    Case("results to a file", "run run.yaml --out chip.yaml", ("--out: cannot write to 'chip.yaml'",)),
    Case("results nowhere", "run run.yaml --out /proc/results", ("--out: cannot write to '/proc/results'",)),
    # --- sweeps
    sweep("sweep without a base", "grid: {chip.clock: [1 GHz]}", "bad.yaml:1:1: base: 'base' is missing"),
    sweep("sweep of nothing known", "base: run.yaml\ngrid: {chip.clok: [1 GHz]}", "chip has no 'clok'"),
    sweep("grid without values", "base: run.yaml\ngrid: {chip.clock: []}", "grid: 'chip.clock' has no values"),
    sweep(
        "grid of one value",
        "base: run.yaml\ngrid: {chip.clock: 1 GHz}",
        "bad.yaml:2:8",
        "expected a list, not '1 GHz'",
    ),
    sweep(
        "unknown objective",
        "base: run.yaml\nobjectives: [time]",
        "no figure 'time'",
        "did you mean 'time_s'?",
    ),
    Case(
        "sweep to a folder of letters",
        "sweep bad.yaml --out letters",
        ("--out: 'letters' holds files",),
        {"bad.yaml": "base: run.yaml", "letters/x": ""},
    ),
    sweep("no workers", "base: run.yaml", "Invalid value for '--workers'", options="--workers 0"),
    # --- one part alone
    gemm(
        "gemm without sizes",
        "--array 8x8 --dataflow ws",
        "-M: is missing",
        "-K: is missing",
        "-N: is missing",
    ),
    gemm("gemm of none", "--array 8x8 --dataflow ws -M 0 -K 1 -N 1", "-M: expected a whole number from 1"),
    gemm("no array", "-M 1 -K 1 -N 1 --dataflow ws", "--array: is missing"),
    gemm("a line for an array", "--array 8 -M 1 -K 1 -N 1", "--array: '8' is not written like 128x128"),
    gemm(
        "unknown dataflow",
        "--array 8x8 -M 1 -K 1 -N 1 --dataflow sw",
        "--dataflow: expected ws, os or is, not 'sw'",
    ),
    gemm(
        "unknown accounting",
        "--accounting scalsim",
        "--accounting: expected hardware, scalesim or onnxim, not 'scalsim'",
        "did you mean 'scalesim'?",
    ),
    gemm("no cases", "--cases none.csv", "none.csv: cannot read it"),
    gemm(
        "cases without a column",
        "--cases cases.csv --dataflow ws",
        "cases.csv:1:1: column 'cols' is missing",
        rows="M,K,N,rows\n1,1,1,8\n",
    ),
    gemm(
        "cases with a short row",
        "--cases cases.csv --array 8x8 --dataflow ws",
        "cases.csv:2:1: the row has 2 cells where the header has 3",
        rows="M,K,N\n1,1\n",
    ),
    gemm(
        "cases without rows",
        "--cases cases.csv --array 8x8 --dataflow ws",
        "it holds no rows",
        rows="M,K,N\n",
    ),
    gemm("answers nowhere", "--array 8x8 --dataflow ws -M 1 -K 1 -N 1 --out none/x.csv", "--out: cannot write to"),
    # --- looking around
    Case("show nothing", "show tpu_v4ii", ("no config is called 'tpu_v4ii': did you mean 'tpu_v4i'?",)),
    Case("show no file", "show none.yaml", ("cannot read 'none.yaml'",)),
    Case("area of a model", "show llama-3-8b --area", ("--area is of a chip, a system or a run",)),
    Case("list of nothing", "list chip", ("no category is called 'chip': did you mean 'chips'?",)),
    Case("schema of nothing", "schema systolic", ("did you mean 'systolic_array'?",)),
    Case("report of no result", "report .", ("is no result folder",)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_told_and_not_traced(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (FILES | case.files).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code = main(shlex.split(case.command))
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    missing = [fragment for fragment in case.says if fragment not in printed.err]
    assert not missing, f"{missing} not in:\n{printed.err}"
    assert code == 2
    assert printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before, "bad input leaves nothing behind"
