"""What a response that takes long knows of the client's connection."""

from __future__ import annotations

from collections.abc import Callable


class ClientConnection:
    """One for each connection, in the state of its requests under `connection`.

    `lost`: the client is gone. `on_loss` is called when that happens: a task that waits for it would cost 2 KB.
    """

    __slots__ = ("lost", "on_loss")

    def __init__(self) -> None:
        self.lost = False
        self.on_loss: Callable[[], object] | None = None

    def lose(self) -> None:
        """Record that the client is gone."""
        self.lost = True
        if self.on_loss is not None:
            self.on_loss()
