"""The task and the result of the job that builds a version of the index."""

from __future__ import annotations

from schemas import Frozen


class BuildTask(Frozen):
    """One step of building a version of the index.

    `begin`: the version that the worker's settings ask for is to be built from now on; `again`: also if it is searched.
    """

    begin: bool = False
    again: bool = False


class BuildStep(Frozen):
    """What a step did: how many documents it added. `more`: another step follows."""

    built: int = 0
    more: bool = False
