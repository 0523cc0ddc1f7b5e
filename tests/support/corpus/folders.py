"""Mail, books, records, and folders of files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP

from reportlab.pdfgen.canvas import Canvas

from tests.support.corpus import Sample
from tests.support.corpus.office import xlsx
from tests.support.corpus.pdfs import PROSE, drawn
from tests.support.corpus.word import docx, p

_MINUTES = "The council met on Tuesday. The breakwater is to be raised by two metres."


def zipped(files: dict[str, bytes | str], *, password_bit: str = "") -> bytes:
    """Return a ZIP of files by name; `password_bit` is the name of a file that is marked as encrypted."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    packed = bytearray(out.getvalue())
    if password_bit:
        for mark, flags, start in ((b"PK\3\4", 6, 30), (b"PK\1\2", 8, 46)):
            at = packed.find(mark)
            while not packed.startswith(password_bit.encode(), at + start):
                at = packed.find(mark, at + 1)
            packed[at + flags] |= 1
    return bytes(packed)


def _page(canvas: Canvas) -> None:
    words = PROSE.split()
    for number in range(0, len(words), 9):
        canvas.drawString(20, 380 - number * 2, " ".join(words[number : number + 9]))


def mail(text: str = "", *, html: str = "", subject: str = "Fees", charset: str = "utf-8", **attached: bytes) -> bytes:
    """Return a mail with attachments by name, of which `_` stands for the dot."""
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"] = "Åsa Ek <asa@example.org>", "harbour@example.org"
    message["Date"], message["Subject"] = "Tue, 03 Mar 2026 09:12:00 +0100", subject
    if text:
        message.set_content(text, charset=charset)
    if html:
        (message.add_alternative if text else message.set_content)(html, subtype="html")
    for name, data in attached.items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name.replace("_", "."))
    return message.as_bytes()


def _forwarded() -> bytes:
    outer = EmailMessage(policy=SMTP)
    outer["From"], outer["Subject"] = "office@example.org", "Fwd"
    outer.set_content("See below.")
    inner = EmailMessage(policy=SMTP)
    inner["From"], inner["Subject"] = "keeper@example.org", "The lamp"
    inner.set_content("The lamp was changed in April.")
    outer.add_attachment(inner)
    return outer.as_bytes()


def _raw(head: str, body: bytes) -> Callable[[], bytes]:
    return lambda: head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


def _mbox() -> bytes:
    first = mail("The first message speaks of ropes.", subject="Ropes")
    second = mail("The second message speaks of sails.", subject="Sails")
    return b"".join(b"From asa@example.org Tue Mar  3 09:12:00 2026\n" + one + b"\n" for one in (first, second))


_CHAPTER = (
    "<html xmlns='http://www.w3.org/1999/xhtml'><head><title>t</title></head><body><h1>%s</h1><p>%s</p></body></html>"
)


def epub(*chapters: tuple[str, str], encryption: str = "") -> bytes:
    """Return a book of chapters: heading and text. The spine reverses the order of the manifest."""
    items = "".join(
        f'<item id="c{n}" href="text/c%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(chapters))))
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        "OPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>Of Harbours</dc:title><dc:creator>M. Quay</dc:creator></metadata><manifest>"
        f'<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>{items}</manifest>'
        f'<spine><itemref idref="nav"/>{spine}</spine></package>',
        "OPS/nav.xhtml": _CHAPTER % ("Contents", "Ghost of the contents"),
    }
    files |= {f"OPS/text/c {n}.xhtml": _CHAPTER % chapter for n, chapter in enumerate(chapters)}
    if encryption:
        files["META-INF/encryption.xml"] = (
            '<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptedData>'
            f'<e:EncryptionMethod Algorithm="{encryption}"/></e:EncryptedData></encryption>'
        )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, text, compress_type=kind)
    return out.getvalue()


_SHIPS = [
    {"name": "Alma", "tonnes": 412, "home": {"port": "Riga"}},
    {"name": "Dora", "crew": ["Ek", "Lund"], "gone": None},
]
_LONG = {"title": "Log of the Alma", "entries": [{"day": n, "text": f"Day {n} was calm. " * 4} for n in range(9)]}
_BOOK = (("The Tide", "Water falls for six hours."), ("The Lamp", "It burns oil."))


def _in_each_other(depth: int) -> bytes:
    data = zipped({"note.txt": "Deep down."})
    for level in range(depth):
        data = zipped({f"level {level}.zip": data, f"beside {level}.txt": f"Beside level {level}."})
    return data


def _damaged() -> bytes:
    data = zipped({"a.txt": PROSE, "b.txt": "Whole."})
    return data[:60] + bytes(40) + data[100:]


def _bomb() -> bytes:
    return zipped({f"{n}.txt": b"A" * (40 << 20) for n in range(4)})


SAMPLES = [
    Sample(
        "mail.eml",
        lambda: mail("The fee is 35 euros.", subject="Gebühren für März"),
        (
            "Subject: Gebühren für März",
            "From: Åsa Ek <asa@example.org>",
            "Date: Tue, 03 Mar 2026",
            "The fee is 35 euros.",
        ),
        ("Content-Type", "MIME"),
        headings=("Subject: Gebühren für März",),
    ),
    Sample(
        "alternatives.eml",
        lambda: mail("Plain words.", html="<p>Rich words.</p>"),
        ("Plain words.",),
        ("Rich words.",),
    ),
    Sample(
        "html only.eml",
        lambda: mail(html="<style>p{color:red}</style><table><tr><th>Berth<th>Fee<tr><td>North<td>35</table>"),
        ("Berth: North | Fee: 35",),
        ("color", "<td>"),
    ),
    Sample("latin.eml", lambda: mail("Prüfung der Fässer", charset="iso-8859-1"), ("Prüfung der Fässer",)),
    Sample(
        "undeclared bytes.eml",
        _raw(
            "From: a@b.c\nSubject: =?utf-8?q?F=C3=A4sser?=\nContent-Type: text/plain; charset=nonsense",
            "Größe".encode(),
        ),
        ("Subject: Fässer", "Größe"),
    ),
    Sample(
        "attachments.eml",
        lambda: mail("See the files.", minutes_txt=_MINUTES.encode(), fees_pdf=drawn(_page)(), tool_exe=b"MZ\0\0"),
        ("See the files.", "Attachments: minutes.txt, fees.pdf, tool.exe", _MINUTES, "The harbour office opens"),
        labels=("File minutes.txt", "File fees.pdf, page 1", "File tool.exe"),
        warnings={4: "unsupported"},
    ),
    Sample(
        "forwarded.eml",
        _forwarded,
        ("See below.", "Subject: The lamp", "The lamp was changed in April."),
        labels=("File The lamp.eml",),
    ),
    Sample(
        "box.mbox",
        _mbox,
        ("The first message speaks of ropes.", "The second message speaks of sails."),
        labels=("Message 1: Ropes", "Message 2: Sails"),
    ),
    Sample(
        "book.epub",
        lambda: epub(*_BOOK),
        ("Title: Of Harbours", "Author: M. Quay", "Water falls for six hours."),
        ("Ghost",),
        headings=("The Tide", "The Lamp"),
        labels=("Section The Tide", "Section The Lamp"),
    ),
    Sample("fonts.epub", lambda: epub(*_BOOK, encryption="http://www.idpf.org/2008/embedding"), ("Water falls",)),
    Sample("locked.epub", lambda: epub(*_BOOK, encryption="http://ns.adobe.com/adept"), reason="encrypted"),
    Sample(
        "ships.json",
        lambda: json.dumps({"fleet": "North", "ships": _SHIPS}).encode(),
        ("fleet: North", "name: Alma | tonnes: 412 | home.port: Riga", "name: Dora | crew: Ek, Lund"),
        ("null", "{", "gone"),
        labels=("Records 1–2",),
    ),
    Sample(
        "long.json",
        lambda: json.dumps([_LONG]).encode(),
        ("entries[3].day: 2", "entries[3].text: Day 2 was calm."),
        headings=("Record 1: Log of the Alma",),
    ),
    Sample("comments.json", lambda: b'{"depth": 4} // of the basin', ('{"depth": 4} // of the basin',)),
    Sample("nothing.json", lambda: b"[]", reason="empty"),
    Sample("nested.json", lambda: b"[" * 100_000, reason="broken"),
    Sample(
        "ships.jsonl",
        lambda: b"\n".join(json.dumps(ship).encode() for ship in _SHIPS) + b'\n{"name": "cut o',
        ("name: Alma | tonnes: 412", "name: Dora", '{"name": "cut o'),
        labels=("Records 1–3",),
    ),
    Sample(
        "folder.zip",
        lambda: zipped(
            {
                "a/minutes.txt": _MINUTES,
                "a/plan.docx": docx(p("Dig deeper."))(),
                "../fees.xlsx": xlsx({"Q3": [("Berth", "Fee"), ("North", 35)]})(),
                "b/scan.pdf": drawn(_page)(),
                "b/more.zip": zipped({"letter.eml": mail("From inside.")}),
                "__MACOSX/._x": "Ghost",
                ".git/config": "Ghost",
                "c/film.bin": b"\0\1\2",
                "a/site.html": "<h1>The plan</h1><p>Wait.",
                "c/void.txt": b"",
            }
        ),
        (_MINUTES, "Dig deeper.", "Berth: North | Fee: 35", "The harbour office opens", "From inside."),
        ("Ghost",),
        headings=("The plan",),
        labels=(
            *(
                "File a/minutes.txt",
                "File a/plan.docx",
                "File ../fees.xlsx, Sheet Q3, rows 2–2",
                "File b/scan.pdf, page 1",
            ),
            *("File b/more.zip/letter.eml", "File c/film.bin", "File c/void.txt"),
        ),
        warnings={6: "unsupported", 8: "empty"},
    ),
    Sample(
        "partly locked.zip",
        lambda: zipped({"open.txt": "Words for all.", "locked.txt": "Ghost"}, password_bit="locked.txt"),
        ("Words for all.",),
        ("Ghost",),
        warnings={2: "encrypted"},
    ),
    Sample("locked.zip", lambda: zipped({"locked.txt": "Ghost"}, password_bit="locked.txt"), reason="encrypted"),
    Sample("no documents.zip", lambda: zipped({"a.bin": b"\0\1"}), reason="unsupported"),
    Sample("nothing.zip", lambda: zipped({}), reason="unsupported"),
    Sample(
        "deep.zip",
        lambda: _in_each_other(5),
        ("Beside level 4.", "Beside level 2."),
        ("Deep down.",),
        warnings={1: "too_large"},
    ),
    Sample("damaged.zip", _damaged, ("Whole.",), warnings={1: "broken"}),
    Sample("bomb.zip", _bomb, reason="too_large"),
]
