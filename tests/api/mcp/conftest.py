"""The service of the tests of /v1."""

from tests.api.v1.conftest import running_service, service

__all__ = ["running_service", "service"]
