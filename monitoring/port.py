"""METRICS_PORT: the metrics on a port of their own, shown by one process of this machine at a time."""

from __future__ import annotations

import errno
import logging
import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from monitoring.collector import DeploymentMetrics
from settings import Settings

log = logging.getLogger("main")

RETRY_SECONDS = 2.0


class MetricsPort:
    """Shows metrics at METRICS_HOST, METRICS_PORT. While another process has the port, takes it as soon as it is free.

    So the metrics are there as long as any process of the service is.
    """

    def __init__(self, settings: Settings, metrics: DeploymentMetrics, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._host, self._port = settings.metrics_host, settings.metrics_port
        self._registry = metrics.registry
        self._retry_seconds = retry_seconds
        self._stop = threading.Event()
        self._server: WSGIServer | None = None
        self._thread = threading.Thread(target=self._loop, name="metrics-port", daemon=True)

    def start(self) -> None:
        """Start, if METRICS_PORT is set."""
        if self._port is not None:
            self._thread.start()

    def stop(self) -> None:
        """Free the port."""
        if self._port is None:
            return
        self._stop.set()
        self._thread.join(10)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _loop(self) -> None:
        told: int | None = None
        while not self._stop.is_set():
            try:
                self._server, _ = start_http_server(self._port or 0, self._host, self._registry)
            except OSError as error:
                if error.errno != told:
                    self._tell(error)
                told = error.errno
                self._stop.wait(self._retry_seconds)
            else:
                log.info("metrics at http://%s:%s/metrics", self._host, self._port)
                return

    def _tell(self, error: OSError) -> None:
        place = f"METRICS_HOST {self._host}, METRICS_PORT {self._port}"
        if error.errno == errno.EADDRINUSE:
            log.info("%s: another process shows the metrics there, or is no part of this service", place)
        else:
            log.error("%s: cannot listen there (%s); trying again", place, error.strerror)
