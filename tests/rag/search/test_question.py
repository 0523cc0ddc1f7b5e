"""What is searched for of a question: not the form of its answer, nor the place that it names."""

from __future__ import annotations

from rag.search.question import read_question
from tests.support.tables import each


@each(
    "question, searched",
    [
        ("When was it signed? Format: YYYY-MM-DD", "When was it signed?"),
        ("When was it signed (YYYY-MM-DD)?", "When was it signed?"),
        ("How many lamps are listed in this document?", "How many lamps are listed?"),
        ("How much was paid? Answer as an integer, in millions.", "How much was paid?"),
        (
            "Total assets? Give a response to the question by relying on the details shown in the balance sheet.",
            "Total assets? in the balance sheet.",
        ),
        ("What is the margin? Round to two decimal places.", "What is the margin?"),
        ("Is the margin better? If it is no useful metric, then state that and explain why.", "Is the margin better?"),
        ("You are an analyst. How heavy is it? Please be brief.", "How heavy is it?"),
        ("If I say nothing, what happens?", "If I say nothing, what happens?"),
        ("Please explain the tides.", "Please explain the tides."),
        ("What is the FY2018 margin (in USD millions)?", "What is the FY2018 margin?"),
        ("How much was paid, in US dollars?", "How much was paid,?"),
        ("How many live in millions of homes?", "How many live in millions of homes?"),
        ("What did he answer in parliament?", "What did he answer in parliament?"),
        ("In which format are reports sent?", "In which format are reports sent?"),
        ("How do I integrate this text editor?", "How do I integrate this text editor?"),
        ("Format: integer", "Format: integer"),
        ("List all tides. Your answer should be a list of words.", "List all tides."),
        ("Was it paid? Directly answer 'yes' or 'no'.", "Was it paid?"),
        ('Which tides are high? Please write the answer in list format, e.g., ["a"]', "Which tides are high?"),
        ("When was it signed? Format the date as YYYY-MM.", "When was it signed?"),
        ("List the formats of reports.", "List the formats of reports."),
        ("List the formats of lamps. Which is best?", "List the formats of lamps. Which is best?"),
        ("Format the disk as NTFS. What happens then?", "Format the disk as NTFS. What happens then?"),
        ("The response has to be filed. Who files it?", "The response has to be filed. Who files it?"),
        ("Wie hoch ist der Umsatz im Jahr 2022?", "Wie hoch ist der Umsatz im Jahr 2022?"),
    ],
)
def test_the_form_of_the_answer_is_not_searched_for(question: str, searched: str) -> None:
    assert read_question(question).text == searched


@each(
    "question, pages, searched",
    [
        ("What does page 14 say of tides?", (14, 14), "What does say of tides?"),
        ("Which tides are on pages 3-5?", (3, 5), "Which tides are?"),
        ("Which tides are listed on p. 7 and 8?", (7, 8), "Which tides are listed?"),
        ("What is on slide 4?", (4, 4), "What is?"),
        ("Who is on the cover page?", (1, 1), "Who is?"),
        ("Which date is on the second page?", (2, 2), "Which date is?"),
        ("Who is on pages three and four?", (3, 4), "Who is?"),
        ("What is at the beginning of page(6)?", (6, 6), "What is at the beginning?"),
        ("Which tides are (see page 5)?", (5, 5), "Which tides are?"),
        ("Which tides are on pages 10 to 3?", (3, 10), "Which tides are?"),
        ("Which tides are on pages 3, 5 and 7?", (3, 7), "Which tides are?"),
        ("Is the page one sees first of the front page?", None, "Is the page one sees first of the front page?"),
        ("What do the first pages say?", None, "What do the first pages say?"),
        ("Which page has the tides of 2014?", None, "Which page has the tides of 2014?"),
        ("How many pages are needed for 20 tides?", None, "How many pages are needed for 20 tides?"),
    ],
)
def test_a_page_is_a_place(question: str, pages: tuple[int, int] | None, searched: str) -> None:
    found = read_question(question)
    assert (found.pages, found.text) == (pages, searched)


@each(
    "question, asks",
    [
        ("Who wrote it?", True),
        ("Who is the presenter of these slides?", True),
        ("Which lamp is on the cover?", True),
        ("Does the policy cover theft?", False),
        ("What is the title?", True),
        ("Who are the authors of the paper?", True),
        ("What is the date of this agreement?", True),
        ("How many shares were issued?", False),
        ("Who is entitled to a refund?", False),
        ("On which date does the museum open?", False),
    ],
)
def test_title_author_and_date_are_asked_of_the_first_page(question: str, asks: bool) -> None:
    assert read_question(question).asks_first_page is asks
