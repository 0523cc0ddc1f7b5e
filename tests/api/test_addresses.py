"""Addresses that no route has, and methods that a route does not have."""

from __future__ import annotations

import httpx
import pytest

from tests.api.test_api import assert_problem


@pytest.mark.parametrize("path", ["/uploads/", "/job-status/x/", "/docs/", "/uploads//"])
def test_a_slash_at_the_end_is_a_404_that_says_so(path: str, api: httpx.Client) -> None:
    """A redirect would repeat the Host and the scheme that the client sent."""
    answer = api.get(path, headers={"Host": "localhost"}, follow_redirects=False)
    assert "location" not in answer.headers
    assert assert_problem(answer, 404)["detail"] == "no route has this address: leave out the / at its end"


def test_an_unknown_address_points_to_the_documentation(api: httpx.Client) -> None:
    for path in ("/nothing", "/nothing/"):
        assert assert_problem(api.get(path), 404)["detail"] == "no route has this address: /docs lists the routes"


def test_a_405_names_all_methods_of_the_address(api: httpx.Client) -> None:
    """Some addresses have a route for each method."""
    for path, methods in {"/uploads": "GET, HEAD, POST", "/uploads/x": "GET, HEAD, DELETE", "/chat": "POST"}.items():
        refused = api.patch(path)
        assert_problem(refused, 405)
        assert refused.headers["allow"] == methods
