"""The layers: which folder of the package may import which, and which third-party packages it may use.

All imports count: those inside functions, those for type checkers, and those by a name in a string.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_llmstream

NAME = "otel_llmstream"
ROOT = Path(otel_llmstream.__file__).parent

# The rule. Each folder may import itself and the ones that it names.
VOCABULARY = {"semconv", "_settings", "_interruption", "_log", "_version"}
CORE = {*VOCABULARY, "core"}
ENGINE = {*CORE, "wire", "dialects", "engine"}
FOLDERS = {
    "core": CORE,
    "wire": {*CORE, "wire"},
    "dialects": {*CORE, "wire", "dialects"},
    "engine": ENGINE,
    "telemetry": {*CORE, "telemetry"},
    "instrumentation": {*ENGINE, "instrumentation"},
    "monitoring": {*CORE, "monitoring"},
    "debugging": {*ENGINE, "debugging", "monitoring"},
    "status": {*ENGINE, "telemetry", "status"},
}

CODECS = {"brotli", "brotlicffi", "compression", "backports", "zstandard"}

# Third-party packages, by folder; a single module may have more.
THIRD_PARTY = {
    "core": {"msgspec"},  # the records of each call: a dataclass of their size takes three times as long to make
    "wire": CODECS,
    "dialects": {"msgspec"},
    "engine": set(),
    "telemetry": {"opentelemetry", "structlog"},
    "instrumentation": {
        "httpx",
        "httpx2",
        "aiohttp",
        "botocore",
        "fastapi",
        "requests",
        "starlette",
        "urllib3",
        "wrapt",
    },
    "monitoring": set(),
    "debugging": set(),
    "debugging._yaml": {"yaml"},
    "debugging.doctor": {"h11", "h2"},
    "debugging.session_file": {"msgspec"},
    "debugging.timeline": {"msgspec"},
    "status": {"anyio", "msgspec", "starlette", "uvicorn"},
    "testing": {"opentelemetry", "pytest"},
    "testing.chaos": {"h11", "wsproto", *CODECS},
    "testing.chaos.grpc": {"grpc"},
    "monitoring._yaml": {"yaml"},
    "wire.json_array": {"msgspec"},
    "cli": {"anthropic", "httpx2", "openai", "opentelemetry", "prometheus_client", "rich"},
    "": {"opentelemetry", "prometheus_client"},
}
# A hook has to honour the switch that suppresses instrumentations, which is a context key of OpenTelemetry.
MODULES = {"instrumentation.switch": {"opentelemetry.instrumentation.utils"}}


def module_name(path: Path) -> str:
    """A file's module inside the package: `wire.sse`, `wire`, or the empty string for the package itself."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def imports(source: str, package: str) -> Iterator[str]:
    """The full names of all that a source imports. Its relative imports start from `package`."""
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
    return [name for name in imports(source, package) if not allowed(module, name)]


def allowed(module: str, name: str) -> bool:
    top, _, rest = name.partition(".")
    folder = module.partition(".")[0]
    if top == NAME:
        permitted = {*VOCABULARY} if folder in VOCABULARY else FOLDERS.get(folder)
        return permitted is None or rest.partition(".")[0] in permitted
    if top in sys.stdlib_module_names:
        return True
    exact = MODULES.get(module, set())
    return top in third_party(module) or any(name == given or name.startswith(f"{given}.") for given in exact)


def third_party(module: str) -> set[str]:
    if module.partition(".")[0] in VOCABULARY:
        return set()
    parts = [part for part in THIRD_PARTY if not part or module == part or module.startswith(f"{part}.")]
    return THIRD_PARTY[max(parts, key=len)]


def test_imports():
    """No import points up, and no third-party package is in a folder where it does not belong."""
    files = sorted(ROOT.rglob("*.py"))
    found = {
        name: bad
        for path in files
        if (bad := violations(name := module_name(path), path.read_text(), is_package=path.name == "__init__.py"))
    }
    assert found == {}
    assert {module_name(path).partition(".")[0] for path in files} >= FOLDERS.keys()


def test_there_is_no_circle():
    """Of two folders, at most one may import the other."""
    assert not [(one, other) for one, may in FOLDERS.items() for other in may - {one} if one in FOLDERS.get(other, ())]


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("core.stream", "from ..engine.observer import Engine", ["otel_llmstream.engine.observer.Engine"]),
        ("core.stream", "from .. import engine", ["otel_llmstream.engine"]),
        ("core.stream", "from .. import semconv", []),
        ("semconv", "from .core import events", ["otel_llmstream.core.events"]),
        ("semconv", "import msgspec", ["msgspec"]),
        ("wire.sse", "from ..core.events import Event", []),
        ("wire.sse", "from .frame import Frame\nfrom . import frame", []),
        ("wire.sse", "from .. import dialects", ["otel_llmstream.dialects"]),
        ("wire.sse", "from .. import Settings", ["otel_llmstream.Settings"]),
        ("wire.sse", "import otel_llmstream", ["otel_llmstream"]),
        ("wire.sse", "def f():\n    import httpx", ["httpx"]),
        ("wire.content_encoding", "module = import_module('brotli')\nother = _import('zstandard', 'lzma')", []),
        ("wire.content_encoding", "module = importlib.import_module('httpx')", ["httpx"]),
        ("core.events", "import wrapt, json", ["wrapt"]),
        ("core.events", "if TYPE_CHECKING:\n    from opentelemetry.trace import Span", ["opentelemetry.trace.Span"]),
        ("telemetry.spans", "import structlog\nfrom opentelemetry import trace", []),
        (
            "telemetry.spans",
            "from ..engine.observer import Observer",
            ["otel_llmstream.engine.observer.Observer"],
        ),
        ("telemetry.spans", "import wrapt", ["wrapt"]),
        ("instrumentation.switch", "from opentelemetry.instrumentation.utils import is_enabled", []),
        ("instrumentation.httpx", "from opentelemetry import trace", ["opentelemetry.trace"]),
        ("instrumentation.httpx", "from ..telemetry import spans", ["otel_llmstream.telemetry.spans"]),
        (
            "instrumentation.httpx",
            "from opentelemetry.instrumentation.utils import x",
            ["opentelemetry.instrumentation.utils.x"],
        ),
        ("monitoring._names", "from ..semconv import Metric", []),
        ("monitoring._names", "from ..cli import main\nimport yaml", ["otel_llmstream.cli.main", "yaml"]),
        ("monitoring._yaml", "import yaml", []),
        ("testing.chaos._wire", "import rich", ["rich"]),
        ("testing._capture", "import h11", ["h11"]),
    ],
)
def test_the_check_itself(module, source, found):
    """The check finds what it is there to find, in every way to write an import."""
    assert violations(module, source) == found


def test_relative_imports_of_a_package():
    """In a package's own file a dot means the package itself."""
    assert violations("wire", "from .sse import SSEFramer\nfrom ..core.events import Event", is_package=True) == []
    assert violations("wire", "from ..engine import Engine", is_package=True) == ["otel_llmstream.engine.Engine"]
    assert violations("", "from .telemetry import Health", is_package=True) == []
