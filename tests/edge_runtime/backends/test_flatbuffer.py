"""TFLite files: sound ones are summarised, every wrong offset, index or size is one ModelError."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sonoedge.edge_runtime.backends import open_model
from sonoedge.edge_runtime.backends.flatbuffer import check_tflite
from sonoedge.edge_runtime.backends.flatbuffer_tables import File, Table
from sonoedge.edge_runtime.errors import ModelError
from tests.helpers.places import SMALL_BUNDLE


@pytest.fixture(scope="module")
def model() -> bytes:
    return (SMALL_BUNDLE / "tflite-int8/backbone.tflite").read_bytes()


class Patch:
    """A model whose fields can be overwritten where the vtables say they lie."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.file = File(data)
        self.model = Table(self.file, self.file.follow(0))

    def graph(self) -> Table:
        return next(self.model.tables(2))

    def tensors(self) -> Iterator[Table]:
        return self.graph().tables(0)

    def scalar(self, table: Table, field: int, kind: str, value: int) -> bytes:
        offset = table._offset(field, struct.calcsize(kind))
        assert offset, f"field {field} is absent"
        struct.pack_into("<" + kind, self.data, table.at + offset, value)
        return bytes(self.data)

    def element(self, table: Table, field: int, index: int, value: int, kind: str = "i") -> bytes:
        start, count = table.vector(field, struct.calcsize(kind))
        assert index < count
        struct.pack_into("<" + kind, self.data, start + index * struct.calcsize(kind), value)
        return bytes(self.data)

    def length(self, table: Table, field: int, value: int) -> bytes:
        start, _ = table.vector(field, 1)
        struct.pack_into("<I", self.data, start - 4, value)
        return bytes(self.data)


def test_every_exported_file_is_sound(full_bundle: Path) -> None:
    files = sorted(full_bundle.glob("tflite-*/*.tflite"))
    assert len(files) == 8
    for path in files:
        summary = check_tflite(path.read_bytes(), path.name)
        runner = open_model(path, "tflite", threads=1)
        assert (set(summary.inputs), set(summary.outputs)) == (set(runner.input_shapes), set(runner.output_shapes))


def test_multiply_adds_are_those_of_the_layers(full_bundle: Path) -> None:
    """conftest's `small_model`: 48 px, per branch a stem 3x3x3 -> 6+i at 24x24, a last 3x3 -> 5+2i."""
    summary = check_tflite((full_bundle / "tflite-fp32/backbone.tflite").read_bytes())
    wanted = sum(
        24 * 24 * 27 * (6 + i) + (24 // stride) ** 2 * 9 * (6 + i) * (5 + 2 * i) for i, stride in enumerate((2, 1))
    )
    assert summary.macs == wanted


def test_wrong_indices(model: bytes) -> None:
    for field in (0, 1, 2):
        patch = Patch(model)
        operator = next(patch.graph().tables(3))
        data = (
            patch.scalar(operator, 0, "I", 10_000)
            if field == 0 and operator._offset(0, 4)
            else patch.element(operator, max(field, 1), 0, 1_000_000)
        )
        with pytest.raises(ModelError, match="sound TFLite file"):
            check_tflite(data)
    for field, value in ((1, 99_999), (2, -1), (2, -5)):
        patch = Patch(model)
        with pytest.raises(ModelError, match="of the graph is none of"):
            check_tflite(patch.element(patch.graph(), field, 0, value))
    patch = Patch(model)
    tensor = next(t for t in patch.tensors() if t._offset(2, 4))
    with pytest.raises(ModelError, match="names buffer 70000"):
        check_tflite(patch.scalar(tensor, 2, "I", 70_000))


def test_wrong_shapes_and_sizes(model: bytes) -> None:
    for value, message in ((-3, "shape"), (2**31 - 1, "bytes"), (77, "bytes|scales")):
        patch = Patch(model)
        buffers = [b.vector(0, 1)[1] or b.scalar(2, "Q") for b in patch.model.tables(4)]
        constant = next(
            t for t in patch.tensors() if buffers[t.scalar(2, "I")] > 20 and len(t.numbers(0, "<i4")) > 2
        )
        with pytest.raises(ModelError, match=message):
            check_tflite(patch.element(constant, 0, 0, value))


def test_wrong_quantization(model: bytes) -> None:
    patch = Patch(model)
    table = next(q for t in patch.tensors() if (q := t.table(4)) is not None and len(q.numbers(2, "<f4")) > 1)
    with pytest.raises(ModelError, match="scale"):
        check_tflite(patch.element(table, 2, 0, 0x7FC00000, "I"))  # NaN
    patch = Patch(model)
    with pytest.raises(ModelError, match="scales"):
        check_tflite(patch.length(table, 2, 2))


def test_custom_operators_and_calls_are_refused(model: bytes) -> None:
    for number, name in ((32, "CUSTOM"), (129, "CALL_ONCE"), (142, "VAR_HANDLE"), (200, "number 200")):
        patch = Patch(model)
        code = next(c for c in patch.model.tables(1) if c._offset(3, 4))
        with pytest.raises(ModelError, match=f"operator {name}, which is not run here"):
            check_tflite(patch.scalar(code, 3, "i", number))


def one_constant(offset: int, size: int, behind: bytes) -> bytes:
    """A model without operators: one input (4,) float32, whose constant lies behind the FlatBuffer."""
    import flatbuffers

    builder = flatbuffers.Builder(0)

    def table(*fields: tuple[str, object]) -> int:
        builder.StartObject(len(fields))
        for number, (kind, value) in enumerate(fields):
            if kind == "offset":
                builder.PrependUOffsetTRelativeSlot(number, value, 0)
            elif kind:
                getattr(builder, f"Prepend{kind}Slot")(number, value, 0)
        return builder.EndObject()

    def vector(kind: str, *values: int) -> tuple[str, int]:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            getattr(builder, f"Prepend{kind}")(value)
        return "offset", builder.EndVector()

    absent = ("", 0)
    name = ("offset", builder.CreateString("image"))
    tensor = table(vector("Int32", 4), absent, ("Uint32", 1), name)
    graph = table(vector("UOffsetTRelative", tensor), vector("Int32", 0), vector("Int32", 0))
    entry = vector("UOffsetTRelative", table(name, ("Uint32", 0)))
    empty, constant = table(absent), table(absent, ("Uint64", offset), ("Uint64", size))
    buffers = vector("UOffsetTRelative", empty, constant)
    graphs, signatures = vector("UOffsetTRelative", graph), vector("UOffsetTRelative", table(entry, entry))
    model = table(("Uint32", 3), absent, graphs, absent, buffers, absent, absent, signatures)
    builder.Finish(model, file_identifier=b"TFL3")
    return bytes(builder.Output()) + behind


def test_constants_behind_the_flatbuffer() -> None:
    """As litert-quantizer writes large ones."""
    whole = len(one_constant(4, 16, b""))
    start = whole + -whole % 4
    padding = b"\0" * (start - whole)
    assert check_tflite(one_constant(start, 16, padding + b"\0" * 16)).tensors == 1
    for offset, size, message in (
        (start, 16, "outside of the file"),  # one byte short
        (start + 2, 16, "not aligned"),
        (2**63, 16, "outside of the file"),
        (start, 2**64 - 1, "outside of the file"),
        (start, 8, "has 8 bytes, not 16"),
    ):
        with pytest.raises(ModelError, match=message):
            check_tflite(one_constant(offset, size, padding + b"\0" * 15))


@pytest.mark.long
def test_sharing_does_not_multiply_the_work(model: bytes) -> None:
    """Vectors may share their elements: a file of a megabyte must not ask for an hour."""
    count = 400_000
    # Root table at 24, its vtable at 8: version in field 0, graphs in field 2; all graphs are one empty table.
    data = bytearray(struct.pack("<I4s5H6x", 24, b"TFL3", 10, 12, 4, 0, 8))
    data += struct.pack("<iIII", 16, 3, 4, count)
    table = len(data) + 4 * count
    data += b"".join(struct.pack("<I", table - at) for at in range(len(data), table, 4))
    data += struct.pack("<i4xHH", -8, 4, 4)
    with pytest.raises(ModelError, match="elements to visit"):
        check_tflite(bytes(data))


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 8, b"\x04\0\0\0TFL3", b"\xff" * 64, b"PK\x03\x04" * 50])
def test_other_files(data: bytes) -> None:
    with pytest.raises(ModelError, match="is not a sound TFLite file"):
        check_tflite(data)


def test_every_truncation_is_refused() -> None:
    data = (SMALL_BUNDLE / "tflite-fp32/head.tflite").read_bytes()
    for length in range(0, len(data), 7):
        with pytest.raises(ModelError):
            check_tflite(data[:length])


@settings(max_examples=300)
@given(st.data())
def test_a_changed_file_is_sound_or_a_model_error(model: bytes, data: st.DataObject) -> None:
    changed = bytearray(model)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 4))
        struct.pack_into("<I", changed, at, data.draw(st.sampled_from([0, 1, 4, 2**31 - 1, 2**31, 2**32 - 1, at])))
    try:
        check_tflite(bytes(changed))
    except ModelError as error:
        assert "sound TFLite file" in str(error)


@settings(max_examples=200)
@given(st.binary(max_size=400))
@example(b"\x08\0\0\0TFL3" + b"\xff" * 100)
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(ModelError):
        check_tflite(b"\x10\0\0\0TFL3" + data)


def test_the_interpreter_never_sees_an_unsound_file(tmp_path: Path, model: bytes) -> None:
    path = tmp_path / "bad.tflite"
    patch = Patch(model)
    path.write_bytes(patch.element(patch.graph(), 1, 0, 99_999))
    with pytest.raises(ModelError, match=r"bad\.tflite is not a sound TFLite file"):
        open_model(path, "tflite")
