"""The encoding of a text: Unicode, the one that the file declares, or a guess that is refused where it is unsure."""

from __future__ import annotations

import codecs
import re

from errors import DocumentError

# What is looked at for a guess. The whole file is decoded afterwards.
SAMPLE_BYTES = 256 * 1024
# A guess is taken from this confidence on, or when another reading of the bytes is this much less likely. Measured on
# the Declaration of Human Rights in 34 languages: of 2,547 samples of 20 to 1,500 bytes 10 were wrong, all of them
# shorter than 160 bytes, and 75 were refused; charset-normalizer had 8 of 28 longer ones wrong.
SURE, LEAST, MARGIN = 0.15, 0.03, 1.5
# In UTF-16 this share of every other byte is zero where the text is Latin.
MIN_ZERO_SHARE = 0.7
# With so few damaged characters a text is read all the same.
MAX_DAMAGED = 0.001
# The encodings that texts of the last thirty years have, in chardet's names. More of them make a guess worse.
_LEGACY = (
    *("utf-8", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
    *("euc_jis_2004", "cp932", "iso2022_jp_2", "gb18030", "big5hkscs", "euc_kr", "cp949", "koi8-r", "koi8-u", "cp866"),
    *("iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "iso8859-15"),
)
_CANDIDATES_NAMED = 4
_BOXES = re.compile("[\u2500-\u259f]")
_OF_NAMES = frozenset(("cp932", "gb18030", "big5hkscs", "euc_kr", "cp949", "cp866"))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What no text holds that is read in the right encoding: control characters, and words of Latin and other letters.
_IMPLAUSIBLE = re.compile(
    "[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]"
    "|[A-Za-z][\u0370-\u06ff\u0e00-\u0e7f]|[\u0370-\u06ff\u0e00-\u0e7f][A-Za-z]"
)
_MAX_IMPLAUSIBLE = 0.02


def decode(data: bytes, *, declared: str = "", usual: str = "") -> str:
    """Return the text of a file. `declared` is the encoding that the file names itself.

    `usual` is the encoding of files of its kind that name none: it is taken where it is one of several.

    Raises DocumentError `unknown_encoding` when several encodings are as likely.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    for encoding in ("utf-8", _unmarked_utf16(data), declared):
        text = _decoded(data, encoding)
        if text is not None and not (encoding == "utf-8" and "\x1b$" in text):  # ISO-2022-JP is ASCII to the eye
            return text
    text = data.decode("utf-8", errors="replace")
    damaged = text.count("\ufffd")
    if damaged * 20 < sum(1 for char in text[:SAMPLE_BYTES] if not char.isascii()):
        return text  # UTF-8 that was cut or damaged in a few places
    try:
        return data.decode(_guess(data, usual), errors="replace")
    except DocumentError:
        if damaged <= MAX_DAMAGED * len(text):
            return text
        raise


def in_utf8(data: bytes) -> bytes:
    """Return a file in UTF-16 or UTF-32, or with a mark of Unicode, in UTF-8, any other as it is."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace").encode()
    encoding = _unmarked_utf16(data)
    return data.decode(encoding, errors="replace").encode() if encoding else data


def decode_names(data: bytes) -> str | None:
    """Return the names of files in UTF-8 or in an encoding of East Asia or of Russian DOS; None for any other.

    In cp437, names of these hold lines that draw boxes, and names of Western languages do not.
    """
    text = _decoded(data, "utf-8")
    if text is not None or not _BOXES.search(data.decode("cp437")):
        return text
    try:
        encoding = _guess(data)
    except DocumentError:
        return None
    return _decoded(data, encoding) if encoding in _OF_NAMES else None


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding) if encoding else None
    except (UnicodeDecodeError, LookupError):
        return None


def _unmarked_utf16(data: bytes) -> str:
    """Return the UTF-16 of a text without a byte-order mark whose letters are mostly Latin; "" for any other."""
    sample = data[:4096]
    half = len(sample) // 2
    for encoding, high in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if high.count(0) > MIN_ZERO_SHARE * half and sample.count(0) == high.count(0):
            return encoding
    return ""


def _guess(data: bytes, usual: str = "") -> str:
    import chardet

    sample = data[:SAMPLE_BYTES]
    found = chardet.detect_all(sample, ignore_threshold=True, compat_names=False, include_encodings=_LEGACY)
    readings: dict[str, tuple[str, float]] = {}  # encodings under which the sample reads the same are one reading
    for one in found:
        text = _sample_text(sample, one["encoding"] or "", whole=len(data) <= SAMPLE_BYTES)
        if text is not None and _is_plausible(text):
            readings.setdefault(text, (str(one["encoding"]), one["confidence"]))
    ranked = sorted(readings.values(), key=lambda reading: -reading[1])
    if not ranked:
        raise _unknown([])
    confidence = ranked[0][1]
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    if confidence < SURE and (confidence < LEAST or confidence < MARGIN * second):
        candidates = [encoding for encoding, _ in ranked[:_CANDIDATES_NAMED]]
        if usual in candidates:
            return usual
        raise _unknown(candidates)
    return ranked[0][0]


def _sample_text(sample: bytes, encoding: str, *, whole: bool) -> str | None:
    """Return the text of a sample; None where the bytes are invalid. The sample may end within a character."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample, final=whole)
    except (UnicodeDecodeError, LookupError):
        return None


def _is_plausible(text: str) -> bool:
    letters = sum(1 for char in text if not char.isascii())
    return len(_IMPLAUSIBLE.findall(text)) <= _MAX_IMPLAUSIBLE * letters


def _unknown(candidates: list[str]) -> DocumentError:
    names = " or ".join(candidates) or "none of the known encodings"
    return DocumentError(
        "unknown_encoding",
        f"the encoding of the text is not certain (it may be {names}); save the file as UTF-8, "
        "for example with `iconv -f ENCODING -t UTF-8`",
    )
