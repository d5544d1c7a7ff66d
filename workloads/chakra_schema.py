"""Messages of Chakra's protocol buffers (mlcommons/chakra, schema/protobuf/et_def.proto), by their numbers on the wire.

Declared here as far as they are read or written; what else a file holds is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from archsim.errors import missing_extra

_LABELS = {"one": 1, "many": 3}
_TYPES = {"double": 1, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "message": 11, "uint32": 13}
_MESSAGES: dict[str, tuple[tuple[str, int, str, str], ...]] = {
    "AttributeProto": (
        ("name", 1, "string", "one"),
        ("double_val", 3, "double", "one"),
        ("int32_val", 7, "int32", "one"),
        ("int64_val", 9, "int64", "one"),
        ("uint32_val", 11, "uint32", "one"),
        ("uint64_val", 13, "uint64", "one"),
        ("bool_val", 27, "bool", "one"),
        ("string_val", 29, "string", "one"),
    ),
    "GlobalMetadata": (("version", 1, "string", "one"),),
    "Node": (
        ("id", 1, "uint64", "one"),
        ("name", 2, "string", "one"),
        ("type", 3, "int32", "one"),
        ("ctrl_deps", 4, "uint64", "many"),
        ("data_deps", 5, "uint64", "many"),
        ("start_time_micros", 6, "uint64", "one"),
        ("duration_micros", 7, "uint64", "one"),
        ("attr", 10, "message", "many"),
    ),
}
VALUES = tuple(name for name, *_ in _MESSAGES["AttributeProto"][1:])
"""Fields of an attribute of which one holds its value."""


@cache
def message(name: str) -> Any:
    """The class of a message: AttributeProto, GlobalMetadata or Node.

    Raises
    ------
    InputError: protobuf is not installed.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise missing_extra("protobuf", "trace", "a trace of Chakra (.et)") from None
    file = descriptor_pb2.FileDescriptorProto(name="archsim_chakra.proto", package="archsim_chakra", syntax="proto3")
    for kind, fields in _MESSAGES.items():
        declared = file.message_type.add(name=kind)
        if kind == "AttributeProto":
            declared.oneof_decl.add(name="value")
        for field, number, type_, label in fields:
            added = declared.field.add(name=field, number=number, label=_LABELS[label], type=_TYPES[type_])
            if type_ == "message":
                added.type_name = ".archsim_chakra.AttributeProto"
            if kind == "AttributeProto" and field != "name":
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"archsim_chakra.{name}"))


def decoder(name: str) -> Callable[[Any], Any]:
    """What makes a message of its bytes; a ValueError where they are none."""
    made = message(name).FromString
    from google.protobuf.message import DecodeError

    def decoded(raw: Any) -> Any:
        try:
            return made(raw)
        except DecodeError as error:
            raise ValueError(f"it is no trace of Chakra: {error}") from None

    return decoded


def messages(data: bytes) -> Iterator[memoryview]:
    """The messages of a file, each after its length.

    Raises
    ------
    ValueError: it ends within one.
    """
    place, view = 0, memoryview(data)
    while place < len(data):
        length = shift = 0
        while True:
            if place >= len(data) or shift > 63:
                raise ValueError("it ends within a message" if shift <= 63 else "it is no trace of Chakra")
            byte = data[place]
            place += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if place + length > len(data):
            raise ValueError("it ends within a message")
        yield view[place : place + length]
        place += length


def framed(encoded: bytes) -> bytes:
    """A message behind its length, as files hold it."""
    length, head = len(encoded), bytearray()
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + encoded
