"""The reader of protobuf's wire format, beside Google's own, and with bytes that are no protobuf."""

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st
from loops import about

from otel_llmstream.testing.chaos._protobuf import field, varint
from otel_llmstream.wire.protobuf import MAX_FIELDS, ProtobufError, ProtobufReader

NUMBERS = st.integers(0, 2**64 - 1)
FIELDS = st.one_of(
    st.builds(lambda number, value: varint(number << 3) + varint(value), st.integers(1, 2**29 - 1), NUMBERS),
    st.builds(
        lambda number, value: varint(number << 3 | 2) + varint(len(value)) + value,
        st.integers(1, 2**29 - 1),
        st.binary(max_size=300),
    ),
    st.builds(
        lambda number, value: varint(number << 3 | 5) + value, st.integers(1, 40), st.binary(min_size=4, max_size=4)
    ),
    st.builds(
        lambda number, value: varint(number << 3 | 1) + value, st.integers(1, 40), st.binary(min_size=8, max_size=8)
    ),
)


def read(message: bytes) -> list[tuple[int, int | bytes]]:
    return ProtobufReader().fields(message)


def googles(message: bytes) -> list[tuple[int, int | bytes]] | None:
    """The fields as Google's library reads them, groups left out; None if it does not take the message."""
    try:
        parsed = Empty.FromString(message)  # a message without fields: all are unknown to it
    except DecodeError:
        return None
    found = [(it.field_number, it.wire_type, it.data) for it in UnknownFieldSet(parsed)]
    return [(number, FIXED.get(kind, _same)(data)) for number, kind, data in found if kind != GROUP]


GROUP = 3
FIXED = {1: lambda number: number.to_bytes(8, "little"), 5: lambda number: number.to_bytes(4, "little")}


def _same(value):
    return value


def test_one_of_each():
    """A number, a string, a message, a float and a double, with short and long numbers."""
    inner = field(1, "x") + field(300, 2**40)
    message = (
        field(1, 5) + field(2, "é") + field(3, inner) + b"\x25\0\0\x80\x3f" + b"\x29" + bytes(8) + field(16, "z" * 200)
    )
    found = read(message)
    assert found == [(1, 5), (2, "é".encode()), (3, inner), (4, b"\0\0\x80\x3f"), (5, bytes(8)), (16, b"z" * 200)]
    assert read(inner) == [(1, b"x"), (300, 2**40)]
    assert read(b"") == []


@given(st.lists(FIELDS, max_size=20).map(b"".join))
def test_any_message_is_read_as_google_reads_it(message):
    """Every field of a message is there once, in order, whatever its number and its size."""
    assert read(message) == googles(message)


@given(st.binary(max_size=60))
def test_any_bytes(data):
    """Arbitrary bytes give fields or the one error. What Google's reader takes is read in the same way."""
    try:
        found = read(data)
    except ProtobufError:
        found = None
    expected = googles(data)
    assert expected is None or found == expected


def test_groups_are_left_out():
    """A group, with groups in it, is skipped. The fields around it are read."""
    group = b"\x13" + field(1, "in") + b"\x1b" + b"\x1c" + field(9, 1) + b"\x14"
    assert read(field(1, 1) + group + field(5, 2)) == [(1, 1), (5, 2)]


BROKEN = {
    "a key that goes on": b"\xff",
    "a number that goes on": b"\x08\xff",
    "a number of eleven bytes": b"\x08" + b"\xff" * 10 + b"\x01",
    "no value": b"\x08",
    "a string that is cut": field(1, "word")[:-1],
    "a long string that is cut": field(1, "w" * 400)[:-1],
    "a float that is cut": b"\x0d\0\0\0",
    "a double that is cut": b"\x09" + bytes(7),
    "wire type 6": b"\x0e\x01",
    "wire type 7": b"\x0f\x01",
    "the end of a group that did not begin": b"\x0c\x01",
    "a group without its end": b"\x0b" + field(1, 1),
    "a group of many fields": b"\x0b" + field(1, 1) * (MAX_FIELDS + 1),
    "JSON": b'{"choices": []}',
}


def test_what_is_no_message():
    """Each way to be broken is told as such. Google's reader does not take it either."""
    for name, data in BROKEN.items():
        with about(name):
            with pytest.raises(ProtobufError):
                read(data)
            assert googles(data) is None or name == "a group of many fields"


def test_a_message_of_very_many_fields_costs_no_more_than_the_cap():
    """Beyond the cap nothing is read, in the message and in those inside it together."""
    reader = ProtobufReader()
    assert len(reader.fields(field(1, 1) * MAX_FIELDS * 3)) == MAX_FIELDS
    assert reader.left == 0
    assert reader.fields(field(1, 1)) == []
