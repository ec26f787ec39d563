"""Instrumentations whose spans are never current: while one is active, our spans are plain ones. They are imitated."""

import sys
import types
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from opentelemetry import context, trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_llmstream
from otel_llmstream import Settings, _instrumentor, semconv
from otel_llmstream.telemetry import detached, processors
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

TOKENS, DURATION = semconv.TOKEN_USAGE.name, semconv.DURATION.name
OPENINFERENCE = "openinference.instrumentation.langchain"
OPENLLMETRY = "opentelemetry.instrumentation.langchain"


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have loaded the real packages."""
    for name in ("litellm", "langfuse", OPENINFERENCE, OPENLLMETRY):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def send(chaos_server: ChaosServer) -> Callable[..., None]:
    """One streaming chat request, as an SDK makes it."""

    def request(model: str = "ok") -> None:
        body = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        with httpx2.Client() as client:
            client.post(f"{chaos_server.openai_url}/chat/completions", json=body)

    return request


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., types.ModuleType]:
    """Put a module with these contents where an import would put it."""

    def module(name: str, **contents: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(contents)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return module


def instrumentor() -> Any:
    """A class of one object, as all of OpenTelemetry's instrumentors are."""

    class Instrumentor(BaseInstrumentor):
        made = 0

        def __init__(self) -> None:
            type(self).made += 1

        def instrumentation_dependencies(self) -> list[str]:
            return []

        def _uninstrument(self, **_options: Any) -> None:
            pass

    return Instrumentor


def of(module: str, base: type = object) -> Any:
    """An object whose class comes from a module."""
    return type("Anything", (base,), {"__module__": module})()


def is_plain(captured: Captured) -> bool:
    """Whether the newest span is a plain one."""
    name, attributes = captured.spans[-1].name, captured.spans[-1].attributes or {}
    plain = not any(key.startswith(("gen_ai.", "openai.")) for key in attributes)
    assert plain == name.startswith("llmstream ")
    assert attributes["llmstream.outcome"]
    return plain


INSTRUMENTORS = [(OPENINFERENCE, "LangChainInstrumentor"), (OPENLLMETRY, "LangchainInstrumentor")]


@pytest.mark.parametrize(("module", "name"), INSTRUMENTORS)
def test_an_instrumentor_may_be_switched_on_and_off_at_any_time(captured, send, load, module, name):
    """Each call has the span that is right when the call begins."""
    kind = instrumentor()
    load(module, **{name: kind})
    send()
    assert not is_plain(captured)
    assert kind.made == 0
    kind().instrument(skip_dep_check=True)
    send()
    assert is_plain(captured)
    kind().uninstrument()
    send()
    assert not is_plain(captured)


@pytest.mark.parametrize(("module", "name"), INSTRUMENTORS)
def test_an_instrumentor_is_not_initialised_again(captured, send, load, module, name):
    """The one object of the class may have options, which `__init__` would reset."""
    kind = instrumentor()
    kind().instrument(skip_dep_check=True)
    load(module, **{name: kind})
    send()
    assert is_plain(captured)
    assert kind.made == 1


@pytest.mark.parametrize("where", detached.LITELLM_LISTS)
@pytest.mark.parametrize(
    "callback",
    [
        "otel",
        "langfuse_otel",
        of("litellm.integrations.opentelemetry"),
        of("litellm.integrations.otel.logger"),
        of("my.application", type(of("litellm.integrations.opentelemetry"))),
    ],
    ids=["name", "vendor", "object", "second version", "derived"],
)
def test_litellms_callback(captured, send, load, where, callback):
    """Registered by name or as an object, also after our first call, in any of litellm's lists."""
    module = load("litellm", **{name: [] for name in detached.LITELLM_LISTS})
    send()
    assert not is_plain(captured)
    vars(module)[where].append(callback)
    send()
    assert is_plain(captured)
    vars(module)[where] = []
    send()
    assert not is_plain(captured)


@pytest.mark.parametrize("callback", ["prometheus", print, of("litellm.integrations.opentelemetrics"), None])
def test_other_callbacks_of_litellm(captured, send, load, callback):
    """They make no spans."""
    load("litellm", callbacks=[callback], success_callback=None)
    send()
    assert not is_plain(captured)


class Recorder(SpanProcessor):
    """A processor of the application that passes spans on to another one."""

    def __init__(self, inner: SpanProcessor | None = None) -> None:
        self.inner = inner


@pytest.mark.parametrize("wrap", [lambda it: it, Recorder, lambda it: Recorder(Recorder(it))])
def test_processors_are_found_when_they_come(wrap):
    """Also inside another processor. Each provider has an answer of its own."""
    provider = TracerProvider(shutdown_on_exit=False)
    found = processors.ProcessorSearch("langfuse")
    assert not found.is_on(provider)
    provider.add_span_processor(Recorder())
    assert not found.is_on(provider)
    provider.add_span_processor(wrap(of("langfuse._client.span_processor", SpanProcessor)))
    assert found.is_on(provider)
    assert not found.is_on(TracerProvider(shutdown_on_exit=False))
    assert found.is_on(provider)


def test_langfuse_makes_our_span_a_plain_one(send, load):
    """Its processor may come after our first call. A processor on another provider does not count."""
    load("langfuse")
    ours, theirs, spans = TracerProvider(shutdown_on_exit=False), TracerProvider(), InMemorySpanExporter()
    ours.add_span_processor(SimpleSpanProcessor(spans))
    with _instrumentor.replaced(Settings(), {"tracer_provider": ours}):
        theirs.add_span_processor(of("langfuse", SpanProcessor))
        send()
        ours.add_span_processor(of("langfuse", SpanProcessor))
        send()
    assert [span.name for span in spans.get_finished_spans()] == ["chat ok", "llmstream ok"]


def test_a_processor_inside_another_one_may_come_late():
    """A place that held nothing is looked at again."""
    provider, found = TracerProvider(shutdown_on_exit=False), processors.ProcessorSearch("langfuse")
    outer = Recorder()
    provider.add_span_processor(outer)
    assert not found.is_on(provider)
    outer.inner = of("langfuse", SpanProcessor)
    assert found.is_on(provider)


def test_a_list_of_processors_may_grow():
    """A list is looked at again if its length has changed."""
    provider, found = TracerProvider(shutdown_on_exit=False), processors.ProcessorSearch("langfuse")
    outer = Recorder()
    vars(outer)["several"] = several = [Recorder()]
    provider.add_span_processor(outer)
    assert not found.is_on(provider)
    several.append(of("langfuse", SpanProcessor))
    assert found.is_on(provider)


def test_processors_in_a_circle_and_long_lists():
    """The search ends, and its size has a cap."""
    provider, found = TracerProvider(shutdown_on_exit=False), processors.ProcessorSearch("langfuse")
    outer = Recorder()
    outer.inner = outer
    provider.add_span_processor(outer)
    vars(outer)["kept"] = [Recorder() for _ in range(10 * processors.MAX_ITEMS)]
    parts, places = processors._parts(provider)
    assert len(parts) == processors.MAX_ITEMS
    assert len(places) <= 4 * processors.MAX_ITEMS
    assert not found.is_on(provider)


def test_the_answer_is_kept_while_nothing_changes(monkeypatch):
    """A call does not search the provider again."""
    provider, found = TracerProvider(shutdown_on_exit=False), processors.ProcessorSearch("langfuse")
    searches = []
    real = processors._parts
    monkeypatch.setattr(processors, "_parts", lambda provider: searches.append(provider) or real(provider))
    for _ in range(3):
        assert not found.is_on(provider)
    assert len(searches) == 1


@pytest.mark.parametrize(("setting", "plain"), [(True, False), (False, True)])
def test_the_setting_overrules(send, load, setting, plain):
    """True and False decide alone."""
    for callbacks in ([], ["otel"]):
        load("litellm", callbacks=callbacks)
        with capture(settings=Settings(genai_spans=setting)) as captured:
            send()
        assert is_plain(captured) == plain


def _raise(*_args: Any) -> None:
    raise RuntimeError("half imported")


class Trap(type):
    """A class that cannot be looked at."""

    __getattribute__ = _raise  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("module", "contents"),
    [
        (OPENINFERENCE, {}),
        (OPENINFERENCE, {"LangChainInstrumentor": None}),
        (OPENINFERENCE, {"LangChainInstrumentor": object}),
        (OPENLLMETRY, {"LangchainInstrumentor": Trap("Trap", (), {})}),
        ("litellm", {}),
        ("litellm", {"callbacks": 7}),
        ("litellm", {"callbacks": None, "success_callback": ()}),
        ("langfuse", {}),
    ],
)
def test_modules_of_another_shape(captured, send, load, module, contents):
    """What cannot be found out counts as off, and is no error of ours."""
    load(module, **contents)
    send()
    assert not is_plain(captured)
    assert otel_llmstream.health().internal_errors == 0


def test_nothing_is_imported(captured, send):
    """Only modules that the application has loaded are looked at."""
    send()
    assert not is_plain(captured)
    assert not sys.modules.keys() & {"litellm", "langfuse", OPENINFERENCE, OPENLLMETRY}


def test_a_current_span_is_used_in_any_case(captured, send, load):
    """It stands for the call, whatever else is active."""
    load("litellm", callbacks=["otel"])
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("somebody.else")
    with tracer.start_as_current_span("theirs", attributes={"gen_ai.operation.name": "chat"}) as span:
        send()
        assert span.attributes["llmstream.outcome"] == "completed"
    assert captured.spans == ()


def test_requests_are_sent_below_our_plain_span(send, load):
    """Our span is still the current one while the request is sent."""
    load("litellm", callbacks=["otel"])
    with capture(http_spans=True) as captured:
        send()
    (http,) = [span for span in captured.all_spans if span not in captured.spans]
    assert http.parent is not None
    assert http.parent.span_id == captured.span.context.span_id


METRICS = types.SimpleNamespace(enable_metrics=True)


def litellm_by_name(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(detached.LITELLM_METRICS, "True")
    load("litellm", callbacks=["otel"])


def litellm_by_object(load: Any, _monkeypatch: pytest.MonkeyPatch) -> None:
    callback = of("litellm.integrations.opentelemetry")
    callback.config = METRICS
    load("litellm", success_callback=[callback])


def openllmetry(load: Any, _monkeypatch: pytest.MonkeyPatch) -> None:
    kind = instrumentor()
    kind().instrument(skip_dep_check=True)
    load(OPENLLMETRY, LangchainInstrumentor=kind)


@pytest.mark.parametrize("active", [litellm_by_name, litellm_by_object, openllmetry])
def test_their_metrics_of_completed_calls(captured, send, load, monkeypatch, active):
    """What they count is left to them. They count completed calls only, so the others are ours."""
    active(load, monkeypatch)
    token = context.attach(context.set_value(detached.OPENLLMETRY_KEY, value=True))
    try:
        send()
        assert (captured.metric(TOKENS), captured.metric(DURATION)) == ([], [])
        assert captured.metric(semconv.TTFC.name)
        assert captured.total("llmstream.streams") == 1
        send("no-finish")
    finally:
        context.detach(token)
    (failed,) = captured.metric(DURATION)
    assert failed.attributes["error.type"] == "stream_truncated"


@pytest.mark.parametrize("active", [openllmetry, lambda load, _: load("litellm", callbacks=["otel"])])
def test_metrics_that_they_do_not_emit(captured, send, load, monkeypatch, active):
    """OpenLLMetry marks the calls that it counts. Litellm counts if it is told to."""
    active(load, monkeypatch)
    send()
    assert is_plain(captured)
    assert captured.metric(TOKENS)
    assert captured.metric(DURATION)


def test_the_global_provider_counts_if_none_is_given(load, monkeypatch):
    """The application may set its provider after `instrument()`."""
    load("langfuse")
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    assert detached.find_detached(context.Context(), None) is None
    provider.add_span_processor(of("langfuse", SpanProcessor))
    assert detached.find_detached(context.Context(), None) is not None
