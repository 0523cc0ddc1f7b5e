"""Words of a passage that a claim may write in digits: numbers and the months of dates.

Only passages are read with these lists. A claim that uses such a word is not checked as a figure.
"""

from __future__ import annotations

import re

_NUMBERS = {
    word: str(n)
    for words in (
        "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "zéro un deux trois quatre cinq six sept huit neuf dix onze douze",
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
        "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici",
        "zero um dois três quatro cinco seis sete oito nove dez onze doze",
        "nul een twee drie vier vijf zes zeven acht negen tien elf twaalf",
        "noll en två tre fyra fem sex sju åtta nio tio elva tolv",
        "nul en to tre fire fem seks syv otte ni ti elleve tolv",
        "zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć jedenaście dwanaście",
        "nula jeden dva tři čtyři pět šest sedm osm devět deset jedenáct dvanáct",
        "sıfır bir iki üç dört beş altı yedi sekiz dokuz on onbir oniki",
        "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать",
        "ноль одна две трёх четырёх пяти шести семи восьми девяти десяти одиннадцати двенадцати",
        "нуль один два три чотири п'ять шість сім вісім дев'ять десять одинадцять дванадцять",
        "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
        "none once twice thrice",
    )
    for n, word in enumerate(words.split())
} | {
    "one": "1",
    "both": "2",
    "dozen": "12",
    "ein": "1",
    "eine": "1",
    "une": "1",
    "una": "1",
    "uma": "1",
    "duas": "2",
    "één": "1",
    "двух": "2",
    "трех": "3",
    "четырех": "4",
}
# Chinese and Japanese number words stand between other characters without spaces.
_CHARACTERS = {char: str(n) for n, char in enumerate("零一二三四五六七八九十")} | {"两": "2"}
_WORD = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")

_MONTHS = {
    word: str(n)
    for words in (
        "january february march april may june july august september october november december",
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    )
    for n, word in enumerate(words.split(), start=1)
} | {"sept": "9"}
# Every number that `numbers_in_words` and `months_in_dates` return.
WORD_NUMBERS = frozenset(_NUMBERS.values()) | frozenset(_CHARACTERS.values()) | frozenset(_MONTHS.values())
_ANY_MONTH = "|".join(_MONTHS)
# Only beside a day or year: `may` and `march` are also other words.
_IN_A_DATE = re.compile(
    rf"\d(?:st|nd|rd|th|er|º)?\.?,? (?:of |de )?({_ANY_MONTH})\b|\b({_ANY_MONTH})\.?,? (?:del? )?\d", re.IGNORECASE
)


def numbers_in_words(text: str) -> frozenset[str]:
    """Return the numbers that the words of a text may mean in any of the languages."""
    numbers = {_NUMBERS[word] for word in _NUMBERS.keys() & _lower_words(text)}
    if not text.isascii():
        numbers.update(_CHARACTERS[char] for char in text if char in _CHARACTERS)
    return frozenset(numbers)


def months_in_dates(text: str) -> frozenset[str]:
    """Return the numbers, 1 to 12, of the months named in the dates of a text."""
    # Two quick tests, which most sentences fail: the search for dates takes 20 µs.
    if not _DIGIT.search(text) or _MONTHS.keys().isdisjoint(_lower_words(text)):
        return frozenset()
    named = {(before or after).lower() for before, after in _IN_A_DATE.findall(text)}
    return frozenset(_MONTHS[month] for month in named & _MONTHS.keys())


def _lower_words(text: str) -> set[str]:
    return set(map(str.lower, _WORD.findall(text)))
