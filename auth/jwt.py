"""Tokens (JWT, RFC 7519) of an identity provider: who calls, and what they may do.

Algorithms are pinned by how keys are given: a shared secret checks HS256 and nothing else, public keys check
signatures and nothing else. So no token can choose, and a public key never serves as a secret.
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

SHARED = ("HS256",)
PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 10
JWKS_TIMEOUT_SECONDS = 5
# After a try that failed, the identity provider is left alone for so long.
PAUSE_SECONDS = 5.0
MAX_TOKEN_CHARS = 8_192


class JwtVerifier:
    """Checks tokens as the settings say. Fetches public keys on first use, and again every five minutes."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.jwt_secret
        self._secret = secret.get_secret_value() if secret else None
        self._audience, self._issuer = settings.jwt_audience, settings.jwt_issuer
        self._published = (
            jwt.PyJWKClient(settings.jwt_jwks_url, timeout=JWKS_TIMEOUT_SECONDS) if settings.jwt_jwks_url else None
        )
        self._failed_at = float("-inf")

    @property
    def taken(self) -> bool:
        """Whether tokens are taken at all."""
        return self._secret is not None or self._published is not None

    async def caller(self, token: str) -> Caller:
        """Return who a token speaks for. Raises Unauthenticated, IdentityUnavailable."""
        if len(token) > MAX_TOKEN_CHARS:
            raise _refused()
        try:
            if self._published is None:
                return _caller(self._claims(token, self._secret, SHARED))
            key = await self._public_key(self._published, token)
            return _caller(self._claims(token, key, PUBLIC))
        except (jwt.PyJWTError, ValidationError, ValueError, TypeError):
            raise _refused() from None

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

    async def _public_key(self, published: jwt.PyJWKClient, token: str) -> jwt.PyJWK:
        if jwt.get_unverified_header(token).get("alg") not in PUBLIC:
            raise _refused()
        if time.monotonic() - self._failed_at < PAUSE_SECONDS:
            raise _away()
        try:
            return await asyncio.to_thread(published.get_signing_key_from_jwt, token)
        except jwt.PyJWKClientConnectionError:
            self._failed_at = time.monotonic()
            raise _away() from None


def _caller(claims: dict[str, Any]) -> Caller:
    """Read the claims. A token that says nothing of scopes may ask and bring documents; one that does, what it says."""
    said = claims.get("scope", claims.get("scp"))
    if said is None:
        return Caller(user_id=claims["sub"], key_id=f"jwt:{claims['sub']}")
    names = said.split() if isinstance(said, str) else said
    scopes = frozenset(scope for scope in KeyScope if scope in names)
    return Caller(user_id=claims["sub"], key_id=f"jwt:{claims['sub']}", scopes=scopes)


def _refused() -> Unauthenticated:
    return Unauthenticated("the token is not good: get a new one from your identity provider")


def _away() -> IdentityUnavailable:
    return IdentityUnavailable(
        "the keys of the identity provider cannot be read: check JWT_JWKS_URL and that it answers",
        retry_after_seconds=int(PAUSE_SECONDS),
    )
