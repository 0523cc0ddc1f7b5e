"""The model provider, any OpenAI-compatible server: its address, its key and its errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import SecretStr

from errors import (
    ModelNotFound,
    ProviderError,
    ProviderKeyRejected,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from observability import logs

if TYPE_CHECKING:
    from settings import Settings

OPENAI_URL = "https://api.openai.com/v1"
CONNECT_TIMEOUT_SECONDS = 5.0
# The SDK does not retry; `client.llm.retries` does. A job as a whole is not run again.
MAX_RETRIES = 0

log = logging.getLogger("client.llm.chat")

# The form of providers' error codes. Text of another form may repeat the question or the key.
_CODE = re.compile(r"[a-z][a-z0-9_]{0,59}")


def provider_key(settings: Settings) -> SecretStr:
    """Return the key to send. Local servers require a key but accept any."""
    return settings.openai_api_key or SecretStr("not-needed")


def provider_url(settings: Settings) -> str:
    """Return the address of the provider, to pass to the SDK always: otherwise the SDK reads OPENAI_BASE_URL itself."""
    return settings.openai_base_url or OPENAI_URL


@contextmanager
def provider_errors() -> Iterator[None]:
    """Translate the SDK's errors to ProviderError, without texts and causes that may hold the key or the question."""
    import openai

    try:
        yield
    except openai.APITimeoutError:
        raise ProviderTimeout("the model provider did not answer in time; try again or choose a faster model") from None
    except openai.APIConnectionError:
        raise ProviderUnavailable(
            "the model provider cannot be reached: check OPENAI_BASE_URL and the network"
        ) from None
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise ProviderKeyRejected("the model provider rejected the key: check OPENAI_API_KEY") from None
    except openai.NotFoundError:
        raise ModelNotFound(
            "the model provider does not know the model or the address: "
            "check CHAT_MODEL, EMBEDDING_MODEL and OPENAI_BASE_URL (it usually ends in /v1)"
        ) from None
    except openai.RateLimitError:
        raise ProviderRateLimited(
            "the model provider limits the rate, or the account is out of credit; try later"
        ) from None
    except openai.APIStatusError as error:
        logs.log_content(log, "the model provider refused", status=error.status_code, said=error.message)
        raise _status_error(error.status_code, getattr(error, "code", None) or getattr(error, "type", None)) from None
    except openai.OpenAIError as error:
        raise ProviderError(f"the model provider failed: {type(error).__name__}") from None
    except ValueError as error:  # LangChain's error for an answer that lacks required fields
        logs.log_content(log, "the model provider's answer makes no sense", said=str(error))
        raise ProviderError("the model provider's answer makes no sense (LOG_CONTENT=1 logs why)") from None


def _status_error(status: int, code: object) -> ProviderError:
    """Return the error for a status, with the provider's error code but never its text."""
    shown = f" ({code})" if isinstance(code, str) and _CODE.fullmatch(code) else ""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProviderUnavailable(f"the model provider failed with {status}{shown}; try later")
    return ProviderError(
        f"the model provider refused the request with {status}{shown}; LOG_CONTENT=1 logs the provider's message"
    )
