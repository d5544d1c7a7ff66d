"""Chakra execution traces: what ranks compute and send, and what waits for what, as it was recorded or made.

A trace is a file for each rank, ``NAME.0.et``, ``NAME.1.et``, ...: Chakra's protocol buffers (mlcommons/chakra,
schema/protobuf/et_def.proto), or ``NAME.0.json``, ...: the same as its jsonizer prints them. Sends and receives of two
ranks with one tag belong together in their order; collectives of one process group too. Of an all-gather the size is
what a rank brings, as ASTRA-sim counts it.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from archsim.errors import InputError, Problem, nearest, shortened, wrong
from archsim.files import parse_json, read_bytes, read_text
from archsim.workloads.chakra_schema import decoder, messages
from archsim.workloads.order import circle, orderly

TRACE_FILE = re.compile(r"(?P<stem>.*)\.(?P<rank>\d+)\.(?P<ending>et|json)")
"""Names of one rank's file."""

COMPUTE, SEND, RECEIVE, COLLECTIVE = "COMP_NODE", "COMM_SEND_NODE", "COMM_RECV_NODE", "COMM_COLL_NODE"
LOAD, STORE, METADATA = "MEM_LOAD_NODE", "MEM_STORE_NODE", "METADATA_NODE"
_KINDS = {1: METADATA, 2: LOAD, 3: STORE, 4: COMPUTE, 5: SEND, 6: RECEIVE, 7: COLLECTIVE}
_OTHERS = {0: "INVALID_NODE", 8: "STORAGE_NODE", 9: "BATCH_NODE", 10: "CHECKPOINT_NODE"}
COLLECTIVES: Mapping[int, str] = {
    0: "all_reduce",
    2: "all_gather",
    5: "broadcast",
    6: "all_to_all",
    7: "reduce_scatter",
    8: "reduce_scatter",
}
"""Operation of a collective by its number in Chakra's CollectiveCommType; a broadcast comes from the first rank of its
group."""
Groups = Mapping[str, tuple[int, ...]]
"""Process group to its ranks."""
_MOST = 2**53  # bytes or microseconds of a node
_MOST_BYTES = 2**31  # of a rank's file


class Node(NamedTuple):
    """A node of a trace.

    Attributes
    ----------
    number: within its rank. kind: METADATA, LOAD, STORE, COMPUTE, SEND, RECEIVE or COLLECTIVE.
    after: numbers of the rank's nodes that must be over. duration_us: of computing, loading and storing.
    n_bytes, peer, tag: of a message, its other rank; bytes of a tensor that is computed on, loaded or stored.
    operations: of computing, 0 where the trace does not say.
    collective, group: of a collective its number in :data:`COLLECTIVES`, -1 where the trace does not say, and its
        process group.
    control: so many of the last of ``after`` are control dependencies, which recorders leave dangling.
    host: whether the host computes; calls of communication by the host are computing of its own.
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
    operations: int = 0
    collective: int = -1
    group: str = ""
    control: int = 0
    host: bool = False


class Trace(NamedTuple):
    """Nodes of all ranks, rank by rank, each known by its place among all.

    Attributes
    ----------
    own: of each node, the nodes of its rank that it waits for. sent: of each receive, its send.
    together: of each collective, its nodes, a rank's each, in the order of its group.
    order: places in an order in which each comes after all that it waits for, others of its collective included.
    notes: gaps that were passed over.
    """

    name: str
    ranks: int
    nodes: tuple[Node, ...]
    own: tuple[tuple[int, ...], ...]
    sent: Mapping[int, int]
    together: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def after(self) -> list[tuple[int, ...]]:
        """Of each node all that it waits for: any of a collective for what all of them wait for."""
        return _after(self.own, self.sent, self.together)


def _after(
    own: Sequence[tuple[int, ...]], sent: Mapping[int, int], together: Sequence[Sequence[int]]
) -> list[tuple[int, ...]]:
    found = list(own)
    for place, send in sent.items():
        found[place] = (*own[place], send)
    for members in together:
        everybodys = tuple(dict.fromkeys(other for place in members for other in own[place]))
        for place in members:
            found[place] = everybodys
    return found


def read(path: str, groups: Groups | None = None) -> Trace:
    """The trace of which this is one rank's file.

    Parameters
    ----------
    groups: ranks of each process group; those whose nodes name it when absent.

    Raises
    ------
    InputError: a file cannot be read or a rank's is missing; a node is of another kind, waits for one that does not
        exist, or its message has no other end or one of another size; nodes wait for each other in a circle.
    """
    with _uncollected():
        return _read(path, groups)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for circles among objects: of a million that are kept it would look at each many times."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read(path: str, groups: Groups | None) -> Trace:
    files = files_of(path)
    nodes: list[Node] = []
    for rank, file in files.items():
        try:
            data = read_bytes(file, _MOST_BYTES)
            if file.suffix == ".json":  # its first document describes the trace
                documents = _nodes_of(_documents(data.decode()))
                nodes += [_node(rank, _of_document(one)) for one in documents]
            else:
                nodes += [_node(rank, one) for one in _messages(data)]
        except InputError as error:
            raise InputError([replace(problem, file=str(file)) for problem in error.problems]) from None
        except (OSError, ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            raise InputError([Problem(f"cannot be read as a trace: {shortened(error)}", str(file))]) from None
    try:
        return _trace(file.name.rsplit(".", 2)[0], len(files), nodes, groups)
    except InputError as error:  # of the ranks together
        raise InputError([replace(problem, file=path) for problem in error.problems]) from None


def files_of(path: str) -> dict[int, Path]:
    """The files of all ranks of the trace of which this is one's.

    Raises
    ------
    InputError: it is not named so, or a rank's is missing.
    """
    matched = TRACE_FILE.fullmatch(Path(path).name)
    if matched is None:
        raise InputError([Problem("a trace is named NAME.RANK.et or NAME.RANK.json", path)])
    files = {}
    for other in Path(path).parent.glob(f"{glob.escape(matched['stem'])}.*.{matched['ending']}"):
        found = TRACE_FILE.fullmatch(other.name)
        if found and found["stem"] == matched["stem"]:
            files[int(found["rank"])] = other
    missing = next((rank for rank in range(len(files) + 1) if rank not in files), 0)
    if missing < len(files) or not files:
        name = f"{matched['stem']}.{missing}.{matched['ending']}"
        raise InputError([Problem(f"is missing: '{path}' is one rank of a trace", str(Path(path).parent / name))])
    return dict(sorted(files.items()))


def read_groups(path: str) -> Groups:
    """Process groups of a file as ASTRA-sim has them: ``{"0": [0, 1, 2, 3]}``.

    Raises
    ------
    InputError: it is none, or a group names a rank twice.
    """
    try:
        found = parse_json(read_text(Path(path)))
        groups = {str(name): tuple(int(rank) for rank in ranks) for name, ranks in found.items()}
    except InputError as error:
        raise InputError([replace(problem, file=path) for problem in error.problems]) from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError([Problem(f"cannot be read as process groups: {shortened(error)}", path)]) from None
    for name, ranks in groups.items():
        twice = [rank for rank, count in Counter(ranks).items() if count > 1]
        if twice:
            raise InputError([Problem(f"process group '{shortened(name)}' names rank {twice[0]} twice", path)])
    return groups


def _trace(name: str, ranks: int, nodes: Sequence[Node], groups: Groups | None) -> Trace:
    sent = _sent(nodes, ranks)
    together = _together(nodes, groups)
    for control in (True, False):
        own, dangling = _own(nodes, control)
        after = _after(own, sent, together)
        order = orderly(after)
        stuck = circle(after, order)
        if not stuck or not any(node.control for node in nodes):
            break
    if stuck:
        named = (f"node {nodes[n].number} ({nodes[n].kind}) of rank {nodes[n].rank}" for n in stuck)
        raise InputError(f"trace '{name}' deadlocks: {' waits for '.join(named)}")
    notes = (f"{dangling} control dependencies on nodes that were not recorded are passed over",) if dangling else ()
    if not control:
        notes = ("control dependencies wait in circles: they tell who called whom, and data alone orders nodes",)
    return Trace(name, ranks, tuple(nodes), own, sent, together, tuple(order), notes)


# --- nodes ---------------------------------------------------------------------------------------------


class _Raw(NamedTuple):
    """A node as a file has it: ``kind`` by number or name, ``attributes`` by name."""

    number: int
    name: str
    kind: int | str
    after: tuple[int, ...]
    control: tuple[int, ...]
    duration_us: Any
    attributes: Mapping[str, Any]


def _node(rank: int, raw: _Raw) -> Node:
    name, attributes = raw.name, raw.attributes
    kind = _KINDS.get(raw.kind) if isinstance(raw.kind, int) else raw.kind
    after, control = (*raw.after, *raw.control), len(raw.control)
    duration_us = raw.duration_us
    if type(duration_us) is not int or not 0 <= duration_us <= _MOST:
        duration_us = _whole(raw, "duration", duration_us)
    host = attributes.get("is_cpu_op") in (True, "true", 1)
    if kind in (COLLECTIVE, SEND, RECEIVE) and host and "comm_size" not in attributes:
        kind = COMPUTE  # the host's call, which says nothing of what moves
    if kind in (COMPUTE, LOAD, STORE):
        n_bytes = _whole(raw, "tensor_size", attributes["tensor_size"]) if "tensor_size" in attributes else 0
        operations = _whole(raw, "num_ops", attributes["num_ops"]) if "num_ops" in attributes else 0
        return Node(
            rank, raw.number, name, kind, after, duration_us, n_bytes, rank, 0, operations, -1, "", control, host
        )
    if kind == METADATA:
        return Node(rank, raw.number, name, kind, after, 0, 0, rank, 0, control=control)
    if kind == COLLECTIVE and "comm_type" not in attributes and duration_us:
        return Node(rank, raw.number, name, kind, after, duration_us, 0, rank, 0, control=control)
    if kind == COLLECTIVE:
        which = _attribute(raw, "comm_type")
        if which not in COLLECTIVES:
            known = sorted(set(COLLECTIVES.values()))
            raise InputError(f"{_where(raw)}: collectives of comm_type {which} are not played: {', '.join(known)} are")
        group, size = str(attributes.get("pg_name", "")), _attribute(raw, "comm_size")
        return Node(rank, raw.number, name, kind, after, duration_us, size, rank, 0, 0, which, group, control)
    if kind in (SEND, RECEIVE):
        peer = _attribute(raw, "comm_dst" if kind == SEND else "comm_src")
        tag = _attribute(raw, "comm_tag") if "comm_tag" in attributes else 0
        size = _attribute(raw, "comm_size")
        return Node(rank, raw.number, name, kind, after, 0, size, peer, tag, control=control)
    kind = (_KINDS | _OTHERS).get(raw.kind, str(raw.kind)) if isinstance(raw.kind, int) else raw.kind
    if kind in _OTHERS.values():
        raise InputError(f"{_where(raw)}: a {kind} is not played; steps are {', '.join(_KINDS.values())}")
    raise InputError(f"{_where(raw)}: a {shortened(kind)} is no step of an algorithm: {nearest(kind, _KINDS.values())}")


def _where(raw: _Raw) -> str:
    return f"node {raw.number} '{shortened(raw.name)}'"


def _attribute(raw: _Raw, name: str) -> int:
    if name not in raw.attributes:
        raise InputError(f"{_where(raw)}: has no attribute {name}")
    return _whole(raw, name, raw.attributes[name])


def _whole(raw: _Raw, attribute: str, given: Any, most: int = _MOST) -> int:
    try:
        value = int(given)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{_where(raw)}: expected a whole number for {attribute}, not '{shortened(given)}'") from None
    if not 0 <= value <= most:
        raise InputError(f"{_where(raw)}: {attribute} is from 0 to {most}, not {shortened(given)}")
    return value


def _together(nodes: Sequence[Node], groups: Groups | None) -> tuple[tuple[int, ...], ...]:
    """The nodes of each collective: of a process group, the first of each rank, the second, and so on."""
    lines: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, node in enumerate(nodes):
        if node.kind == COLLECTIVE and node.collective >= 0:
            lines[node.group][node.rank].append(place)
    found = []
    for group, of_rank in sorted(lines.items()):
        where = f"process group '{shortened(group)}'" if group else "a trace without process groups"
        ranks = _ranks_of(group, sorted(of_rank), groups)
        counts = {rank: len(of_rank[rank]) if rank in of_rank else 0 for rank in ranks}
        few = min(counts, key=lambda rank: counts[rank])
        many = max(counts, key=lambda rank: counts[rank])
        if counts[few] != counts[many]:
            raise InputError(f"{where}: rank {few} has {counts[few]} collectives, rank {many} has {counts[many]}")
        for places in zip(*(of_rank[rank] for rank in ranks), strict=True):
            one = nodes[places[0]]
            for other in (nodes[place] for place in places):
                if (other.collective, other.n_bytes) != (one.collective, one.n_bytes):
                    raise InputError(
                        f"{where}: rank {one.rank}, node {one.number} and rank {other.rank}, node {other.number} meet "
                        f"in one collective, but their comm_type or comm_size differ"
                    )
            found.append(places)
    return tuple(found)


def _ranks_of(group: str, named: Sequence[int], groups: Groups | None) -> Sequence[int]:
    """Ranks of a process group in their order; ``named``: those that have nodes of it."""
    if groups is None or not group:
        return named
    if group not in groups:
        raise wrong("groups", f"no process group is called '{shortened(group)}': {nearest(group, groups)}")
    strangers = [rank for rank in named if rank not in groups[group]]
    if strangers:
        raise wrong("groups", f"rank {strangers[0]} has a collective of process group '{group}' that it is not in")
    return groups[group]


def _own(nodes: Sequence[Node], control: bool) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Of each node, the nodes of its rank that it waits for, by their place among all; and dangling dependencies.

    Parameters
    ----------
    control: whether control dependencies count.
    """
    found: list[tuple[int, ...]] = []
    dangling = 0
    for first, last in _of_ranks(nodes):
        places: dict[int, int] = {}
        for place in range(first, last):
            if places.setdefault(nodes[place].number, place) != place:
                raise InputError(f"rank {nodes[place].rank}: two nodes have the id {nodes[place].number}")
        for node in nodes[first:last]:
            if not control and node.control:
                node = node._replace(after=node.after[: len(node.after) - node.control], control=0)
            if len(node.after) < 2:  # most wait for one
                known = places.get(node.after[0]) if node.after else -1
                if known is not None:
                    found.append((known,) if known >= 0 else ())
                    continue
            unknown = [number for number in node.after if number not in places]
            if unknown:
                loose = node.after[len(node.after) - node.control :]
                for number in unknown:
                    if number not in loose:
                        raise InputError(
                            f"rank {node.rank}, node {node.number}: waits for node {number}, which does not exist"
                        )
                dangling += len(unknown)
            found.append(tuple(dict.fromkeys(places[number] for number in node.after if number in places)))
    return tuple(found), dangling


def _of_ranks(nodes: Sequence[Node]) -> Iterator[tuple[int, int]]:
    """Where the nodes of each rank begin and end."""
    first = 0
    for place in range(1, len(nodes) + 1):
        if place == len(nodes) or nodes[place].rank != nodes[first].rank:
            yield first, place
            first = place


def _sent(nodes: Sequence[Node], ranks: int) -> dict[int, int]:
    """Of each receive, its send."""
    sends: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    receives: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        if node.kind not in (SEND, RECEIVE):
            continue
        if node.peer >= ranks or node.peer == node.rank:
            raise InputError(f"rank {node.rank}, node {node.number}: there is no other rank {node.peer} among {ranks}")
        if node.kind == SEND:
            sends[node.rank, node.peer, node.tag].append(place)
        else:
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
    return sent


# --- files ---------------------------------------------------------------------------------------------


_SPACE = re.compile(r"\s*")


def _documents(text: str) -> Iterator[Mapping[str, Any]]:
    """JSON documents one after the other, as Chakra's jsonizer prints them."""
    decoder, place = json.JSONDecoder(), _end_of_space(text, 0)
    while place < len(text):
        document, place = decoder.raw_decode(text, place)
        if not isinstance(document, dict):
            raise ValueError("expected one JSON object after the other")
        yield document
        place = _end_of_space(text, place)


def _end_of_space(text: str, place: int) -> int:
    matched = _SPACE.match(text, place)
    return matched.end() if matched else place


def _nodes_of(documents: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The nodes of a file: all documents but the first, which describes the trace or lists them."""
    first = next(documents, {})
    listed = first.get("workload_graph")
    yield from documents if listed is None else listed


_ALIASES = {"Id": "id", "Name": "name", "NodeType": "type", "runtime": "durationMicros", "data_deps": "dataDeps"}
"""Keys of the feeder's JSON, which lists nodes under ``workload_graph``, and those of the jsonizer's"""


def _of_document(fields: Mapping[str, Any]) -> _Raw:
    """A node as JSON has it; of an attribute whose value is not written it is zero."""
    fields = {_ALIASES.get(key, key): value for key, value in fields.items()}
    number, name = int(fields.get("id", 0)), str(fields.get("name", ""))
    if not 0 <= number < 2**64:
        raise InputError(f"the id of node '{shortened(name)}' is no number of 64 bits")
    attributes = {key: fields[key] for key in _READ if key in fields}
    for one in fields.get("attr", ()):
        values = [value for key, value in one.items() if key.endswith("Val")]
        attributes[str(one.get("name"))] = values[0] if values else 0
    after, control = (tuple(int(other) for other in fields.get(key, ())) for key in ("dataDeps", "ctrlDeps"))
    kind = fields.get("type", "INVALID_NODE")
    kind = kind if isinstance(kind, int) else str(kind)
    return _Raw(number, name, kind, after, control, fields.get("durationMicros", 0), attributes)


_READ = frozenset(
    ("tensor_size", "num_ops", "comm_type", "comm_size", "comm_dst", "comm_src", "comm_tag", "pg_name", "is_cpu_op")
)
"""Attributes that are read."""


def _messages(data: bytes) -> Iterator[_Raw]:
    """Nodes of protocol buffers; the first message describes the trace."""
    parsed = decoder("Node")
    for one in itertools.islice(messages(data), 1, None):
        node = parsed(one)
        attributes = {}
        for attribute in node.attr:
            if attribute.name not in _READ:
                continue
            value = attribute.WhichOneof("value")
            attributes[attribute.name] = 0 if value is None else getattr(attribute, value)
        after, control = tuple(node.data_deps), tuple(node.ctrl_deps)
        yield _Raw(node.id, node.name, node.type, after, control, node.duration_micros, attributes)
