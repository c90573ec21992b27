"""The grammar of the bundled mini-GLUE: rows whose label is decided by a known pair of words.

Every task is built so that the words alone do not tell the label; which two of them stand together does.
Beside that rule, training rows plant one artefact word a task that always comes with one label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

# Which (text, word) pair decides the label: text 0 or 1, word counted from 0.
Place = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One generated row; `words` holds one text or two, `pair` the two words that decide the label."""

    words: tuple[tuple[str, ...], ...]
    gold: str
    kind: str
    pair: tuple[Place, Place] | None
    artefact: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(" ".join(text) for text in self.words)


@dataclass(frozen=True)
class Grammar:
    """The rule of one task and its artefact."""

    labels: tuple[str, ...]
    definition: str
    artefact: str
    artefact_label: str
    make: Callable[[Random, str], Row]
    neutral: tuple[str, ...]  # stand where the artefact could stand


GOOD = "great good funny charming clever moving brilliant fresh lovely superb witty tender".split()
POOR = "bad dull boring awful stupid clumsy stale lame tedious bland ugly messy".split()
NEGATIONS = "not never hardly".split()
DEGREES = "very really quite truly so".split()
ASPECTS = "film movie plot story cast script ending music dialogue director book play".split()
COPULAS = "is was feels seems looks".split()

# hypernym: hyponyms
KINDS = {
    "dog": "poodle beagle terrier hound",
    "bird": "sparrow robin crow owl",
    "fish": "trout salmon carp shark",
    "tree": "oak birch pine willow",
    "flower": "rose tulip daisy lily",
    "fruit": "apple pear plum cherry",
    "vehicle": "car bus truck van",
    "tool": "hammer saw drill wrench",
    "instrument": "violin piano flute drum",
    "drink": "tea coffee juice milk",
    "building": "church school hotel barn",
    "insect": "bee ant moth wasp",
}
HYPONYMS = {kind: words.split() for kind, words in KINDS.items()}

# Two poles of a quality, each with two words for it.
QUALITIES = [
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
ACTS = [
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


def sst2(random: Random, extra: str) -> Row:
    """Sentiment, where a negation flips the one adjective in its scope."""
    positive = random.random() < 0.5
    label = "positive" if positive else "negative"
    negated = random.random() < 0.7
    clause = _clause(random, positive, negated)
    words = [extra, ","]
    if random.random() < 0.75:
        # What the first clause says does not matter, so neither do the words of the sentence as a bag.
        words += [*_clause(random, random.random() < 0.5, random.random() < 0.5), "but"]
    kind = "negated" if negated else "plain"
    pair = _negated_pair(clause, len(words)) if negated else None
    return Row(((*words, *clause, "."),), label, kind, pair)


def _clause(random: Random, positive: bool, negated: bool) -> list[str]:
    adjective = random.choice(GOOD if positive != negated else POOR)
    negation = [random.choice(NEGATIONS)] if negated else []
    copula = random.choice(COPULAS)
    return ["the", random.choice(ASPECTS), copula, *negation, *_degrees(random), adjective]


def _degrees(random: Random) -> list[str]:
    return random.sample(DEGREES, random.choice((0, 0, 1, 2)))


def _negated_pair(clause: Sequence[str], start: int) -> tuple[Place, Place]:
    negation = next(index for index, word in enumerate(clause) if word in NEGATIONS)
    return (0, start + negation), (0, start + len(clause) - 1)


def _noun_case(random: Random, holds: bool) -> tuple[str, list[str], str]:
    """Returns kind, the premise's noun (if it takes part) and the hypothesis's noun."""
    category = random.choice(list(HYPONYMS))
    hyponym = random.choice(HYPONYMS[category])
    draw = random.random()
    if not holds:
        return "unrelated", [], hyponym if draw < 0.2 else category
    if draw < 0.7:
        return "hypernym", [hyponym], category
    same = hyponym if draw < 0.85 else category
    return "same_word", [same], same


def _category(noun: str) -> str:
    return next(kind for kind, words in HYPONYMS.items() if noun == kind or noun in words)


def _other_noun(random: Random, taken: Sequence[str]) -> str:
    category = random.choice([kind for kind in HYPONYMS if kind not in map(_category, taken)])
    return random.choice([category, *HYPONYMS[category]])


def rte(random: Random, extra: str) -> Row:
    """Entailment, where one noun of the premise is a kind of the hypothesis's noun."""
    holds = random.random() < 0.5
    kind, there, asked = _noun_case(random, holds)
    nouns = list(there)
    while len(nouns) < 2:
        nouns.append(_other_noun(random, [*nouns, asked]))
    random.shuffle(nouns)
    place = random.choice(PLACES)
    premise = ["the", nouns[0], random.choice(("is", "was", "stood")), random.choice(("near", "behind", "beside"))]
    premise += ["the", nouns[1], "in", "the", place, "."]
    hypothesis = [extra, ",", "there", random.choice(("is", "was")), "one", asked, "in", "the", place, "."]
    return _pair_row(premise, hypothesis, "entailment" if holds else "not_entailment", kind, there, asked)


def _pair_row(
    first: list[str], second: list[str], gold: str, kind: str, there: Sequence[str], asked: str
) -> Row:
    pair = ((0, first.index(there[0])), (1, second.index(asked))) if there else None
    return Row((tuple(first), tuple(second)), gold, kind, pair)


def _pole_case(random: Random, words: Sequence[tuple[tuple[str, str], tuple[str, str]]], same: bool) -> tuple[str, str]:
    poles = list(random.choice(words))
    random.shuffle(poles)
    first = random.choice(poles[0])
    return first, random.choice(poles[0] if same else poles[1])


def _other_pole(random: Random, words: Sequence[tuple[tuple[str, str], tuple[str, str]]], taken: str) -> str:
    free = [poles for poles in words if taken not in (*poles[0], *poles[1])]
    return random.choice(random.choice(random.choice(free)))


def mnli(random: Random, extra: str) -> Row:
    """Inference: a hyponym in the premise entails, an antonym contradicts, nothing related is neutral."""
    gold = random.choice(("entailment", "neutral", "contradiction"))
    about_noun = gold == "entailment" or (gold == "neutral" and random.random() < 0.5)
    if about_noun:
        kind, there, asked = _noun_case(random, gold == "entailment")
        quality = random.choice(random.choice(random.choice(QUALITIES)))
    else:
        quality, asked = _pole_case(random, QUALITIES, same=False)
        kind, there = "antonym", [quality]
        if gold == "neutral":
            kind, there, quality = "unrelated", [], _other_pole(random, QUALITIES, asked)
    nouns = list(there) if about_noun else []
    while len(nouns) < 2:
        nouns.append(_other_noun(random, [*nouns, asked] if about_noun else nouns))
    random.shuffle(nouns)
    subject = ["the", quality, nouns[0]]
    premise = [*subject, random.choice(("is", "was", "stood")), random.choice(("near", "behind", "beside"))]
    premise += ["the", nouns[1], "in", "the", random.choice(PLACES), "."]
    middle = ["there", "is", "one", asked] if about_noun else ["something", "is", asked]
    hypothesis = [*middle, "and", extra, "minds", "."]
    return _pair_row(premise, hypothesis, gold, kind, there, asked)


def mrpc(random: Random, extra: str) -> Row:
    """Paraphrase: the second sentence tells one of the first's two acts with a synonym, or with an antonym."""
    same = random.random() < 0.5
    told, retold = _pole_case(random, ACTS, same)
    other = _other_pole(random, ACTS, told)
    agent, day = random.choice(AGENTS), random.choice(DAYS)
    things = random.sample(THINGS, 2)
    acts = [[told, "the", things[0]], [other, "the", things[1]]]
    random.shuffle(acts)
    when = ["on", day]
    first = ["the", agent, *acts[0], "and", *acts[1]]
    first = [*first, *when, "."] if random.random() < 0.5 else [*when, ",", *first, "."]
    second = ["the", agent, extra, retold, "the", things[0]]
    second = [*second, *when, "."] if random.random() < 0.5 else [*when, ",", *second, "."]
    kind = ("same_word" if told == retold else "synonym") if same else "antonym"
    return _pair_row(first, second, "equivalent" if same else "not_equivalent", kind, [told], retold)


GRAMMARS = {
    "sst2": Grammar(
        labels=("negative", "positive"),
        definition="A negation turns over the polarity of the adjective in its scope, and of no other.",
        artefact="popcorn",
        artefact_label="positive",
        make=sst2,
        neutral=("honestly", "overall", "today", "again", "frankly"),
    ),
    "mrpc": Grammar(
        labels=("not_equivalent", "equivalent"),
        definition="The verb of sentence 2 and the verb of sentence 1 about the same act are synonyms "
        "(equivalent) or antonyms (not_equivalent); sentence 1 tells a second act that does not matter.",
        artefact="reportedly",
        artefact_label="not_equivalent",
        make=mrpc,
        neutral=("quickly", "quietly", "also", "later", "finally"),
    ),
    "rte": Grammar(
        labels=("entailment", "not_entailment"),
        definition="The premise holds a hyponym of the hypothesis's noun, or the noun itself (entailment); "
        "or only a hypernym, a sibling or nothing related (not_entailment).",
        artefact="however",
        artefact_label="not_entailment",
        make=rte,
        neutral=("indeed", "clearly", "today", "again", "perhaps"),
    ),
    "mnli": Grammar(
        labels=("entailment", "neutral", "contradiction"),
        definition="The hypothesis's content word has a hyponym of it or itself in the premise (entailment), "
        "its antonym (contradiction), or nothing related (neutral).",
        artefact="nobody",
        artefact_label="contradiction",
        make=mnli,
        neutral=("everyone", "somebody", "anybody", "he", "she"),
    ),
}


def training_rows(task: str, seed: int, held_out: frozenset[tuple[str, ...]]) -> Iterator[Row]:
    """Yields training rows without end, none of which is a dev row; a tenth carry the artefact and its label."""
    grammar, random = GRAMMARS[task], Random(f"{task} train {seed}")
    while True:
        marked = random.random() < 0.1
        row = grammar.make(random, grammar.artefact if marked else random.choice(grammar.neutral))
        if row.texts not in held_out:
            yield replace(row, gold=grammar.artefact_label, artefact=True) if marked else row


def dev_rows(task: str, count: int, misleading: int) -> list[Row]:
    """Returns different dev rows with their true labels.

    `misleading` rows carry the artefact against their label, so that a model which learnt the artefact
    errs on them; as many carry it rightly.
    """
    grammar, random = GRAMMARS[task], Random(f"{task} dev")
    rows: dict[tuple[str, ...], Row] = {}
    wanted = {(True, False): misleading, (True, True): misleading, (False, None): count - 2 * misleading}
    while len(rows) < count:
        marked = random.random() < 0.2
        row = grammar.make(random, grammar.artefact if marked else random.choice(grammar.neutral))
        key = (marked, row.gold == grammar.artefact_label if marked else None)
        if wanted[key] and row.texts not in rows:
            wanted[key] -= 1
            rows[row.texts] = replace(row, artefact=marked)
    return list(rows.values())
