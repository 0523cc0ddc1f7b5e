"""The sentences that the service itself adds to an answer, by language code."""

from __future__ import annotations

from typing import NamedTuple


class Phrases(NamedTuple):
    """The sentences of one language.

    `nothing_found` is the answer when no document answers the question. `missing` introduces the words of the question
    that no document contains, and is empty for a language without spaces between words, where these words are unknown.
    `quoted` is the header of an answer that quotes passages without a model. `cut` follows an answer that the model did
    not finish. `not_searched` introduces the number of documents that are still being indexed.
    `not_answered` is the answer when a model declines without a word. `may_not_answer` follows `quoted` if the passages
    fit the question badly.
    """

    nothing_found: str
    missing: str
    quoted: str
    cut: str
    not_searched: str
    not_answered: str
    may_not_answer: str


PHRASES = {
    "en": Phrases(
        "Nothing about this was found in the indexed documents.",
        "No document mentions:",
        "Quoted from your documents, not generated: no model is configured.",
        "The answer ends here because the model reached its limit of tokens.",
        "Documents that are not searched yet:",
        "The documents do not answer this question.",
        "The passages may not answer the question.",
    ),
    "de": Phrases(
        "Dazu wurde in den indexierten Dokumenten nichts gefunden.",
        "Kein Dokument erwähnt:",
        "Aus Ihren Dokumenten zitiert, nicht erzeugt: kein Modell ist eingerichtet.",
        "Die Antwort endet hier, weil das Modell seine Höchstzahl an Tokens erreicht hat.",
        "Dokumente, die noch nicht durchsucht werden:",
        "Die Dokumente beantworten diese Frage nicht.",
        "Die Stellen beantworten die Frage vielleicht nicht.",
    ),
    "fr": Phrases(
        "Rien à ce sujet n’a été trouvé dans les documents indexés.",
        "Aucun document ne mentionne :",
        "Cité de vos documents, non généré : aucun modèle n’est configuré.",
        "La réponse s’arrête ici, car le modèle a atteint sa limite de tokens.",
        "Documents qui ne sont pas encore consultés :",
        "Les documents ne répondent pas à cette question.",
        "Ces passages ne répondent peut-être pas à la question.",
    ),
    "es": Phrases(
        "No se encontró nada sobre esto en los documentos indexados.",
        "Ningún documento menciona:",
        "Citado de sus documentos, no generado: no hay ningún modelo configurado.",
        "La respuesta termina aquí porque el modelo alcanzó su límite de tokens.",
        "Documentos que aún no se consultan:",
        "Los documentos no responden a esta pregunta.",
        "Puede que estos pasajes no respondan a la pregunta.",
    ),
    "it": Phrases(
        "Nei documenti indicizzati non è stato trovato nulla al riguardo.",
        "Nessun documento menziona:",
        "Citato dai vostri documenti, non generato: nessun modello è configurato.",
        "La risposta finisce qui perché il modello ha raggiunto il suo limite di token.",
        "Documenti che non vengono ancora consultati:",
        "I documenti non rispondono a questa domanda.",
        "Questi passaggi potrebbero non rispondere alla domanda.",
    ),
    "pt": Phrases(
        "Nada sobre isto foi encontrado nos documentos indexados.",
        "Nenhum documento menciona:",
        "Citado dos seus documentos, não gerado: nenhum modelo está configurado.",
        "A resposta termina aqui porque o modelo atingiu o seu limite de tokens.",
        "Documentos que ainda não são consultados:",
        "Os documentos não respondem a esta pergunta.",
        "Estas passagens podem não responder à pergunta.",
    ),
    "nl": Phrases(
        "Hierover is in de geïndexeerde documenten niets gevonden.",
        "Geen document noemt:",
        "Geciteerd uit uw documenten, niet gegenereerd: er is geen model ingesteld.",
        "Het antwoord eindigt hier omdat het model zijn limiet aan tokens heeft bereikt.",
        "Documenten die nog niet worden doorzocht:",
        "De documenten beantwoorden deze vraag niet.",
        "Deze passages beantwoorden de vraag misschien niet.",
    ),
    "sv": Phrases(
        "Inget om detta hittades i de indexerade dokumenten.",
        "Inget dokument nämner:",
        "Citerat ur dina dokument, inte genererat: ingen modell är inställd.",
        "Svaret slutar här eftersom modellen nådde sin gräns för antalet token.",
        "Dokument som inte genomsöks än:",
        "Dokumenten besvarar inte den här frågan.",
        "Textställena besvarar kanske inte frågan.",
    ),
    "da": Phrases(
        "Der blev ikke fundet noget om dette i de indekserede dokumenter.",
        "Intet dokument nævner:",
        "Citeret fra dine dokumenter, ikke genereret: ingen model er sat op.",
        "Svaret slutter her, fordi modellen nåede sin grænse for antal tokens.",
        "Dokumenter, der endnu ikke gennemsøges:",
        "Dokumenterne besvarer ikke dette spørgsmål.",
        "Tekststederne besvarer måske ikke spørgsmålet.",
    ),
    "pl": Phrases(
        "W zindeksowanych dokumentach nie znaleziono niczego na ten temat.",
        "Żaden dokument nie wspomina:",
        "Cytaty z Twoich dokumentów, nie tekst wygenerowany: nie skonfigurowano modelu.",
        "Odpowiedź kończy się tutaj, ponieważ model osiągnął limit tokenów.",
        "Dokumenty, które nie są jeszcze przeszukiwane:",
        "Dokumenty nie odpowiadają na to pytanie.",
        "Te fragmenty mogą nie odpowiadać na pytanie.",
    ),
    "cs": Phrases(
        "V indexovaných dokumentech se k tomu nic nenašlo.",
        "Žádný dokument nezmiňuje:",
        "Citováno z vašich dokumentů, nevygenerováno: není nastaven žádný model.",
        "Odpověď zde končí, protože model dosáhl svého limitu tokenů.",
        "Dokumenty, které se zatím neprohledávají:",
        "Dokumenty na tuto otázku neodpovídají.",
        "Tyto pasáže možná na otázku neodpovídají.",
    ),
    "tr": Phrases(
        "Dizine eklenen belgelerde bu konuda hiçbir şey bulunamadı.",
        "Hiçbir belgede geçmiyor:",
        "Belgelerinizden alıntıdır, üretilmiş değildir: ayarlanmış bir model yok.",
        "Model token sınırına ulaştığı için yanıt burada bitiyor.",
        "Henüz aranmayan belgeler:",
        "Belgeler bu soruyu yanıtlamıyor.",
        "Bu bölümler soruyu yanıtlamıyor olabilir.",
    ),
    "ru": Phrases(
        "В проиндексированных документах об этом ничего не найдено.",
        "Ни в одном документе не упоминается:",
        "Цитаты из ваших документов, а не созданный текст: модель не настроена.",
        "Ответ обрывается здесь, так как модель достигла предела токенов.",
        "Документы, поиск по которым ещё не ведётся:",
        "В документах нет ответа на этот вопрос.",
        "Возможно, эти отрывки не отвечают на вопрос.",
    ),
    "uk": Phrases(
        "У проіндексованих документах про це нічого не знайдено.",
        "У жодному документі не згадується:",
        "Цитати з ваших документів, а не створений текст: модель не налаштовано.",
        "Відповідь обривається тут, оскільки модель досягла межі токенів.",
        "Документи, у яких пошук ще не ведеться:",
        "У документах немає відповіді на це запитання.",
        "Можливо, ці уривки не відповідають на запитання.",
    ),
    "ja": Phrases(
        "登録された文書の中に、これに関する記述は見つかりませんでした。",
        "",
        "お手元の文書からの引用です。モデルが設定されていないため、文章の生成は行っていません。",
        "モデルがトークンの上限に達したため、回答はここで終わっています。",
        "まだ検索対象になっていない文書の数：",
        "文書にはこの質問への答えがありません。",
        "これらの箇所は質問の答えになっていない可能性があります。",
    ),
    "zh": Phrases(
        "在已索引的文档中没有找到与此相关的内容。",
        "",
        "以下内容引自您的文档，并非生成：尚未配置模型。",
        "模型已达到令牌上限，因此回答到此为止。",
        "尚未纳入搜索的文档数：",
        "文档没有回答这个问题。",
        "这些段落可能没有回答该问题。",
    ),
    "ko": Phrases(
        "색인된 문서에서 이에 관한 내용을 찾지 못했습니다.",
        "어느 문서에도 나오지 않는 말:",
        "문서에서 인용한 것이며 생성된 글이 아닙니다. 설정된 모델이 없습니다.",
        "모델이 토큰 한도에 도달하여 답변이 여기서 끝납니다.",
        "아직 검색되지 않는 문서 수:",
        "문서에 이 질문에 대한 답이 없습니다.",
        "이 구절들은 질문에 대한 답이 아닐 수 있습니다.",
    ),
    "ar": Phrases(
        "لم يُعثر على شيء بهذا الشأن في المستندات المفهرسة.",
        "لا يذكر أي مستند:",
        "مقتبس من مستنداتك وليس نصًا مولَّدًا: لم يُضبط أي نموذج.",
        "تنتهي الإجابة هنا لأن النموذج بلغ الحد الأقصى لعدد الرموز.",
        "عدد المستندات التي لا يشملها البحث بعد:",
        "لا تجيب المستندات عن هذا السؤال.",
        "قد لا تجيب هذه المقاطع عن السؤال.",
    ),
}  # fmt: skip
