"""Files of peers: run as they are, or written as ours."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from archsim import formats
from archsim.errors import InputError, Problem, printable
from archsim.files import at_home, is_file
from archsim.formats import Converted, format_of, read, understood

_HOW = {
    "network": "archsim collective --op all_reduce --bytes 1GiB --topology FILE",
    "algorithm": "archsim collective --op OP --bytes 64MB --ranks N --topology switch --algorithm FILE",
}
"""What is no run, and how it is asked."""


def of_a_peer(text: str) -> Converted | None:
    """What a file of a peer says; None where it is one of ours, or no file."""
    path = at_home(text)
    return understood(path) if is_file(path) else None


def is_workload(text: str) -> bool:
    """Whether a file is by itself what a machine is asked to run: a graph of operators, or a trace."""
    path = at_home(text)
    found = formats.of_a_peer(path, formats.head_of(path)) if is_file(path) else None
    return found is not None and found.what == "workload"


def notes_of(text: str) -> tuple[str, ...]:
    """Notes of a file that stands where one of ours is expected."""
    path = at_home(text)
    found = formats.of_a_peer(path, formats.head_of(path)) if is_file(path) else None
    return () if found is None else found.notes


def tell(notes: Iterable[str]) -> None:
    """Notes on stderr."""
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def run_of(text: str, converted: Converted, options: Mapping[str, Any]) -> dict[str, Any]:
    """The run of a workload, with the machine that options name, or the one that the file does.

    Raises
    ------
    InputError: no machine is named, or an option says nothing of it.
    """
    workload = dict(converted.document)
    machine: dict[str, Any] = dict(converted.machine)
    further = {name: value for name, value in options.items() if name not in ("chip", "system", "model")}
    if further:
        raise InputError([Problem(f"says nothing of {text}: use --set", f"--{next(iter(further))}")])
    if "model" in options:
        workload["model"] = options["model"]
    if "chip" in options and "system" in options:
        raise InputError("give either --chip or --system: the machine to run it on")
    for kind in ("chip", "system"):
        if kind in options:
            machine = {kind: _launched(kind, options[kind]) if workload["kind"] == "kernels" else options[kind]}
    if not machine:
        raise InputError([Problem(f"name the machine to run it on: --chip or --system, beside {text}", "--chip")])
    return {"name": stem(text), **machine, "workload": workload}


def _launched(kind: str, name: str) -> dict[str, Any]:
    """A machine whose host's launches are those of the trace."""
    from archsim.config import Origin, load_tree, resolve_named

    path = resolve_named(f"{kind}s", name, Origin(f"--{kind}"))
    if kind == "chip":
        return {"extends": str(path), "launch": "0 s"}
    chip = load_tree(str(path)).child("chip")
    named = chip.value if chip is not None else None
    below = {"extends": str(resolve_named("chips", named, chip.place))} if chip and isinstance(named, str) else {}
    return {"extends": str(path), "chip": {**below, "launch": "0 s"}}


def stem(text: str) -> str:
    """The name of a file without its endings."""
    return Path(text).name.removesuffix(".gz").rpartition(".")[0] or Path(text).name


def answered(converted: Converted, overrides: Mapping[str, str], json: bool) -> None:
    """Answer a case and print it.

    Raises
    ------
    InputError: the case lacks something, which ``--set`` gives, or cannot be answered.
    """
    from archsim.alone.sheet import ask
    from archsim.cli.alone import QUESTIONS
    from archsim.cli.output import console, print_json
    from archsim.cli.tables import table

    question = next(one for one in QUESTIONS if one.name == converted.question)
    texts = {name: str(value) for name, value in converted.document.items()}
    figures = ask(question, {**texts, **overrides})
    if json:
        print_json(figures)
    else:
        console().print(table(("", "value"), list(figures.items()), ("value",)))


def not_a_run(text: str, converted: Converted) -> InputError:
    """The error of a file that is no run by itself."""
    how = _HOW[converted.what].replace("FILE", text)
    return InputError([Problem(f"is of a network, no run: ask {how}", text)])


def convert(text: str, options: Mapping[str, Any], out: Path | None) -> None:
    """Write a file of a peer as ours, its notes in front; to stdout without ``out``.

    Raises
    ------
    InputError: no format fits; or the file cannot be written as the ending of ``out`` says.
    """
    from archsim.cli.output import output_file
    from archsim.files import write_text

    path = at_home(text)
    if not is_file(path):
        raise InputError([Problem("there is no such file", text)])
    output_file(out)
    converted = read(path)
    kind = converted.document.get("kind")
    if out is not None and out.suffix == ".csv" and kind == "kernels":
        from archsim.workloads import recording
        from archsim.workloads.kernels import read as read_recording

        recorded = read_recording(path)
        recording.write(recorded, out)
        tell(recorded.notes)
        return
    made = _text(text, format_of(path).NAME, converted, options)  # type: ignore[union-attr]
    if out is None:
        print(made, end="")
    else:
        write_text(out, made)
    tell(converted.notes)


def _text(text: str, name: str, converted: Converted, options: Mapping[str, Any]) -> str:
    import yaml

    from archsim.files import csv_text

    if converted.what == "case":
        return csv_text([{key: str(value) for key, value in converted.document.items()}])
    document: Mapping[str, Any] = converted.document
    notes = list(converted.notes)
    if converted.what == "workload":
        if options or converted.machine:
            document = run_of(text, converted, options)
        else:
            document = {"name": stem(text), "workload": dict(document)}
            notes.append("name the chip or the system that it runs on")
    head = [f"# {Path(text).name} ({name}), as archsim convert says it", *(f"# note: {note}" for note in notes)]
    body = yaml.safe_dump(_plain(document), sort_keys=False, width=110, allow_unicode=True)
    return "\n".join([*map(printable, head), body])


def _plain(value: Any) -> Any:
    """Data that YAML writes without tags."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
