"""Forms with files in every spelling of a name that clients send, and what is said of a form that cannot be read."""

from __future__ import annotations

from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import HTTP

import httpx
import pytest

from api.multipart_forms import MAX_FIELDS, MAX_FILES
from tests.api.test_api import assert_problem
from tests.support.tables import each


def form(*heads: bytes, content: bytes = b"The bridge was built in 1932.") -> bytes:
    """Return the body of a form whose parts have these parameters of Content-Disposition."""
    parts = [b"--b\r\nContent-Disposition: form-data" + head + b"\r\n\r\n" + content + b"\r\n" for head in heads]
    return b"".join([*parts, b"--b--\r\n"])


def send(api: httpx.Client, body: bytes, content_type: str = "multipart/form-data; boundary=b") -> httpx.Response:
    return api.post("/uploads?on_duplicate=keep", content=body, headers={"Content-Type": content_type})


NAMES = {
    "filename* alone": (b"; name=file; filename*=UTF-8''caf%C3%A9.txt", "café.txt"),
    "before the name": (b"; filename*=utf-8''caf%C3%A9.txt; name=file", "café.txt"),
    "with a language": (b"; name=file; filename*=UTF-8'fr'caf%C3%A9.txt", "café.txt"),
    "ISO-8859-1": (b"; name=file; filename*=ISO-8859-1''caf%E9.txt", "café.txt"),
    "another encoding": (b"; name=file; filename*=windows-1251''%CC%EE%F1%F2.txt", "Мост.txt"),
    "in quotes": (b'; name="file"; filename*="UTF-8\'\'caf%C3%A9.txt"', "café.txt"),
    "spaces around =": (b"; name=file; filename* = UTF-8''caf%C3%A9.txt", "café.txt"),
    "capitals": (b"; Name=file; FileName*=UTF-8''caf%C3%A9.txt", "café.txt"),
    "semicolon, quotes and a backslash": (b"; name=file; filename*=UTF-8''a%3B%20b%22c%5C%22d%5C", '"d'),
    "both, and filename* wins": (b"; name=file; filename=\"cafe.txt\"; filename*=UTF-8''caf%C3%A9.txt", "café.txt"),
    "both, in the other order": (b"; name=file; filename*=UTF-8''caf%C3%A9.txt; filename=cafe.txt", "café.txt"),
    "as .NET sends both": (
        b"; name=file; filename=\"=?utf-8?B?Y2Fmw6kudHh0?=\"; filename*=utf-8''caf%C3%A9.txt",
        "café.txt",
    ),
    "filename* of an unknown encoding": (b"; name=file; filename*=klingon''a.txt; filename=b.txt", "b.txt"),
    "filename* with half a letter": (b"; name=file; filename=b.txt; filename*=UTF-8''caf%C3.txt", "b.txt"),
    "filename* without its form": (b"; name=file; filename=b.txt; filename*=x", "b.txt"),
    "filename* within quotes": (b"; name=file; filename=\"a; filename*=UTF-8''b.txt\"", "a; filename*=UTF-8''b.txt"),
    "bytes of UTF-8": ('; name=file; filename="café.txt"'.encode(), "café.txt"),
    "bytes of ISO-8859-1": ('; name=file; filename="café.txt"'.encode("latin-1"), "café.txt"),
    "escaped quotes": (rb'; name=file; filename="a\"b.txt"', 'a"b.txt'),
    "without quotes": (b"; name=file; filename=a.txt", "a.txt"),
    "a path": (b"; name=file; filename*=UTF-8''dir%2Fa.txt", "a.txt"),
}


@each("head", {kind: head for kind, (head, _) in NAMES.items()})
def test_a_file_has_the_name_that_its_client_gave(head: bytes, api: httpx.Client) -> None:
    answer = send(api, form(head))
    assert answer.status_code == 202, answer.text
    assert answer.json()["name"] == dict(NAMES.values())[head]


def test_the_standard_library_writes_such_a_form(api: httpx.Client) -> None:
    message = MIMEMultipart("form-data", policy=HTTP)
    part = MIMEText("The bridge was built in 1932.", "plain", "utf-8", policy=HTTP)
    part.add_header("Content-Disposition", "form-data", name="file", filename=("utf-8", "", "Brücke № 1.txt"))
    message.attach(part)
    head, _, body = message.as_bytes().partition(b"\r\n\r\n")
    assert b"filename*=utf-8''Br%C3%BCcke" in body
    content_type = message["Content-Type"].replace("\n", "")
    assert send(api, body, content_type).json()["name"] == "Brücke № 1.txt", head


def test_names_of_several_files_and_other_fields_are_read_together(api: httpx.Client) -> None:
    body = form(b"; name=file; filename*=UTF-8''%C3%A9.txt", b"; name=file; filename=a.txt")
    extra = b"--b\r\nContent-Disposition: form-data; name=on_duplicate\r\n\r\nskip\r\n"
    answer = send(api, extra + body)
    assert [upload["name"] for upload in answer.json()["uploads"]] == ["é.txt", "é.txt"]
    assert [upload["duplicate"] for upload in answer.json()["uploads"]] == [False, True]


LONG = b"x" * 9_000
UNREADABLE = {
    "only an unknown encoding": (form(b"; name=file; filename*=klingon''a.txt"), "send it as `filename`"),
    "only half a letter": (form(b"; name=file; filename*=UTF-8''%C3.txt"), "send it as `filename`"),
    "a long name": (form(b'; name=file; filename="' + LONG + b'.txt"'), "shorten the name of the file"),
    "a long filename*": (form(b"; name=file; filename*=UTF-8''" + LONG), "shorten the name of the file"),
    "no name, long": (form(b"; name=file", content=LONG), "give the part a `filename`"),
    "a long field": (form(b"; name=note", content=LONG), "send less"),
    "no part's name": (form(b"; filename=a.txt"), "call the part of each file `file`"),
    "cut off": (form(b"; name=file; filename=a.txt").replace(b"--b\r\n", b"--", 1), "let an HTTP library build it"),
    "many files": (form(*[b"; name=file; filename=a.txt"] * (MAX_FILES + 1)), f"at most {MAX_FILES} files"),
    "many fields": (form(*[b"; name=note"] * (MAX_FIELDS + 1)), f"at most {MAX_FIELDS} fields"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_form_that_cannot_be_read_is_refused_with_what_to_do(kind: str, api: httpx.Client) -> None:
    body, advice = UNREADABLE[kind]
    (error,) = assert_problem(send(api, body), 422)["errors"]
    assert error["field"] == "body"
    assert advice in error["message"]


def test_a_form_without_a_boundary_says_who_sets_it(api: httpx.Client) -> None:
    answer = send(api, form(b"; name=file; filename=a.txt"), "multipart/form-data")
    assert "let your HTTP library set the Content-Type" in assert_problem(answer, 422)["detail"]


def test_a_short_part_without_a_name_says_so(api: httpx.Client) -> None:
    (error,) = assert_problem(send(api, form(b"; name=file")), 422)["errors"]
    assert error["field"] == "file.0"
    assert "with a name" in error["message"]
