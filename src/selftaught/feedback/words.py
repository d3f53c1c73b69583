"""Words next to numbers: harmless ones, and ones that change the value."""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


ATTACHED_UNITS = word_set(
    "km cm mm nm m g kg mg t lb lbs oz ft in yd mi mph kph kmh h hr hrs min mins s sec secs ms ml cl dl l L kb mb "
    "gb tb KB MB GB TB kW W V A Hz kHz MHz GHz J kJ N Pa kPa C F mol cal kcal am pm AM PM st nd rd th px usd USD "
    "EUR GBP dollars cents"
)
"""Units that may follow a number without a space."""

SINGLE_UNITS = word_set("m g s h l L a A V W J N C F")
"""Units of one letter, and the article."""

CUES = word_set(
    "because since as for from in at with after before where given based using during within which who that is are"
)
"""Words that begin an explanation after a unit or a comma."""

NUMBER_WORDS = word_set("two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty")

NOT_AFTER = NUMBER_WORDS | word_set(
    "plus minus mod modulo over divided multiplied choose factorial half halves third thirds quarter quarters "
    "fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths or pi sqrt root log ln sin cos "
    "tan exp infinity dozen dozens score gross not least most base binary octal hexadecimal remainder hundreds "
    "thousands millions billions digit digits fourth fifth power below mil mio mrd mille mill millones millionen "
    "tausend tens maybe perhaps bil milliard milliards miljard"
)
"""Words that make a number uncertain if they follow it."""

UNIT_CONTINUATIONS = word_set("squared cubed times of out in by")
"""Words that do so only between two numbers."""

NOT_BEFORE = word_set(
    "minus negative plus not isn't aren't wasn't never without than least most over under above below between "
    "either neither half third quarter twice double triple thrice square squared cube cubed root sqrt log ln sin "
    "cos tan exp factorial up but except until through base mod modulo step steps equation question problem or "
    "infinity cannot unknown unclear undetermined determined determine know none impossible divisible multiple "
    "product factor factors consecutive decimal section figure theorem chapter lemma table see part line method "
    "depends range rounded hardly maybe"
)
"""Words that make a number uncertain if they precede it."""
