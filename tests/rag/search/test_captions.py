"""Tables, figures, sections and phrases that a question names, and the texts that show them."""

from __future__ import annotations

from rag.search.captions import named_captions
from tests.support.tables import each


@each(
    "question, names",
    [
        ("What does Table 5 show?", ["Table 5"]),
        ("Compare figures 2 and Fig. 3 with Table II.", ["Table II", "figures 2", "Fig. 3"]),
        ("Was steht in Abb. 4 und Tabelle 2.1?", ["Tabelle 2.1", "Abb. 4"]),
        ("Does Section 3.3 cite more than section 3.1?", ["Section 3.3", "section 3.1"]),
        ("Which risks does Appendix C name?", ["Appendix C"]),
        ("What does the part \"How to Install\" say of 'yes' and 'very good'?", ["How to Install", "very good"]),
        ("Is the table in 2019 bigger?", []),
        ("What do the figures I saw in figure 2019 show? Press tab 3 times.", []),
        ("Which row of Table No. 5A has chart U.S. sales?", ["Table No. 5A"]),
        ("请看图5 und „die große Lampe“", ["图5", "die große Lampe"]),
        (" ".join(f"Fig. {n}" for n in range(9)), []),
        ("How many tables and 3 figures are there? Is the dog's or the cat's bigger?", []),
        ("Is table A better than a table a child made?", ["table A"]),
    ],
)
def test_numbers_and_phrases_name_captions(question: str, names: list[str]) -> None:
    assert [caption.name for caption in named_captions(question)] == names


@each(
    "question, text, shows",
    [
        ("Table 5?", "Prose.\nTable 5: Fees by year\n2019 3", True),
        ("table 5?", "TABLE 5. Fees", True),
        ("Table 5?", "As Table 5 shows, fees rise.", False),
        ("Table 5?", "Table 5 shows that fees rise.", False),
        ("Table 5?", "Table 55: Fees", False),
        ("Table 5?", "Table 5.1: Fees", False),
        ("Figure 3?", "Fig. 3. The lamp", True),
        ("Figure 3?", "Table 3. The lamp", False),
        ("Abbildung 3?", "Abb. 3: Die Lampe", True),
        ("Section 3.2?", "3.2 Results of the trial\nAll", True),
        ("Section 3.2?", "3.2 million lamps", False),
        ("Appendix C?", "Appendix C\nStrengths", True),
        ("What says 'very good lamps'?", "They are Very good\nlamps.", True),
        ("What says 'very good lamps'?", "They are very good lampshades.", False),
    ],
)
def test_a_caption_begins_a_line_or_a_sentence(question: str, text: str, shows: bool) -> None:
    [caption] = named_captions(question)
    assert bool(caption.shown.search(text)) is shows
