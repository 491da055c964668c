"""OtlpReceiver: takes OTLP over gRPC and HTTP on loopback and keeps it, so that tests read exact numbers."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

grpc: Any = import_module("grpc")  # which has no types

_SERVICES = (
    (trace_service_pb2, trace_service_pb2_grpc, "Trace", "traces"),
    (metrics_service_pb2, metrics_service_pb2_grpc, "Metrics", "metrics"),
    (logs_service_pb2, logs_service_pb2_grpc, "Logs", "logs"),
)


class OtlpReceiver:
    """Receives between ``with`` and its end. requests: by signal, in the order of arrival, as protobuf messages."""

    def __init__(self) -> None:
        self.requests: dict[str, list[Any]] = {signal: [] for *_, signal in _SERVICES}
        self._arrived = threading.Condition()
        self._grpc = grpc.server(ThreadPoolExecutor(4, "otlp-receiver"))
        for messages, services, name, signal in _SERVICES:
            servicer = getattr(services, f"{name}ServiceServicer")
            response = getattr(messages, f"Export{name}ServiceResponse")
            member = {"Export": self._export(signal, response)}
            add = getattr(services, f"add_{name}ServiceServicer_to_server")
            add(type("Servicer", (servicer,), member)(), self._grpc)
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http_port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> OtlpReceiver:
        self._grpc.start()
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._grpc.stop(0).wait(5)
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def endpoint(self, protocol: str) -> str:
        return f"http://127.0.0.1:{self.grpc_port if protocol == 'grpc' else self.http_port}"

    def wait(self, done: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Until ``done``, which is asked after each request."""
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while not done():
                assert self._arrived.wait(deadline - time.monotonic()), "nothing more was received"

    def points(self, name: str) -> Iterator[Any]:
        """All points of one metric, in the order of arrival."""
        for request in self.requests["metrics"]:
            for metric in (m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics):
                if metric.name == name:
                    yield from getattr(metric, metric.WhichOneof("data")).data_points

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests["traces"]
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def records(self) -> list[Any]:
        return [
            record
            for request in self.requests["logs"]
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def _keep(self, signal: str, request: Any) -> None:
        with self._arrived:
            self.requests[signal].append(request)
            self._arrived.notify_all()

    def _export(self, signal: str, response: Any) -> Callable[..., Any]:
        def export(_: object, request: Any, __: object) -> Any:
            self._keep(signal, request)
            return response()

        return export

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self
        kinds = {
            f"/v1/{signal}": (
                getattr(messages, f"Export{name}ServiceRequest"),
                getattr(messages, f"Export{name}ServiceResponse"),
                signal,
            )
            for messages, _, name, signal in _SERVICES
        }

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name that http.server calls
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request, response, signal = kinds[self.path]
                zipped = self.headers.get("Content-Encoding") == "gzip"
                receiver._keep(signal, request.FromString(gzip.decompress(body) if zipped else body))
                answer = response().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
