"""Who may import whom: the layers of the package, and where a third-party package is allowed.

All imports count, those inside functions, those for type checkers, and those by a name in a string.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_llmstream

NAME = "otel_llmstream"
ROOT = Path(otel_llmstream.__file__).parent

VOCABULARY, WIRE, DIALECTS, STREAM, OBSERVER, RECORDERS, HOOKS, MONITORING, DOOR = range(9)

LAYERS = {
    "_catalog": VOCABULARY,
    "_clock": VOCABULARY,
    "_events": VOCABULARY,
    "_failures": VOCABULARY,
    "_limits": VOCABULARY,
    "_samples": VOCABULARY,
    "_saying": VOCABULARY,
    "_settings": VOCABULARY,
    "_summary": VOCABULARY,
    "_version": VOCABULARY,
    "wire": WIRE,
    "dialects": DIALECTS,
    "_states": STREAM,
    "_stream": STREAM,
    "_calls": OBSERVER,
    "_commons": OBSERVER,
    "_observer": OBSERVER,
    "_reader": OBSERVER,
    "_scout": OBSERVER,
    "recorders": RECORDERS,
    "hooks": HOOKS,
    "monitoring": MONITORING,
    "": DOOR,
    "_boundary": DOOR,
    "_instrumentor": DOOR,
    "_setup": DOOR,
    "testing": DOOR,
    "cli": DOOR,
}

# What each layer may import of ours, beside itself. A dialect reads the wire's frames; the recorders see a summary and
# nothing of how it came about.
OURS = {
    VOCABULARY: set(),
    WIRE: {VOCABULARY},
    DIALECTS: {VOCABULARY, WIRE},
    STREAM: {VOCABULARY},
    OBSERVER: {VOCABULARY, WIRE, DIALECTS, STREAM},
    RECORDERS: {VOCABULARY},
    HOOKS: {VOCABULARY, WIRE, DIALECTS, STREAM, OBSERVER},
    MONITORING: {VOCABULARY},
    DOOR: {VOCABULARY, WIRE, DIALECTS, STREAM, OBSERVER, RECORDERS, HOOKS, MONITORING},
}

CODECS = {"brotli", "brotlicffi", "compression", "backports", "zstandard"}

# What each layer may import of others, and the parts of the door more closely.
THIRD_PARTY = {
    VOCABULARY: set(),
    WIRE: CODECS,
    DIALECTS: {"msgspec"},
    STREAM: set(),
    OBSERVER: set(),
    RECORDERS: {"opentelemetry", "structlog"},
    HOOKS: {"httpx", "httpx2", "aiohttp", "botocore", "wrapt"},
    MONITORING: set(),
    DOOR: {"opentelemetry", "prometheus_client"},
}
PARTS = {
    "testing": {"opentelemetry", "pytest"},
    "testing.chaos": {"h11", *CODECS},
    "monitoring._yaml": {"yaml"},
    "wire._json_array": {"msgspec"},
    "cli": {"anthropic", "httpx2", "openai", "opentelemetry", "prometheus_client", "rich"},
}
# The switch that suppresses instrumentations is a context key of OpenTelemetry's, and a hook has to honour it.
MODULES = {"hooks._httpx": {"opentelemetry.instrumentation.utils"}}


def module_name(path: Path) -> str:
    """A file's module inside the package: `wire._sse`, `wire`, or nothing for the package itself."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def layer_of(module: str) -> int:
    return LAYERS[module.partition(".")[0]]


def imports(source: str, package: str) -> Iterator[str]:
    """The full names of all that a source imports; `package` is what its relative imports start from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"{absolute(node, package)}."
            yield from ((base + alias.name).strip(".") for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "_import", "__import__"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module imports and may not."""
    own = f"{NAME}.{module}".strip(".")
    package = own if is_package else own.rpartition(".")[0]
    return [name for name in imports(source, package) if not (allowed(module, name))]


def allowed(module: str, name: str) -> bool:
    top, _, rest = name.partition(".")
    layer = layer_of(module)
    if top == NAME:
        head = rest.partition(".")[0]
        target = LAYERS.get(head, DOOR)  # a name of the package itself is the door's
        return target == layer or target in OURS[layer]
    if top in sys.stdlib_module_names:
        return True
    exact = MODULES.get(module, set())
    return top in third_party(module) or any(name == given or name.startswith(f"{given}.") for given in exact)


def third_party(module: str) -> set[str]:
    parts = [part for part in PARTS if module == part or module.startswith(f"{part}.")]
    return PARTS[max(parts, key=len)] if parts else THIRD_PARTY[layer_of(module)]


FILES = sorted(ROOT.rglob("*.py"))


def test_every_module_has_a_layer():
    """A new module says where it belongs: here."""
    unplaced = {module_name(path).partition(".")[0] for path in FILES} - LAYERS.keys()
    assert not unplaced
    assert len(FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path) or "(the package)")
def test_imports(path):
    """No arrow points up, and no third-party package is where it does not belong."""
    assert violations(module_name(path), path.read_text(), is_package=path.name == "__init__.py") == []


def test_the_order():
    """What a layer may import is below it."""
    assert all(below < layer for layer, may in OURS.items() for below in may)


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("_stream", "from ._observer import Engine", ["otel_llmstream._observer.Engine"]),
        ("_stream", "from . import _observer", ["otel_llmstream._observer"]),
        ("_stream", "from . import _catalog as catalog", []),
        ("_stream", "from .wire import Frame", ["otel_llmstream.wire.Frame"]),
        ("wire._sse", "from .._stream import Stream", ["otel_llmstream._stream.Stream"]),
        ("wire._sse", "from ._frame import Frame\nfrom . import _frame", []),
        ("wire._sse", "from .. import _catalog", []),
        ("wire._sse", "from .. import dialects", ["otel_llmstream.dialects"]),
        ("wire._sse", "from .. import Settings", ["otel_llmstream.Settings"]),
        ("wire._sse", "import otel_llmstream", ["otel_llmstream"]),
        ("wire._sse", "def f():\n    import httpx", ["httpx"]),
        ("wire._content", "module = import_module('brotli')\nother = _import('zstandard', 'lzma')", []),
        ("wire._content", "module = importlib.import_module('httpx')", ["httpx"]),
        ("_events", "import msgspec, json", ["msgspec"]),
        ("_events", "if TYPE_CHECKING:\n    from opentelemetry.trace import Span", ["opentelemetry.trace.Span"]),
        ("recorders.spans", "import structlog\nfrom opentelemetry import trace", []),
        ("recorders.spans", "from .._observer import Observer", ["otel_llmstream._observer.Observer"]),
        ("recorders.spans", "import wrapt", ["wrapt"]),
        ("hooks._httpx", "from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled", []),
        ("hooks._httpx", "from opentelemetry import trace", ["opentelemetry.trace"]),
        ("hooks._tap", "from ..recorders import spans", ["otel_llmstream.recorders.spans"]),
        ("hooks._tap", "from opentelemetry.instrumentation.utils import x", ["opentelemetry.instrumentation.utils.x"]),
        ("monitoring._names", "from .._catalog import Metric", []),
        ("monitoring._names", "from ..cli import main\nimport yaml", ["otel_llmstream.cli.main", "yaml"]),
        ("monitoring._yaml", "import yaml", []),
        ("testing.chaos._wire", "import rich", ["rich"]),
        ("testing._capture", "import h11", ["h11"]),
    ],
)
def test_the_check_itself(module, source, found):
    """The check finds what it is there to find, in every way to write an import."""
    assert violations(module, source) == found


def test_a_packages_own_relative_imports():
    """In a package's own file a dot means the package itself."""
    assert violations("wire", "from ._sse import SSEFramer\nfrom .._events import Event", is_package=True) == []
    assert violations("wire", "from .._stream import State", is_package=True) == ["otel_llmstream._stream.State"]
    assert violations("", "from .recorders import Health", is_package=True) == []
