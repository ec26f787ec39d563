"""What a user can set: in code, where a mistake is an error, and in the environment, where it must not be one."""

import dataclasses
import logging
import math

import pytest

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream._settings import PREFIX

DEFAULTS = {
    "stall_after": 10.0,
    "first_chunk_stall_after": 60.0,
    "buffered_after": 0.5,
    "chunk_offsets": 128,
    "excluded_urls": (),
    "genai_spans": "auto",
    "genai_metrics": True,
    "metrics_fast_path": True,
    "health_window": 1024,
}

GOOD = [
    ("stall_after", 0.001),
    ("stall_after", 30),
    ("first_chunk_stall_after", 0.5),
    ("buffered_after", 2.5),
    ("chunk_offsets", 0),
    ("chunk_offsets", 128),
    ("excluded_urls", (r"localhost", r"/v1/\w+$")),
    ("health_window", 1),
    ("health_window", 100_000),
    ("genai_spans", True),
    ("genai_spans", False),
    ("genai_spans", "auto"),
    ("genai_metrics", False),
    ("metrics_fast_path", False),
]

BAD = [
    *((name, value) for name in ("stall_after", "first_chunk_stall_after", "buffered_after")
      for value in (0, -1.0, math.nan, math.inf, -math.inf, "10", None, True, 10**400)),
    *(("chunk_offsets", value) for value in (-1, 129, 1.5, "8", None, True)),
    *(("excluded_urls", value) for value in ("localhost", ["localhost"], None, ("(",), (1,), (b"x",))),
    *(("genai_spans", value) for value in ("false", "AUTO", "", 0, 1, None)),
    ("genai_metrics", "no"),
    *(("metrics_fast_path", value) for value in ("true", 1, None)),
    *(("health_window", value) for value in (0, 100_001, 2.0, None, False)),
]  # fmt: skip

ENVIRONMENT = [
    ("STALL_AFTER", "2.5", "stall_after", 2.5),
    ("STALL_AFTER", " 3 ", "stall_after", 3.0),
    ("FIRST_CHUNK_STALL_AFTER", "300", "first_chunk_stall_after", 300.0),
    ("BUFFERED_AFTER", "1e-1", "buffered_after", 0.1),
    ("CHUNK_OFFSETS", "0", "chunk_offsets", 0),
    ("EXCLUDED_URLS", r"localhost, ^https://a\.b/ ,", "excluded_urls", ("localhost", r"^https://a\.b/")),
    ("HEALTH_WINDOW", "10", "health_window", 10),
    ("GENAI_SPANS", "false", "genai_spans", False),
    ("GENAI_SPANS", "True", "genai_spans", True),
    ("GENAI_SPANS", " Auto ", "genai_spans", "auto"),
    ("GENAI_METRICS", " False ", "genai_metrics", False),
    ("METRICS_FAST_PATH", "FALSE", "metrics_fast_path", False),
]

BAD_ENVIRONMENT = [
    ("STALL_AFTER", "soon"),
    ("STALL_AFTER", "nan"),
    ("STALL_AFTER", "-1"),
    ("BUFFERED_AFTER", "inf"),
    ("CHUNK_OFFSETS", "12.5"),
    ("CHUNK_OFFSETS", "1000"),
    ("EXCLUDED_URLS", "localhost, ("),
    ("HEALTH_WINDOW", "0"),
    ("HEALTH_WINDOW", "many"),
    ("GENAI_SPANS", "sometimes"),
]


def test_defaults():
    """The defaults are the documented ones, and the fields are these."""
    assert dataclasses.asdict(Settings()) == DEFAULTS
    assert Settings is otel_llmstream.Settings


def test_frozen_and_by_name():
    """Settings do not change, and take no values by position."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().stall_after = 1.0
    with pytest.raises(TypeError):
        Settings(1.0)


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_good_values(name, value):
    """What is in range is taken as it is."""
    assert getattr(Settings(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values(name, value):
    """What is not is a `ValueError` that names the field."""
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize(("variable", "text", "name", "value"), ENVIRONMENT)
def test_environment(caplog, variable, text, name, value):
    """Each field comes from its variable; the others keep their defaults, and nothing is said."""
    found = Settings.from_environment({PREFIX + variable: text, "OTEL_LLMSTREAM_UNHEARD_OF": "1"})
    assert dataclasses.asdict(found) == {**DEFAULTS, name: value}
    assert not caplog.records


def test_every_field_has_its_variable():
    """No field is left out of the environment."""
    assert {f"OTEL_LLMSTREAM_{name.upper()}" for name in DEFAULTS} == {PREFIX + row[0] for row in ENVIRONMENT}


@pytest.mark.parametrize(("variable", "text"), BAD_ENVIRONMENT)
def test_bad_environment(caplog, variable, text):
    """A variable that cannot be used is named in one warning and ignored; the good ones beside it count."""
    other = "HEALTH_WINDOW" if variable != "HEALTH_WINDOW" else "CHUNK_OFFSETS"
    with caplog.at_level(logging.WARNING, logger="otel_llmstream"):
        found = Settings.from_environment({PREFIX + variable: text, PREFIX + other: "7"})
    assert dataclasses.asdict(found) == {**DEFAULTS, other.lower(): 7}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert PREFIX + variable in record.getMessage()
    assert repr(text) in record.getMessage()


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_variables_are_not_set(caplog, text):
    """An empty variable is as good as none (OpenTelemetry's rule for its environment)."""
    assert Settings.from_environment({PREFIX + name.upper(): text for name in DEFAULTS}) == Settings()
    assert not caplog.records


def test_the_process_environment_is_read(monkeypatch):
    """Without a mapping the process's own environment is read."""
    monkeypatch.setenv("OTEL_LLMSTREAM_STALL_AFTER", "4")
    assert Settings.from_environment().stall_after == 4.0
