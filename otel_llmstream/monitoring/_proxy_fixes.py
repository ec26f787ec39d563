"""What to change on the way between an application and a provider: configuration, proxy by proxy.

Defaults are those of each product's own documentation: nginx ngx_http_proxy_module; Envoy's "How do I configure
timeouts?"; HAProxy's configuration manual, section 4; AWS "Edit load balancer attributes"; Cloudflare "Connection
limits" and "Error 524". What is said of nginx and HAProxy themselves is tried with both (`tests/test_proxies_live.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Remedy:
    """One proxy's configuration.

    Attributes:
        where: the proxy.
        text: what it does unless told otherwise, and how to see that it was it.
        language: of the lines.
        lines: what to write.
    """

    where: str
    text: str
    language: str
    lines: str


TIMEOUTS: Final = (
    Remedy(
        "nginx",
        "It gives up after 60 s without a byte from upstream. Its error log then says `upstream timed out (110: "
        "Connection timed out) while reading upstream`.",
        "nginx",
        """\
location /v1/ {
    proxy_pass https://llm;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 600s;   # between two reads from upstream; 60s unless set
    send_timeout 600s;         # between two writes to the client; 60s unless set
}""",
    ),
    Remedy(
        "nginx as Kubernetes ingress",
        "The same, as annotations of the Ingress (ingress-nginx).",
        "yaml",
        """\
metadata:
  annotations:
    nginx.ingress.kubernetes.io/proxy-read-timeout: "600"
    nginx.ingress.kubernetes.io/proxy-send-timeout: "600\"""",
    ),
    Remedy(
        "Envoy, Istio",
        "A route's `timeout` is for the whole response, 15 s unless set: no stream may have one. Silence is "
        "`idle_timeout`, or the connection manager's `stream_idle_timeout`, 5 minutes unless set. The access log's "
        "`%RESPONSE_FLAGS%` says `UT` for the first and `SI` for the second. (Istio's VirtualService has no time-out "
        "unless set.)",
        "yaml",
        """\
routes:
- match: {prefix: "/v1/"}
  route:
    cluster: llm
    timeout: 0s          # of the whole response; 0s is none
    idle_timeout: 600s   # of silence""",
    ),
    Remedy(
        "HAProxy",
        "`timeout server` is its patience with a silent provider, `timeout client` with a client that reads nothing. "
        "`timeout tunnel` is for WebSockets and CONNECT only: an event stream is none. The log's termination state "
        "begins with `sD` or `cD`.",
        "haproxy",
        """\
backend llm
    timeout server 600s
frontend api
    timeout client 600s""",
    ),
    Remedy(
        "AWS Application Load Balancer",
        "It closes a connection after 60 s without a byte (1 to 4,000 s can be set), in the middle of a response too. "
        "The keep-alive of the targets must be longer than this.",
        "bash",
        """\
aws elbv2 modify-load-balancer-attributes --load-balancer-arn "$ARN" \\
  --attributes Key=idle_timeout.timeout_seconds,Value=600""",
    ),
    Remedy(
        "Cloudflare",
        "It waits 100 s (its page on error 524) or 120 s (its table of connection limits) between two reads from the "
        "origin, and answers 524 where the response has not begun. Only Enterprise zones can change it, up to 6,000 "
        "s. Everybody else sends something often enough, or leaves the proxy out for this host name (DNS only).",
        "bash",
        """\
curl -X PATCH "https://api.cloudflare.com/client/v4/zones/$ZONE/settings/proxy_read_timeout" \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" --data '{"value": 600}'""",
    ),
    Remedy(
        "A gateway of your own",
        "Whatever idle time-outs are on the way, a comment in the event stream every 15 seconds resets them all. "
        "Clients ignore it, by the rules of server-sent events.",
        "text",
        """\
: ping
""",
    ),
)
"""Against time-outs: streams that are cut, reset, or answered with 504 or 524."""

BUFFERING: Final = (
    Remedy(
        "nginx",
        "Unless told otherwise it holds back to the end what it compresses (leave `text/event-stream` out of "
        "`gzip_types`) and a body that has neither a length nor chunks, as HTTP/1.0 servers write it. A chunked body "
        "it passes on. The server behind it can ask for a stream by itself with the response header "
        "`X-Accel-Buffering: no`.",
        "nginx",
        """\
location /v1/ {
    proxy_pass https://llm;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    proxy_cache off;
    gzip off;
}""",
    ),
    Remedy(
        "nginx as Kubernetes ingress",
        "The same, as an annotation of the Ingress (ingress-nginx).",
        "yaml",
        """\
metadata:
  annotations:
    nginx.ingress.kubernetes.io/proxy-buffering: "off\"""",
    ),
    Remedy(
        "Envoy, Istio",
        "The router passes data on as it comes. What collects is a filter: external processing in the mode `BUFFERED`, "
        "a Lua or Wasm filter that waits for the whole body, the compressor. Switch it off for the route, or let it "
        "stream.",
        "yaml",
        """\
- name: envoy.filters.http.ext_proc
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
    processing_mode: {response_body_mode: STREAMED}   # or NONE; BUFFERED holds the answer back""",
    ),
    Remedy(
        "HAProxy",
        "It passes data on, but may hold headers and the first events for 200 ms to fill packets; `option "
        "http-no-delay` forbids that. Compression collects: leave `text/event-stream` out of `compression type`.",
        "haproxy",
        """\
backend llm
    option http-no-delay
    compression type text/html text/plain application/json""",
    ),
    Remedy(
        "AWS Application Load Balancer",
        "It does not collect what instances and IP targets send. A Lambda target's answer is collected whole: give "
        "such a service another front (a function URL with response streaming). This shows what the targets are:",
        "bash",
        """\
aws elbv2 describe-target-groups --load-balancer-arn "$ARN" \\
  --query 'TargetGroups[].[TargetGroupName,TargetType]'""",
    ),
    Remedy(
        "Cloudflare",
        "It streams unless the zone's response buffering is on (an Enterprise setting). `cloudflared` passes on at "
        "once only what is declared as `text/event-stream`: let the origin say so.",
        "bash",
        """\
curl -X PATCH "https://api.cloudflare.com/client/v4/zones/$ZONE/settings/response_buffering" \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" --data '{"value": "off"}'""",
    ),
    Remedy(
        "A gateway of your own",
        "Write each event by itself, flush it, and forbid transformation on the way. WSGI middleware that joins the "
        "body, and gzip middleware, are the usual suspects.",
        "http",
        """\
Content-Type: text/event-stream
Cache-Control: no-cache, no-transform
X-Accel-Buffering: no""",
    ),
)
"""Against buffers: streams that arrive in one piece, and first tokens that come as late as the last."""

STATUSES: Final = {
    "400": ("The provider refuses the request: a parameter, a message, or its length.",
            "Read the message in the log line; look at what was deployed last."),
    "401": ("The key is missing, wrong or revoked.", "Check the secret and its rotation."),
    "403": ("The key may not use this model, region or endpoint.", "Check the account's permissions and the region."),
    "404": ("No such model, deployment or path.",
            "Check the model's name and the base URL; the model may have been retired."),
    "408": ("The server waited too long for the request.", "Look at upload size and network; retry."),
    "429": ("More requests or tokens than the quota has.",
            "See the runbook LLMStreamRateLimited: slow down, spread, raise the quota."),
    "500": ("The provider failed.", "Compare with its status page; retry; fall back to another model."),
    "502": ("A gateway got no proper answer from the server behind it.",
            "Find out whose gateway it is, by server.address and the response's headers; look at its upstream."),
    "503": ("The provider, or a gateway, has no capacity.",
            "Wait as Retry-After says; fall back to another model or region."),
    "504": ("A gateway waited too long for the server behind it.",
            "Raise that gateway's read time-out (below); a stream's first byte may take a minute."),
    "529": ("Anthropic is overloaded.", "Back off with jitter; fall back to another model."),
}  # fmt: skip
"""HTTP statuses as `error.type`: cause and remedy."""
