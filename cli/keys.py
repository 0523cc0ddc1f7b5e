"""API keys: `main.py keys create|list|revoke`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from errors import SettingsError, UploadsUnavailable
from observability import commands, logs
from observability.wording import counted
from schemas import DEFAULT_SCOPES, KeyScope
from settings import Settings

if TYPE_CHECKING:
    from auth.api_keys import ApiKey, ApiKeyRepository
    from client.sql.uploads import UploadRepository

log = logging.getLogger("main")

RETRY_SECONDS = 1.0
MAX_NAME_CHARS = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `keys`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key; the last line of the output is the key alone")
    create.add_argument("--name", required=True, type=_name, help="what the key is for; `keys list` shows it")
    create.add_argument(
        "--user",
        default="local",
        type=commands.parse_user_id,
        help="user whose documents the key opens (default: local)",
    )
    create.add_argument(
        "--scope",
        action="append",
        nargs="+",
        choices=[scope.value for scope in KeyScope],
        help="what the key allows; `admin` allows everything, for every user (default: query and upload)",
    )
    create.add_argument("--days", type=_days, help="days until the key expires (default: never)")
    actions.add_parser("list", help="list the keys, without their secret text, which is not stored")
    revoke = actions.add_parser("revoke", help="revoke keys")
    revoke.add_argument("key_ids", nargs="+", type=commands.parse_id, metavar="ID")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Create, list or revoke keys. Returns 1 when a key to revoke does not exist."""
    with _open(settings) as (keys, uploads):
        if options.action == "create":
            return _create(keys, uploads, options)
        return _list(keys) if options.action == "list" else _revoke(keys, options)


def require_authentication(settings: Settings) -> None:
    """Raise SettingsError if HOST lets other machines in without authentication.

    Waits until the list of keys can be read.
    """
    if settings.on_loopback or settings.allow_anonymous or settings.auth_required or settings.takes_tokens:
        return
    if _has_keys(settings):
        return
    raise SettingsError(
        f"HOST {settings.host} can be reached from other machines, and every caller would be let in without a key: "
        f"make a key with `{commands.script('main.py')} keys create --name NAME`, or set AUTH_REQUIRED=1, "
        "or set ALLOW_ANONYMOUS=1 to let everybody in"
    )


def _has_keys(settings: Settings) -> bool:
    """Return True if any key exists. Waits until the database answers."""
    warned = False
    while True:
        try:
            with _open(settings) as (keys, _):
                return bool(keys.all())
        except UploadsUnavailable as error:
            if not warned:
                log.warning("HOST %s waits for the list of keys: %s", settings.host, error.detail)
            warned = True
            time.sleep(RETRY_SECONDS)


@contextmanager
def _open(settings: Settings) -> Iterator[tuple[ApiKeyRepository, UploadRepository]]:
    # Imported here: SQLAlchemy takes 0.3 s, which main.py would pay before it starts anything.
    from auth.api_keys import ApiKeyRepository
    from client.sql.database import Database
    from client.sql.uploads import UploadRepository

    database = Database(settings)
    try:
        yield ApiKeyRepository(database), UploadRepository(database)
    finally:
        database.close()


def _create(keys: ApiKeyRepository, uploads: UploadRepository, options: argparse.Namespace) -> int:
    scopes = frozenset(KeyScope(scope) for group in options.scope or [] for scope in group) or DEFAULT_SCOPES
    now = datetime.now(UTC)
    expires_at = now + timedelta(days=options.days) if options.days else None
    has_admin = KeyScope.ADMIN in scopes or any(
        KeyScope.ADMIN in key.scopes and key.is_valid(now) for key in keys.all()
    )
    key, text = keys.create(options.name, user_id=options.user, scopes=scopes, expires_at=expires_at)
    logs.audit("key_created", key_id=key.key_id, user_id=key.user_id, scopes=sorted(scopes))
    _wait_for_api()
    print(f"key {key.key_id} of user {key.user_id}: {', '.join(sorted(scopes))}; {_validity(key)}")
    if not has_admin:
        print(
            "Every call now needs a key, yours too, and no key has the scope admin yet: "
            f"make yours with `{commands.script('main.py')} keys create --scope admin --name NAME`."
        )
    if KeyScope.ADMIN not in scopes and (sentence := _documents_of_others(uploads.count_by_user(), key.user_id)):
        print(sentence)
    print("The key is shown only now. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")
    print(text)
    return 0


def _documents_of_others(counts: dict[str, int], user_id: str) -> str:
    """Return a sentence that names the owners of documents, for a user without documents; "" for other users."""
    if counts.get(user_id) or not counts:
        return ""
    owners = [f"{name} owns {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:3]]
    return f"User {user_id} owns 0 documents and sees no others: {', '.join(owners)}."


def _list(keys: ApiKeyRepository) -> int:
    listed = keys.all()
    for key in listed:
        scopes = ",".join(sorted(key.scopes))
        made = f"made {key.created_at:%Y-%m-%d}"
        print(f"{key.key_id}  {key.name!a}  user {key.user_id!a}  {scopes}  {made}  {_validity(key)}")
    print(counted(len(listed), "key"))
    return 0


def _revoke(keys: ApiKeyRepository, options: argparse.Namespace) -> int:
    known = [key_id for key_id in options.key_ids if keys.revoke(key_id)]
    for key_id in known:
        logs.audit("key_revoked", key_id=key_id)
    if known:
        _wait_for_api()
    for key_id in set(options.key_ids) - set(known):
        print(f"{key_id} is not a key: see `{commands.script('main.py')} keys list`", file=sys.stderr)
    print(f"{len(known)} revoked")
    return 0 if len(known) == len(options.key_ids) else 1


def _wait_for_api() -> None:
    """Wait until every API process has read the change."""
    from auth.api_keys import PROPAGATION_SECONDS

    time.sleep(PROPAGATION_SECONDS)


def _validity(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at is None:
        return "good until revoked"
    return f"{'good until' if key.is_valid(datetime.now(UTC)) else 'expired'} {key.expires_at:%Y-%m-%d %H:%M} UTC"


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
