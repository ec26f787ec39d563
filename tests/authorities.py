"""One certificate authority instead of all those of the web: no test meets a certificate of the web.

To load them all costs each new client up to 0.1 s, which was most of the time of many tests.
"""

import os
import tempfile
from pathlib import Path

import certifi

SUFFIX = "-one-authority.pem"
KEPT = "TESTS_SSL_CERT_FILE"
"""The variable that keeps what SSL_CERT_FILE was."""

_END = "-----END CERTIFICATE-----\n"


def reduce() -> None:
    """Let clients in this process and in those that it starts load one authority; called once, before all tests."""
    before = os.environ.get("SSL_CERT_FILE", "")
    if not before.endswith(SUFFIX):  # a worker has that of the process that started it
        os.environ[KEPT] = before
        os.environ["SSL_CERT_FILE"] = _written(Path(certifi.where()).read_text(encoding="utf-8"))
    certifi.where = lambda: os.environ["SSL_CERT_FILE"]


def outward() -> dict[str, str]:
    """The environment of a program that may leave the machine, with all authorities."""
    environ = {name: value for name, value in os.environ.items() if name not in (KEPT, "SSL_CERT_FILE")}
    return environ | ({"SSL_CERT_FILE": os.environ[KEPT]} if os.environ.get(KEPT) else {})


_kept_open = []
"""The file is removed when this process ends."""


def _written(bundle: str) -> str:
    file = tempfile.NamedTemporaryFile("w", suffix=SUFFIX, encoding="utf-8")  # noqa: SIM115
    file.write(bundle.partition(_END)[0] + _END)
    file.flush()
    _kept_open.append(file)
    return file.name
