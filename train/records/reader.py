"""The strict reader of the workstation's records: JSON files that say their kind and the version of their keys.

A record is a `Record`: frozen, every key has a type, and a key that it does not have is an error. ``kind`` tells
the type; it is the ``tag`` of the class::

    class Finding(Record, tag="sonoedge-finding"):
        schema_version: Literal[1] = 1
        image: str
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sonoedge.edge_runtime.errors import DataError, SonoEdgeError
from sonoedge.edge_runtime.files import write_text_atomic


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """A file of ours. Subclasses name their ``tag`` and have a field ``schema_version``."""


R = TypeVar("R", bound=Record)


class _Head(msgspec.Struct):
    """What every record says of itself; missing in files from before 2026-11-30."""

    kind: str | None = None
    schema_version: int | None = None


def read_record(
    path: Path,
    *types: type[R],
    what: str,
    again: str,
    earlier_key: str,
    broken: type[SonoEdgeError] = DataError,
) -> R:
    """Read a record of one of the types.

    Args:
        path: UTF-8 JSON.
        types: accepted ones; the file's ``kind`` chooses.
        what: the file in words, for errors, such as ``run card``.
        again: a sentence that says how to make the file again, if an earlier version wrote it.
        earlier_key: a key by which a file of an earlier version, without a kind, is known.
        broken: raised for what is no such file.

    Raises:
        DataError: an earlier or a later version of SonoEdge wrote the file.
        SonoEdgeError: of the type ``broken``: the file cannot be read, is of another kind, or has unknown or
            missing keys or values of a wrong type.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise broken(f"Cannot read the {what} {path}: {error.strerror or error}") from error
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise broken(f"{path} is not a {what}: {error}") from error
    versions = {_kind(one): _version(one) for one in types}
    if head.kind is None and earlier_key in msgspec.json.decode(data):
        raise DataError(f"{path} was written by an earlier version of SonoEdge. {again}")
    if head.kind not in versions:
        raise broken(f"{path} is not a {what}: its kind is {head.kind or 'missing'}.")
    if head.schema_version != versions[head.kind]:
        known = f"{path} has schema_version {head.schema_version}; this version reads {versions[head.kind]}."
        later = (head.schema_version or 0) > versions[head.kind]
        raise DataError(f"{known} {'Update SonoEdge.' if later else again}")
    (wanted,) = [one for one in types if _kind(one) == head.kind]
    try:
        return msgspec.json.decode(data, type=wanted)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise broken(f"{path} is not a {what} of this version: {error}") from error


def as_record(values: Any, wanted: type[R]) -> R:
    """A record from plain JSON types, checked as `read_record` checks a file.

    Raises:
        DataError: unknown or missing keys, or values of a wrong type.
    """
    try:
        return msgspec.convert(values, wanted)
    except msgspec.ValidationError as error:
        raise DataError(f"These values are no {_kind(wanted)}: {error}") from error


def plain(value: Any) -> Any:
    """Records, settings and what they hold as plain JSON types."""
    return msgspec.to_builtins(value)


def record_text(record: Record, *, indent: int | None = 2, ascii_only: bool = True) -> str:
    """A record as JSON, for a terminal of any encoding.

    Raises:
        ValueError: it holds NaN or infinity, which JSON does not have.
    """
    return json.dumps(plain(record), indent=indent, ensure_ascii=ascii_only, allow_nan=False) + "\n"


def write_record(record: Record, path: Path, *, indent: int | None = 2) -> None:
    """Write a record atomically: a reader sees the old file or the new one."""
    write_text_atomic(path, record_text(record, indent=indent, ascii_only=False))


def _kind(wanted: type[Record]) -> str:
    return str(wanted.__struct_config__.tag)


def _version(wanted: type[Record]) -> int:
    return int(next(f.default for f in msgspec.structs.fields(wanted) if f.name == "schema_version"))
