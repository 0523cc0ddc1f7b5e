"""Word lists by language code: stop words, which do not name the subject of a question."""

from __future__ import annotations

# The commonest function words of each language written in Latin letters.
_FUNCTION = {
    "en": "the of and is are what which who when where how does did do was were this that for with why can my "
    "your it an about i do need there any tell many much has have should would could from",
    "de": "der die das und ist sind was welche welcher welches wer wann wo wie nicht ein eine von mit für warum "
    "kann wird wurde dem den des zu im auf",
    "fr": "le la les et est sont que quel quelle quels quelles qui quand où comment combien pourquoi des du une "
    "dans pour avec ce cette il elle",
    "es": "el la los las de y es son qué cuál cuáles quién cuándo dónde cómo cuánto cuántos cuánta por una del "
    "para con se está fue",
    "it": "il lo gli e è sono che cosa quale quali chi quando dove come quanto quanti perché una del della per "
    "con di nel nella",
    "pt": "a o os as e é são que qual quais quem quando onde como quanto quantos por uma do da dos das para com não em",
    "nl": "de het een en is zijn wat welke wie wanneer waar hoe waarom van met voor niet op kan wordt",
    "sv": "och är som på av för till med en ett vad vilken vilket vilka vem när var hur varför inte det den kan "
    "jag blir många",
    "da": "og er som på af for til med en et hvad hvilken hvilket hvilke hvem hvornår hvor hvordan hvorfor ikke "
    "det den kan jeg bliver mange",
    "pl": "jest są w z na się nie co jaki jaka jakie który która które kto kiedy gdzie jak ile dlaczego czy od "
    "po przez ma",
    "cs": "je jsou v z na se ne co jaký jaká jaké který která které kdo kdy kde jak kolik proč od po při má lze",
    "tr": "ve bir bu ne nedir hangi kim kimdir nerede nasıl neden niçin kaç için ile mi mı mu mü var mıdır midir",
}

# Words with which a question asks for something, such as "explain", in any position. An English word stands for all its
# forms, because words are compared as stems.
_QUESTION = {
    "en": "i me we us our you your a an in on at to by as be been has had will not no if or into than too very some do "
    "many much need tell explain know want would could shall may might must please give show describe "
    "about regarding concerning available long far old often deep say said mention happen get got let see "
    "look use used using come make take mean kind type sort name list thing something anything anyone "
    "there part level way detail information overview advice example currently exactly actually also",
    "de": "viel viele wieviel wieviele lange oft weit alt hoch tief groß schwer brauche brauchen braucht "
    "benötige benötigt sage sagen sag erkläre erklären erklär weiß wissen möchte will wollen könnte "
    "könnten können könntest kannst darf soll sollte muss bitte gib geben gibt zeige zeigen zeig "
    "beschreibe beschreiben über verfügbar erhältlich nenne nennen erzähle mir mich ich man es sie wir du "
    "sich haben habe hat gibt werden einen einem einer dazu bei aus als an am in um wenn ob auch noch "
    "etwas informationen",
    "fr": "beaucoup longtemps souvent loin vieux besoin dire dis dites dites-moi expliquer explique expliquez "
    "savoir sais voudrais veux voulez pourriez pouvez peux peut puis faut doit dois donner donne donnez "
    "montrer montre montrez décrire décrivez décris sur disponible disponibles svp plaît moi me je on "
    "nous vous tu ils elles un en au aux de d l qu est-ce quoi quels ont a ai y plus informations",
    "es": "mucho mucha muchos muchas tiempo lejos necesito necesita necesitan dime dígame decir explica "
    "explique explicar sabe saber quiero quisiera querría podría podrías puede puedo pueden debe debo "
    "dame deme dar muestra muestre mostrar describe describa sobre acerca disponible disponibles favor me "
    "yo usted te le lo en un al a hay tiene tengo ha cuántas qué información",
    "it": "molto molti molta molte tempo spesso lontano serve servono bisogno dimmi dica dire spiega spieghi "
    "spiegare sapere so vorrei voglio vuole potrebbe potresti può posso possono deve devo dammi dia dare "
    "mostra mostri mostrare descrivi descriva descrivere su sulla sul riguardo disponibile disponibili "
    "favore per mi io si un uno la le i in a al alla ha ho c’è ci informazioni",
    "pt": "muito muita muitos muitas tempo longe preciso precisa diga dizer explique explicar sabe saber quero "
    "queria gostaria poderia pode posso podem deve devo dê dar mostre mostrar descreva descrever sobre "
    "acerca disponível disponíveis favor me eu você um no na nos nas ao a há tem tenho está foi ser "
    "quantas informações",
    "nl": "veel lang vaak ver oud diep nodig heb hebben heeft zeg zeggen vertel vertellen uitleggen leg weten "
    "weet wil willen zou zouden kunt kun kunnen mag moet moeten alsjeblieft alstublieft geef geven toon "
    "tonen laat zien beschrijf over beschikbaar verkrijgbaar mij me ik je u men er in te aan bij als ook "
    "of informatie",
    "sv": "mycket länge ofta långt gammal djupt behöver behövs säg säga berätta förklara förklarar veta vet "
    "vill skulle kunna ska måste får snälla ge visa beskriv om tillgänglig tillgängliga finns mig man du "
    "ni den i att har från",
    "da": "meget længe ofte langt gammel dybt behøver brug sig sige fortæl forklar forklare vide ved vil ville "
    "kunne skal må venligst giv vis beskriv om tilgængelig tilgængelige findes mig man du i at har fra",
    "pl": "i do a dużo wiele długo często daleko potrzebuję potrzebny potrzebna potrzeba powiedz powiedzieć "
    "wyjaśnij wyjaśnić wiedzieć wiem chcę chciałbym chciałabym mógłbyś możesz można mogę może muszę "
    "trzeba proszę podaj daj pokaż opisz o dostępny dostępna dostępne mi mnie ja to za przy oraz",
    "cs": "a i do mnoho dlouho často daleko potřebuji potřeba potřebuju řekni řekněte vysvětli vysvětlete vědět "
    "vím chci chtěl chtěla mohl můžete můžeš může mohu musím prosím dej dejte ukaž ukažte popiš popište o "
    "k ke dostupný dostupná dostupné mi mě já to s si by i pro",
    "tr": "çok kadar uzun sık sıklıkla uzak gerek gerekli gerekiyor lazım söyle söyler anlat anlatır açıkla "
    "açıklar bilmek istiyorum isterim misin misiniz lütfen ver verir göster tarif et hakkında mevcut bana "
    "ben olarak da de en",
    "ru": "что какой какая какое какие кто когда где как сколько почему зачем куда чей много долго часто далеко "
    "нужен нужна нужно нужны скажи скажите расскажи расскажите объясни объясните знать хочу хотел хотела "
    "можно могу может можете должен пожалуйста дай дайте покажи покажите опиши опишите о об про доступен "
    "доступна доступны мне меня я вы мы и в во на с со у к ко по за из от для до при ли не это есть ее "
    "его их",
    "uk": "що який яка яке які хто коли де як скільки чому навіщо куди багато довго часто далеко потрібен "
    "потрібна потрібно потрібні скажи скажіть розкажи розкажіть поясни поясніть знати хочу хотів хотіла "
    "можна можу може можете повинен будь ласка дай дайте покажи покажіть опиши опишіть про доступний "
    "доступна доступні мені мене я ви ми і й та в у на з із зі до по за від для при чи не це є її його їх",
    "ja": "何 何時 何人 何日 何年 何度 誰 いつ どこ 教",
    "zh": "什么 什么时候 何时 谁 哪里 哪个 哪些 怎么 怎样 如何 多少 几 几个 是否 请问 可以 需要",
    "ko": "무엇 무엇인가요 뭐 누구 언제 어디 어떻게 왜 얼마나 몇 어떤 어느 좀 대해 대해서 설명해 "
    "설명해주세요 알려줘 알려주세요 주세요 필요한가요 있나요 되나요",
    "ar": "ما ماذا من متى أين كيف كم لماذا هل أي اي هو هي في على عن إلى من مع هذا هذه التي الذي أن يمكن يمكنني "
    "أريد اشرح أخبرني اذكر صف فضلك لو أعطني حول",
}

# Words that refer to something mentioned before, such as "it".
_REFERENCE = {
    "en": "it its they them their theirs this these those he she his him her hers ones same",
    "de": "er sie es ihn ihm ihr ihre ihren dessen deren davon damit dafür darin daran dazu dort dies diese "
    "dieser dieses",
    "fr": "il elle ils elles cela ça celui celle ceux celles lui leur leurs y en celui-ci celle-ci",
    "es": "él ella ellos ellas lo eso esto ese esa este esta estos estas ahí allí",
    "it": "esso essa essi esse lui lei loro ciò questo questa questi queste lo lì",
    "pt": "ele ela eles elas isso isto esse essa este esta dele dela aí lá",
    "nl": "hij zij ze dat dit die deze daar ervan daarvan daarmee ermee",
    "sv": "han hon den det dess de dem detta denna dessa där",
    "da": "han hun den det dens dets de dem dette denne disse der",
    "pl": "on ona ono oni one jego jej ich nim nią nimi to tego ten ta te tam",
    "cs": "on ona ono oni jeho její jich jím ním to toho ten ta ty tam",
    "tr": "o onun onu ona bu bunun bunu buna şu onlar bunlar orada",
    "ru": "он она оно они его её ее их ему ей им нём нем ней этот эта это эти тот там",
    "uk": "він вона воно вони його її їх йому їй ним ній це цей ця ці той там",
    "ja": "それ これ その この そこ",
    "zh": "它 他 她 这 那 其",
    "ko": "그것 그것은 이것 이것은 그 이 그건 이건 거기",
    "ar": "هو هي هم ذلك هذا هذه تلك هناك",
}

# Words that connect a question which begins with them to the question before it, such as "and".
_CONNECTIVE = {
    "en": "and but or also then so",
    "de": "und aber oder auch dann sonst",
    "fr": "et mais ou alors",
    "es": "y pero o entonces también",
    "it": "e ma o allora anche",
    "pt": "e mas ou então também",
    "nl": "en maar of ook dan",
    "sv": "och men eller",
    "da": "og men eller",
    "pl": "a i ale lub",
    "cs": "a ale nebo",
    "tr": "ve ama peki ya",
    "ru": "а и но или",
    "uk": "а і й але або",
    "ja": "では じゃあ",
    "zh": "那么",
    "ko": "그리고 그럼 그러면",
    "ar": "و لكن أو",
}


def _split(lists: dict[str, str]) -> dict[str, frozenset[str]]:
    return {language: frozenset(words.split()) for language, words in lists.items()}


FUNCTION_WORDS = _split(_FUNCTION)
QUESTION_WORDS = _split(_QUESTION)
REFERENCE_WORDS = _split(_REFERENCE)
CONNECTIVES = _split(_CONNECTIVE)
# The words of all lists above.
STOP_WORDS = {
    language: question_words
    | FUNCTION_WORDS.get(language, frozenset())
    | REFERENCE_WORDS[language]
    | CONNECTIVES[language]
    for language, question_words in QUESTION_WORDS.items()
}
