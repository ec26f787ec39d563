"""Programs that observe one stream, say so, and end in some way: what the tests of a process's end run."""

COMMON = """
import os, sys
import httpx2
import otel_llmstream

BODY = {body!r}

def client(body=BODY):
    answer = httpx2.Response(200, headers={{"content-type": "text/event-stream"}}, stream=httpx2.ByteStream(body))
    return httpx2.Client(transport=httpx2.MockTransport(lambda request: answer))

def request(client):
    asked = {{"model": "m", "stream": True}}
    return client.build_request("POST", "http://api.test/v1/chat/completions", json=asked)

def stream():
    with client() as it:
        it.send(request(it))

def ready():
    os.write(1, b"is ready\\n")

def end(how):
    ready()
    if how == "exception":
        raise RuntimeError("nothing handles this")
    if how != "exit":
        import signal
        signal.pause()
"""

SCRIPT = """
otel_llmstream.instrument()
stream()
end(sys.argv[1])
"""

OPEN = """
otel_llmstream.instrument()
with client() as it:
    answer = it.send(request(it), stream=True)
    end("SIGTERM")
"""

ASGI = """
otel_llmstream.instrument()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    stream()
    if scope["path"] == "/exception":
        raise RuntimeError("a request fails")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""

CHILD = """
import multiprocessing

def work(how):
    otel_llmstream.instrument()  # in a forked child it is on already
    stream()
    end(how)

if __name__ == "__main__":
    otel_llmstream.instrument()
    child = multiprocessing.get_context(sys.argv[2]).Process(target=work, args=(sys.argv[1],))
    child.start()
    os.write(1, b"pid %d\\n" % child.pid)
    child.join()
"""

CELERY = """
from celery import Celery
from celery.signals import worker_process_shutdown, worker_ready

app = Celery("tasks", broker="memory://", set_as_current=True)
app.conf.worker_hijack_root_logger = False
otel_llmstream.instrument()

@app.task
def work(how):
    stream()
    ready()
    if how == "exception":
        raise RuntimeError("a task fails")

@worker_process_shutdown.connect
def shut_down(**_):
    otel_llmstream.shutdown()

@worker_ready.connect
def begin(**_):
    work.delay(os.environ["HOW"])
"""
