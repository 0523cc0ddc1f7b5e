"""JSON Web Tokens (JWT, RFC 7519) of an identity provider: who calls, and which scopes the caller has.

The kind of key decides the algorithms: a shared secret verifies HS256 only, public keys never verify HS256. So no token
can choose its algorithm, and a public key never serves as a secret.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError
from pydantic import ValidationError

from errors import IdentityUnavailable, Unauthenticated
from schemas import Caller, KeyScope
from settings import Settings

SECRET_ALGORITHMS = ("HS256",)
PUBLIC_KEY_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
# Largest difference between the clocks of the identity provider and of this server that is forgiven.
LEEWAY_SECONDS = 60
JWKS_TIMEOUT_SECONDS = 5
# The pause after a failed request to the identity provider, before the next request.
PAUSE_SECONDS = 5.0
MAX_TOKEN_CHARS = 8_192
# What each error of the library means: a word for the log, and the rest of "the token …". Subclasses come first.
_FAULTS: dict[type[Exception], tuple[str, str]] = {
    jwt.ExpiredSignatureError: ("exp", "has expired (`exp`)"),
    jwt.ImmatureSignatureError: ("nbf or iat", "is not valid yet (`nbf` or `iat`): compare the clocks"),
    jwt.InvalidIssuedAtError: ("iat", "has a claim `iat` that is not a number"),
    jwt.InvalidAudienceError: ("aud", "is for another audience (`aud`) than JWT_AUDIENCE"),
    jwt.InvalidIssuerError: ("iss", "is of another issuer (`iss`) than JWT_ISSUER"),
    InvalidSubjectError: ("sub", "has a claim `sub` that is not a text"),
    InvalidJTIError: ("jti", "has a claim `jti` that is not a text"),
    jwt.InvalidAlgorithmError: ("alg", "is signed with an algorithm that this server does not accept"),
    jwt.InvalidSignatureError: ("signature", "is not signed with the key of this server's identity provider"),
    jwt.PyJWKClientError: ("kid", "names no key that the identity provider publishes (`kid`)"),
}


# The identity provider may be slow, or its name hard to resolve: its requests have threads of their own.
_threads = ThreadPoolExecutor(2, thread_name_prefix="api-jwks")


class JwtVerifier:
    """Verifies tokens as the settings say. Fetches public keys on first use, and again every five minutes."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.jwt_secret
        self._secret = secret.get_secret_value() if secret else None
        self._audience, self._issuer = settings.jwt_audience, settings.jwt_issuer
        self._jwks = (
            jwt.PyJWKClient(settings.jwt_jwks_url, timeout=JWKS_TIMEOUT_SECONDS) if settings.jwt_jwks_url else None
        )
        self._failed_at = float("-inf")

    @property
    def enabled(self) -> bool:
        """True if the settings accept tokens."""
        return self._secret is not None or self._jwks is not None

    async def caller(self, token: str) -> Caller:
        """Return the caller that a token names. Raises Unauthenticated, IdentityUnavailable."""
        if len(token) > MAX_TOKEN_CHARS:
            raise _invalid("size", f"is longer than {MAX_TOKEN_CHARS} characters")
        try:
            if self._jwks is None:
                return _caller(self._claims(token, self._secret, SECRET_ALGORITHMS))
            key = await self._public_key(self._jwks, token)
            return _caller(self._claims(token, key, PUBLIC_KEY_ALGORITHMS))
        except jwt.MissingRequiredClaimError as error:
            raise _invalid(error.claim, f"has no claim `{error.claim}`") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _invalid(*_fault(error)) from None

    def _claims(self, token: str, key: Any, algorithms: tuple[str, ...]) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "aud", "iss", "sub"]},
        )

    async def _public_key(self, jwks: jwt.PyJWKClient, token: str) -> jwt.PyJWK:
        if jwt.get_unverified_header(token).get("alg") not in PUBLIC_KEY_ALGORITHMS:
            raise jwt.InvalidAlgorithmError
        if time.monotonic() - self._failed_at < PAUSE_SECONDS:
            raise _provider_unavailable()
        try:
            return await asyncio.get_running_loop().run_in_executor(_threads, jwks.get_signing_key_from_jwt, token)
        except jwt.PyJWKClientConnectionError:
            self._failed_at = time.monotonic()
            raise _provider_unavailable() from None


def _caller(claims: dict[str, Any]) -> Caller:
    """Read the claims. A token without a `scope` or `scp` claim gets the default scopes: query and upload."""
    claim = "scope" if "scope" in claims else "scp"
    claimed = claims.get(claim)
    try:
        caller = Caller(user_id=claims["sub"], key_id=f"jwt:{claims['sub']}")
    except ValidationError:
        raise _invalid("sub", "has a claim `sub` that is no user's name: 1 to 255 printable characters") from None
    if claimed is None:
        return caller
    names = claimed.split() if isinstance(claimed, str) else claimed
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid(claim, f"has a claim `{claim}` that is neither a text nor a list of texts")
    return caller.model_copy(update={"scopes": frozenset(scope for scope in KeyScope if scope in names)})


def _fault(error: Exception) -> tuple[str, str]:
    """Return what is wrong with a token: a word for the log, and the rest of "the token …" for the caller.

    Claims are checked after the signature. So only the holder of a token that the provider signed learns about them.
    """
    return next((fault for kind, fault in _FAULTS.items() if isinstance(error, kind)), ("form", "cannot be read"))


def _invalid(reason: str, fault: str) -> Unauthenticated:
    return Unauthenticated(f"the token {fault}: get another from your identity provider", reason=f"token:{reason}")


def _provider_unavailable() -> IdentityUnavailable:
    return IdentityUnavailable(
        "the public keys of the identity provider cannot be read: check that JWT_JWKS_URL is right and answers",
        retry_after_seconds=int(PAUSE_SECONDS),
    )
