"""Plain text in many encodings and languages, Markdown, and texts that hold nothing."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from tests.support.corpus import Sample

# A language, its encodings, a text, and a part of the text that is garbled in any other encoding.
LANGUAGES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "Polish": (
        ("cp1250", "iso8859_2"),
        "Łódź rybacka wypływa o świcie. Siedem żółtych skrzyń leży na pokładzie, a kapitan pije gorącą herbatę.",
        "Siedem żółtych skrzyń",
    ),
    "Czech": (
        ("cp1250", "iso8859_2"),
        "Loď vyplouvá za úsvitu. Na palubě leží sedm žlutých beden a kapitán pije horký čaj, než přijde déšť.",
        "sedm žlutých beden",
    ),
    "Hungarian": (
        ("cp1250",),
        "A hajó hajnalban indul. Hét sárga láda áll a fedélzeten, a kapitány forró teát iszik, és figyeli az időt.",
        "Hét sárga láda",
    ),
    "Turkish": (
        ("cp1254", "iso8859_9"),
        "Gemi şafakta yola çıkıyor. Güvertede yedi sarı sandık var, kaptan sıcak çay içiyor ve yağmuru bekliyor.",
        "Güvertede yedi sarı sandık",
    ),
    "Hebrew": (
        ("cp1255",),
        "הספינה יוצאת עם שחר. על הסיפון שבע תיבות צהובות, והקברניט שותה תה חם.",
        "שבע תיבות צהובות",
    ),
    "Arabic": (
        ("cp1256",),
        "تبحر السفينة عند الفجر. على سطحها سبعة صناديق صفراء، ويشرب القبطان الشاي الساخن.",
        "سبعة صناديق صفراء",
    ),
    "Greek": (
        ("cp1253", "iso8859_7"),
        "Το πλοίο φεύγει την αυγή. Στο κατάστρωμα υπάρχουν επτά κίτρινα κιβώτια και ο καπετάνιος πίνει τσάι.",
        "επτά κίτρινα κιβώτια",
    ),
    "Russian": (
        ("cp1251", "koi8_r", "cp866", "iso8859_5"),
        "Корабль уходит на рассвете. На палубе стоят семь жёлтых ящиков, а капитан пьёт горячий чай.",
        "семь жёлтых ящиков",
    ),
    "Ukrainian": (
        ("cp1251", "koi8_u"),
        "Корабель відпливає на світанку. На палубі стоять сім жовтих скринь, а капітан п'є гарячий чай і їсть хліб.",
        "сім жовтих скринь",
    ),
    "Japanese": (
        ("euc_jp", "shift_jis", "iso2022_jp"),
        "船は夜明けに出港します。甲板には黄色い箱が七つあり、船長は熱いお茶を飲んでいます。",
        "黄色い箱が七つ",
    ),
    "Chinese": (("gb18030",), "船在黎明时分出发。甲板上有七个黄色的箱子，船长正在喝热茶。", "七个黄色的箱子"),
    "Chinese, traditional": (("big5",), "船在黎明時分出發。甲板上有七個黃色的箱子，船長正在喝熱茶。", "七個黃色的箱子"),
    "Korean": (
        ("euc_kr",),
        "배는 새벽에 떠납니다. 갑판에는 노란 상자 일곱 개가 있고 선장은 뜨거운 차를 마십니다.",
        "노란 상자 일곱 개",
    ),
    "Thai": (("cp874",), "เรือออกเดินทางตอนรุ่งสาง บนดาดฟ้ามีลังสีเหลืองเจ็ดใบ และกัปตันกำลังดื่มชาร้อน", "ลังสีเหลืองเจ็ดใบ"),
    "German": (
        ("cp1252",),
        "Das Schiff läuft im Morgengrauen aus. Auf Deck stehen sieben gelbe Kisten für die größere Insel.",
        "für die größere Insel",
    ),
    "French": (
        ("cp1252",),
        "Le bateau part à l’aube. Sept caisses jaunes sont posées sur le pont ; le capitaine boit un thé brûlant.",
        "à l’aube",
    ),
    "Lithuanian": (
        ("cp1257",),
        "Laivas išplaukia auštant. Denyje stovi septynios geltonos dėžės, o kapitonas geria karštą arbatą.",
        "septynios geltonos dėžės",
    ),
    "English": (
        ("cp1252",),
        "The ship leaves at dawn – the captain’s tea costs £3, and “seven boxes” are on deck.",
        "costs £3",
    ),
}


def _encoded(text: str, encoding: str) -> Callable[[], bytes]:
    return lambda: text.encode(encoding)


def _in_encodings() -> list[Sample]:
    return [
        Sample(f"{language} in {encoding}.txt", _encoded(text, encoding), (part,))
        for language, (encodings, text, part) in LANGUAGES.items()
        for encoding in encodings
    ]


_UNICODE = {
    "utf-8.txt": b"",
    "utf-8 with mark.txt": codecs.BOM_UTF8,
}
_PART = "Zażółć gęślą jaźń: 七つの箱"
_MARKDOWN = """# Harbour rules

Boats leave **at dawn**.[^1] See [the plan](https://example.org/plan).

<!-- a note of the author -->

## Fees

| Berth | Fee |
|-------|-----|
| North | 35  |
| South | 28  |

1. Pay first.
2. Then moor.

```
moor --berth north
```
"""

SAMPLES = [
    *_in_encodings(),
    Sample("utf-8.txt", _encoded(_PART, "utf-8"), (_PART,)),
    Sample("utf-8 with mark.txt", _encoded(_PART, "utf-8-sig"), (_PART,)),
    Sample("utf-16 with mark.txt", _encoded(_PART, "utf-16"), (_PART,)),
    Sample(
        "utf-16 without mark.txt", _encoded("The ship leaves at dawn with seven boxes.", "utf-16-le"), ("seven boxes",)
    ),
    Sample("utf-32.txt", _encoded(_PART, "utf-32"), (_PART,)),
    Sample("utf-8, cut in a letter.txt", lambda: ("żółw " * 2000).encode()[:-3], ("żółw żółw",)),
    Sample("one letter of an old encoding.txt", lambda: b"Ks\xb9\xbf", reason="unknown_encoding"),
    Sample("nothing.txt", lambda: b"", reason="empty"),
    Sample("white space.txt", lambda: b" \r\n\t\n  \xef\xbb\xbf", reason="empty"),
    Sample(
        "rules.md",
        _MARKDOWN.encode,
        (
            "Boats leave at dawn.",
            "Berth: North | Fee: 35",
            "Berth: South | Fee: 28",
            "2. Then moor.",
            "moor --berth north",
        ),
        ("note of the author", "**", "https://"),
        headings=("Harbour rules", "Fees"),
    ),
]
