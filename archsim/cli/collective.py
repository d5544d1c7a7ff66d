"""``archsim collective``: a network asked alone, from options and from CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.cli.cases import give, read_rows
from archsim.cli.output import output_file
from archsim.errors import InputError, Problem

_LINK = "nvlink4"


def collective(
    options: Mapping[str, str], check: bool, picture: Path | None, file: Path | None, out: Path | None, as_json: bool
) -> None:
    """Answer the case of the options, or each row of the file; a row's cells go before the options."""
    output_file(out)
    output_file(picture)
    rows = [(0, dict(options))] if file is None else read_rows(file)

    from archsim.components.network.cases import answer, is_graph

    if picture is not None and (file is not None or not is_graph(options)):
        raise InputError([Problem("draws one collective on a graph, such as --topology torus:4x4", "--picture")])
    answers: list[dict[str, Any]] = []
    for line, row in rows:
        case = {**options, **{name: cell for name, cell in row.items() if cell}} | ({"check": "yes"} if check else {})
        if "topology" in case and not {"link", "bandwidth"} & set(case):
            case["link"] = _LINK
        try:
            found = answer(case) if picture is None else _draw(case, picture)
        except InputError as error:
            raise InputError([_placed(problem, file, line) for problem in error.problems]) from None
        # What was measured stays, under another name than the answer's.
        given = {f"given_{name}" if name in found else name: cell for name, cell in {**options, **row}.items()}
        answers.append({**given, **found})
    give(answers, file is not None, out, as_json)


def _draw(case: Mapping[str, str], picture: Path) -> dict[str, Any]:
    """The answer of a collective on a graph, whose links are drawn as busy as they were."""
    from archsim.components.network.cases import on_graph
    from archsim.report import network

    found, graph, busy = on_graph(case)
    edges = [(edge.source, edge.target) for edge in graph.edges]
    what = f"{case['op']} of {case['bytes']}" if "bytes" in case else Path(case["algorithm"]).name
    title = f"{what} on {graph.name}"
    picture.write_text(network.picture(title, graph.ranks, graph.vertices, edges, busy, graph.shape), encoding="utf-8")
    return found


def _placed(problem: Problem, file: Path | None, line: int) -> Problem:
    """A problem at the row it came from, or at the option; what stands in another file keeps its place."""
    if problem.file:
        return problem if file is None else Problem(str(problem), str(file), line, 1)
    message = f"{problem.path}: {problem.message}" if problem.path else problem.message
    if file is not None:
        return Problem(message, str(file), line, 1)
    name, colon, rest = message.partition(": ")
    if colon and name.replace("_", "").isalpha():
        return Problem(rest, f"--{name.replace('_', '-')}")
    return Problem(message)
