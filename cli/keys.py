"""The keys of callers: `python main.py keys create|list|revoke`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cli import terminal
from errors import SettingsError, UploadsUnavailable
from observability import logs
from schemas import DEFAULT_SCOPES, ApiKey, KeyScope, user
from settings import Settings

if TYPE_CHECKING:
    from auth.api_keys import ApiKeyRepository

log = logging.getLogger("main")

AGAIN_SECONDS = 1.0
MAX_NAME_CHARS = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `keys` takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it, alone, on the last line")
    create.add_argument("--name", required=True, type=_name, help="what it is for, as `keys list` will show it")
    create.add_argument("--user", default="local", type=user, help="whose documents and jobs it opens (default: local)")
    create.add_argument(
        "--scope",
        action="append",
        nargs="+",
        choices=[scope.value for scope in KeyScope],
        help="what it allows; `admin` is everything, of every user (default: query and upload)",
    )
    create.add_argument("--days", type=_days, help="how long it is good (default: until it is revoked)")
    actions.add_parser("list", help="list the keys; what they are is not kept")
    actions.add_parser("revoke", help="revoke keys").add_argument("key_ids", nargs="+", metavar="ID")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Do what was asked; 1 when a key to revoke is not there."""
    with _open(settings) as keys:
        return {"create": _create, "list": _list, "revoke": _revoke}[options.action](keys, options)


def require_guard(settings: Settings) -> None:
    """Refuse to serve other machines without asking who they are, once the list of keys can be read.

    Raises SettingsError.
    """
    if settings.on_loopback or settings.allow_anonymous or settings.auth_required or settings.takes_tokens:
        return
    if _any_key(settings):
        return
    raise SettingsError(
        f"HOST {settings.host} can be reached from other machines, and nobody would be asked who they are: make a key "
        f"with `{terminal.script('main.py')} keys create --name NAME`, or set AUTH_REQUIRED=1, "
        "or ALLOW_ANONYMOUS=1 if all may come in"
    )


def _any_key(settings: Settings) -> bool:
    """Tell whether there is a key, as soon as the database of keys answers."""
    said = False
    while True:
        try:
            with _open(settings) as keys:
                return bool(keys.all())
        except UploadsUnavailable as error:
            if not said:
                log.warning("HOST %s waits for the list of keys: %s", settings.host, error.detail)
            said = True
            time.sleep(AGAIN_SECONDS)


@contextmanager
def _open(settings: Settings) -> Iterator[ApiKeyRepository]:
    # Imported here: SQLAlchemy takes 0.3 s, which main.py would pay before it starts anything.
    from auth.api_keys import ApiKeyRepository
    from client.sql.database import Database

    database = Database(settings)
    try:
        yield ApiKeyRepository(database)
    finally:
        database.close()


def _create(keys: ApiKeyRepository, options: argparse.Namespace) -> int:
    scopes = frozenset(KeyScope(scope) for some in options.scope or [] for scope in some) or DEFAULT_SCOPES
    expires_at = datetime.now(UTC) + timedelta(days=options.days) if options.days else None
    key, text = keys.create(options.name, user_id=options.user, scopes=scopes, expires_at=expires_at)
    logs.audit("key_created", key_id=key.key_id, user_id=key.user_id, scopes=sorted(scopes))
    _settle()
    print(f"key {key.key_id} of user {key.user_id}: {', '.join(sorted(scopes))}; {_until(key)}")
    print("It is shown only now. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")
    print(text)
    return 0


def _list(keys: ApiKeyRepository, _options: argparse.Namespace) -> int:
    found = keys.all()
    for key in found:
        scopes = ",".join(sorted(key.scopes))
        made = f"made {key.created_at:%Y-%m-%d}"
        print(f"{key.key_id}  {key.name!a}  user {key.user_id!a}  {scopes}  {made}  {_until(key)}")
    print(f"{len(found)} keys")
    return 0


def _revoke(keys: ApiKeyRepository, options: argparse.Namespace) -> int:
    known = [key_id for key_id in options.key_ids if keys.revoke(key_id)]
    for key_id in known:
        logs.audit("key_revoked", key_id=key_id)
    if known:
        _settle()
    for key_id in set(options.key_ids) - set(known):
        print(f"{key_id} is no key: see `{terminal.script('main.py')} keys list`", file=sys.stderr)
    print(f"{len(known)} revoked")
    return 0 if len(known) == len(options.key_ids) else 1


def _settle() -> None:
    """Wait until every process of the API has read the change, so that it holds when this command ends."""
    from auth.api_keys import REFRESH_SECONDS

    time.sleep(REFRESH_SECONDS)


def _until(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at is None:
        return "good until revoked"
    return f"{'good until' if key.good(datetime.now(UTC)) else 'expired'} {key.expires_at:%Y-%m-%d %H:%M} UTC"


def _name(text: str) -> str:
    if not text.strip() or len(text) > MAX_NAME_CHARS or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_NAME_CHARS} printable characters")
    return text.strip()


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0
    if not 0 < days <= 36_500:  # noqa: PLR2004  a hundred years
        raise argparse.ArgumentTypeError("must be more than 0 and at most 36500")
    return days
