"""Chakra execution traces as algorithms: who sends what to whom, what is computed between, and what waits for what.

A trace is a file for each rank, ``NAME.0.et``, ``NAME.1.et``, ...: Chakra's protocol buffers (mlcommons/chakra,
schema/protobuf/et_def.proto), or ``NAME.0.json``, ...: the same as its jsonizer prints them. Sends and receives of two
ranks with one tag belong together in their order. A send is over when it has arrived, a receive when its message has
come and all that it waits for is over; computing takes its duration on the rank's engine, in the order of readiness.
Collectives of one process group belong together in their order; they go as those on a graph do, by rings, or directly
where everything goes to everybody. Of an all-gather the size is what a rank brings, as ASTRA-sim counts it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from archsim.components.network.algorithm import TRACE_FILE, algorithm, orderly
from archsim.components.network.graph import Ways
from archsim.components.network.graph_simulation import Played, Step, carried, play_steps
from archsim.errors import InputError, Problem, nearest, shortened
from archsim.files import read_bytes
from archsim.timebase import Timebase

_KINDS = {4: "COMP_NODE", 5: "COMM_SEND_NODE", 6: "COMM_RECV_NODE", 7: "COMM_COLL_NODE"}
_OTHERS = {
    0: "INVALID_NODE",
    1: "METADATA_NODE",
    2: "MEM_LOAD_NODE",
    3: "MEM_STORE_NODE",
    8: "STORAGE_NODE",
    9: "BATCH_NODE",
    10: "CHECKPOINT_NODE",
}
_COLLECTIVES: dict[int, tuple[str, str]] = {
    0: ("ring", "all_reduce"),
    2: ("ring", "all_gather"),
    5: ("direct", "broadcast"),
    6: ("direct", "all_to_all"),
    7: ("ring", "reduce_scatter"),
    8: ("ring", "reduce_scatter"),
}
"""Algorithm and operation of a collective by its number in Chakra's CollectiveCommType."""
_BROADCAST = 5
"""from the first rank of its group"""
_MOST = 2**53  # bytes or microseconds of a node


class Node(NamedTuple):
    """A node of a trace.

    Attributes
    ----------
    number: within its rank. kind: COMP_NODE, COMM_SEND_NODE, COMM_RECV_NODE or COMM_COLL_NODE.
    after: numbers of the rank's nodes that must be over. duration_us: of computing.
    n_bytes, peer, tag: of a message, its other rank.
    collective, group: of a collective its number in :data:`_COLLECTIVES`, and its process group.
    """

    rank: int
    number: int
    name: str
    kind: str
    after: tuple[int, ...]
    duration_us: int
    n_bytes: int
    peer: int
    tag: int
    collective: int = -1
    group: str = ""


class Trace(NamedTuple):
    """Nodes of all ranks, rank by rank, and for each what it waits for, receives for their sends too.

    Attributes
    ----------
    together: of each collective, its nodes, a rank's each; any of them waits for what all of them wait for.
    """

    name: str
    ranks: int
    nodes: tuple[Node, ...]
    after: tuple[tuple[int, ...], ...]
    together: tuple[tuple[int, ...], ...]


def read(path: str) -> Trace:
    """The trace of which this is one rank's file.

    Raises
    ------
    InputError: a file cannot be read or a rank's is missing; a node is of another kind, waits for one that does not
        exist, or its message has no other end or one of another size; nodes wait for each other in a circle.
    """
    matched = TRACE_FILE.fullmatch(Path(path).name)
    if matched is None:
        raise InputError([Problem("a trace is named NAME.RANK.et or NAME.RANK.json", path)])
    files = {}
    for other in Path(path).parent.glob(f"{matched['stem']}.*.{matched['ending']}"):
        found = TRACE_FILE.fullmatch(other.name)
        if found and found["stem"] == matched["stem"]:
            files[int(found["rank"])] = other
    missing = sorted(set(range(max(files, default=0) + 1)) - set(files))
    if missing:
        name = f"{matched['stem']}.{missing[0]}.{matched['ending']}"
        raise InputError([Problem(f"is missing: '{path}' is one rank of a trace", str(Path(path).parent / name))])
    nodes: list[Node] = []
    for rank, file in sorted(files.items()):
        try:
            data = read_bytes(file)
            raw = list(_documents(data.decode()) if matched["ending"] == "json" else _messages(data))
            nodes += [_node(rank, fields) for fields in raw[1:]]  # the first one describes the trace
        except InputError as error:
            raise InputError([replace(problem, file=str(file)) for problem in error.problems]) from None
        except (OSError, ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            raise InputError([Problem(f"cannot be read as a trace: {shortened(error)}", str(file))]) from None
    try:
        together = _together(nodes)
        trace = Trace(matched["stem"], len(files), tuple(nodes), _waits(nodes, len(files), together), together)
        _no_circle(trace)
    except InputError as error:  # of the ranks together
        raise InputError([replace(problem, file=path) for problem in error.problems]) from None
    return trace


def simulate(ways: Ways, trace: Trace, time: Timebase) -> Played:
    """Play a trace on the first ranks of a graph.

    Raises
    ------
    InputError: the graph has fewer ranks, or a message has no way.
    """
    graph = ways.graph
    if graph.ranks != trace.ranks:
        raise InputError(f"trace '{trace.name}' of {trace.ranks} ranks is not laid over the network's {graph.ranks}")
    ways.expect(trace.ranks)
    steps: list[Step] = []
    over: dict[int, int] = {}  # the step with which a node is over
    begun: dict[int, int] = {}  # with which a rank comes to a collective
    for place, node in enumerate(trace.nodes):
        over[place] = begun[place] = len(steps)
        after = tuple(other for other in trace.after[place] if node.collective < 0 or _is_own(trace, place, other))
        if node.kind == "COMM_SEND_NODE":
            path: Sequence[int] = ways.path(node.rank, node.peer, place, node.n_bytes)
            steps.append(Step(path, node.n_bytes, node.rank, node.peer, after))
        elif node.kind == "COMP_NODE":
            ticks = int(time.ps(node.duration_us * 10**6))
            steps.append(Step((len(graph.edges) + node.rank,), ticks, node.rank, node.rank, after))
        else:
            steps.append(Step((), 0, node.rank, node.rank, after))
    for places in trace.together:
        _write_out(ways, trace, places, steps, begun, over)
    for place in range(len(trace.nodes)):
        number = begun[place]
        steps[number] = steps[number]._replace(after=tuple(over[other] for other in steps[number].after))
    ends, occupied = play_steps(ways, steps, [0] * graph.ranks, time)
    return Played((max(ends, default=0),), tuple(occupied[: len(graph.edges)]), carried(ways, steps))


def _is_own(trace: Trace, place: int, other: int) -> bool:
    """Whether a node waits for another itself, and not for the sake of the others of its collective."""
    return trace.nodes[other].rank == trace.nodes[place].rank and trace.nodes[other].number in trace.nodes[place].after


def _write_out(
    ways: Ways, trace: Trace, places: Sequence[int], steps: list[Step], begun: dict[int, int], over: dict[int, int]
) -> None:
    """Add the sends of a collective, and for each of its nodes a step with which it is over."""
    name, op = _COLLECTIVES[trace.nodes[places[0]].collective]
    count, n_bytes = len(places), trace.nodes[places[0]].n_bytes
    if count > 1:
        whole = algorithm(name, op, count)
        size = whole.chunk_bytes(n_bytes * count if op == "all_gather" else n_bytes)
    sends = whole.sends if count > 1 else ()
    first = len(steps)
    of_rank: list[list[int]] = [[begun[place]] for place in places]
    for send in sends:
        number = len(steps)
        source, target = (trace.nodes[places[member]].rank for member in (send.source, send.target))
        path = ways.path(source, target, number, size * len(send.chunks))
        after = [begun[places[send.source]], *(first + other for other in send.after)]
        steps.append(Step(path, size * len(send.chunks), source, target, after))
        of_rank[send.source].append(number)
        of_rank[send.target].append(number)
    for place, mine in zip(places, of_rank, strict=True):
        over[place] = len(steps)
        steps.append(Step((), 0, trace.nodes[place].rank, trace.nodes[place].rank, mine))


def check(trace: Trace, op: str) -> None:
    """Prove that every rank has heard, at first or second hand, from all whose data it needs in the end.

    A trace does not say which data a message carries, so this is what can be proved: no all-reduce, all-gather,
    reduce-scatter or all-to-all is done without it.

    Raises
    ------
    InputError: a rank has not; or a broadcast does not come from rank 0.
    """
    heard = [0] * len(trace.nodes)  # of each node, ranks as bits
    told = {}  # of each node of a collective, those whose data it brings
    for places in trace.together:
        whose = places[:1] if trace.nodes[places[0]].collective == _BROADCAST else places
        told.update(dict.fromkeys(places, sum(1 << trace.nodes[place].rank for place in whose)))
    known = [1 << rank for rank in range(trace.ranks)]
    for number in orderly(trace.after):
        node = trace.nodes[number]
        heard[number] = 1 << node.rank | told.get(number, 0)
        for other in trace.after[number]:
            heard[number] |= heard[other]
        known[node.rank] |= heard[number]
    for rank in range(trace.ranks):
        wanted = {"broadcast": [0], "send_recv": [0] if rank == 1 else []}.get(op, range(trace.ranks))
        for other in wanted:
            if not known[rank] >> other & 1:
                raise InputError(f"trace '{trace.name}': nothing of rank {other} comes to rank {rank} in its {op}")


# --- nodes ---------------------------------------------------------------------------------------------


def _node(rank: int, fields: Mapping[str, Any]) -> Node:
    number, name = int(fields.get("id", 0)), str(fields.get("name", ""))
    if not 0 <= number < 2**64:
        raise InputError(f"the id of node '{shortened(name)}' is no number of 64 bits")
    kind = fields.get("type", "INVALID_NODE")
    kind = (_KINDS | _OTHERS).get(kind, str(kind))
    where = f"node {number} '{shortened(name)}'"
    if kind in _OTHERS.values():
        raise InputError(f"{where}: a {kind} is not played; steps are {', '.join(_KINDS.values())}")
    if kind not in _KINDS.values():
        raise InputError(f"{where}: a {shortened(kind)} is no step of an algorithm: {nearest(kind, _KINDS.values())}")
    attributes = {str(one.get("name")): one for one in fields.get("attr", ())}

    def whole(attribute: str, given: Any, most: int = _MOST) -> int:
        try:
            value = int(given)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{where}: expected a whole number for {attribute}, not '{shortened(given)}'") from None
        if not 0 <= value <= most:
            raise InputError(f"{where}: {attribute} is from 0 to {most}, not {shortened(given)}")
        return value

    def of(attribute: str) -> int:
        if attribute not in attributes:
            raise InputError(f"{where}: has no attribute {attribute}")
        values = [value for key, value in attributes[attribute].items() if key.endswith(("Val", "value"))]
        return whole(attribute, values[0] if values else 0)  # a zero is not written

    after = tuple(int(other) for key in ("ctrlDeps", "dataDeps") for other in fields.get(key, ()))
    if kind == "COMP_NODE":
        return Node(rank, number, name, kind, after, whole("duration", fields.get("durationMicros", 0)), 0, rank, 0)
    if kind == "COMM_COLL_NODE":
        which = of("comm_type")
        if which not in _COLLECTIVES:
            known = sorted({op for _, op in _COLLECTIVES.values()})
            raise InputError(f"{where}: collectives of comm_type {which} are not played: {', '.join(known)} are")
        values = [str(value) for key, value in attributes.get("pg_name", {}).items() if key != "name"]
        group = values[0] if values else ""
        return Node(rank, number, name, kind, after, 0, of("comm_size"), rank, 0, which, group)
    peer = of("comm_dst" if kind == "COMM_SEND_NODE" else "comm_src")
    tag = of("comm_tag") if "comm_tag" in attributes else 0
    return Node(rank, number, name, kind, after, 0, of("comm_size"), peer, tag)


def _together(nodes: Sequence[Node]) -> tuple[tuple[int, ...], ...]:
    """The nodes of each collective: of a process group, the first of each rank, the second, and so on."""
    lines: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, node in enumerate(nodes):
        if node.kind == "COMM_COLL_NODE":
            lines[node.group][node.rank].append(place)
    found = []
    for group, of_rank in sorted(lines.items()):
        where = f"process group '{group}'" if group else "a trace without process groups"
        counts = {rank: len(places) for rank, places in of_rank.items()}
        few = min(counts, key=lambda rank: counts[rank])
        many = max(counts, key=lambda rank: counts[rank])
        if counts[few] != counts[many]:
            raise InputError(f"{where}: rank {few} has {counts[few]} collectives, rank {many} has {counts[many]}")
        for places in zip(*(of_rank[rank] for rank in sorted(of_rank)), strict=True):
            one = nodes[places[0]]
            for other in (nodes[place] for place in places):
                if (other.collective, other.n_bytes) != (one.collective, one.n_bytes):
                    raise InputError(
                        f"{where}: rank {one.rank}, node {one.number} and rank {other.rank}, node {other.number} meet "
                        f"in one collective, but their comm_type or comm_size differ"
                    )
            found.append(places)
    return tuple(found)


def _waits(nodes: Sequence[Node], ranks: int, together: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Of each node, the nodes that it waits for, by their place among all."""
    places: dict[tuple[int, int], int] = {}
    sends: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    receives: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        if (node.rank, node.number) in places:
            raise InputError(f"rank {node.rank}: two nodes have the id {node.number}")
        places[node.rank, node.number] = place
        if node.kind in ("COMM_SEND_NODE", "COMM_RECV_NODE") and (node.peer >= ranks or node.peer == node.rank):
            raise InputError(f"rank {node.rank}, node {node.number}: there is no other rank {node.peer} among {ranks}")
        if node.kind == "COMM_SEND_NODE":
            sends[node.rank, node.peer, node.tag].append(place)
        elif node.kind == "COMM_RECV_NODE":
            receives[node.peer, node.rank, node.tag].append(place)
    sent: dict[int, int] = {}
    for source, target, tag in sorted({**receives, **sends}):
        out, back = sends[source, target, tag], receives[source, target, tag]
        if len(out) != len(back):
            raise InputError(
                f"rank {source} sends {len(out)} messages of tag {tag} to rank {target}, which receives {len(back)}"
            )
        for one, other in zip(out, back, strict=True):
            if nodes[one].n_bytes != nodes[other].n_bytes:
                raise InputError(
                    f"rank {source}, node {nodes[one].number} sends {nodes[one].n_bytes} bytes to rank {target}, whose "
                    f"node {nodes[other].number} receives {nodes[other].n_bytes}"
                )
            sent[other] = one
    found = []
    for place, node in enumerate(nodes):
        unknown = [number for number in node.after if (node.rank, number) not in places]
        if unknown:
            raise InputError(f"rank {node.rank}, node {node.number}: waits for node {unknown[0]}, which does not exist")
        mine = [places[node.rank, number] for number in node.after] + ([sent[place]] if place in sent else [])
        found.append(tuple(dict.fromkeys(mine)))
    for members in together:
        everybodys = tuple(dict.fromkeys(other for place in members for other in found[place]))
        for place in members:
            found[place] = everybodys
    return tuple(found)


def _no_circle(trace: Trace) -> None:
    stuck = set(range(len(trace.nodes))) - set(orderly(trace.after))
    if not stuck:
        return
    here, seen = min(stuck), []
    while here not in seen:
        seen.append(here)
        here = next(other for other in trace.after[here] if other in stuck)
    circle = [trace.nodes[number] for number in (*seen[seen.index(here) :], here)]
    named = " waits for ".join(f"node {node.number} ({node.kind}) of rank {node.rank}" for node in circle)
    raise InputError(f"trace '{trace.name}' deadlocks: {named}")


# --- files ---------------------------------------------------------------------------------------------


def _documents(text: str) -> Iterator[Mapping[str, Any]]:
    """JSON documents one after the other, as Chakra's jsonizer prints them."""
    decoder, place = json.JSONDecoder(), 0
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        document, place = decoder.raw_decode(text, place)
        if not isinstance(document, dict):
            raise ValueError("expected one JSON object after the other")
        yield document


_NODE = {1: "id", 2: "name", 3: "type", 4: "ctrlDeps", 5: "dataDeps", 7: "durationMicros", 10: "attr"}
_INTEGERS = (7, 9, 11, 13, 27)  # of an attribute: int32, int64, uint32, uint64, bool


def _messages(data: bytes) -> Iterator[Mapping[str, Any]]:
    """Messages, each after its length, with the names that JSON gives to their fields."""
    place = 0
    while place < len(data):
        length, place = _varint(data, place)
        if place + length > len(data):
            raise ValueError("it ends within a message")
        fields: dict[str, Any] = {}
        for number, value in _fields(data[place : place + length]):
            name = _NODE.get(number)
            if name == "attr":
                fields.setdefault(name, []).append(_attribute(value))
            elif name in ("ctrlDeps", "dataDeps"):
                fields.setdefault(name, []).extend([value] if isinstance(value, int) else _packed(value))
            elif name:
                fields[name] = value.decode(errors="replace") if isinstance(value, bytes) else value
        place += length
        yield fields


def _attribute(data: int | bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(data if isinstance(data, bytes) else b""):
        if number == 1 and isinstance(value, bytes):
            found["name"] = value.decode(errors="replace")
        elif number in _INTEGERS:
            found["value"] = value
    return found


def _packed(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message's fields; what is neither a number nor bytes is passed over."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
        elif wire == 2:
            length, place = _varint(data, place)
            yield number, data[place : place + length]
            place += length
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        else:
            raise ValueError(f"it is no trace of Chakra (wire type {wire})")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("it is no trace of Chakra (a number of more than 64 bits)")
