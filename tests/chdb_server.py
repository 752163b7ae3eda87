"""ClickHouse's HTTP interface over chdb, which is ClickHouse in process: the engine of the tests.

One idea: chdb cannot listen, and hangs in a forked child, so this program owns it, in a process of its own
that ``tests.clickhouse`` starts. It runs one query at a time. It ends with its standard input, so that no
engine outlives its tests.

Usage: ``python -m tests.chdb_server FOLDER PORT``; prints the port once it listens.
"""

import gzip
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb.session
import lz4.frame

#: Parameters of a request that are no settings of the query.
_NOT_SETTINGS = frozenset(
    [
        "query",
        "database",
        "user",
        "password",
        "role",
        "quota_key",
        "session_id",
        "session_timeout",
        "session_check",
        "query_id",
        "default_format",
        "client_protocol_version",
        "compress",
        "decompress",
        "wait_end_of_query",
        "enable_http_compression",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
        "network_compression_method",
        "http_response_buffer_size",
    ]
)
_INSERT = re.compile(rb"\s*INSERT\s+INTO\s+(?P<target>.+?)\s+FORMAT\s+(?P<format>\w+)[ \t]*\n?", re.I | re.S)
_FORMAT = re.compile(r"\sFORMAT\s+(\w+)\s*;?\s*$", re.I)
_CODE = re.compile(r"Code: (\d+)")


class Engine:
    """One folder of chdb, used by one request at a time."""

    def __init__(self, folder: str) -> None:
        self._session: Any = chdb.session.Session(folder)
        self._lock = threading.Lock()
        self._session.query("SET async_insert = 0")
        self._session.query("SET max_threads = 2")

    def run(self, parameters: dict[str, str], body: bytes) -> tuple[bytes, str, dict[str, str]]:
        """Run the query of a request; return its result, the name of its format, and its costs."""
        query = parameters.get("query", "").encode()
        values = {name[6:]: value for name, value in parameters.items() if name.startswith("param_")}
        settings = {
            name: value
            for name, value in parameters.items()
            if name not in _NOT_SETTINGS and not name.startswith("param_")
        }
        text = query + (b"\n" if query and body else b"") + body
        insert = _INSERT.match(text)
        with self._lock, self._set(parameters.get("database") or "default", settings):
            if insert is not None:
                self._insert(insert["target"].decode(), insert["format"].decode(), text[insert.end() :])
                return b"", "Native", {}
            told = text.decode()
            found = _FORMAT.search(told)
            form = found[1] if found else parameters.get("default_format") or "TabSeparated"
            before_s = time.process_time()
            result = self._session.query(
                told[: found.start()] if found else told, form, params=values or None
            )
            costs = {
                "cpu_ns": str(round(1e9 * (time.process_time() - before_s))),
                "read_rows": str(result.storage_rows_read()),
                "read_bytes": str(result.storage_bytes_read()),
                "elapsed_ns": str(round(1e9 * result.elapsed())),
            }
            return bytes(result.bytes()), form, costs

    def _insert(self, target: str, form: str, data: bytes) -> None:
        with tempfile.NamedTemporaryFile(prefix="chdb-block-") as file:
            file.write(data)
            file.flush()
            self._session.query(f"INSERT INTO {target} SELECT * FROM file('{file.name}', '{form}')")

    @contextmanager
    def _set(self, database: str, settings: dict[str, str]) -> Iterator[None]:
        self._session.query(f"USE {database}")
        if settings:
            self._session.query(
                "SET " + ", ".join(f"{name} = '{_escape(value)}'" for name, value in settings.items())
            )
        try:
            yield
        finally:
            if settings:
                self._session.query("SET " + ", ".join(f"{name} = DEFAULT" for name in settings))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


class _Handler(BaseHTTPRequestHandler):
    """Requests of clickhouse-connect."""

    protocol_version = "HTTP/1.1"
    #: An answer is sent in two pieces, and the second would wait for the first one to be acknowledged.
    disable_nagle_algorithm = True
    engine: Engine

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer a ping or a query."""
        if urlsplit(self.path).path == "/ping":
            self._answer(200, b"Ok.\n", {})
        else:
            self._run(b"")

    def do_POST(self) -> None:
        """Answer a query or an insert."""
        body = self._read_body()
        encoding = self.headers.get("Content-Encoding")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "lz4":
            body = lz4.frame.decompress(body)
        self._run(body)

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length")
        if length is not None:
            return self.rfile.read(int(length))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _run(self, body: bytes) -> None:
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            data, form, costs = self.engine.run(parameters, body)
        except Exception as error:
            code = _CODE.search(str(error))
            headers = {"X-ClickHouse-Exception-Code": code[1] if code else "1"}
            return self._answer(500, str(error).encode(), headers)
        headers = {
            "X-ClickHouse-Format": form,
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Query-Id": parameters.get("query_id", ""),
            "X-ClickHouse-Summary": json.dumps(costs),
        }
        self._answer(200, data, headers)

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that went away."""


def main() -> None:
    """Serve until standard input ends."""
    _Handler.engine = Engine(sys.argv[1])
    server = _Server(("127.0.0.1", int(sys.argv[2])), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
