"""An empty database of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from client.sql.database import Database
from client.sql.uploads import UploadRepository
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.servers import empty_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest, make_settings: MakeSettings) -> Settings:
    """Settings with an empty database."""
    if request.param == "sqlite":
        return make_settings()
    return make_settings(database_url=empty_database(request.getfixturevalue("postgres_url")))


@pytest.fixture
def uploads(database_settings: Settings) -> Iterator[UploadRepository]:
    repository = UploadRepository(Database(database_settings))
    yield repository
    repository.close()
