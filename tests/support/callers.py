"""Callers for tests: settings under which tokens are taken, and tokens."""

from __future__ import annotations

import time
from typing import Any

import jwt
from pydantic import SecretStr

SECRET = "a secret that is long enough for HS256"
AUDIENCE, ISSUER = "rag", "https://issuer.example"
# What to change in Settings.
TAKING_TOKENS = {"jwt_secret": SecretStr(SECRET), "jwt_audience": AUDIENCE, "jwt_issuer": ISSUER}


def token(user: str, *, secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Make a token of a user, valid for a day: modules make theirs at import, before a run that may take long.

    `claims` add to the usual claims, and None removes a claim.
    """
    usual = {"sub": user, "aud": AUDIENCE, "iss": ISSUER, "exp": int(time.time()) + 86_400}
    chosen = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode(chosen, secret, algorithm=algorithm)


def bearer(credential: str) -> dict[str, str]:
    """Return the header that carries a key or a token."""
    return {"Authorization": f"Bearer {credential}"}
