"""Reasoning in the text of a reply is left out, however the text is cut; the answer loses nothing."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from client.llm.reasoning import ReasoningFilter
from tests.support.tables import each

REASONING = 'Let me see. Source [1] says `x` and <b>, and "</think>". Wait, 5 < 6?\n\nSo I answer.'
ANSWER = "It takes 5 hours [1]."
BLOCKS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("< Think >", "</ think>"),
    ("<think time='3'>", "</think>"),
    ("<think>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<antThinking>", "</antThinking>"),
    ("<think_never_used_51bc>", "</think_never_used_51bc>"),
    ("<思考>", "</思考>"),
    ("<pensée>", "</pensée>"),
    ("<размышления>", "</размышления>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought\n", "<channel|>"),
]
FINAL = "<|channel|>final<|message|>"
CHANNELS = [
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>commentary to=x<|message|>a<|end|><|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final <|constrain|>json<|message|>"),
    ("<|channel|>analysis", "<|channel|>final"),
]
WORDS = [
    ("Here is my thought process: ", "Here is my response: "),
    ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
    ("analysis", "assistantfinal"),
    ('<details type="reasoning" done="true">', "</details>"),
]
LITERAL = [
    "Use `<think>` to begin, `</think>` to end [1].",
    "```xml\n<think>\na\n</think>\n```\nThat begins it [1].",
    'The tag "<think>" begins, and «</think>» ends [1].',
    "Use the <think> tag [1]. And 5 < 6, `x",
    "a < b [1], x[THINK",
    "``a`b`` and **b** and <b>bold</b> [1]",
    "<answer>x</answer> [1]",
    "Analysis of the lamp says [1].",
    "analysis of the lamp says [1].",
    "Here is my answer [1].",
    "```\n<think>\nnever closed",
]
OTHERS = {
    "nested": (f"<think>a <think>b</think> c</think>{ANSWER}", ANSWER),
    "mentioned in the reasoning": (f"<think>a <think> b</think>{ANSWER}", ANSWER),
    "closed twice": (f"<think>a</think> c</think> {ANSWER}", ANSWER),
    "a last stray end": (f"<think>a</think>{ANSWER}</think>", ANSWER),
    "empty": (f"<think>\n\n</think>\n\n{ANSWER}", ANSWER),
    "of itself": (f"<think/>{ANSWER}", ANSWER),
    "an answer in a tag": (f"<think>a</think><answer>{ANSWER}</answer>", ANSWER),
    "in mid-sentence": ("The lamp <think>hm</think> weighs 2 kg [1].", "The lamp weighs 2 kg [1]."),
    "only its end": ("a</think>", ""),
    "end of turn": (f"{ANSWER}<|im_end|>", ANSWER),
    "two messages of reasoning": (
        f"<|channel|>analysis<|message|>a<|end|><|start|>assistant{CHANNELS[3][0]}{ANSWER}<|return|>",
        "",
    ),
    "the whole Harmony format": (
        f"<|start|>assistant<|channel|>analysis<|message|>a<|end|><|start|>assistant{FINAL}{ANSWER}<|return|>",
        ANSWER,
    ),
}


def cases() -> Iterator[tuple[str, str]]:
    """Yield replies, and the answers in them."""
    for start, end in BLOCKS + CHANNELS:
        yield f"{start}{REASONING}{end}\n\n{ANSWER}", ANSWER
        yield f"First [1].\n{start}{REASONING}", "First [1].\n"
    for start, end in BLOCKS:
        yield f"First [1]. {start}{REASONING}{end} {ANSWER}", f"First [1]. {ANSWER}"
        yield f"A source says it.{end}\n{ANSWER}", ANSWER
    for start, _end in BLOCKS + CHANNELS + WORDS[3:]:
        yield f"{start}{REASONING}", ""
    for start, end in WORDS:
        yield f"{start}We need to see. {REASONING} {end}{ANSWER}", ANSWER
    yield from ((text, text) for text in LITERAL)
    yield from OTHERS.values()


def divided(pieces: list[str]) -> str:
    """Return the answer, as somebody reads it who starts again when told."""
    reasoning, answer = ReasoningFilter(), ""
    for piece in [*pieces, None]:
        said = reasoning.end() if piece is None else reasoning.feed(piece)
        if reasoning.taken_back:
            answer, reasoning.taken_back = "", False
        answer += said
    assert reasoning.answer_chars == len(answer)
    return answer


@each("reply, answer", list(cases()))
def test_the_answer_is_what_is_left_without_the_reasoning(reply: str, answer: str) -> None:
    assert divided([reply]).rstrip() == answer.rstrip()
    assert divided(list(reply)).rstrip() == answer.rstrip()


@settings(deadline=None)
@given(st.sampled_from(list(cases())), st.lists(st.integers(1, 30)))
def test_any_cutting_gives_the_same_answer(case: tuple[str, str], sizes: list[int]) -> None:
    reply, answer = case
    pieces, place = [], 0
    for size in sizes:
        pieces.append(reply[place : place + size])
        place += size
    assert divided([*pieces, reply[place:]]).rstrip() == answer.rstrip()


def test_text_is_passed_on_at_once_unless_it_may_be_a_tag() -> None:
    reasoning = ReasoningFilter()
    assert reasoning.feed("It takes 5 hours") == "It takes 5 hours"
    assert reasoning.feed(" [1] and <") == " [1] and "
    assert reasoning.feed("b>more</b>") == "<b>more</b>"
    assert reasoning.feed(" `a") == " "
    assert reasoning.feed("` b") == "`a` b"


def test_reasoning_is_counted_and_shown_while_it_lasts() -> None:
    reasoning = ReasoningFilter()
    assert (reasoning.feed("<think>Let me see."), reasoning.thinking) == ("", True)
    assert (reasoning.feed("</think>Yes"), reasoning.thinking) == ("Yes", False)
    assert reasoning.end() == ""
    assert (reasoning.answer_chars, reasoning.reasoning_chars) == (3, len("Let me see."))
