"""Who may call: keys and tokens, from the command that creates a key to the request that sends one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from auth.api_keys import ApiKeyRepository
from client.sql.database import Database
from schemas import DEFAULT_SCOPES, KeyScope
from server import create_app
from settings import Settings
from tests.api.test_api import assert_problem
from tests.conftest import MakeSettings
from tests.support import processes
from tests.support.callers import AUDIENCE, ISSUER, SECRET, TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving
from tests.support.processes import PYTHON


def run(data_dir: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run main.py to its end."""
    return processes.run([PYTHON, "main.py", *arguments], DATA_DIR=str(data_dir), **variables)


@contextmanager
def api_of(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


@pytest.fixture
def keys(settings: Settings) -> Iterator[ApiKeyRepository]:
    database = Database(settings)
    yield ApiKeyRepository(database)
    database.close()


def test_keys_are_created_shown_once_listed_and_revoked(settings: Settings, api: httpx.Client) -> None:
    made = run(settings.data_dir, "keys", "create", "--name", "ci", "--user", "alice", "--scope", "query", "upload")
    assert made.returncode == 0, made.stderr
    key = made.stdout.splitlines()[-1]
    assert len(base64.urlsafe_b64decode(key.removeprefix("rag_") + "=")) == 32
    # In another process: closing SQLite's files here would end the locks that the API, in this process, has on them.
    stored = subprocess.check_output(["cat", *settings.data_dir.glob("uploads.db*")])
    assert b"alice" in stored
    assert key.encode() not in stored
    listed = run(settings.data_dir, "keys", "list").stdout
    assert key not in listed
    key_id, *rest = listed.splitlines()[0].split()
    assert rest[:4] == ["'ci'", "user", "'alice'", "query,upload"]
    for headers in (bearer(key), {"X-API-Key": key}, {"Authorization": f"bearer   {key}"}):
        assert api.get("/jobs", headers=headers).status_code == 200
    assert run(settings.data_dir, "keys", "revoke", key_id).stdout == "1 revoked\n"
    assert_problem(api.get("/jobs", headers=bearer(key)), 401)  # at once, in a process that has used the key
    assert "revoked" in run(settings.data_dir, "keys", "list").stdout


def test_the_first_key_closes_the_service_even_after_it_is_revoked(settings: Settings, api: httpx.Client) -> None:
    assert api.get("/jobs").status_code == 200
    assert api.get("/jobs", headers=bearer("whatever a client sends")).status_code == 200
    made = run(settings.data_dir, "keys", "create", "--name", "first")
    refused = api.get("/jobs")
    assert_problem(refused, 401)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "X-API-Key" in refused.json()["detail"]
    assert "main.py keys create --scope admin --name NAME" in refused.json()["detail"]
    run(settings.data_dir, "keys", "revoke", made.stdout.split()[1])
    assert_problem(api.get("/jobs"), 401)


def test_the_first_key_tells_the_operator_what_changes(settings: Settings, api: httpx.Client) -> None:
    """After the first key every call needs one, and the documents made so far belong to the user local."""
    assert api.post("/uploads", files={"file": ("a.txt", b"The lamp weighs 9 kg.")}).status_code == 202
    ours = run(settings.data_dir, "keys", "create", "--name", "mine").stdout
    assert "yours too" in ours
    assert "keys create --scope admin --name NAME`" in ours
    assert "owns 0 documents" not in ours
    theirs = run(settings.data_dir, "keys", "create", "--name", "alice", "--user", "alice").stdout
    assert "User alice owns 0 documents and sees no others: local owns 1." in theirs
    admin = run(settings.data_dir, "keys", "create", "--name", "admin", "--scope", "admin").stdout
    assert "yours too" not in admin
    assert "owns 0 documents" not in admin
    assert "yours too" not in run(settings.data_dir, "keys", "create", "--name", "later").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create"], "--name"),
        (["create", "--name", "a\nb"], "printable"),
        (["create", "--name", "x", "--user", ""], "--user"),
        (["create", "--name", "x", "--user", "u" * 256], "--user"),
        (["create", "--name", "x", "--scope", "root"], "--scope"),
        (["create", "--name", "x", "--days", "0"], "--days"),
        ([], "ACTION"),
    ],
)
def test_an_invalid_command_is_refused_and_creates_no_key(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(tmp_path, "keys", *arguments)
    assert (done.returncode, message in done.stderr, done.stdout) == (2, True, "")
    assert run(tmp_path, "keys", "list").stdout == "0 keys\n"


def test_an_unknown_key_to_revoke_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "keys", "revoke", "nope")
    assert (done.returncode, done.stdout) == (1, "0 revoked\n")
    assert "nope is not a key" in done.stderr


def test_expired_revoked_and_invented_keys_are_refused(settings: Settings, keys: ApiKeyRepository) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    _, good = keys.create("good", user_id="alice", scopes=DEFAULT_SCOPES)
    _, expired = keys.create("expired", user_id="alice", scopes=DEFAULT_SCOPES, expires_at=past)
    revoked_key, revoked = keys.create("revoked", user_id="alice", scopes=DEFAULT_SCOPES)
    assert keys.revoke(revoked_key.key_id)
    made_up = [good[:-1], good + "a", good.upper(), good.removeprefix("rag_"), "rag_", "x" * 10_000, "é"]
    with api_of(settings) as api:
        assert api.get("/jobs", headers=bearer(good)).status_code == 200
        for wrong in [expired, revoked, *made_up]:
            raw = [(b"Authorization", b"Bearer " + wrong.encode("latin-1"))]
            assert api.get("/jobs", headers=raw).status_code == 401, wrong
        for headers in ({"Authorization": f"Basic {good}"}, {"Authorization": good}, {"Cookie": f"X-API-Key={good}"}):
            assert api.get("/jobs", headers=headers).status_code == 401
        assert api.get("/jobs", params={"X-API-Key": good}).status_code == 401


def test_auth_required_closes_all_but_the_greeting_the_probes_and_the_page(make_settings: MakeSettings) -> None:
    with api_of(make_settings(auth_required=True, valkey_url="redis://127.0.0.1:1")) as api:
        for path in ("/", "/health", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
            assert api.get(path).status_code == 200, path
        assert api.get("/ready").status_code == 503  # a probe needs no key; its 503 is for Valkey, which is missing
        for path in ("/jobs", "/uploads", "/nothing", "/docs/x", "/static-offline-docs", "/health/"):
            assert api.get(path, follow_redirects=False).status_code == 401, path
        for path in ("/static-offline-docs/../jobs", "/static-offline-docs/%2e%2e/jobs"):
            assert api.get(path, follow_redirects=False).status_code in {401, 404}, path
        # Swagger's Authorize button offers the schemes, and the routes then require one of them.
        document = api.get("/openapi.json").json()
        assert set(document["components"]["securitySchemes"]) == {"Bearer", "X-API-Key", "Session"}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                schemes: list[dict[str, list[str]]] = [{"Bearer": []}, {"X-API-Key": []}, {"Session": []}]
                open_to_all = path in {"/", "/health", "/ready", "/session"}
                assert operation.get("security") == (None if open_to_all else schemes), path


def test_a_body_is_not_read_before_the_caller_is_known(make_settings: MakeSettings) -> None:
    with api_of(make_settings(auth_required=True, valkey_url="redis://127.0.0.1:1")) as api:
        for body in (b"{", b'{"query": 1}', b"\xff"):
            assert_problem(api.post("/chat", content=body), 401)
        assert_problem(api.post("/uploads", files={"file": b"x"}), 401)


def test_known_keys_stay_valid_while_the_database_is_away(
    settings: Settings, keys: ApiKeyRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auth import api_keys
    from errors import UploadsUnavailable

    _, good = keys.create("good", user_id="alice", scopes=DEFAULT_SCOPES)
    monkeypatch.setattr(api_keys, "REFRESH_SECONDS", 0.0)
    with api_of(settings) as api:
        assert api.get("/jobs", headers=bearer(good)).status_code == 200

        def away(_self: ApiKeyRepository) -> str:
            raise UploadsUnavailable("away")

        monkeypatch.setattr(ApiKeyRepository, "version", away)
        assert api.get("/jobs", headers=bearer(good)).status_code == 200
        assert api.get("/jobs", headers=bearer("rag_other")).status_code == 401
        assert api.get("/jobs").status_code == 401
    with api_of(settings) as api:  # an API that has never read the keys admits nobody
        assert_problem(api.get("/jobs", headers=bearer(good)), 503)


@pytest.mark.parametrize("variables", [{}, {"HOST": "::"}, {"HOST": "192.0.2.1"}], ids=str)
def test_an_open_service_is_not_served_to_other_machines(tmp_path: Path, variables: dict[str, str]) -> None:
    for part in ([], ["api"]):
        done = run(tmp_path, *part, **({"HOST": "0.0.0.0", "PORT": "0"} | variables))
        assert done.returncode == 2
        assert all(name in done.stderr for name in ("keys create", "AUTH_REQUIRED=1", "ALLOW_ANONYMOUS=1"))
        assert done.stderr.count("\n") == 1


def test_contradictory_settings_stop_the_start(tmp_path: Path) -> None:
    public = {"JWT_AUDIENCE": "rag", "JWT_ISSUER": "https://issuer.example"}
    for variables, message in (
        ({"AUTH_REQUIRED": "1", "ALLOW_ANONYMOUS": "1"}, "contradict"),
        ({"JWT_SECRET": "short"} | public, "JWT_SECRET must be at least 32 bytes"),
        ({"JWT_SECRET": SECRET}, "JWT_AUDIENCE and JWT_ISSUER"),
        ({"JWT_SECRET": SECRET, "JWT_JWKS_URL": "https://issuer.example/keys"} | public, "one of them"),
        ({"JWT_JWKS_URL": "http://issuer.example/keys"} | public, "https://"),
    ):
        done = run(tmp_path, "keys", "list", **variables)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_token_gives_the_user_and_the_scopes(settings: Settings) -> None:
    with api_of(settings.model_copy(update=TAKING_TOKENS)) as api:
        job = api.post("/chat", params={"query": "Why?"}, headers=bearer(token("alice"))).json()["job_id"]
        assert api.get(f"/job-status/{job}", headers=bearer(token("alice"))).status_code == 200
        assert api.get(f"/job-status/{job}", headers={"X-API-Key": token("alice")}).status_code == 200
        assert_problem(api.get(f"/job-status/{job}", headers=bearer(token("bob"))), 404)
        assert api.get(f"/job-status/{job}", headers=bearer(token("bob", scope="openid admin"))).status_code == 200
        assert_problem(api.get("/jobs", headers=bearer(token("alice", scope="openid"))), 403)
        assert_problem(api.get("/jobs", headers=bearer(token("alice", scp=[]))), 403)
        only_upload = bearer(token("alice", scope="upload"))
        assert_problem(api.post("/chat", params={"query": "Why?"}, headers=only_upload), 403)
        assert api.get("/jobs", headers=only_upload).status_code == 200
        # The body of a refused request is not read.
        broken = {"content-type": "application/json"}
        assert_problem(api.post("/chat", content=b"{", headers=only_upload | broken), 403)
        only_query = bearer(token("alice", scope="query"))
        assert_problem(api.post("/uploads", content=b"no form", headers=only_query), 403)


def _unsigned() -> str:
    usual = {"sub": "alice", "aud": AUDIENCE, "iss": ISSUER, "exp": 4_000_000_000}
    return jwt.encode(usual, "", algorithm="none")


def _tampered() -> str:
    header, _, signature = token("alice").split(".")
    claims = {"sub": "admin", "aud": AUDIENCE, "iss": ISSUER, "exp": 4_000_000_000}
    return f"{header}.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.{signature}"


# Tokens that are refused, and the reason that the audit log gives.
WRONG_TOKENS = {
    "expired": (token("alice", exp=1), "exp"),
    "without an end": (token("alice", exp=None), "exp"),
    "not valid yet": (token("alice", nbf=4_000_000_000), "nbf or iat"),
    "made in the future": (token("alice", iat=4_000_000_000), "nbf or iat"),
    "made at no time": (token("alice", iat="now"), "iat"),
    "for another audience": (token("alice", aud="another"), "aud"),
    "for no audience": (token("alice", aud=None), "aud"),
    "of another issuer": (token("alice", iss="https://elsewhere.example"), "iss"),
    "of no issuer": (token("alice", iss=None), "iss"),
    "of no user": (token("alice", sub=None), "sub"),
    "of a user without a name": (token(""), "sub"),
    "of a user with a long name": (token("u" * 256), "sub"),
    "of a user with NUL": (token("nul\x00"), "sub"),
    "of a number": (token("", sub=7), "sub"),
    "with a scope that is an object": (token("alice", scope={"admin": 1}), "scope"),
    "with scopes that are no texts": (token("alice", scp=["admin", 1]), "scp"),
    "with a number for a scope": (token("alice", scope=1), "scope"),
    "with another secret": (token("alice", secret="another secret that is long enough"), "signature"),
    "with another algorithm": (token("alice", algorithm="HS512", secret=SECRET * 2), "alg"),
    "too long": (token("alice", scp="x" * 10_000), "size"),
    "too long for a header of 16 KB": (token("alice", scp="x" * 15_000), "size"),
    "unsigned": (_unsigned(), "alg"),
    "tampered with": (_tampered(), "signature"),
    "nonsense": ("a.b.c", "form"),
    "dots": ("..", "form"),
    "half a token": ("eyJhbGciOiJub25lIn0..", "alg"),
}


@pytest.mark.parametrize("name", WRONG_TOKENS)
def test_an_invalid_token_is_refused_with_the_reason(
    name: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The audit log names the claim, and the problem says more about it; neither repeats the token."""
    wrong, reason = WRONG_TOKENS[name]
    monkeypatch.setattr(logging.getLogger("audit"), "propagate", True)
    caplog.set_level(logging.INFO, "audit")
    with api_of(make_settings(valkey_url="redis://127.0.0.1:1", **TAKING_TOKENS)) as api:
        problem = assert_problem(api.get("/jobs", headers=bearer(wrong)), 401)
    # By identity: the handler of a test may hear a logger twice, once through the root.
    (line,) = {id(record): record for record in caplog.records if record.name == "audit"}.values()
    fields = vars(line)["fields"]
    assert (line.message, fields["reason"]) == ("refused", f"token:{reason}")
    assert wrong not in str(fields) + problem["detail"]
    if reason in {"exp", "aud", "iss", "sub", "scope", "scp", "iat"}:
        assert f"`{reason}`" in problem["detail"]


def test_clocks_may_differ_by_half_a_minute(settings: Settings) -> None:
    now = int(time.time())
    with api_of(settings.model_copy(update=TAKING_TOKENS)) as api:
        different: list[dict[str, Any]] = [{"iat": now + 30}, {"nbf": now + 30}, {"exp": now - 30}]
        for claims in different:
            assert api.get("/jobs", headers=bearer(token("alice", **claims))).status_code == 200, claims


class _Provider(BaseHTTPRequestHandler):
    """Publishes the keys of an identity provider, and counts the requests."""

    keys: bytes = b""
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.keys)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[tuple[str, rsa.RSAPrivateKey, type[_Provider]]]:
    """An identity provider with one RSA key, named `k1`."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
    shared = {"kty": "oct", "kid": "k2", "alg": "HS256", "k": base64.urlsafe_b64encode(SECRET.encode()).decode()}
    published = json.dumps({"keys": [public | {"kid": "k1", "use": "sig"}, shared]}).encode()
    handler = type("Provider", (_Provider,), {"asked": 0, "keys": published})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/keys", private, handler
        server.shutdown()


def _signed(key: object, algorithm: str, kid: str, **claims: object) -> str:
    usual = {"sub": "alice", "aud": AUDIENCE, "iss": ISSUER, "exp": 4_000_000_000}
    return jwt.encode(usual | claims, key, algorithm=algorithm, headers={"kid": kid})  # type: ignore[arg-type]


def test_tokens_are_checked_with_the_keys_that_the_provider_publishes(
    settings: Settings, provider: tuple[str, rsa.RSAPrivateKey, type[_Provider]]
) -> None:
    url, private, handler = provider
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    taking = {"jwt_jwks_url": url, "jwt_audience": AUDIENCE, "jwt_issuer": ISSUER}
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with api_of(settings.model_copy(update=taking)) as api:
        assert api.get("/jobs", headers=bearer(_signed(private, "RS256", "k1"))).status_code == 200
        # Refused: a token signed with the published key as its secret, and a shared secret among the published keys.
        header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').decode().rstrip("=")
        claims = _signed(private, "RS256", "k1").split(".")[1]
        mac = hmac.new(public, f"{header}.{claims}".encode(), hashlib.sha256).digest()
        confused = f"{header}.{claims}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        for wrong in (confused, _signed(SECRET, "HS256", "k2"), _signed(other, "RS256", "k1"), token("alice")):
            assert_problem(api.get("/jobs", headers=bearer(wrong)), 401)
        asked = handler.asked
        for number in range(20):  # made-up key ids do not cause a request each
            assert_problem(api.get("/jobs", headers=bearer(_signed(other, "RS256", f"x{number}"))), 401)
        assert handler.asked <= asked + 1


def test_without_the_identity_provider_tokens_get_503_and_keys_still_work(
    settings: Settings, keys: ApiKeyRepository
) -> None:
    _, good = keys.create("good", user_id="alice", scopes=[KeyScope.QUERY])
    taking = {"jwt_jwks_url": "http://127.0.0.1:1/keys", "jwt_audience": AUDIENCE, "jwt_issuer": ISSUER}
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with api_of(settings.model_copy(update=taking)) as api:
        for _ in range(2):
            away = api.get("/jobs", headers=bearer(_signed(private, "RS256", "k1")))
            assert_problem(away, 503)
            assert away.headers["retry-after"] == "5"
        assert api.get("/jobs", headers=bearer(good)).status_code == 200
