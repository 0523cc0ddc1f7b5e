"""Characters that a reader cannot see but a model reads. Attackers hide instructions in them."""

from __future__ import annotations

import re

# Default-ignorable characters, direction marks, and the remaining controls and noncharacters of Unicode; no white
# space. Tags (U+E0000 and up) spell ASCII invisibly; variation selectors can carry arbitrary bytes.
_RANGES = (
    *((0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C)),
    *((0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    *((0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0xFFFE, 0xFFFF)),
    *((0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
INVISIBLE = frozenset(chr(code) for first, last in _RANGES for code in range(first, last + 1))

# The same characters inside the brackets of a regular expression.
INVISIBLE_CLASS = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _RANGES)
_INVISIBLE_RUN = re.compile(f"[{INVISIBLE_CLASS}]+")
_SOFT_HYPHEN_AT_LINE_END = re.compile(r"\u00ad(?=[ \t]*\r?\n)")
_LINE_BREAK = re.compile("[\r\v\f\x1c-\x1f\x85\u2028\u2029](?:(?<=\r)\n)?")
_MAY_NEED_STRIPPING = re.compile(f"[{INVISIBLE_CLASS}\r\v\f\x1c-\x1f\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL_BREAK = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85]")
# Joiners between letters of scripts that are misspelt without joiners: Arabic, Syriac, Indic scripts, Mongolian.
_NEEDED_JOINER = re.compile(
    "(?<=[\u0600-\u08ff\u0900-\u0dff\u1820-\u18aa])[\u200c\u200d](?=[\u0600-\u08ff\u0900-\u0dff\u1820-\u18aa])"
)


def strip_controls(text: str) -> str:
    """Return `text` without the control characters of C0 and C1, except tabs and line feeds.

    Line breaks of other kinds become line feeds. A terminal would carry out what follows an ESC.
    """
    if not _CONTROL.search(text):
        return text
    return _CONTROL.sub("", _CONTROL_BREAK.sub("\n", text))


def strip_invisible(text: str) -> str:
    """Return `text` without invisible characters, with line feeds as its only line breaks.

    A soft hyphen at the end of a line becomes a hyphen. A joiner that the spelling needs is kept.
    """
    if not _MAY_NEED_STRIPPING.search(text):
        return text
    lines = _LINE_BREAK.sub("\n", _SOFT_HYPHEN_AT_LINE_END.sub("-", text))
    joiners = {match.start() for match in _NEEDED_JOINER.finditer(lines)}
    return _INVISIBLE_RUN.sub(lambda match: match[0] if match.start() in joiners and len(match[0]) == 1 else "", lines)
