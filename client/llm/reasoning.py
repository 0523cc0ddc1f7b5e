"""The answer in what a model writes, without its reasoning, piece by piece.

Unless the provider divides them, reasoning stands in the text: between tags (`<think>`, `[THINK]`, in many spellings
and languages), behind channel tokens (`<|channel|>analysis<|message|>`), or before a closing tag alone, when the
provider's template wrote the opening tag. So:

- From an opening tag to its closing tag, and before a closing tag that nothing opened, all is reasoning.
- After an opening tag that is never closed, all is reasoning. After a word in mid-sentence, though, such a tag is what
  the answer is about, and the text is kept.
- In code (between backticks) and right between quotation marks a tag is what the answer is about.
- Control tokens of chat templates, such as `<|im_end|>`, are left out.
"""

from __future__ import annotations

import re
from typing import Literal

_NAME = (
    r"(?:seed:|ant[_:]?)?(?:internal_|inner_|model_)?"
    r"(?:think(?:ing)?|thoughts?|reasoning|rationale|reflection|analysis|scratch_?pad|deliberation|monologue|cot"
    r"|chain[_-]of[_-]thoughts?|思考|思维|思維|推理|推論|考え|생각|추론|pensées?|réflexion|raisonnement|denken|gedanken"
    r"|nachdenken|überlegung|razonamiento|pensamiento|pensando|raciocínio|pensiero|ragionamento|мысли?|мышление"
    r"|размышлени[ея]|рассуждени[ея]|роздуми|myślenie|rozumowanie|düşünce|düşünme|تفكير|التفكير)"
    r"(?:[_-]?(?:process|steps?|block|content|过程|過程|never_used_\w+))?"
)
_BRACKETED = r"\s*(?:THINK|THINKING|THOUGHTS?|REASONING)\s*\])"
_OPEN = (
    rf"<\s*{_NAME}(?:[\s:=][^<>\n]{{0,80}})?>|(?-i:\[{_BRACKETED}|◁\s*think(?:ing)?\s*▷"
    rf"|<[|｜]\s*(?:begin_of_|start_of_|begin_|start_)?{_NAME}\s*[|｜]>|<\|channel>\s*{_NAME}"
)
_CLOSE = (
    rf"<\s*/\s*{_NAME}\s*>|(?-i:\[\s*/{_BRACKETED}|◁\s*/\s*think(?:ing)?\s*▷"
    rf"|<[|｜]\s*(?:/|end_of_|end_){_NAME}\s*[|｜]>|<channel\|>|\[BEGIN FINAL RESPONSE\]"
)
_DETAILS = r"<details\s[^<>]{0,80}?reasoning[^<>]{0,80}>"
# A header of the Harmony format. Its `<|message|>` may be missing.
_CHANNEL = (
    r"<\|\s*channel\s*\|>\s*(?P<channel>final|analysis|commentary|[a-z]+)"
    r"(?:[^<\n]{0,60}(?:<\|\s*constrain\s*\|>[^<\n]{0,40})?(?P<message><\|\s*message\s*\|>))?"
)
_ROLES = ("assistant", "system", "user", "tool")
_CONTROL = (
    rf"<[|｜]\s*(?:im_start|start|start_header_id)\s*[|｜]>(?:\s*(?:{'|'.join(_ROLES)})\b)?"
    rf"|<[|｜][^<>|｜\n]{{1,40}}[|｜]>|</?(?:start|end)_of_turn>|\[END FINAL RESPONSE\]|<\s*{_NAME}\s*/>"
)
_WRAPPER = r"</?(?:answer|final_answer|final|response|solution|output)>"
_MARK = re.compile(
    rf"(?P<code>`+)|(?P<open>{_OPEN})|(?P<close>{_CLOSE})|(?P<details>{_DETAILS})|{_CHANNEL}"
    rf"|(?P<control>{_CONTROL})|(?P<wrapper>{_WRAPPER})",
    re.IGNORECASE,
)
# The characters with which marks begin, and what may be the beginning of a mark at the end of a text.
_SIGNS = re.compile(r"[<`\[◁]")
_BEGINNING = re.compile(
    r"(?:<\s{0,2}(?:(?:[/|｜]|[^\W\d])[^<>\n]{0,90})?|<\|channel>\s*\w{0,20}|\[\s*/?[A-Z ]{0,24}|◁[^▷\n]{0,12})\Z"
)
# How long a header may be in which `<|message|>` is missing.
_MAX_HEADER_CHARS = 150
# Reasoning that begins a reply in plain words, as far as its start is known, and the words that end it.
_PLAIN = (
    (r"(?:analysis|commentary)(?=[A-Z][a-z'’ ])", r"assistant\s*(?:channel)?\s*final(?=\W|[A-Z]|$)"),
    (r"(?i:here(?: is|'s) my thought process:)", r"(?i:here(?: is|'s) my response:)"),
    (r"(?i:here are my reasoning steps:)", r"\[BEGIN FINAL RESPONSE\]"),
)
_PLAIN_STARTS = tuple((re.compile(rf"\s*{start}"), re.compile(end)) for start, end in _PLAIN)
_PLAIN_WORDS = ("here is my thought process:", "here's my thought process:", "here are my reasoning steps:")
_PLAIN_NAMES = ("analysis", "commentary")
_LONGEST_END = 60
_DETAILS_END = re.compile("</details>", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "«": "»", "‘": "’", "「": "」", "『": "』"}
_TAIL_CHARS = 40
_FENCE_TICKS = 3


class ReasoningFilter:
    """Divides the text of one reply into answer and reasoning.

    Attributes:
        thinking: True while the text is reasoning.
        taken_back: True once what `feed` returned earlier turned out to be reasoning. The caller resets it.
        answer_chars: the length of the answer so far.
        reasoning_chars: the length of the reasoning so far.

    """

    def __init__(self, *, begins_with_reasoning: bool = False) -> None:
        """With `begins_with_reasoning` a text is held back until reasoning ends, or else until its own end."""
        self.thinking = False
        self.taken_back = False
        self.answer_chars = 0
        self.reasoning_chars = 0
        self._state: Literal["answer", "code", "reasoning"] = "answer"
        self._buffer = ""
        self._out: list[str] = []
        self._final = False  # once the whole reply is there
        self._tail = ""  # the last characters of the answer
        self._started = False  # once reasoning in plain words cannot begin any more
        self._fence = ""
        self._closed = False  # once reasoning has ended
        self._ended_unopened = False  # after a closing tag that nothing opened, until more text comes
        self._depth = 0
        self._harmony = False
        self._plain_end: re.Pattern[str] | None = None
        self._kept: list[str] | None = None  # what is answer if the reasoning is never closed
        if begins_with_reasoning:
            self._started = True
            self._open(kept="")

    def feed(self, text: str) -> str:
        """Take the next part of the reply. Returns the part of the answer that is certain now."""
        plain = self._started and self._state == "answer" and not (self._buffer or self._ended_unopened)
        if plain and self._tail and not _SIGNS.search(text):
            return self._count(text)
        self._buffer += text
        return self._run(final=False)

    def end(self) -> str:
        """End the reply. Returns the rest of the answer."""
        rest = self._run(final=True)
        if self._state == "reasoning" and self._kept:
            kept = "".join(self._kept)
            self.reasoning_chars -= len(kept)
            rest += self._count(kept if self.answer_chars else kept.lstrip())
        if self._ended_unopened and not self._closed:
            self._take_back()
        self.thinking = False
        return rest

    def _run(self, *, final: bool) -> str:
        self._out, self._final = [], final
        steps = {"answer": self._answer, "code": self._code, "reasoning": self._reasoning}
        while steps[self._state]():
            pass
        self.thinking = self._state == "reasoning"
        return "".join(self._out)

    # -- Each step uses up a part of the buffer. It returns False when it needs more text.

    def _answer(self) -> bool:
        if not self._started:
            return self._start()
        mark = _MARK.search(self._buffer)
        if mark is None:
            held = None if self._final else _BEGINNING.search(self._buffer)
            self._pass_on(len(self._buffer) if held is None else held.start())
            return False
        if not self._final and _is_open_ended(self._buffer, mark):
            self._pass_on(mark.start())
            return False
        if mark["code"]:
            return self._begin_code(mark)
        if _is_quoted(self._buffer, mark, self._tail):
            self._pass_on(mark.end() + 1)
            return True
        self._pass_on(mark.start())
        self._buffer = self._buffer[len(mark[0]) :]
        self._take_mark(mark)
        return True

    def _start(self) -> bool:
        """Look for reasoning in plain words at the beginning of the reply."""
        if not self._final and _may_be_plain_start(self._buffer.lstrip()):
            return False
        self._started = True
        for start, end in _PLAIN_STARTS:
            if found := start.match(self._buffer):
                self._buffer = self._buffer[found.end() :]
                self._open(kept=found[0], end=end)
        return True

    def _begin_code(self, mark: re.Match[str]) -> bool:
        """Pass on a span of code, or begin a block of code."""
        ticks = mark["code"]
        line = (self._tail + self._buffer[: mark.start()]).rpartition("\n")[2]
        if len(ticks) >= _FENCE_TICKS and not line.strip():
            self._pass_on(mark.end())
            self._fence, self._state = ticks, "code"
            return True
        end = re.search(rf"(?<!`){ticks}(?!`)|\n", self._buffer[mark.end() :])
        if end is None and not self._final:
            self._pass_on(mark.start())
            return False
        in_code = end is not None and end[0] != "\n"
        self._pass_on(mark.end() + (end.end() if end and in_code else 0))
        return True

    def _code(self) -> bool:
        end = re.search(rf"(?:\A|\n)[ \t]*{self._fence}`*[ \t]*(?=\n|\Z)", self._buffer)
        if end and (self._final or end.end() < len(self._buffer)):
            self._pass_on(end.end())
            self._state = "answer"
            return True
        # The last line may become the end of the block.
        self._pass_on(len(self._buffer) if self._final else max(0, self._buffer.rfind("\n")))
        return False

    def _reasoning(self) -> bool:
        mark = self._next_mark()
        if mark is not None and (self._final or not _is_open_ended(self._buffer, mark)):
            self._drop(mark.start())
            self._buffer = self._buffer[len(mark[0]) :]
            self._take_inner_mark(mark)
            return True
        if self._final:
            held = 0
        elif mark is not None:
            held = len(self._buffer) - mark.start() + 1
        elif self._plain_end is not None:
            held = _LONGEST_END
        else:
            beginning = _BEGINNING.search(self._buffer)
            held = 1 + (len(beginning[0]) if beginning else 0)  # and the quotation mark before
        self._drop(max(0, len(self._buffer) - held))
        return False

    # -- What a mark changes

    def _take_mark(self, mark: re.Match[str]) -> None:
        """Go on after a mark in the answer."""
        if mark["open"]:
            before = self._tail.rstrip(" \t")[-1:]
            in_sentence = self.answer_chars > 0 and (before.isalnum() or before in {",", ";", "("})
            self._open(kept=mark[0] if in_sentence else None)
        elif mark["details"]:
            self._open(end=_DETAILS_END)
        elif mark["close"] or (mark["channel"] or "").lower() == "final":
            self._ended_unopened = self.answer_chars > 0
            self._closed = self._closed or not self._ended_unopened
        elif mark["channel"]:
            self._open(harmony=True)
        elif mark["wrapper"] and not (self._closed or self._ended_unopened):
            self._buffer = mark[0] + self._buffer
            self._pass_on(len(mark[0]))

    def _open(self, *, kept: str | None = None, end: re.Pattern[str] | None = None, harmony: bool = False) -> None:
        """Begin reasoning. `kept` is the text before it, if it is answer should the reasoning never be closed."""
        self._state, self._depth = "reasoning", 1
        self._plain_end, self._harmony = end, harmony
        self._kept = None
        if kept is not None:
            self._kept = [kept]
            self.reasoning_chars += len(kept)

    def _next_mark(self) -> re.Match[str] | None:
        """Return the first mark in the reasoning that may end it, or nests in it."""
        if self._plain_end is not None:
            return self._plain_end.search(self._buffer)
        for mark in _MARK.finditer(self._buffer):
            ends = mark["channel"] or (mark["control"] if self._harmony else mark["open"] or mark["close"])
            if ends and not _is_quoted(self._buffer, mark, ""):
                return mark
        return None

    def _take_inner_mark(self, mark: re.Match[str]) -> None:
        """Go on after a mark in the reasoning."""
        groups = mark.groupdict()
        if groups.get("channel") and groups["channel"].lower() != "final":
            self._harmony = True
            return
        if groups.get("open"):
            self._depth += 1
            return
        self._depth = 0 if groups.get("channel") else self._depth - 1
        if self._depth > 0:
            self._kept = []  # a tag that the reasoning only mentions may have seemed to nest
            return
        self._state, self._closed = "answer", True

    # -- The two ways of a text

    def _pass_on(self, size: int) -> None:
        """Pass on the first characters of the buffer as answer."""
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        if self._ended_unopened:
            if not text.strip():
                return
            self._take_back()
        if not self.answer_chars:
            text = text.lstrip()
        elif self._closed and self._tail[-1:].isspace():
            text = text.lstrip(" ")
        if text:
            self._out.append(self._count(text))

    def _count(self, text: str) -> str:
        self._tail = (self._tail + text)[-_TAIL_CHARS:]
        self.answer_chars += len(text)
        return text

    def _take_back(self) -> None:
        """Make reasoning of the answer so far."""
        self.taken_back = True
        self.reasoning_chars += self.answer_chars
        self.answer_chars, self._tail = 0, ""
        self._out.clear()
        self._closed, self._ended_unopened = True, False

    def _drop(self, size: int) -> None:
        """Leave the first characters of the buffer out, as reasoning."""
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        self.reasoning_chars += len(text)
        if self._kept is not None:
            self._kept.append(text)


def _may_be_plain_start(text: str) -> bool:
    """Return True if a reply that begins with this text may begin with reasoning in plain words."""
    lower = text.lower()
    if any(words.startswith(lower) for words in (*_PLAIN_WORDS, *_PLAIN_NAMES)):
        return True
    return text[:-1] in _PLAIN_NAMES and text[-1].isupper()


def _is_open_ended(text: str, mark: re.Match[str]) -> bool:
    """Return True if more text may change what a mark is: it may go on, or a quotation mark may follow."""
    groups = mark.groupdict()
    if groups.get("channel") and not groups["message"]:
        rest = text[mark.end() :]
        return len(rest) < _MAX_HEADER_CHARS and "\n" not in rest
    if groups.get("control") and ("start" in mark[0] or "channel" in mark[0]):  # a role or a name may follow
        rest = text[mark.end() :].strip()
        return any(role.startswith(rest) for role in _ROLES)
    return mark.end() == len(text)


def _is_quoted(text: str, mark: re.Match[str], before: str) -> bool:
    """Return True if a mark stands right between quotation marks. `before`: the text before this text."""
    opening = text[mark.start() - 1] if mark.start() else before[-1:]
    return opening in _QUOTES and text[mark.end() : mark.end() + 1] == _QUOTES[opening]
