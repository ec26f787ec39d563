"""What a user can set: in code, where a mistake is an error, and in the environment, where it must not be one."""

import dataclasses
import logging
import math
from itertools import product

import pytest
from loops import about

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream._settings import DISABLED, PREFIX, is_disabled

DEFAULTS = {
    "stall_after": 10.0,
    "first_chunk_stall_after": 60.0,
    "buffered_after": 0.5,
    "chunk_offsets": 128,
    "excluded_urls": (),
    "genai_spans": "auto",
    "genai_metrics": True,
    "error_messages": True,
    "metrics_fast_path": True,
    "health_window": 1024,
    "recent_calls": 64,
    "exit_timeout": 3.0,
    "flush_on_sigterm": True,
    "served": False,
    "server_metrics": False,
    "status_port": None,
    "status_host": "127.0.0.1",
    "status_token": None,
}

TOKEN = "a-token-of-the-tests"  # 20 characters

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
    ("recent_calls", 0),
    ("recent_calls", 10_000),
    ("genai_spans", True),
    ("genai_spans", False),
    ("genai_spans", "auto"),
    ("genai_metrics", False),
    ("error_messages", False),
    ("metrics_fast_path", False),
    ("exit_timeout", 0.5),
    ("flush_on_sigterm", False),
    ("served", True),
    ("server_metrics", True),
    ("status_port", 0),
    ("status_port", 65_535),
    ("status_host", "::1"),
    ("status_token", TOKEN),
]

TRUTHS = [*((value, True) for value in (1, "1", "true", "Yes", " on ", "TRUE")),
          *((value, False) for value in (0, "0", "False", "no", "OFF"))]  # fmt: skip

FLAGS = ("genai_metrics", "error_messages", "metrics_fast_path", "flush_on_sigterm", "served", "server_metrics")

BAD = [
    *((name, value) for name in ("stall_after", "first_chunk_stall_after", "buffered_after", "exit_timeout")
      for value in (0, -1.0, math.nan, math.inf, -math.inf, "10", None, True, 10**400)),
    *(("chunk_offsets", value) for value in (-1, 129, 1.5, "8", None, True)),
    *(("excluded_urls", value) for value in (None, 1, "(", ["("], ("(",), (1,), [1], (b"x",), {"x"})),
    *(("genai_spans", value) for value in ("sometimes", "", 2, -1, 1.0, None)),
    *((name, value) for name in FLAGS
      for value in ("auto", "", 2, 0.0, None)),
    *(("health_window", value) for value in (0, 100_001, 2.0, None, False)),
    *(("recent_calls", value) for value in (-1, 10_001, 2.0, None, False)),
    *(("status_port", value) for value in (-1, 65_536, 9465.0, "9465", True)),
    *(("status_host", value) for value in ("", " ", None, 1)),
    *(("status_token", value) for value in ("", "short", "fifteen letters", "with spaces in it", "ä" * 20, 1)),
]  # fmt: skip

ENVIRONMENT = [
    ("STALL_AFTER", "2.5", "stall_after", 2.5),
    ("STALL_AFTER", " 3 ", "stall_after", 3.0),
    ("FIRST_CHUNK_STALL_AFTER", "300", "first_chunk_stall_after", 300.0),
    ("BUFFERED_AFTER", "1e-1", "buffered_after", 0.1),
    ("CHUNK_OFFSETS", "0", "chunk_offsets", 0),
    ("EXCLUDED_URLS", r"localhost, ^https://a\.b/ ,", "excluded_urls", ("localhost", r"^https://a\.b/")),
    ("HEALTH_WINDOW", "10", "health_window", 10),
    ("RECENT_CALLS", "10", "recent_calls", 10),
    ("EXIT_TIMEOUT", "1.5", "exit_timeout", 1.5),
    ("FLUSH_ON_SIGTERM", "false", "flush_on_sigterm", False),
    ("GENAI_SPANS", "false", "genai_spans", False),
    ("GENAI_SPANS", "True", "genai_spans", True),
    ("GENAI_SPANS", " Auto ", "genai_spans", "auto"),
    ("GENAI_METRICS", " False ", "genai_metrics", False),
    ("ERROR_MESSAGES", "no", "error_messages", False),
    ("METRICS_FAST_PATH", "FALSE", "metrics_fast_path", False),
    ("SERVED", "true", "served", True),
    ("SERVER_METRICS", "true", "server_metrics", True),
    ("STATUS_PORT", " 9465 ", "status_port", 9465),
    ("STATUS_HOST", "0.0.0.0 ", "status_host", "0.0.0.0"),
    ("STATUS_TOKEN", f"{TOKEN}\n", "status_token", TOKEN),
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
    ("GENAI_METRICS", "auto"),
    ("METRICS_FAST_PATH", "2"),
    ("STATUS_PORT", "http"),
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
    found = Settings.from_environment({PREFIX + variable: text})
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


def test_a_token_is_never_shown(caplog):
    """Neither the settings nor a complaint show the token of the live page."""
    assert TOKEN not in repr(Settings(status_token=TOKEN))
    with pytest.raises(ValueError, match="status_token must have 16 visible ASCII characters") as raised:
        Settings(status_token="secret")
    assert Settings.from_environment({"OTEL_LLMSTREAM_STATUS_TOKEN": "secret"}) == Settings()
    (record,) = caplog.records
    assert "OTEL_LLMSTREAM_STATUS_TOKEN" in record.getMessage()
    assert "secret" not in record.getMessage() + str(raised.value)


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_variables_are_not_set(caplog, text):
    """An empty variable is as good as none (OpenTelemetry's rule for its environment)."""
    assert Settings.from_environment({PREFIX + name.upper(): text for name in DEFAULTS}) == Settings()
    assert not caplog.records


def test_the_process_environment_is_read(monkeypatch):
    """Without a mapping the process's own environment is read."""
    monkeypatch.setenv("OTEL_LLMSTREAM_STALL_AFTER", "4")
    assert Settings.from_environment().stall_after == 4.0


def test_truths():
    """What is true or false may be written in the usual ways, in code and in the environment. It is a bool then."""
    for (value, meant), name in product(TRUTHS, ("genai_spans", "genai_metrics", "metrics_fast_path")):
        with about(name, value):
            assert getattr(Settings(**{name: value}), name) is meant
            assert getattr(Settings.from_environment({PREFIX + name.upper(): str(value)}), name) is meant
    assert Settings(genai_spans=" AUTO ").genai_spans == "auto"


def test_expressions_in_several_ways():
    """Expressions may be a tuple, a list, or one alone. The settings can be hashed, and do not change with the list."""
    given = ["a,b", r"\d"]
    for value, kept in ((given, ("a,b", r"\d")), ("a,b", ("a,b",)), ("", ()), (" ", ()), ([], ())):
        found = Settings(excluded_urls=value)
        assert found.excluded_urls == kept
        assert hash(found) == hash(Settings(excluded_urls=kept))
    settings = Settings(excluded_urls=given)
    given.append("c")
    assert settings.excluded_urls == ("a,b", r"\d")


def test_unknown_variables(caplog):
    """A name that begins as ours and is not known is named in one warning, with the name that is most like it."""
    environ = {"OTEL_LLMSTREAM_STAL_AFTR": "5", "OTEL_LLMSTREAM_STALL_AFTER": "6", "OTEL_LLMSTREAM_DISABLE": "1",
               "OTEL_LLMSTREAM_CORPUS": "/", "OTEL_LLMSTREAM_DISABLED": "0", "OTHER_LLMSTREAM_STALL": "1"}  # fmt: skip
    for _ in range(3):
        assert Settings.from_environment(environ) == Settings(stall_after=6.0)
    assert [record.getMessage() for record in caplog.records] == [
        "ignored the unknown variable OTEL_LLMSTREAM_DISABLE: the nearest known one ends in DISABLED",
        "ignored the unknown variable OTEL_LLMSTREAM_STAL_AFTR: the nearest known one ends in STALL_AFTER",
    ]


def test_disabled(caplog):
    """One variable switches the package off. A warning names a value that is neither true nor false."""
    assert [is_disabled({DISABLED: text}) for text in ("true", " 1", "Yes", "on")] == [True] * 4
    assert [is_disabled({DISABLED: text}) for text in ("false", "0", "no", "", "  ")] == [False] * 5
    assert not is_disabled({})
    assert not caplog.records
    assert not is_disabled({DISABLED: "perhaps"})
    (record,) = caplog.records
    assert DISABLED in record.getMessage()


def test_disabled_in_a_process(monkeypatch, caplog):
    """If the variable is true, `instrument()` observes nothing and sets nothing up, whatever the code gives."""
    monkeypatch.setenv(DISABLED, "true")
    monkeypatch.setattr("otel_llmstream._sdk_setup.set_up", lambda **_: pytest.fail("something is set up"))
    with caplog.at_level(logging.INFO, logger="otel_llmstream"):
        otel_llmstream.instrument(settings=Settings(), prometheus_port=-1)
    try:
        assert not otel_llmstream.health().instrumented
    finally:
        otel_llmstream.uninstrument()
    assert [DISABLED in record.getMessage() for record in caplog.records] == [True]
