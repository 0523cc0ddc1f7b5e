"""JSON Web Tokens (JWT, RFC 7519) of an identity provider: who calls, and which scopes the caller has.

The kind of key decides the algorithms: a shared secret verifies HS256 only, public keys never verify HS256. So no token
can choose its algorithm, and a public key never serves as a secret.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt
from pydantic import ValidationError

from errors import IdentityUnavailable, Unauthenticated
from schemas import Caller, KeyScope
from settings import Settings

SECRET_ALGORITHMS = ("HS256",)
PUBLIC_KEY_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
LEEWAY_SECONDS = 10
JWKS_TIMEOUT_SECONDS = 5
# The pause after a failed request to the identity provider, before the next request.
PAUSE_SECONDS = 5.0
MAX_TOKEN_CHARS = 8_192


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
            raise _invalid_token()
        try:
            if self._jwks is None:
                return _caller(self._claims(token, self._secret, SECRET_ALGORITHMS))
            key = await self._public_key(self._jwks, token)
            return _caller(self._claims(token, key, PUBLIC_KEY_ALGORITHMS))
        except (jwt.PyJWTError, ValidationError, ValueError, TypeError):
            raise _invalid_token() from None

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
            raise _invalid_token()
        if time.monotonic() - self._failed_at < PAUSE_SECONDS:
            raise _provider_unavailable()
        try:
            return await asyncio.to_thread(jwks.get_signing_key_from_jwt, token)
        except jwt.PyJWKClientConnectionError:
            self._failed_at = time.monotonic()
            raise _provider_unavailable() from None


def _caller(claims: dict[str, Any]) -> Caller:
    """Read the claims. A token without a `scope` or `scp` claim gets the default scopes: query and upload."""
    claimed = claims.get("scope", claims.get("scp"))
    if claimed is None:
        return Caller(user_id=claims["sub"], key_id=f"jwt:{claims['sub']}")
    names = claimed.split() if isinstance(claimed, str) else claimed
    scopes = frozenset(scope for scope in KeyScope if scope in names)
    return Caller(user_id=claims["sub"], key_id=f"jwt:{claims['sub']}", scopes=scopes)


def _invalid_token() -> Unauthenticated:
    return Unauthenticated("the token is invalid or expired: get a new one from your identity provider")


def _provider_unavailable() -> IdentityUnavailable:
    return IdentityUnavailable(
        "the public keys of the identity provider cannot be read: check that JWT_JWKS_URL is right and answers",
        retry_after_seconds=int(PAUSE_SECONDS),
    )
