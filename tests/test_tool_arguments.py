"""Whether the arguments of tool calls are complete JSON: compared with Python's own parser, on every prefix."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.core.tool_arguments import MAX_CALLS, Arguments, ToolCalls

TEXT = st.text(st.characters() | st.sampled_from('"\\[]{}'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)


def parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def is_open(*pieces: str) -> bool:
    arguments = Arguments()
    for piece in pieces:
        arguments.feed(piece)
    return arguments.is_open


def split(text: str, at: list[int]) -> list[str]:
    """The text in pieces; some of them may be empty."""
    bounds = [0, *sorted(number % (len(text) + 1) for number in at), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


@given(value=OBJECTS, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_every_prefix_is_judged_as_a_parser_judges_it(value, indent, ascii_only):
    """The arguments of a call are an object. All of it is complete, and no shorter part of it is."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    for length in range(1, len(text) + 1):
        assert is_open(text[:length]) is not parses(text[:length]), text[:length]


@given(value=OBJECTS, length=st.integers(0), at=st.lists(st.integers(0), max_size=6))
def test_any_split_gives_the_same(value, length, at):
    """Providers cut the arguments anywhere: inside a string, behind a backslash, into empty pieces."""
    text = json.dumps(value)
    text = text[: length % (len(text) + 1)]
    assert is_open(*split(text, at)) is is_open(text)
    assert is_open(*text) is is_open(text)


@pytest.mark.parametrize("text", ["", " ", "null", "12", "tru"])
def test_what_cannot_be_open(text):
    """No arguments at all are complete: a tool may take none. Numbers and words have no end that could be missing."""
    assert not is_open(text)


@pytest.mark.parametrize("text", ["}", "]}", '"}"}', "}}}}"])
def test_closing_marks_that_nothing_opened(text):
    """Text that is no JSON is not called unterminated."""
    assert not is_open(text)


@given(pieces=st.lists(st.text(), max_size=8))
def test_any_text_is_taken(pieces):
    """Whatever a provider sends, there is an answer."""
    assert is_open(*pieces) in (True, False)


def test_nothing_is_kept():
    """A call holds two flags and a number, however long its arguments are."""
    arguments = Arguments()
    arguments.feed('{"text": "' + "word " * 100_000)
    held = [getattr(arguments, name) for name in Arguments.__slots__]
    assert {type(value) for value in held} == {int, bool}
    assert max(held) <= 1


def test_calls_are_told_apart():
    """Pieces of several calls may come by turns."""
    calls = ToolCalls()
    for key, piece in (("a", '{"x"'), ("b", '{"y": '), ("a", ": 1}"), ("b", "[")):
        calls.add(0, key, piece)
    assert calls.incomplete == 1


def test_choices_are_told_apart():
    """Each choice counts its tool calls from 0."""
    calls = ToolCalls()
    calls.add(0, "0", '{"x": 1')
    calls.add(1, "0", "}")
    assert calls.incomplete == 1
    assert calls.called_by(0)
    assert calls.called_by(1)
    assert not calls.called_by(2)


def test_so_many_calls_are_followed():
    """A server that makes calls without end makes no state without end. A call that is followed stays followed."""
    calls = ToolCalls()
    for number in range(MAX_CALLS + 50):
        calls.add(0, str(number), "{")
    assert calls.incomplete == MAX_CALLS
    calls.add(0, "0", "}")
    assert calls.incomplete == MAX_CALLS - 1
