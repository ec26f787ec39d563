"""The table of dialects says what the registry and the tests say."""

from dialect_table import DRIVEN, FORMATS, SERVICES, TESTS, rows, seen_sdks
from samples import SAMPLES

from otel_llmstream.dialects import DIALECTS, SOCKET_DIALECTS

ROWS = {row[0]: row for row in rows(str)}


def test_every_dialect_has_a_row():
    """Every dialect is in the table, with an endpoint, a format, an end and evidence."""
    assert {dialect.name for dialect in (*DIALECTS, *SOCKET_DIALECTS)} <= set(ROWS)
    assert all(all((row[2], row[3], row[4], row[6])) for row in ROWS.values())


def test_evidence_is_there():
    """An SDK that is named has been driven."""
    assert {sdk for found in DRIVEN.values() for sdk in found} <= seen_sdks()
    assert set(DRIVEN) | set(SERVICES) <= set(ROWS)
    pinned = "".join(path.read_text() for path in (TESTS / "peers").glob("requirements-*.txt"))
    for packages in SERVICES.values():
        assert all(f"\n{package}" in pinned for package in packages)


def test_some_rows():
    """Ends and formats are those that the dialects state."""
    assert ROWS["langgraph"][4] == ROWS["google.adk"][4] == ROWS["generic"][4] == "unproven"
    assert ROWS["openai.chat"][4] == "[DONE] or finish reason"
    assert ROWS["openai.responses"][4] == "response.completed"
    assert ROWS["google.generate_content"][3] == "events, JSON array, gRPC"
    assert ROWS["xai.chat"][5] == "the client"
    assert ROWS["bedrock.agent"][6].startswith("driven: boto3")
    assert {it.content_type for it in SAMPLES.values() if it.transport == "http"} <= set(FORMATS)
