"""Refusals: sentences in which a model says that the sources do not contain the answer."""

from __future__ import annotations

import re

# Each word in capitals stands in the patterns below for any of its alternatives, by language.
_WORDS = {
    "en": {
        "SOURCES": "sources? documents? passages? context texts? excerpts? materials? information data files? pages?",
        "STATES": "states? says? notes? specif\\w+ explains? warns?",
        "TEXT": "handbook manual report article guide",
        "SAY": "contain mention provide say state specify include tell hold give answer discuss address indicate cover "
        "list explain describe name reveal have offer refer speak talk make show define",
        "SAYS": "has have had contains? provides? gives? includes? says? holds? offers?",
        "SAID": "mentioned stated specified provided given included found available answered discussed covered "
        "addressed contained described named listed",
        "FIND": "find found locate determine answer identify tell say provide see",
        "CANNOT": "could(?:\\snot|n't) can(?:not|'t|\\snot) did(?:\\snot|n't) do(?:\\snot|n't) was\\snot\\sable\\sto "
        "(?:am|are|was|were)\\sunable\\sto",
        "NEWS": "information mention answer data reference details? evidence found",
    },
    "de": {
        "SOURCES": "quellen? dokumente?n? unterlagen texte?n? passagen? auszüge?n? kontext informationen dateien",
        "SAY": "enthalten enthält nennen nennt erwähnen erwähnt sagen sagt geben gibt machen liefern liefert "
        "beantworten beantwortet bieten bietet beschreiben beschreibt",
        "SAID": "enthalten gefunden erwähnt genannt angegeben beantwort\\w+ hervor steht finden beschrieben",
        "NO": "keine?n? keinerlei nicht nichts",
    },
    "fr": {
        "SOURCES": "sources? documents? passages? textes? extraits? contexte informations? fichiers?",
        "NO": "pas aucune? rien",
    },
    "es": {
        "SOURCES": "fuentes? documentos? pasajes? textos? fragmentos? contexto información archivos?",
        "FIND": "encuentro encontré encontrado encontrar encontró encuentra responder determinar",
        "ARE": "hay existe tengo se\\smenciona se\\sindica se\\sespecifica aparece está",
    },
    "it": {
        "SOURCES": "fonti fonte documenti documento brani brano testi testo contesto informazioni file",
        "FIND": "trov\\w+ rispondere determinare",
        "COULD": "ho abbiamo posso possiamo sono\\sriuscit[oa]\\sa è\\spossibile riesco\\sa",
    },
    "pt": {
        "SOURCES": "fontes? documentos? trechos? textos? passagens contexto informações arquivos? ficheiros?",
        "FIND": "encontr\\w+ responder determinar",
        "COULD": "consegui conseguimos pude posso foi\\spossível foram foi consigo",
        "NEWS": "informaç\\w+ menç\\w+ mencion\\w+ resposta",
    },
    "nl": {
        "SOURCES": "bron bronnen document documenten passages? tekst teksten fragment fragmenten context informatie "
        "bestanden",
        "SAY": "bevat bevatten noemt noemen vermeldt vermelden geven geeft zeggen zegt beantwoordt beantwoorden "
        "beschrijven beschrijft bieden biedt",
        "FIND": "vinden gevonden beantwoorden zeggen bepalen",
        "NO": "geen niet niets",
    },
}
_REFUSALS = {
    "en": r"""
        \b(?:i|we) (?:do not|don't) (?:know|have (?:any|enough|that|this|the|access))\b
        \b(?:i|we) (?:CANNOT) (?:\w+ )?(?:FIND)\b
        \bi(?:'m| am) (?:\w+ )?(?:unable|not able) to (?:FIND)\b
        \b(?:not|im)possible to (?:FIND)\b.*\b(?:SOURCES)\b
        \b(?:SOURCES)(?! (?:STATES)\b)(?: \w+){0,3} (?:do|does|did)(?: not|n't)(?: \w+){0,2} (?:SAY)\b
        \b(?:TEXT) (?:do|does|did)(?: not|n't)(?: \w+)? (?:say|mention|state|specify|tell|indicate|reveal)\b
        \b(?:is|are|was|were)(?: not|n't)(?: \w+)? (?:stated|mentioned|specified) in the (?:\w+ )?(?:TEXT)\b
        \b(?:SOURCES)(?: \w+){0,2} (?:SAYS) (?:no |nothing\b|not (?:any|enough)\b)
        \b(?:there (?:is|are|was|were)|i have|(?:i|we) found) (?:not?|not enough|nothing)\b.*\b(?:NEWS|SOURCES)\b
        \bno (?:relevant |specific |such |further )?(?:NEWS)\b.*\b(?:SOURCES|found|available|provided|given)\b
        \b(?:is|are|was|were)(?: not|n't)(?: \w+)? (?:SAID)\b.*\b(?:in|by|from) (?:\w+ ){0,4}(?:SOURCES)\b
        \b(?:none|neither) of the (?:\w+ )?(?:SOURCES)\b
        \b(?:not enough|insufficient) (?:information|context|data)\b
        \bnothing\b.*\b(?:found|mentioned|said|stated) in the (?:\w+ )?(?:SOURCES)\b
        \b(?:SOURCES) (?:is|are) (?:silent|insufficient)\b""",
    "de": r"""
        \b(?:ich|wir) wei(?:ß|ss) (?:es |das |dies )?(?:leider )?nicht\b
        \b(?:ich|wir) (?:konnten?|kann|können|habe|haben)\b.*\b(?:NO)\b.*\b(?:finden|gefunden|beantworten|sagen)\b
        \b(?:konnten?|kann|können|habe|haben) (?:ich|wir)\b.*\b(?:NO)\b.*\b(?:finden|gefunden|beantworten|sagen)\b
        \b(?:SOURCES)(?: \w+){0,3} (?:SAY)\b.*\b(?:NO)\b
        \b(?:NO)\b.*\b(?:in|aus) (?:den|dem|der|diesen|ihren) (?:\w+ )?(?:SOURCES)\b.*\b(?:SAID)\b
        \b(?:in|aus) (?:den|dem|der|diesen|ihren) (?:\w+ )?(?:SOURCES)\b.*\b(?:NO)\b
        \bes (?:gibt|liegen|finden sich|findet sich)\b.*\bkeine?\b.*\b(?:angaben|hinweise?|SOURCES)\b
        \bkeine (?:informationen|angaben|hinweise)\b""",
    "fr": r"""
        \bje (?:ne |n')(?:le )?sais pas\b
        \bje (?:ne |n')(?:\w+ )?(?:peux|puis|ai|trouve|suis)\b.*\b(?:NO)\b
        \b(?:SOURCES)(?: \w+){0,3} (?:ne |n')\w+.*\b(?:NO)\b
        \b(?:aucune? (?:information|mention|réponse|donnée|SOURCES)|rien)\b.*\b(?:ne |n')
        \bil n'y a (?:NO)\b.*\b(?:information|mention|réponse|SOURCES)\b
        \b(?:n'est|ne sont|n'a|n'ont)\b.*\bpas\b.*\bdans (?:les|ces|vos) (?:\w+ )?(?:SOURCES)\b""",
    "es": r"""
        \bno (?:lo )?(?:sé|sabemos)\b
        \bno (?:he |hemos |puedo |podemos |pude |pudimos |se )?(?:\w+ )?(?:FIND)\b
        \b(?:SOURCES)(?: \w+){0,3} no \w+
        \bno (?:ARE)\b.*\b(?:mención|datos|respuesta|SOURCES)\b
        \bning(?:uno|una|ún) (?:de l[oa]s )?(?:\w+ )?(?:SOURCES)\b""",
    "it": r"""
        \bnon (?:lo )?(?:so|sappiamo)\b
        \bnon (?:(?:COULD) )?(?:FIND)\b
        \b(?:SOURCES)(?: \w+){0,3} non \w+
        \bnon (?:ci sono|c'è|vi sono|è|sono|viene|vengono)\b.*\b(?:menzion\w+|risposta|SOURCES)\b
        \bnessun[ao']? ?(?:informazione|dei|delle|SOURCES)\b""",
    "pt": r"""
        \bnão (?:o )?(?:sei|sabemos)\b
        \bnão (?:(?:COULD) )?(?:FIND)\b
        \b(?:SOURCES)(?: \w+){0,3} não \w+
        \bnão (?:há|existem?|tenho|é|são|está|consta|se menciona)\b.*\b(?:NEWS|SOURCES)\b
        \b(?:nenhuma informação|nenhuma? (?:d[ao]s )?(?:\w+ )?(?:SOURCES))\b""",
    "nl": r"""
        \bik weet (?:het|dat|dit)? ?niet\b
        \b(?:ik|we|wij) (?:kan|kon|konden|kunnen|heb|hebben)\b.*\b(?:NO)\b.*\b(?:FIND)\b
        \b(?:SOURCES)(?: \w+){0,3} (?:SAY)\b.*\b(?:NO)\b
        \b(?:NO)\b.*\bin (?:de|deze|uw) (?:\w+ )?(?:SOURCES)\b
        \bin (?:de|deze|uw) (?:\w+ )?(?:SOURCES)\b.*\b(?:NO)\b
        \ber (?:is|zijn|staat|wordt)\b.*\b(?:geen|niets)\b.*\b(?:SOURCES)\b""",
    "zh": r"""
        (?:资料|来源|文档|文件|文中|上下文|信息|手册)[^。]{0,12}(?:没有|未|并未)(?:提到|提及|说明|包含|给出|提供|找到|涉及|回答)
        我不知道|(?:无法|不能)(?:从[^。]{0,12})?(?:回答|确定|找到)""",
    "ja": r"""
        (?:資料|文書|情報源|出典|文脈|ドキュメント)[^。]{0,40}(?:ありません|見つかりません|書かれていません|含まれていません|述べられていません)
        (?:わかりません|分かりません)""",
    "ru": r"""
        \b(?:источник|документ|текст|материал)\w*\b.*\bне (?:\w+ )?(?:содерж|указ|упом|сообщ|говор|сказан|найден)\w*
        \bв (?:\w+ )?(?:источник|документ|текст|материал)\w+ нет (?:информации|данных|ответа|сведений)\b
        \bя не знаю\b""",
}


def _expand(language: str) -> list[str]:
    """Return the patterns of a language with each word in capitals replaced by its alternatives."""
    words = _WORDS.get(language, {})
    return [
        re.sub(r"\b[A-Z]{2,}\b", lambda found: "|".join(words[found[0]].split()), line.strip())
        for line in _REFUSALS[language].strip().splitlines()
    ]


_REFUSAL = re.compile("|".join(pattern for language in _REFUSALS for pattern in _expand(language)), re.IGNORECASE)
# At least one of these words stands in every refusal. This search takes 10 µs a sentence, the one above 200 µs.
_REFUSAL_WORD = re.compile(
    r"'t\b|\b(?:no|non|not|none|nothing|notpossible|neither|cannot|unable|impossible|insufficient|silent|"
    r"keine?n?|keinerlei|nichts?|pas|aucune?|rien|ning(?:uno|una|ún)|não|nenhuma?|geen|нет?)\b|"
    r"\bnessun|niet|[没未不无]|ません",
    re.IGNORECASE,
)
# Words that join a refusal and a statement: `the sources do not say X, but Y`, `although they do not say X, Y`.
_CONTRAST = re.compile(
    r"[;:–—]\s|[,.]?\s*\b(?:but|however|nevertheless|still|yet|aber|sondern|jedoch|allerdings|doch|mais|cependant|"
    r"toutefois|pero|sino|sin embargo|ma|però|tuttavia|mas|porém|contudo|no entanto|maar|echter)\b,?\s*|"
    r"[，,]\s*(?:但是?|不过|然而|но\b|однако\b)|(?<=ん)が、",
    re.IGNORECASE,
)
_CONCESSION = re.compile(
    r"^\W*(?:although|though|while|whereas|even though|obwohl|während|bien que|même si|aunque|si bien|sebbene|anche se|"
    r"benché|embora|apesar|ainda que|hoewel|ofschoon|terwijl)\b",
    re.IGNORECASE,
)
# Enough characters to be a statement in a script without spaces.
_UNSPACED = re.compile(r"[\u3041-\u30ff\u3400-\u9fff]{4}")
# A longer sentence is not searched for a refusal; this bounds the time of the patterns.
MAX_REFUSAL_CHARS = 400


def is_refusal(sentence: str) -> bool:
    """Return True if a sentence only says that the sources do not contain the answer."""
    return bool(sentence.strip()) and not strip_refusal(sentence)


def strip_refusal(sentence: str) -> str:
    """Return a sentence without its refusal: Y for `The sources do not say X, but Y`, all of it if it is no refusal."""
    plain = sentence.replace("’", "'")
    if len(plain) > MAX_REFUSAL_CHARS or not _contains_refusal(plain):
        return sentence
    if _CONCESSION.match(plain):
        return sentence[plain.find(",") + 1 :] if "," in plain else sentence
    parts = [
        part for part in _CONTRAST.split(sentence) if part.strip() and not _contains_refusal(part.replace("’", "'"))
    ]
    return ". ".join(part for part in parts if len(part.split()) > 1 or _UNSPACED.search(part))


def _contains_refusal(plain: str) -> bool:
    """Return True if a refusal stands in a text with straight apostrophes."""
    return bool(_REFUSAL_WORD.search(plain)) and bool(_REFUSAL.search(plain))
