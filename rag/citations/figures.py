"""The figures of a text: the number and the unit of each, in any way of writing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from rag.text.normalize import normalize

# A number with more digits is compared as text only; nothing is calculated with it.
_MAX_SCALED_DIGITS = 15
_MAX_SCALE = 12
# The first digit stands before the alternatives: the engine scans for one set of characters 10 times as fast.
_NUMBER = re.compile(r"\d(?:\d{0,2}(?:[ '’]\d{3})+(?![\d'’])(?:[.,]\d+)?|\d*(?:[.,]\d+)*)")
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"\w+")
_GROUPS = re.compile(r"\d{1,3}(?:[.,]\d{3})+")
_AFTER = re.compile(r"[ -]?(°[CF]|[°%‰€£¥$]|[^\W\d_]+)\.?(?: ([^\W\d_]+|[€£¥$]))?")
_BEFORE = re.compile(r"([€£¥$]|\b[A-Z]{3}) ?$")
_CLOCK = re.compile(r"\b(\d{1,2})[:.]00(?!\d)(?= ?(?:[ap]\.?m|uhr|h\b|o['’]clock|[^\w.,]|$))", re.IGNORECASE)
# 3 pm also reads as 15.
_AFTERNOON = re.compile(r"(?::\d\d)? ?p\.? ?m\b", re.IGNORECASE)
_NOON = 12
_MORNING_HOURS = frozenset(map(str, range(1, _NOON)))
# The number of a list item or a step is not a figure of the text.
_IN_A_LIST = re.compile(
    r"(?m)^[ \t]*(?:[-*•+][ \t]+)?(?:\*\*)?"
    r"(?:(?:step|schritt|étape|paso|passo|stap)[ \t]+\d{1,3}\b|\d{1,3}[.)](?=\s|$))",
    re.IGNORECASE,
)
_FIRST_YEAR, _LAST_YEAR, _YEAR_DIGITS = 1000, 2100, 4
YEAR = frozenset({"year"})

# Each line: what the words of it stand for, and after the colon the words, in the languages of rag/text/language.py.
_UNITS_BY_MEANING = """
mg: mg milligram milligrams milligramm milligramme milligrammes miligramo miligramos milligrammo milligrammi
g: g gr gram grams gramm gramme grammes gramo gramos grammo grammi grama gramas
kg: kg kgs kilo kilos kilogram kilograms kilogramm
kg: kilogramme kilogrammes kilogramo kilogramos chilogrammo chilogrammi quilograma quilogramas
ton: t ton tons tonne tonnes tonnen tonelada toneladas tonnellata tonnellate
pound: lb lbs pound pounds £ gbp pfund livre livres libra libras libbra libbre
ounce: oz ounce ounces
mm: mm millimetre millimetres millimeter millimeters millimètre millimètres milímetro milímetros millimetro millimetri
cm: cm centimetre centimetres centimeter centimeters zentimeter
cm: centimètre centimètres centímetro centímetros centimetro centimetri
m: m metre metres meter meters metern mètre mètres metro metros metri
km: km kilometre kilometres kilometer kilometers kilomètre kilomètres
km: kilómetro kilómetros quilómetro quilómetros quilômetro quilômetros chilometro chilometri
inch: inch inches zoll pouce pouces pulgada pulgadas pollice pollici polegada polegadas
foot: ft foot feet fuß pied pieds
yard: yd yard yards
mile: mi mile miles meile meilen mille milles milla millas miglio miglia milha milhas mijl mijlen
ml: ml millilitre millilitres milliliter milliliters
l: l litre litres liter liters litro litros litri
ms: ms millisecond milliseconds millisekunde millisekunden
s: s sec secs second seconds sekunde sekunden seconde secondes segundo segundos secondo secondi seconden
min: m min mins minute minutes minuten minuto minutos minuti minuut
hour: h hr hrs hour hours stunde stunden heure heures hora horas ora ore uur uren
day: d day days tag tage tagen jour jours día días dia dias giorno giorni dag dagen
week: week weeks woche wochen semaine semaines semana semanas settimana settimane weken
month: month months monat monate monaten mois mes meses mese mesi mês maand maanden
years: y yr yrs year years jahr jahre jahren an ans année années año años anno anni ano anos jaar jaren
percent: % percent pct prozent pourcent
permille: ‰ promille
dollar: $ dollar dollars usd dólar dólares dollari dollaro
cent: cent cents
euro: € euro euros eur
yen: ¥ yen jpy
franc: chf franc francs franken
degree: ° °c °f degree degrees celsius fahrenheit grad degré degrés grado grados gradi grau graus graden
watt: w watt watts
kw: kw kilowatt kilowatts
volt: v volt volts
mah: mah
lumen: lm lumen lumens
hertz: hz hertz
byte: byte bytes
kb: kb kilobyte kilobytes
mb: mb megabyte megabytes
gb: gb gigabyte gigabytes
tb: tb terabyte terabytes
"""
_SCALES_BY_POWER = {
    3: "thousand thousands tausend mille mil mila duizend",
    6: "million millions millionen mio millón millones milione milioni milhão milhões miljoen mn",
    9: "billion billions bn milliarde milliarden mrd milliard milliards miliardo miliardi miljard bilhão bilhões",
    12: "trillion trillions billion billionen billón billones bilione biljoen trilhão trilhões",
}


def _by_word(lines: Iterator[tuple[str, str]]) -> dict[str, frozenset[str]]:
    table: dict[str, frozenset[str]] = {}
    for meaning, words in lines:
        for word in words.split():
            table[word] = table.get(word, frozenset()) | {meaning}
    return table


_UNITS = _by_word((meaning, words) for meaning, _, words in (x.partition(": ") for x in _UNITS_BY_MEANING.splitlines()))
_SCALES = _by_word((str(power), words) for power, words in _SCALES_BY_POWER.items())
# Letters of an amount of money: `$210M`.
_LETTER_SCALES = {"k": frozenset({"3"}), "m": frozenset({"6"}), "b": frozenset({"9"})}
_CURRENCIES = frozenset({"dollar", "euro", "yen", "franc", "pound"})

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WRITTEN = (
    {word: n for n, word in enumerate(_SMALL.split())}
    | {word: 10 * n for n, word in enumerate(_TENS.split(), start=2)}
    | {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
)
_ANY_WRITTEN = "|".join(_WRITTEN)
_IN_WORDS = re.compile(
    rf"\b(?ai:(?:{_ANY_WRITTEN})(?:(?:[ -]|(?<=hundred) and |(?<=thousand) and )(?:{_ANY_WRITTEN}))*)\b"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number in a text, at `start` to `end`.

    `readings` holds its possible values as plain decimals: 1.500 is 1500 or 1.5. `parts` holds the numbers of a date or
    version. `units` and `scales` (powers of ten, such as 6 for million) come from the words around it and are empty if
    unknown. `scaled` holds the readings multiplied by the scale.
    """

    start: int
    end: int
    readings: frozenset[str]
    parts: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()
    scales: frozenset[str] = frozenset()
    scaled: frozenset[str] = frozenset()

    @property
    def kind(self) -> frozenset[str]:
        """The units, or YEAR for a number that looks like a year; empty if unknown."""
        if self.units or self.scales or self.end - self.start != _YEAR_DIGITS:
            return self.units
        years = {n for n in self.readings if n.isdecimal() and _FIRST_YEAR <= int(n) <= _LAST_YEAR}
        return YEAR if years else self.units

    def matches(self, other: Figure) -> bool:
        """Return True if the other figure is the same number without another unit or scale."""
        return (
            bool(self.readings & other.readings)
            and (not self.units or not other.units or bool(self.units & other.units))
            and (not self.scales or not other.scales or bool(self.scaled & other.scaled))
        )


def figures(text: str) -> list[Figure]:
    """Return the figures of a text that `normalize_line` returned: digits, and English number words except `one`."""
    found = [_parse_digits(text, match) for match in _NUMBER.finditer(text)]
    for match in _IN_WORDS.finditer(text) if _has_number_word(text) else ():
        counts = {"thousand", "million"} & {match[0].lower()} and re.search(
            r"\d ?$", text[max(0, match.start() - 2) : match.start()]
        )
        if match[0].lower() != "one" and not counts:
            found += [_figure(text, match.start(), match.end(), {str(n)}) for n in _parse_words(match[0].lower())]
    return found


def _has_number_word(text: str) -> bool:
    """Return True if a word of a text is one of `_IN_WORDS`. The search for their runs takes 15 µs a sentence."""
    return not _WRITTEN.keys().isdisjoint(_WORD.findall(text.lower()))


def normalize_line(text: str) -> str:
    """Return a text normalised for `figures`: without list numbers, and with 9 for 9:00."""
    if not _DIGIT.search(text):
        return normalize(text)
    line = normalize(_IN_A_LIST.sub("", text))
    return _CLOCK.sub(r"\1", line) if "00" in line else line


def _parse_digits(text: str, match: re.Match[str]) -> Figure:
    raw = match[0]
    if raw.isdecimal():
        return _figure(text, match.start(), match.end(), {_plain(raw)})
    joined = re.sub(r"[ '’]", "", raw)
    parts = frozenset(_plain(part) for part in raw.split(" ")) if " " in raw else frozenset[str]()
    separators = [char for char in joined if char in ".,"]
    readings = set()
    if not separators:
        readings = {_plain(joined)}
    elif len(separators) == 1:
        readings = {_plain(joined.replace(",", "."))}
        if _GROUPS.fullmatch(joined) and not joined.startswith("0"):
            readings.add(_plain(re.sub(r"[.,]", "", joined)))
    elif separators[-1] not in separators[:-1]:
        last = max(joined.rfind("."), joined.rfind(","))
        readings = {_plain(re.sub(r"[.,]", "", joined[:last]) + "." + joined[last + 1 :])}
    elif _GROUPS.fullmatch(joined):
        readings = {_plain(re.sub(r"[.,]", "", joined))}
    else:
        readings = {joined}
        parts = frozenset(_plain(part) for part in re.split(r"[.,]", joined))
    return _figure(text, match.start(), match.end(), readings, parts)


def _figure(text: str, start: int, end: int, readings: set[str], parts: frozenset[str] = frozenset()) -> Figure:
    """Return the figure with the unit and scale that the words around it give."""
    units, scales = frozenset[str](), frozenset[str]()
    if (after := _AFTER.match(text, end)) is not None:
        first, second = after[1].lower(), (after[2] or "").lower()
        if first in _SCALES:
            scales, first = _SCALES[first], second
        elif first == "per" and second in {"cent", "mille"}:
            first = "%" if second == "cent" else "‰"
        units = _UNITS.get(first, frozenset())
    before = _BEFORE.search(text[max(0, start - 4) : start])
    sign = _currency(before[1] if before is not None else None)
    if sign:
        units = sign
    if after is not None and after[1].lower() in _LETTER_SCALES and (money := sign or _currency(after[2])):
        units, scales = money, _LETTER_SCALES[after[1].lower()]
    scaled = {value for number in readings for scale in scales if (value := _scaled(number, int(scale)))}
    if _AFTERNOON.match(text, end):
        readings = readings | {str(int(hour) + _NOON) for hour in readings & _MORNING_HOURS}
    return Figure(start, end, frozenset(readings | scaled), parts, units, scales, frozenset(scaled))


def _currency(word: str | None) -> frozenset[str]:
    return _UNITS.get((word or "").lower(), frozenset()) & _CURRENCIES


def is_unit(word: str) -> bool:
    """Return True if a word is the name or sign of a unit, such as `GBP` or `km`."""
    return word.lower() in _UNITS


def _scaled(number: str, power: int) -> str:
    if len(number) > _MAX_SCALED_DIGITS or number.count(".") > 1 or power > _MAX_SCALE:
        return ""
    return _plain(format(Decimal(number).scaleb(power), "f"))


def _plain(number: str) -> str:
    """Return a number without leading and trailing zeros."""
    whole, _, rest = number.partition(".")
    rest = rest.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")


def _parse_words(words: str) -> Iterator[int]:
    """Yield the numbers in a run of English number words: one for `three hundred and four`, two for `three four`."""
    total, current, last = 0, -1, 0
    for word in re.split(r"[ -]", words.replace(" and ", " ")):
        n = _WRITTEN[word]
        if current >= 0 and word in {"thousand", "million"}:
            total, current = total + max(current, 1) * n, 0
        elif 0 < current < n and word == "hundred":
            current *= n
        elif current >= 0 and _continues_number(last, n):
            current += n
        else:
            if current >= 0:
                yield total + current
            total, current = 0, n
        last = n
    yield total + current


def _continues_number(last: int, n: int) -> bool:
    """Return True if a word continues the number before it: `hundred two` and `twenty-two`, but not `two twenty`."""
    hundred, twenty, ten = _WRITTEN["hundred"], _WRITTEN["twenty"], _WRITTEN["ten"]
    return n < hundred <= last or (0 < n < ten and twenty <= last < hundred)
