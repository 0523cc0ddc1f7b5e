"""Several nodes of one Qdrant: a request goes to the node that answered last, and to the others when it does not.

Every request of this program may be repeated: points have ids of their own, and a collection is made once.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import httpx

from client.qdrant.outage import is_outage

# A node that is down refuses a connection at once, or does not answer at all.
CONNECT_SECONDS = 2.0


class NodesTransport(httpx.BaseTransport):
    """Sends each request to one node after the other, until one answers that it can. Safe for threads."""

    def __init__(self, urls: Sequence[str], *, timeout_seconds: float, verify: ssl.SSLContext | bool) -> None:
        self._urls = [httpx.URL(url) for url in urls]
        timeout = httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS)
        # A client each, because a client reads the proxy variables; a transport does not.
        self._clients = [httpx.Client(timeout=timeout, verify=verify) for _ in urls]
        self._first = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """As BaseTransport.handle_request. Raises what the last node raised."""
        body = request.read()
        order = [(self._first + step) % len(self._urls) for step in range(len(self._urls))]
        for place in order:
            last = place == order[-1]
            try:
                response = self._clients[place].send(_sent_to(self._urls[place], request, body))
            except httpx.TransportError:
                if last:
                    raise
                continue
            if last or not is_outage(response.status_code):
                self._first = place if not is_outage(response.status_code) else self._first
                return httpx.Response(response.status_code, content=response.content, headers=_plain(response.headers))
        raise AssertionError("there is a last node")

    def close(self) -> None:
        """Close the connections to all nodes."""
        for client in self._clients:
            client.close()


def _sent_to(node: httpx.URL, request: httpx.Request, body: bytes) -> httpx.Request:
    """Return a request as it is sent to a node. Its path begins after the prefix that the node's URL may have."""
    path = node.raw_path.rstrip(b"/") + request.url.raw_path
    url = node.copy_with(raw_path=path)
    headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
    return httpx.Request(request.method, url, headers=headers, content=body)


def _plain(headers: httpx.Headers) -> dict[str, str]:
    """Return the headers of a response whose content is decoded."""
    return {
        name: value for name, value in headers.items() if name.lower() not in {"content-encoding", "content-length"}
    }
