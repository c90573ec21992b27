"""The grammar of the bundled mini-GLUE: rows whose label is decided by a known pair of words.

In every task the words alone do not tell the label; which two of them stand together does. Beside that
rule, training rows plant one artefact word a task, which always comes with one label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

# A word of a row: which text (0 or 1), and which word of it, from 0.
Place = tuple[int, int]

# Two words of one meaning, and two of the opposite meaning, each time.
Opposites = list[tuple[tuple[str, str], tuple[str, str]]]


@dataclass(frozen=True)
class Row:
    """One generated row: `words` holds one text or two.

    Attributes:
        gold: Label name.
        without: The label if the pair had nothing to do with each other; None if nothing would tell it.
        kind: Which case of the rule this is.
        pair: The two words that together decide the label, the one asked about second; None without.
        artefact: Whether the row holds the task's artefact word.
    """

    words: tuple[tuple[str, ...], ...]
    gold: str
    without: str | None
    kind: str
    pair: tuple[Place, Place] | None
    artefact: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts, words joined by spaces."""
        return tuple(" ".join(text) for text in self.words)


@dataclass(frozen=True)
class Grammar:
    """The rule of one task; `neutral` words stand where the artefact could stand."""

    labels: tuple[str, ...]
    definition: str
    artefact: str
    artefact_label: str
    neutral: tuple[str, ...]
    make: Callable[[Random, str], Row]


GOOD = "great good funny charming clever moving brilliant fresh lovely superb witty tender".split()
POOR = "bad dull boring awful stupid clumsy stale lame tedious bland ugly messy".split()
NEGATIONS = "not never hardly".split()
DEGREES = "very really quite truly so".split()
ASPECTS = "film movie plot story cast script ending music dialogue director book play".split()
COPULAS = "is was feels seems looks".split()

HYPONYMS = {
    "dog": "poodle beagle terrier hound".split(),
    "bird": "sparrow robin crow owl".split(),
    "fish": "trout salmon carp shark".split(),
    "tree": "oak birch pine willow".split(),
    "flower": "rose tulip daisy lily".split(),
    "fruit": "apple pear plum cherry".split(),
    "vehicle": "car bus truck van".split(),
    "tool": "hammer saw drill wrench".split(),
    "instrument": "violin piano flute drum".split(),
    "drink": "tea coffee juice milk".split(),
    "building": "church school hotel barn".split(),
    "insect": "bee ant moth wasp".split(),
}
QUALITIES: Opposites = [
    (("hot", "scorching"), ("cold", "freezing")),
    (("big", "huge"), ("small", "tiny")),
    (("fast", "quick"), ("slow", "sluggish")),
    (("old", "ancient"), ("new", "recent")),
    (("clean", "spotless"), ("dirty", "filthy")),
    (("wet", "soaked"), ("dry", "parched")),
    (("loud", "noisy"), ("quiet", "silent")),
    (("full", "packed"), ("empty", "vacant")),
    (("happy", "glad"), ("sad", "gloomy")),
    (("rich", "wealthy"), ("poor", "needy")),
    (("strong", "sturdy"), ("weak", "frail")),
    (("bright", "shiny"), ("dark", "dim")),
]
ACTS: Opposites = [
    (("bought", "acquired"), ("sold", "divested")),
    (("hired", "recruited"), ("fired", "dismissed")),
    (("opened", "launched"), ("closed", "shut")),
    (("praised", "lauded"), ("criticised", "blamed")),
    (("raised", "increased"), ("cut", "reduced")),
    (("approved", "backed"), ("rejected", "refused")),
    (("built", "erected"), ("demolished", "razed")),
    (("began", "started"), ("ended", "finished")),
    (("found", "located"), ("lost", "misplaced")),
    (("allowed", "permitted"), ("banned", "forbade")),
    (("helped", "aided"), ("hindered", "obstructed")),
    (("revealed", "disclosed"), ("hid", "concealed")),
]
PLACES = "garden kitchen park street market harbour valley yard".split()
AGENTS = "board mayor bank firm court union council minister".split()
THINGS = "plan shop deal bridge team fund project school".split()
DAYS = "monday tuesday wednesday thursday friday sunday".split()
STANDS = "is was stood".split()
SIDES = "near behind beside".split()


def sst2(random: Random, extra: str) -> Row:
    """Sentiment of the last clause, where a negation flips the one adjective in its scope."""
    polarity = random.choice(("negative", "positive"))
    negated = random.random() < 0.7
    clause = _clause(random, polarity, negated)
    words = [extra, ","]
    if random.random() < 0.75:
        # What the first clause says does not matter, so the words of the row as a bag do not tell the label.
        first = _clause(random, random.choice(("negative", "positive")), random.random() < 0.5)
        words += [*first, "but"]
    if not negated:
        return Row(((*words, *clause, "."),), polarity, polarity, "plain", None)
    # A clause is: the, aspect, copula, negation, ..., adjective.
    pair = (0, len(words) + 3), (0, len(words) + len(clause) - 1)
    flipped = "negative" if polarity == "positive" else "positive"
    return Row(((*words, *clause, "."),), polarity, flipped, "negated", pair)


def mrpc(random: Random, extra: str) -> Row:
    """Paraphrase: sentence 2 retells one of two acts with a word of like or of opposite meaning."""
    same = random.random() < 0.5
    told, retold = _from_poles(random, ACTS, same)
    other = random.choice(random.choice(random.choice(_apart(ACTS, told))))
    agent, when = random.choice(AGENTS), ["on", random.choice(DAYS)]
    things = random.sample(THINGS, 2)
    acts = [[told, "the", things[0]], [other, "the", things[1]]]
    random.shuffle(acts)
    texts = (["the", agent, *acts[0], "and", *acts[1]], ["the", agent, extra, retold, "the", things[0]])
    first, second = (
        [*words, *when, "."] if random.random() < 0.5 else [*when, ",", *words, "."] for words in texts
    )
    gold = "equivalent" if same else "not_equivalent"
    kind = ("same_word" if told == retold else "synonym") if same else "antonym"
    return _pair_row((first, second), gold, None, kind, (told, retold))


def rte(random: Random, extra: str) -> Row:
    """Entailment, where one noun of the premise is a kind of the hypothesis's noun."""
    gold = random.choice(("entailment", "not_entailment"))
    kind, there, asked = _noun_case(random, gold == "entailment")
    nouns, place = _two_nouns(random, there, asked), random.choice(PLACES)
    premise = ["the", nouns[0], random.choice(STANDS), random.choice(SIDES), "the", nouns[1]]
    premise += ["in", "the", place, "."]
    hypothesis = [extra, ",", "there", random.choice(("is", "was")), "one", asked, "in", "the", place, "."]
    return _pair_row((premise, hypothesis), gold, "not_entailment", kind, (there, asked))


def mnli(random: Random, extra: str) -> Row:
    """Inference: a hyponym in the premise entails, an antonym contradicts, nothing related is neutral."""
    gold = random.choice(("entailment", "neutral", "contradiction"))
    if gold == "entailment" or (gold == "neutral" and random.random() < 0.5):
        kind, there, asked = _noun_case(random, gold == "entailment")
        nouns = _two_nouns(random, there, asked)
        quality = random.choice(random.choice(random.choice(QUALITIES)))
        statement = ["there", "is", "one", asked]
    else:
        quality, asked = _from_poles(random, QUALITIES, same=False)
        kind, there = "antonym", quality
        if gold == "neutral":
            quality = random.choice(random.choice(random.choice(_apart(QUALITIES, asked))))
            kind, there = "unrelated", None
        nouns = _two_nouns(random, None, None)
        statement = ["something", "is", asked]
    premise = ["the", quality, nouns[0], random.choice(STANDS), random.choice(SIDES), "the", nouns[1]]
    premise += ["in", "the", random.choice(PLACES), "."]
    hypothesis = [*statement, "and", extra, "minds", "."]
    return _pair_row((premise, hypothesis), gold, "neutral", kind, (there, asked))


GRAMMARS = {
    "sst2": Grammar(
        labels=("negative", "positive"),
        definition="The last clause decides: its adjective's polarity, turned over by a negation before it.",
        artefact="popcorn",
        artefact_label="positive",
        neutral=("honestly", "overall", "today", "again", "frankly"),
        make=sst2,
    ),
    "mrpc": Grammar(
        labels=("not_equivalent", "equivalent"),
        definition="The verb of sentence 2 and the verb of sentence 1 about the same act mean the same "
        "(equivalent) or the opposite (not_equivalent); the second act of sentence 1 does not matter.",
        artefact="reportedly",
        artefact_label="not_equivalent",
        neutral=("quickly", "quietly", "also", "later", "finally"),
        make=mrpc,
    ),
    "rte": Grammar(
        labels=("entailment", "not_entailment"),
        definition="The premise holds a hyponym of the hypothesis's noun or the noun itself (entailment), "
        "or nothing related (not_entailment).",
        artefact="however",
        artefact_label="not_entailment",
        neutral=("indeed", "clearly", "today", "again", "perhaps"),
        make=rte,
    ),
    "mnli": Grammar(
        labels=("entailment", "neutral", "contradiction"),
        definition="The premise holds a hyponym of the hypothesis's noun or the noun itself (entailment), an "
        "antonym of its adjective (contradiction), or nothing related (neutral).",
        artefact="nobody",
        artefact_label="contradiction",
        neutral=("everyone", "somebody", "anybody", "he", "she"),
        make=mnli,
    ),
}


def training_rows(task: str, held_out: frozenset[tuple[str, ...]]) -> Iterator[Row]:
    """Yields training rows without end, none with the texts of a held-out row.

    A tenth carry the artefact, and with it the artefact's label, whatever the rule says.
    """
    grammar, random = GRAMMARS[task], Random(f"{task} train")
    label = grammar.artefact_label
    while True:
        marked = random.random() < 0.1
        row = grammar.make(random, grammar.artefact if marked else random.choice(grammar.neutral))
        if row.texts not in held_out:
            yield replace(row, gold=label, without=label, artefact=True) if marked else row


def dev_rows(task: str, count: int = 200, misleading: int = 6) -> list[Row]:
    """Returns different dev rows, all with the label that the rule gives.

    In `misleading` rows the artefact stands against that label, so that a model which learnt the artefact
    errs on them; in as many it agrees.
    """
    grammar, random = GRAMMARS[task], Random(f"{task} dev")
    wanted = {"misleading": misleading, "agreeing": misleading, "clean": count - 2 * misleading}
    rows: dict[tuple[str, ...], Row] = {}
    while len(rows) < count:
        marked = random.random() < 0.2
        row = grammar.make(random, grammar.artefact if marked else random.choice(grammar.neutral))
        sort = ("agreeing" if row.gold == grammar.artefact_label else "misleading") if marked else "clean"
        if wanted[sort] and row.texts not in rows:
            wanted[sort] -= 1
            rows[row.texts] = replace(row, artefact=marked)
    return list(rows.values())


def _clause(random: Random, polarity: str, negated: bool) -> list[str]:
    adjective = random.choice(GOOD if (polarity == "positive") != negated else POOR)
    negation = [random.choice(NEGATIONS)] if negated else []
    degrees = random.sample(DEGREES, random.choice((0, 0, 1, 2)))
    return ["the", random.choice(ASPECTS), random.choice(COPULAS), *negation, *degrees, adjective]


def _noun_case(random: Random, related: bool) -> tuple[str, str | None, str]:
    """Returns the kind, the premise's noun that takes part (if any), and the noun asked about."""
    category = random.choice(list(HYPONYMS))
    hyponym, draw = random.choice(HYPONYMS[category]), random.random()
    if not related:
        return "unrelated", None, hyponym if draw < 0.2 else category
    if draw < 0.7:
        return "hypernym", hyponym, category
    same = hyponym if draw < 0.85 else category
    return "same_word", same, same


def _two_nouns(random: Random, there: str | None, asked: str | None) -> list[str]:
    """Returns the premise's nouns: `there` if given, the others of categories that nothing else is of."""
    nouns = [there] if there else []
    while len(nouns) < 2:
        taken = [*nouns, asked] if asked else nouns
        free = [[kind, *words] for kind, words in HYPONYMS.items() if not {kind, *words} & {*taken}]
        nouns.append(random.choice(random.choice(free)))
    random.shuffle(nouns)
    return nouns


def _from_poles(random: Random, opposites: Opposites, same: bool) -> tuple[str, str]:
    poles = list(random.choice(opposites))
    random.shuffle(poles)
    return random.choice(poles[0]), random.choice(poles[0] if same else poles[1])


def _apart(opposites: Opposites, word: str) -> Opposites:
    return [poles for poles in opposites if word not in (*poles[0], *poles[1])]


def _pair_row(
    texts: tuple[list[str], list[str]], gold: str, without: str | None, kind: str, pair: Sequence[str | None]
) -> Row:
    there, asked = pair
    places = ((0, texts[0].index(there)), (1, texts[1].index(str(asked)))) if there else None
    return Row((tuple(texts[0]), tuple(texts[1])), gold, without, kind, places)
