"""Characters that nobody sees but a model reads: used to smuggle text past whoever looks at a document."""

from __future__ import annotations

import re

# What Unicode lets a display ignore, the marks of direction, and the rest of the controls and noncharacters. Tags
# (U+E0000 and on) spell ASCII unseen; variation selectors carry bytes. White space is none of them.
_RANGES = (
    *((0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C)),
    *((0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    *((0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0xFFFE, 0xFFFF)),
    *((0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
INVISIBLE = frozenset(chr(code) for first, last in _RANGES for code in range(first, last + 1))

_CLASS = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _RANGES)
_UNSEEN = re.compile(f"[{_CLASS}]+")
_HYPHEN_AT_LINE_END = re.compile(r"\u00ad(?=[ \t]*\r?\n)")
_LINE_BREAK = re.compile("\r\n|[\r\v\f\x1c-\x1f\x85\u2028\u2029]")
# Joiners between letters of scripts that are misspelt without them: Arabic, Syriac, those of India, Mongolian.
_JOINED = re.compile(
    "(?<=[\u0600-\u08ff\u0900-\u0dff\u1820-\u18aa])[\u200c\u200d](?=[\u0600-\u08ff\u0900-\u0dff\u1820-\u18aa])"
)


def strip_invisible(text: str) -> str:
    """Return what of `text` can be seen, with line feeds as its only line breaks."""
    if text.isascii() and text.isprintable():
        return text
    lines = _LINE_BREAK.sub("\n", _HYPHEN_AT_LINE_END.sub("-", text))
    joiners = {found.start() for found in _JOINED.finditer(lines)}
    return _UNSEEN.sub(lambda found: found[0] if found.start() in joiners and len(found[0]) == 1 else "", lines)
