"""`otel-llmstream inspect` judges a recorded stream, and shows where it broke."""

import gzip
import io
import json
import os
import random
import sys
from base64 import b64encode
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from loops import about
from scripted_streams import CUT, DONE, HEALTHY, chunk, event
from test_corpus import Recording, check

from otel_llmstream import Outcome, debugging
from otel_llmstream.cli import main
from otel_llmstream.core.redaction import mask
from otel_llmstream.debugging import frame_table, inspect, recordings
from otel_llmstream.dialects import RequestInfo, match_request

WHOLE = b"".join(HEALTHY)
BROKEN = b"".join(CUT)
NOISE = random.Random(1).randbytes(500).hex()
KEY = "sk-proj-abcdefghij0123456789"
URL = "https://api.test/v1/chat/completions"
ASKED = json.dumps({"model": "gpt-4o", "stream": True, "messages": []})
SSE = {"Content-Type": ["text/event-stream"]}


def one(data: bytes, path: str = "") -> debugging.Inspection:
    """What is found in an input with one response."""
    (recording,) = recordings(data, path)
    found = inspect(recording)
    assert found is not None
    return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Runs the command on an input; gives its exit status, its output and its complaint."""

    def command(data: bytes | str | Path, *options: str) -> SimpleNamespace:
        if isinstance(data, bytes):
            (tmp_path / "recorded").write_bytes(data)
            data = tmp_path / "recorded"
        status = main(["inspect", str(data), *options])
        printed = capsys.readouterr()
        return SimpleNamespace(status=status, out=printed.out, err=printed.err)

    return command


# --- the recordings of the providers ---


def test_the_recordings(corpus: Path) -> None:
    """It gives the verdict of the index on each recording, from the bytes alone. What is no LLM's is not judged.

    The bytes tell the dialect too, but for one: Writer's completions have no mark of their own. The table has all
    frames that the pipeline counted, and no two of them overlap.
    """
    unknown = []
    for record in json.loads((corpus / "index.json").read_bytes())["records"]:
        body = (corpus / "streams" / record["file"]).read_bytes()
        with about(record["file"]):
            found = inspect(recordings(body)[0])
            assert (found is not None) is record["llm"]
            if found is not None:
                _compare(record, body, found)
                unknown += [record["file"]] * (found.summary.request.dialect == "generic")
    assert unknown == ["api.writer.com-c1c0631c5999.sse"]


def _compare(record: dict[str, Any], body: bytes, found: debugging.Inspection) -> None:
    summary, frames = found.summary, [*found.frames.first, *found.frames.last]
    asked = json.dumps({"model": record["request_model"], "stream": True, "messages": [], "prompt": ""}).encode()
    request = RequestInfo(method="POST", host="api.test", path=record["endpoint"], body=asked)
    claimed = match_request(request)
    if claimed is not None and claimed.dialect.own_path:
        assert summary.request.dialect in (claimed.dialect.name, "generic")
    if record["kind"] == "eventstream":  # test_bedrock says what else is known of those
        assert (summary.outcome, summary.frames) == (Outcome.COMPLETED, record["expected"]["events"])
    else:
        check(Recording(record["file"], record, body, summary.request.dialect), summary, "inspect")
    assert found.frames.total == len(frames) == summary.frames
    assert found.frames.total_malformed == summary.malformed_events
    assert all(one.offset + one.size <= other.offset for one, other in pairwise(frames))
    assert frames[-1].offset + frames[-1].size <= len(body)


def test_a_cut_recording(corpus: Path) -> None:
    """Of a stream that is cut inside a frame, it says where that frame begins."""
    for record in json.loads((corpus / "index.json").read_bytes())["records"][::10]:
        if not record["llm"]:
            continue
        body = (corpus / "streams" / record["file"]).read_bytes()
        with about(record["file"]):
            whole = one(body)
            middle = whole.frames.first[len(whole.frames.first) // 2]
            cut = one(body[: middle.offset + middle.size // 2], record["endpoint"].partition("#")[0])
            assert (cut.summary.outcome, cut.summary.error_type) == (Outcome.TRUNCATED, "stream_incomplete_event")
            assert cut.frames.pending == middle.offset
            assert f"inside a frame that begins at byte {middle.offset:,}" in cut.broke


# --- what it reads ---


def har(body: bytes = WHOLE, **content: Any) -> bytes:
    """A HAR file with an image, a stream, and an entry that says nothing."""
    image = {"request": {"url": "https://api.test/logo.svg", "method": "GET"},
             "response": {"status": 200, "content": {"text": "<svg/>"}}}  # fmt: skip
    content = {"mimeType": "text/event-stream", "text": body.decode()} | content
    stream = {
        "request": {"url": URL, "method": "POST", "postData": {"text": ASKED}},
        "response": {"status": 200, "headers": [], "content": content},
    }
    return json.dumps({"log": {"version": "1.2", "entries": [image, stream, {}]}}).encode()


def interaction(body: Any, headers: Any = SSE, /, **request: Any) -> dict[str, Any]:
    return {
        "request": {"uri": URL, "method": "POST", "body": ASKED} | request,
        "response": {"status": {"code": 200, "message": "OK"}, "headers": headers, "body": body},
    }


def as_yaml(*interactions: Any) -> bytes:
    return yaml.safe_dump({"interactions": list(interactions), "version": 1}).encode()


def dump(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """The output of `curl -i`."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


def http_chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


TYPE = "Content-Type: text/event-stream"
CODED = {**SSE, "Content-Encoding": ["gzip"]}
RAW = "Transfer-Encoding: chunked"
OTHER_SPELLING = {"uri": "http://[", "body": None, "parsed_body": {"stream": True, "messages": []}}

INPUTS = {
    "body": WHOLE,
    "gzip": gzip.compress(WHOLE),
    "HAR": har(),
    "HAR with gzip": gzip.compress(har()),
    "HAR with base64": har(text=b64encode(WHOLE).decode(), encoding="base64"),
    "HAR with wrong base64": har(encoding="base64"),
    "cassette": as_yaml(interaction({"string": WHOLE.decode()})),
    "cassette with bytes": as_yaml(interaction({"string": gzip.compress(WHOLE)}, CODED)),
    "cassette, decoded with the header kept": as_yaml(interaction({"string": WHOLE.decode()}, CODED)),
    "cassette with base64": as_yaml(interaction({"base64_string": b64encode(WHOLE).decode()})),
    "cassette with a plain body": as_yaml(interaction(WHOLE.decode(), {"Content-Type": "text/event-stream"})),
    "cassette with a parsed request": as_yaml(interaction(WHOLE.decode(), **OTHER_SPELLING)),
    "cassette in JSON": json.dumps({"version": 1, "interactions": [interaction({"string": WHOLE.decode()})]}).encode(),
    "curl -i": dump(WHOLE, TYPE, f"Content-Length: {len(WHOLE)}"),
    "curl -i through a proxy": dump(dump(dump(WHOLE, TYPE), status="100 Continue"), status="200 established"),
    "curl -i, LF alone": dump(WHOLE, TYPE).replace(b"\r\n", b"\n"),
    "curl -i, decoded": dump(WHOLE, TYPE, RAW),
    "curl -i --raw": dump(http_chunks(*HEALTHY) + b"0\r\n\r\n", TYPE, RAW),
}


def test_formats(run: Any) -> None:
    """A body, gzip, HAR, cassettes and the output of curl give the same verdict, frames and places."""
    for name, data in INPUTS.items():
        with about(name):
            done = run(data, "--json")
            (found,) = json.loads(done.out)["streams"]
            assert (done.status, done.err) == (0, "")
            assert (found["dialect"], found["outcome"], found["broke"]) == ("openai.chat", "completed", "")
            assert (found["chunks"], found["finish_reasons"], found["output_tokens"]) == (3, ["stop"], 3)
            offsets = [sum(map(len, HEALTHY[:number])) for number in range(len(HEALTHY))]
            assert [each["offset"] for each in found["frame_table"]] == offsets
    assert found["http_chunks"] == [len(piece) for piece in HEALTHY]
    assert "HTTP chunks     6" in run(data).out
    assert json.loads(run(har(), "--json").out)["skipped"] == 2
    assert "responses that were not judged: 2" in run(har()).out


def test_the_report(run: Any) -> None:
    """The text has the verdict, the frames with what they say, the sizes and the bytes; payloads only if asked for."""
    done = run(WHOLE + b": the end\n\n")
    assert done.status == 0
    for line in (
        "  dialect         openai.chat",
        "  verdict         completed",
        "  finish reasons  stop",
        "  tokens          11 in, 3 out",
        f"  chunk sizes     {len(chunk())} to {len(chunk())} bytes, median {len(chunk())}",
        f"      2 {len(chunk()):>10} {len(chunk()):>8}  message                      chunk",
    ):
        assert line in done.out
    assert "64 61 74 61 3a 20 7b" in done.out
    table = done.out.partition("\nfirst ")[0]
    assert "word" not in table
    assert '"content": "word"' not in run(WHOLE, "--json").out
    shown = run(WHOLE, "--show-text").out.partition("\nfirst ")[0]
    assert 'data: {"id"' not in shown
    assert '{"id": "chatcmpl-7"' in shown
    assert "word" in json.loads(run(WHOLE, "--json", "--show-text").out)["streams"][0]["frame_table"][0]["text"]


def test_a_json_array() -> None:
    """The objects of an array have their places too, as Gemini sends them without server-sent events."""
    parts = [
        {"candidates": [{"content": {"parts": [{"text": "a}"}]}, "index": 0}], "usageMetadata": {}},
        {"candidates": [{"finishReason": "STOP", "index": 0}]},
    ]
    objects = [json.dumps(part).encode() for part in parts]
    body = b"[" + b",\r\n".join(objects) + b"]"
    found = one(body)
    assert (found.summary.request.dialect, found.summary.outcome) == ("google.generate_content", Outcome.COMPLETED)
    places = [(each.offset, each.size) for each in found.frames.first]
    assert places == [(body.index(each), len(each)) for each in objects]


def test_a_last_line_without_its_end() -> None:
    """A last line of JSON counts without its line feed if it is whole. If it is not, it is cut, and not malformed."""
    common = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
    lines = [
        {**common, "message": {"role": "assistant", "content": "word"}, "done": False},
        {**common, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ]
    first, last = (json.dumps(line).encode() for line in lines)
    body = first + b"\n" + last
    whole, cut = one(body), one(body[:-1])
    assert (whole.summary.outcome, whole.frames.total, whole.frames.pending) == (Outcome.COMPLETED, 2, None)
    assert whole.frames.first[1][1:3] == (len(first) + 1, len(last))
    assert (cut.summary.error_type, cut.frames.total) == ("stream_incomplete_event", 1)
    assert (cut.frames.total_malformed, cut.frames.pending) == (0, len(first) + 1)


def test_many_frames(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table shows the beginning and the end, and only those are kept of a very long stream."""
    monkeypatch.setattr(frame_table, "KEPT", 100)
    body = chunk() * 1_000 + WHOLE
    found = one(body)
    assert found.frames.total == 1_006
    assert len(found.frames.first) + len(found.frames.last) == 100 + frame_table.FrameTable(b"", "").last.maxlen
    assert "... 966 frames" in run(body).out


BAD_BYTES = chunk("é" * 4)[:-3].replace(b"\\u00e9", "é".encode()) + b"?}\n\n"

BREAKS: dict[str, tuple[bytes, str, str]] = {
    "between two frames": (BROKEN, "stream_truncated", f"ends at byte {len(BROKEN)}, after frame 2."),
    "inside a frame": (BROKEN + b"data: {", "stream_incomplete_event", f"that begins at byte {len(BROKEN)}."),
    "before the first frame": (dump(b"", TYPE), "stream_empty", "before the first frame."),
    "an error inside": (BROKEN + event([], error={"code": 429}), "429", f"Frame 3, at byte {len(BROKEN)}, says: error"),
    "Content-Length": (dump(BROKEN, TYPE, "Content-Length: 9999"), "incomplete_body", "promise 9,999 bytes, but"),
    "the last HTTP chunk": (dump(http_chunks(*CUT), TYPE, RAW), "incomplete_body", "The last chunk of HTTP/1.1"),
    "a status": (dump(b'{"error": {}}', "Content-Type: application/json", status="429 No"), "429", "HTTP status 429."),
    "a page": (har(b"<html></html>", mimeType="text/html"), "not_a_stream", "The body is not an event stream"),
    "cut gzip": (
        gzip.compress(BROKEN + chunk(NOISE))[:-200],
        "stream_incomplete_event",
        "The body ends at byte",
    ),
    "broken gzip": (
        dump(gzip.compress(BROKEN)[:-8] + bytes(8), TYPE, "Content-Encoding: gzip"),
        "content_decoding",
        "The content coding is broken.",
    ),
}


def test_where_it_broke(run: Any) -> None:
    """For each kind of failure it says why and where, in the text and in JSON, and the exit status is 1."""
    for name, (data, error_type, sentence) in BREAKS.items():
        with about(name):
            done = run(data, "--json")
            (found,) = json.loads(done.out)["streams"]
            assert (done.status, done.err, found["error_type"]) == (1, "", error_type)
            assert sentence in found["broke"]
            assert f"where it broke  {found['broke']}" in run(data).out


def test_cut_gzip_is_told(run: Any) -> None:
    """If only the gzip data is cut, and the stream in it is whole, the stream completed, and a note says it."""
    body = b"".join([WHOLE, b": padding\n\n" * 3])
    done = run(gzip.compress(body)[:-8])
    assert done.status == 0
    assert "The gzip data is cut" in done.out
    assert "not in it" in run(INPUTS["cassette, decoded with the header kept"]).out


def test_malformed_payloads(run: Any) -> None:
    """Each malformed payload is listed with its place, and with the byte at which the parser stops."""
    odd = event([])[:-3] + b', "x": \xff}\n\n'
    pieces = [chunk(), BAD_BYTES, odd, b"data: [1]\n\n", b"data: " + b"[" * 100_000 + b"\n\n", *HEALTHY]
    body = b"".join(pieces)
    found = one(body)
    starts = [sum(map(len, pieces[:number])) for number in range(len(pieces))]
    assert [(each.frame, each.offset) for each in found.frames.malformed[:2]] == [(2, starts[1]), (3, starts[2])]
    assert found.frames.malformed[0].position == body.index(b"?")
    assert found.frames.malformed[1] == (3, starts[2], body.index(b"\xff"), "not UTF-8")
    assert found.frames.total_malformed == found.summary.malformed_events
    assert f"frame 2 at byte {starts[1]}, the parser stops at byte {body.index(b'?')}" in run(body).out
    assert {each.reason for each in found.frames.malformed[2:]} <= {frame_table.ODD, frame_table.DEEP}
    assert frame_table._reason(b"[" * 100_000) == (frame_table.DEEP, None)


def test_large_frames() -> None:
    """A frame that is larger than the pipeline keeps has its place and size too."""
    large = chunk("x" * (8 * 1024 * 1024 + 100))
    found = one(chunk() + large + WHOLE)
    assert (found.frames.first[1].size, found.frames.first[1].says) == (len(large), "chunk, larger than the limit")
    assert found.summary.outcome is Outcome.COMPLETED


def test_what_frames_say() -> None:
    """Reasoning, tool calls and further choices are told, and control characters cannot reach the terminal."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = b"".join([
        event([{"index": 0, "delta": {"reasoning_content": "x"}}]),
        event([{"index": 0, "delta": {"tool_calls": [call]}}]),
        chunk(index=1),
        b"event: \x1b[31mred\n" + event([{"index": 1, "delta": {}, "finish_reason": "stop"}]),
        DONE,
    ])  # fmt: skip
    found = one(body)
    said = [each.says for each in found.frames.first]
    assert said[0].endswith("reasoning")
    assert said[1:] == ["tool call", "chunk of choice 1", "finish reason stop of choice 1", "terminator"]
    assert "\x1b" not in debugging.as_text(found, show_text=True)


# --- secrets ---


def test_secrets_are_masked(run: Any) -> None:
    """No secret of a body is shown, also if the shown part begins inside it. Nothing else moves."""
    secret = event([], note=f"Bearer {KEY}", api_key=KEY)
    straddling = WHOLE + chunk("x" * 500 + " " + KEY) + chunk("y" * 850)
    for body in (
        secret + WHOLE,
        WHOLE * 3 + secret,
        straddling,
        WHOLE + event([], error={"code": KEY, "message": KEY}),
    ):
        for options in ((), ("--show-text",), ("--json",), ("--json", "--show-text")):
            printed = run(body, *options).out
            rows = [line for line in printed.splitlines() if line.startswith("  0")]
            text = "".join(row[-16:] if len(row) == 75 else "" for row in rows)
            shown = [bytes.fromhex(each[edge]["hex"]) for each in json.loads(printed)["streams"] for edge in
                     ("first", "last")] if "--json" in options else []  # fmt: skip
            assert not any(KEY[-15:].encode() in edge or KEY[:15].encode() in edge for edge in shown)
            assert KEY[:15] not in printed
            assert KEY[-15:] not in printed + text
    masked = mask(secret)
    assert len(masked) == len(secret)
    assert mask(WHOLE) == WHOLE


# --- bad input ---


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "The input is empty."),
    "rubbish": (random.Random(0).randbytes(100_000), "This is no LLM stream"),
    "a page": (b"<!doctype html><title>502</title>", "This is no LLM stream"),
    "gzip of nothing": (gzip.compress(b""), "This is no LLM stream"),
    "gzip's first bytes": (gzip.compress(WHOLE)[:12], "This is no LLM stream"),
    "zeros": (b"\0" * 10_000, "This is no LLM stream"),
    "cut HAR": (har()[:-20], "The HAR file is not valid JSON: see line 1, column"),
    "HAR that is no UTF-8": (b'{"log": "\xff"}', "The HAR file is not valid JSON."),
    "deep HAR": (b'{"log": ' + b"[" * 200_000, "The HAR file is not valid JSON"),
    "HAR without entries": (b'{"log": {"entries": 1}}', "The file has no responses."),
    "HAR of odd types": (b'{"log": {"entries": [{"request": 1, "response": {"status": "x", "content": []}}, 2]}}',
                         "The file has no bodies"),
    "cut cassette": (b"interactions:\n- request: {\n", "The cassette is not valid YAML: see line"),
    "cassette with a strange date": (b"interactions:\n- 2026-99-99\n", "The cassette is not valid YAML"),
    "cassette with wrong base64": (as_yaml(interaction({"base64_string": "x"})), "The cassette has a body that is no"),
    "cassette without bodies": (as_yaml(interaction(None)), "The file has no bodies"),
    "HAR without bodies": (har(text=None).replace(b'"text": "<svg', b'"no": "'), "The file has no bodies"),
    "cassette with merge keys": (b"a: &a {b: c}\ninteractions:\n- {<<: *a}\n", "The cassette is not valid YAML"),
    "deep cassette": (b"interactions:\n- " + b"[" * 5_000, "The cassette is not valid YAML"),
}  # fmt: skip


def test_bad_input(run: Any, tmp_path: Path) -> None:
    """An input that cannot be judged gives one sentence and status 2, and prints nothing else."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        os.truncate(file.fileno(), 2 * 1024**3)  # takes no room on the disk
    files = {large: "larger than the limit of 64 MiB", tmp_path: "cannot be read", tmp_path / "none": "cannot be read",
             Path("a\0b"): "the name is not valid"}  # fmt: skip
    for data, sentence in [*BAD.values(), *files.items()]:
        with about(sentence, data[:40] if isinstance(data, bytes) else data):
            done = run(data)
            assert (done.status, done.out) == (2, "")
            assert sentence in done.err
            assert done.err.count("\n") == 1


def test_standard_input(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name `-` reads the standard input. If that never ends, the command stops at the limit."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(WHOLE)))
    assert run("-").status == 0
    with Path("/dev/zero").open("rb") as endless:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
        done = run("-")
    assert (done.status, done.out) == (2, "")
    assert "larger than the limit" in done.err


def test_without_pyyaml(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cassette needs PyYAML: if it is missing, the sentence says what to install."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "otel_llmstream.debugging._yaml", raising=False)
    done = run(INPUTS["cassette"])
    assert done.status == 2
    assert "pip install 'otel-llmstream[monitoring]'" in done.err


def test_an_unknown_dialect(run: Any) -> None:
    """If no dialect knows the stream, the report says how little the verdict means."""
    done = run(b'data: {"x": 1}\n\n')
    assert done.status == 0
    assert "dialect         generic" in done.out
    assert "No dialect knows this stream: a clean end counts as complete." in done.out


def test_the_path_can_be_given(run: Any) -> None:
    """If the bytes alone do not tell the dialect, the user can name the path."""
    start = chunk()[:60]
    assert run(start).status == 2
    assert run(start, "--path", "/v1/chat/completions").status == 1
