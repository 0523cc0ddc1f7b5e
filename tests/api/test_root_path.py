"""The path under which a proxy makes the API public: whose word counts, and which words are paths."""

from __future__ import annotations

import httpx
import pytest

from settings import check_root_path
from tests.api.test_security_headers import service
from tests.conftest import MakeSettings


def location(client: httpx.Client, *prefixes: str, path: str = "/chat") -> str:
    """Ask a question, and return where its status is said to be, without the job's id."""
    headers = [("X-Forwarded-Prefix", prefix) for prefix in prefixes]
    answer = client.post(path, params={"query": "Why?"}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"].removesuffix(answer.json()["job_id"]))


def test_a_client_says_nothing_of_the_path(make_settings: MakeSettings, valkey_url: str) -> None:
    for trusted in ("", "10.0.0.1"):
        with service(make_settings, valkey_url, trusted_proxies=trusted, root_path="/rag") as client:
            assert location(client, "/other") == "/rag/job-status/"


def test_proxies_in_a_row_add_what_each_strips(make_settings: MakeSettings, valkey_url: str) -> None:
    with service(make_settings, valkey_url, trusted_proxies="127.0.0.1", root_path="/rag") as client:
        assert location(client) == "/rag/job-status/"
        assert location(client, "/one/") == "/one/job-status/"
        assert location(client, "/one", "/two") == "/one/two/job-status/"
        assert location(client, "/one, /two") == "/one/two/job-status/"
        assert location(client, "/one, /two", path="/one/two/chat") == "/one/two/job-status/"
        assert location(client, "/") == "/rag/job-status/"


NO_PATHS = ["rag", "//evil.example", "/a//b", "/..", "/a/../b", "/.", "/a b", "/a?b", "/a#b", "/%2e%2e", "/é", "/" * 9,
            "https://evil.example/a", "/a\\b", "/" + "a" * 200]  # fmt: skip


@pytest.mark.parametrize("prefix", NO_PATHS)
def test_what_is_no_path_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="must be a path such as /rag"):
        check_root_path(prefix)


def test_a_header_that_is_no_path_is_ignored_with_one_warning(
    make_settings: MakeSettings, valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with service(make_settings, valkey_url, trusted_proxies="*") as client:
        assert {location(client, prefix) for prefix in NO_PATHS if prefix.isascii()} == {"/job-status/"}
    (warning,) = [record.getMessage() for record in caplog.records if "Prefix" in record.getMessage()]
    assert warning == (
        "X-Forwarded-Prefix of a trusted proxy is ignored: the header must be a path such as /rag, of letters, digits "
        "and . _ ~ -"
    )


def test_a_path_may_have_the_name_of_a_route(make_settings: MakeSettings, valkey_url: str) -> None:
    question = {"questions": [{"query": "Why?"}]}
    with service(make_settings, valkey_url, root_path="/chat") as client:
        for path in ("/chat", "/chat/chat"):  # of a proxy that strips, and of one that does not
            assert location(client, path=path) == "/chat/job-status/"
        for path in ("/chat/batch", "/chat/chat/batch"):
            assert client.post(path, json=question).status_code == 202
        assert client.get("/chat/docs").status_code == 200


def test_no_way_around_the_key_leads_through_the_path(make_settings: MakeSettings, valkey_url: str) -> None:
    values = {"root_path": "/docs", "trusted_proxies": "*", "auth_required": True}
    with service(make_settings, valkey_url, **values) as client:
        for prefix in ("/docs", "/static-offline-docs", "/health", "/openapi.json"):
            headers = {"X-Forwarded-Prefix": prefix}
            assert client.get("/docs", headers=headers).status_code == 200
            for path in ("/jobs", "/uploads"):
                assert client.get(path, headers=headers).status_code == 401
                assert client.get(f"{prefix}{path}", headers=headers).status_code in {401, 404}


def test_a_prefix_begins_at_a_slash(make_settings: MakeSettings, valkey_url: str) -> None:
    with service(make_settings, valkey_url, root_path="/rag") as client:
        assert client.get("/rag").json() == client.get("/rag/").json() == client.get("/").json()
        assert client.get("/ragchat").status_code == 404
        assert client.get("/rag/rag/docs").status_code == 404
