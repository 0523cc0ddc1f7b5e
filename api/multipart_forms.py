"""Forms with files: which parameter of a part's head names the file, and the sentences for forms that cannot be read.

RFC 7578 forbids `filename*` in forms, and Starlette ignores it. .NET's HttpClient and others send it all the same, some
alone and some beside a `filename` in another encoding. As in RFC 6266, a `filename*` that can be read wins.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import DEFAULT_MAX_HEADER_SIZE
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

MAX_FILES = 100
# Limits of the form fields other than files. The longest field is the URL of a webhook.
MAX_FIELDS = 10
MAX_FIELD_BYTES = 8 * 1024
# A parameter of Content-Disposition. A quoted value may hold a semicolon.
_PARAMETER = re.compile(rb';[ \t]*([^=;"\s]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)')
# RFC 5987: charset, language, percent-encoded text. Some clients put the value into quotes.
_EXTENDED = re.compile(rb"\"?([\w.:-]+)'[^']*'(.*?)\"?", re.DOTALL)

NO_NAME = "the part `file` must be a file: give the part a `filename`"
UNREADABLE_NAME = (
    "the name of a file cannot be read: send it as `filename`, or as `filename*=UTF-8''` and percent-encoded"
)
# The start of a message of Starlette or python-multipart, and the sentence instead.
_SENTENCES = {
    "Maximum header size exceeded": f"the head of a part is longer than {DEFAULT_MAX_HEADER_SIZE} bytes: shorten the "
    "name of the file",
    "Missing boundary": "the Content-Type of the form names no boundary: let your HTTP library set the Content-Type",
    "The Content-Disposition header field": "a part of the form has no name: call the part of each file `file`",
    "Too many files": f"a form has at most {MAX_FILES} files: send more files in a further request",
    "Too many fields": f"a form has at most {MAX_FIELDS} fields beside its files: send fewer, and give each file a "
    "`filename`",
    "Invalid multipart data": "the form is malformed or cut off: let an HTTP library build it, and send it again",
}


class FileForm(MultiPartParser):
    """Starlette's parser, which also reads the name of a file from `filename*`. The parts called `file` are files."""

    def on_headers_finished(self) -> None:
        """Give the part a `filename` if its name is in `filename*`. Raises MultiPartException."""
        part = self._current_part
        if part.content_disposition and b"*" in part.content_disposition:
            part.content_disposition = self._with_plain_name(part.content_disposition)
        super().on_headers_finished()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a part. Raises MultiPartException."""
        part = self._current_part
        if part.file is None and len(part.data) + end - start > self.max_part_size:
            raise MultiPartException(
                NO_NAME
                if part.field_name == "file"
                else f"a field of the form is longer than {self.max_part_size} bytes: send less"
            )
        super().on_part_data(data, start, end)

    def _with_plain_name(self, disposition: bytes) -> bytes:
        parameters = {match[1].lower(): match[2].strip() for match in _PARAMETER.finditer(disposition)}
        if b"filename*" not in parameters:
            return disposition
        name = _read_extended(parameters.pop(b"filename*"))
        if name is not None:
            escaped = name.replace("\\", "/").replace('"', '\\"')  # a backslash would need an escape
            parameters[b"filename"] = b'"' + escaped.encode(self._charset, "replace") + b'"'
        elif b"filename" not in parameters:
            raise MultiPartException(UNREADABLE_NAME)
        return b"form-data" + b"".join(b"; " + key + b"=" + value for key, value in parameters.items())


class FileFormRequest(Request):
    """A request whose form is read by FileForm."""

    async def _get_form(
        self, *, max_files: float = 1000, max_fields: float = 1000, max_part_size: int = 1024 * 1024
    ) -> FormData:
        if self._form is None and self.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            async with aclosing(self.stream()) as stream:
                form = FileForm(
                    self.headers, stream, max_files=max_files, max_fields=max_fields, max_part_size=max_part_size
                )
                try:
                    self._form = await form.parse()
                except MultiPartException as error:
                    raise HTTPException(400, _sentence(error)) from error
        return await super()._get_form(max_files=max_files, max_fields=max_fields, max_part_size=max_part_size)


def _read_extended(value: bytes) -> str | None:
    """Return the text of a value as in RFC 5987; None if the value is malformed or its encoding is unknown."""
    match = _EXTENDED.fullmatch(value)
    if match is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(match[1].decode())
    except (LookupError, ValueError):
        return None


def _sentence(error: MultiPartException) -> str:
    """Return what is wrong with a form, and what to do."""
    messages = (str(error.__cause__), error.message)
    for start, sentence in _SENTENCES.items():
        if any(message.startswith(start) for message in messages):
            return sentence
    return error.message
