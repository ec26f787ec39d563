"""Configuration of proxies between an application and a provider.

Default values come from each product's documentation: nginx ngx_http_proxy_module; Envoy's "How do I configure
timeouts?"; HAProxy's configuration manual, section 4; AWS "Edit load balancer attributes"; Cloudflare "Connection
limits" and "Error 524". `tests/test_proxies_live.py` runs nginx and HAProxy and checks the statements about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ProxyFix:
    """The configuration of one proxy.

    Attributes:
        proxy: the proxy's name.
        text: its default behaviour, and how to see that this proxy is the cause.
        language: the language of the snippet.
        snippet: the configuration to write.
    """

    proxy: str
    text: str
    language: str
    snippet: str


TIMEOUTS: Final = (
    ProxyFix(
        "nginx",
        "It closes the stream after 60 s without a byte from upstream. Its error log then says `upstream timed out "
        "(110: Connection timed out) while reading upstream`.",
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
    ProxyFix(
        "nginx as Kubernetes ingress",
        "The same settings, as annotations of the Ingress (ingress-nginx).",
        "yaml",
        """\
metadata:
  annotations:
    nginx.ingress.kubernetes.io/proxy-read-timeout: "600"
    nginx.ingress.kubernetes.io/proxy-send-timeout: "600\"""",
    ),
    ProxyFix(
        "Envoy, Istio",
        "A route's `timeout` limits the whole response. Its default is 15 s. Disable it for streams. `idle_timeout` "
        "limits silence; so does the connection manager's `stream_idle_timeout`, with a default of 5 minutes. The "
        "access log's `%RESPONSE_FLAGS%` is `UT` for the first limit and `SI` for the second. (Istio's VirtualService "
        "has no time-out by default.)",
        "yaml",
        """\
routes:
- match: {prefix: "/v1/"}
  route:
    cluster: llm
    timeout: 0s          # for the whole response; 0s disables it
    idle_timeout: 600s   # for silence""",
    ),
    ProxyFix(
        "HAProxy",
        "`timeout server` limits the silence of the provider. `timeout client` limits the time in which the client "
        "reads nothing. `timeout tunnel` is only for WebSockets and CONNECT, not for event streams. The log's "
        "termination state begins with `sD` or `cD`.",
        "haproxy",
        """\
backend llm
    timeout server 600s
frontend api
    timeout client 600s""",
    ),
    ProxyFix(
        "AWS Application Load Balancer",
        "It closes a connection after 60 s without a byte, even in the middle of a response. The limit can be set from "
        "1 to 4,000 s. The keep-alive time-out of the targets must be longer.",
        "bash",
        """\
aws elbv2 modify-load-balancer-attributes --load-balancer-arn "$ARN" \\
  --attributes Key=idle_timeout.timeout_seconds,Value=600""",
    ),
    ProxyFix(
        "Cloudflare",
        "It waits 100 s (its page on error 524) or 120 s (its table of connection limits) between two reads from the "
        "origin. If the response has not begun by then, it answers 524. Only Enterprise zones can change the limit, "
        "up to 6,000 s. In other zones, send something more often than that, or turn the proxy off for this host name "
        "(DNS only).",
        "bash",
        """\
curl -X PATCH "https://api.cloudflare.com/client/v4/zones/$ZONE/settings/proxy_read_timeout" \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" --data '{"value": 600}'""",
    ),
    ProxyFix(
        "A gateway of your own",
        "A comment in the event stream every 15 seconds resets all idle time-outs on the way. Clients ignore comments, "
        "as the specification of server-sent events requires.",
        "text",
        """\
: ping
""",
    ),
)
"""Fixes for time-outs: streams that are truncated, reset, or answered with 504 or 524."""

BUFFERING: Final = (
    ProxyFix(
        "nginx",
        "By default it passes a chunked body on at once. It holds two kinds of bodies back until the end: a body that "
        "it compresses (leave `text/event-stream` out of `gzip_types`), and a body with neither a length nor chunks, "
        "as HTTP/1.0 servers send it. The server behind it can turn buffering off with the response header "
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
    ProxyFix(
        "nginx as Kubernetes ingress",
        "The same setting, as an annotation of the Ingress (ingress-nginx).",
        "yaml",
        """\
metadata:
  annotations:
    nginx.ingress.kubernetes.io/proxy-buffering: "off\"""",
    ),
    ProxyFix(
        "Envoy, Istio",
        "The router passes data on as it comes. If data is held back, a filter does it: external processing in the "
        "mode `BUFFERED`, a Lua or Wasm filter that waits for the whole body, or the compressor. Switch this filter "
        "off for the route, or configure it to stream.",
        "yaml",
        """\
- name: envoy.filters.http.ext_proc
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
    processing_mode: {response_body_mode: STREAMED}   # or NONE; BUFFERED holds the response back""",
    ),
    ProxyFix(
        "HAProxy",
        "It passes data on, but it may hold headers and the first events for 200 ms to fill packets. `option "
        "http-no-delay` prevents this. Compression holds data back: leave `text/event-stream` out of "
        "`compression type`.",
        "haproxy",
        """\
backend llm
    option http-no-delay
    compression type text/html text/plain application/json""",
    ),
    ProxyFix(
        "AWS Application Load Balancer",
        "It does not buffer responses of instances and IP targets. It buffers the whole response of a Lambda target: "
        "use a function URL with response streaming instead. This command shows the types of the targets:",
        "bash",
        """\
aws elbv2 describe-target-groups --load-balancer-arn "$ARN" \\
  --query 'TargetGroups[].[TargetGroupName,TargetType]'""",
    ),
    ProxyFix(
        "Cloudflare",
        "It streams unless the zone's response buffering is on (an Enterprise setting). `cloudflared` streams only "
        "responses with the content type `text/event-stream`, so the origin must set it.",
        "bash",
        """\
curl -X PATCH "https://api.cloudflare.com/client/v4/zones/$ZONE/settings/response_buffering" \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" --data '{"value": "off"}'""",
    ),
    ProxyFix(
        "A gateway of your own",
        "Write each event separately, flush it, and send the headers below, which forbid changes on the way. Frequent "
        "causes of buffering are WSGI middleware that joins the body, and gzip middleware.",
        "http",
        """\
Content-Type: text/event-stream
Cache-Control: no-cache, no-transform
X-Accel-Buffering: no""",
    ),
)
"""Fixes for buffering: streams that arrive in one burst, and first tokens that come as late as the last ones."""

STATUSES: Final = {
    "400": ("The provider rejects the request: a parameter, a message, or its length.",
            "Read the message in the log line; look at the last deployment."),
    "401": ("The key is missing, wrong or revoked.", "Check the secret and its rotation."),
    "403": ("The key may not use this model, region or endpoint.", "Check the account's permissions and the region."),
    "404": ("The model, deployment or path does not exist.",
            "Check the model's name and the base URL; the model may have been retired."),
    "408": ("The server waited too long for the request.", "Check the size of the request and the network; retry."),
    "429": ("More requests or tokens than the quota allows.",
            "See the runbook LLMStreamRateLimited: slow down, spread the load, or raise the quota."),
    "500": ("The provider failed.", "Compare with its status page; retry; fall back to another model."),
    "502": ("A gateway received no valid response from the server behind it.",
            "Find the gateway's owner by server.address and the response headers; check its upstream."),
    "503": ("The provider, or a gateway, has no capacity.",
            "Wait for the time in Retry-After; fall back to another model or region."),
    "504": ("A gateway waited too long for the server behind it.",
            "Raise that gateway's read time-out (below); a stream's first byte may take a minute."),
    "529": ("Anthropic is overloaded.", "Back off with jitter; fall back to another model."),
}  # fmt: skip
"""HTTP statuses as `error.type`: cause and remedy."""
