"""Server-sent events, out of bytes that are cut anywhere. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations


class EventSplitter:
    """Splits a stream into the data of its events. Comments, event names, ids and an unfinished event are dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[bytes]:
        """Return the data of each event that ends in `received`, with a line feed between the lines of an event."""
        text = self._rest + received
        if b"\r" in text:
            # A carriage return at the end may be the first half of a line's end.
            text, held = (text[:-1], b"\r") if text.endswith(b"\r") else (text, b"")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        lines = text.split(b"\n")
        self._rest = lines.pop() + held
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        return events
