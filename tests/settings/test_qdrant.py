"""QDRANT_URL: its ports and its nodes; how a cluster keeps copies."""

from __future__ import annotations

import pytest

from errors import SettingsError
from tests.conftest import MakeSettings


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://qdrant.example", "https://qdrant.example:443"),
        ("https://qdrant.example/prefix/", "https://qdrant.example:443/prefix"),
        ("https://qdrant.example:6333", "https://qdrant.example:6333"),
        ("http://qdrant", "http://qdrant:6333"),
        ("http://qdrant:80", "http://qdrant:80"),
        ("http://[::1]", "http://[::1]:6333"),
        ("http://a, https://b:1 ,http://c/", "http://a:6333,https://b:1,http://c:6333"),
    ],
)
def test_every_node_has_a_port(given: str, read: str, make_settings: MakeSettings) -> None:
    settings = make_settings(qdrant_url=given)
    assert settings.qdrant_url == read
    assert settings.qdrant_urls == tuple(read.split(","))


@pytest.mark.parametrize("given", ["qdrant:6333", "http://a,qdrant", ",", "http://a:0,http://b", "http://"])
def test_every_node_is_checked(given: str, make_settings: MakeSettings) -> None:
    with pytest.raises(SettingsError, match="QDRANT_URL"):
        make_settings(qdrant_url=given)


def test_more_copies_cannot_be_written_than_there_are(make_settings: MakeSettings) -> None:
    with pytest.raises(SettingsError, match="raise QDRANT_REPLICATION"):
        make_settings(qdrant_url="http://a", qdrant_write_consistency=2)
    assert make_settings(qdrant_url="http://a", qdrant_replication=2, qdrant_write_consistency=2)
