"""Content codings are decoded as httpx2 decodes them, piece by piece. Broken data raises only `DecodingError`."""

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import cache
from importlib import import_module
from itertools import pairwise

import brotli
import httpx2
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.wire import DecodingError, ExpansionError, content_encoding, decoder_for
from otel_llmstream.wire.expansion import FRAME, FREE, RATIO

TEXT = b'data: {"choices":[{"delta":{"content":"Hello \xe2\x80\xa6"}}]}\n\n' * 50


def raw_deflate(data: bytes) -> bytes:
    codec = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return codec.compress(data) + codec.flush()


def sync_flushed(data: bytes) -> bytes:
    """Compress as a streaming server does: each event is flushed, so that a client can decode it at once."""
    codec = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    events = [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]
    return b"".join(codec.compress(event) + codec.flush(zlib.Z_SYNC_FLUSH) for event in events) + codec.flush()


def brotlied(data: bytes) -> bytes:
    """The best quality, 11, takes twenty times as long, and gives a tenth less."""
    return brotli.compress(data, quality=9)


def two_zstd_frames(data: bytes) -> bytes:
    return zstd.compress(data[:100]) + zstd.compress(b"") + zstd.compress(data[100:])


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip, flushed": ("gzip", sync_flushed),
    "gzip, followed by rubbish": ("gzip", lambda data: gzip.compress(data) + b"rubbish" * 10),
    "gzip, two members": ("gzip", lambda data: gzip.compress(data) * 2),
    "deflate, zlib": ("deflate", zlib.compress),
    "deflate, raw": ("deflate", raw_deflate),
    "br": ("br", brotlied),
    "zstd": ("zstd", zstd.compress),
    "zstd, three frames": ("zstd", two_zstd_frames),
    "a chain of two": ("gzip, br", lambda data: brotlied(gzip.compress(data))),
    "a chain of four": (
        "deflate,GZIP , zstd,br",
        lambda data: brotlied(zstd.compress(gzip.compress(zlib.compress(data)))),
    ),
    "unknown in a chain": ("x-rot13, gzip, identity", gzip.compress),
}
CODINGS = pytest.mark.parametrize(("header", "encode"), ENCODERS.values(), ids=ENCODERS)
SINGLE = pytest.mark.parametrize(
    ("header", "encode"), [ENCODERS[name] for name in ("gzip", "deflate, zlib", "deflate, raw", "br", "zstd")]
)


def decoded(header: str, pieces: Iterable[bytes]) -> bytes:
    decoder = decoder_for(header)
    assert decoder is not None
    return b"".join(out for piece in pieces for out in decoder.feed(piece))


def by_httpx2(header: str, body: bytes) -> bytes:
    return httpx2.Response(200, headers={"content-encoding": header}, content=body).content


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    return [body[low:high] for low, high in pairwise([0, *sorted(cuts), len(body)])]


@CODINGS
def test_as_httpx2_decodes(header, encode):
    """The result is that of httpx2's decoder, for one read, single bytes, empty reads and random splits."""
    body = encode(TEXT)
    expected = by_httpx2(header, body)
    assert expected == TEXT
    assert decoded(header, [body]) == expected
    assert decoded(header, [body[at : at + 1] for at in range(len(body))]) == expected
    rng = random.Random(len(body))
    for _ in range(20):
        pieces = split(body, [rng.randrange(len(body)) for _ in range(rng.randrange(6))])
        assert decoded(header, [part for piece in pieces for part in (piece, b"")]) == expected


@CODINGS
@given(data=st.data())
def test_any_split_of_anything(header, encode, data):
    """Any bytes are decoded correctly, for any split of the encoded data."""
    content = data.draw(st.binary(max_size=300))
    body = encode(content)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    assert decoded(header, split(body, cuts)) == by_httpx2(header, body)


def test_a_flushed_event_comes_at_once():
    """A flushed event is returned together with its last byte, not with later bytes."""
    codec = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    decoder = decoder_for("gzip")
    for number in range(20):
        event = b"data: %d\n\n" % number
        flushed = codec.compress(event) + codec.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(decoder.feed(flushed)) == event


@pytest.mark.parametrize("header", ["", "identity", "x-rot13", "x-gzip", "aws-chunked, identity", ","])
def test_what_httpx_does_not_undo_passes(header):
    """A coding that httpx2 does not know needs no decoder, because httpx2 passes the bytes through."""
    assert decoder_for(header) is None
    assert by_httpx2(header or "identity", TEXT) == TEXT


@CODINGS
def test_truncated(header, encode):
    """A body that is cut anywhere gives the beginning of the text or `DecodingError`."""
    body = encode(TEXT)
    for cut in range(0, len(body), max(1, len(body) // 60)):
        try:
            assert TEXT.startswith(decoded(header, [body[:cut]]))
        except DecodingError:
            continue


@CODINGS
def test_corrupt(header, encode):
    """A body with wrong bits raises no exception other than `DecodingError`."""
    body = encode(TEXT)
    rng = random.Random(11)
    raised = 0
    for _ in range(150):
        broken = bytearray(body)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        pieces = split(bytes(broken), [rng.randrange(len(body)) for _ in range(3)])
        try:
            decoded(header, pieces)
        except DecodingError:
            raised += 1
    assert raised


@SINGLE
@given(pieces=st.lists(st.binary(max_size=50), max_size=10))
def test_arbitrary_bytes(header, encode, pieces):
    """Arbitrary bytes raise no exception other than `DecodingError`, even after an earlier error."""
    decoder = decoder_for(header)
    for piece in pieces:
        try:
            assert all(decoder.feed(piece))
        except DecodingError:
            continue


@pytest.mark.parametrize("header", ["gzip", "br", "zstd", "deflate", "gzip, br"])
def test_no_coding_at_all(header):
    """Plain text with a `Content-Encoding` raises `DecodingError` at once."""
    with pytest.raises(DecodingError):
        decoded(header, [TEXT])


# --- decompression bombs ------------------------------------------------------------------------------------------

BOMB = bytes(64 * 1024 * 1024)
LARGE = content_encoding.PIECE


@cache
def bomb(encode: Callable[[bytes], bytes]) -> bytes:
    """64 MB, coded."""
    return encode(BOMB)


@pytest.mark.parametrize("name", ["gzip", "deflate, zlib", "deflate, raw", "br", "zstd", "a chain of two"])
def test_a_bomb_comes_in_pieces(name):
    """64 MB in a few kilobytes are returned in pieces, as far as the bytes that came allow. Memory stays bounded."""
    header, encode = ENCODERS[name]
    body = bomb(encode)
    assert FREE / 2 <= taken(header, body, is_bomb=True) <= FREE + RATIO * len(body)
    assert peak(header, body) < 16 * LARGE


def test_a_bomb_of_bombs():
    """The data between two codings is also processed in pieces."""
    body = gzip.compress(zstd.compress(BOMB, 1) * 8)
    assert FREE / 2 <= taken("zstd, gzip", body, is_bomb=True) <= FREE + RATIO * len(body)
    assert peak("zstd, gzip", body) < 16 * LARGE


def test_a_bomb_that_gives_nothing():
    """The data between two codings counts too: a frame of zstd that is to be skipped has no output at all."""
    skipped = b"\x50\x2a\x4d\x18" + (32 * 1024 * 1024).to_bytes(4, "little") + bytes(32 * 1024 * 1024)
    assert taken("zstd, gzip", gzip.compress(skipped), is_bomb=True) == 0


def test_a_bomb_of_empty_lines():
    """A line costs more than its bytes: lines that are no events take time too."""
    body = gzip.compress(b"\n" * 3_000_000)
    assert taken("gzip", body, is_bomb=True) < 200_000


@SINGLE
def test_a_bomb_that_drips(header, encode):
    """A bomb in many reads is let go of as one in a single read. What came before it does not matter."""
    body = bomb(encode)
    decoder = decoder_for(header)
    size = 0
    with pytest.raises(ExpansionError):
        for at in range(len(body)):
            size += sum(map(len, decoder.feed(body[at : at + 1])))
    assert size <= FREE + RATIO * len(body)


def test_many_frames_in_few_bytes():
    """A frame costs more than its bytes, because a short one takes as long as one of usual size."""
    decoder = decoder_for("gzip")
    list(decoder.feed(gzip.compress(b"x")))
    decoder.framed(FREE // FRAME - 100)
    with pytest.raises(ExpansionError):
        decoder.framed(200)


def test_a_stream_that_compresses_well():
    """Ten thousand chunks that are compressed together are examined to their end, in one read or in many."""
    chunk = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s"}}]}'
    rng = random.Random(1)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz ", k=rng.randint(2, 7))) for _ in range(2_000)]
    body = b"\n\n".join(chunk.replace(b"%s", rng.choice(words)) for _ in range(10_000))
    codings = (("br", brotlied(body)), ("zstd", zstd.compress(body, 9)), ("gzip", gzip.compress(body)))
    for header, encoded in codings:
        decoder = decoder_for(header)
        for piece in decoder.feed(encoded):
            decoder.framed(piece.count(b"\n\n"))
        assert decoded(header, split(encoded, range(0, len(encoded), 4096))) == body


def test_a_bomb_for_zstandard(monkeypatch):
    """The library `zstandard` has no output limit, so it gets small inputs. Memory stays bounded."""
    only(monkeypatch, "zstandard")
    body = bomb(zstd.compress)
    assert FREE / 2 <= taken("zstd", body, is_bomb=True) <= FREE + RATIO * len(body)
    assert peak("zstd", body) < 48 * LARGE


def test_rubbish_after_gzip_is_not_kept():
    """Bytes after a gzip body are dropped."""
    decoder = decoder_for("gzip")
    assert b"".join(decoder.feed(gzip.compress(b"text") + b"x")) == b"text"
    for _ in range(100):
        assert list(decoder.feed(b"x" * 1000)) == []
    assert len(decoder._decoders[0]._inflate.unused_data) <= 1


def test_the_last_bytes_of_a_full_piece_are_not_forgotten():
    """If the output fills a piece exactly, the rest of the output in the codec is not lost."""
    for size in range(content_encoding.PIECE - 3, content_encoding.PIECE + 260, 13):
        body = raw_deflate(bytes(size))
        assert taken("deflate", body) == size


def taken(header: str, body: bytes, *, is_bomb: bool = False) -> int:
    """The bytes that are decoded before the decoder ends, or lets go of a bomb."""
    decoder = decoder_for(header)
    sizes = [0]
    with pytest.raises(ExpansionError) if is_bomb else nullcontext():
        sizes.extend(len(piece) for piece in decoder.feed(body))
    assert max(sizes) <= content_encoding.PIECE
    return sum(sizes)


def peak(header: str, body: bytes) -> int:
    """The peak of Python's memory while the body is decoded and the pieces are dropped, in bytes."""
    decoder = decoder_for(header)
    tracemalloc.start()
    try:
        with suppress(ExpansionError):
            for _ in decoder.feed(body):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [5, 6, 5000])
def test_many_codings(count):
    """Five stacked codings are decoded and more raise `DecodingError`, as in httpx2."""
    header = ", ".join(["gzip"] * count)
    body = TEXT
    for _ in range(min(count, 6)):
        body = gzip.compress(body)
    if count == 5:
        assert decoded(header, [body]) == by_httpx2(header, body) == TEXT
        return
    with pytest.raises(DecodingError):
        decoded(header, [body])
    with pytest.raises(httpx2.DecodingError):
        by_httpx2(header, body)


# --- missing libraries -----------------------------------------------------------------------------------


def only(patch: pytest.MonkeyPatch, *present: str) -> None:
    """Make all codec libraries except these unimportable."""

    def importer(name: str) -> object:
        if name not in present:
            raise ImportError(name)
        return import_module(name)

    patch.setattr(content_encoding, "import_module", importer)


@pytest.mark.parametrize("header", ["br", "zstd"])
def test_without_a_codec_the_bytes_pass(monkeypatch, header):
    """Without a library for a coding its bytes pass through, as in httpx. The other codings of a chain are decoded."""
    only(monkeypatch)
    assert decoder_for(header) is None
    assert decoded(f"gzip, {header}", [gzip.compress(TEXT)]) == TEXT


def test_zstd_by_zstandard(monkeypatch):
    """The library that httpx uses gives the same result as the one that httpx2 uses, also for several frames."""
    only(monkeypatch, "zstandard")
    body = two_zstd_frames(TEXT)
    for size in (1, 7, 63, 64, 65, len(body)):
        assert decoded("zstd", [body[at : at + size] for at in range(0, len(body), size)]) == TEXT
    with pytest.raises(DecodingError):
        decoded("zstd", [body[:20] + bytes(200)])


class OldDecompressor:
    """A decompressor without an output limit and without `can_accept_more_data`."""

    def __init__(self) -> None:
        self._codec = brotli.Decompressor()

    def process(self, data: bytes) -> bytes:
        return self._codec.process(data)


class OldBrotli:
    """The library before 1.2."""

    error = brotli.error
    Decompressor = OldDecompressor


class CffiBrotli:
    """The other library for Brotli. It has the same interface."""

    error = brotli.error
    Decompressor = brotli.Decompressor


@pytest.mark.parametrize(("name", "module"), [("brotli", OldBrotli), ("brotlicffi", CffiBrotli)])
def test_other_brotlis(monkeypatch, name, module):
    """An older brotli and brotlicffi also work."""
    monkeypatch.setattr(content_encoding, "import_module", lambda wanted: {name: module}.get(wanted) or missing(wanted))
    body = brotli.compress(TEXT)
    assert decoded("br", [body[:50], body[50:]]) == TEXT
    assert FREE / 2 <= taken("br", bomb(brotlied), is_bomb=True) <= FREE + RATIO * len(body)
    with pytest.raises(DecodingError):
        decoded("br", [TEXT])


def missing(name: str) -> Sequence[object]:
    raise ImportError(name)
