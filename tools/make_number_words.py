#!/usr/bin/env python3
"""Writes pairs to translate: tools/make_number_words.py OUT.tsv

20,000 lines, the same each time and none twice: a number below a million in digits, a tab, and the number in English
words ("407015", "four hundred seven thousand fifteen").
"""

import random
import sys
from pathlib import Path

PAIRS = 20000
SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
         "eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def words(number):
    """A number from 0 to 999,999 in words."""
    if number < 20:
        return SMALL[number]
    for unit, name in ((1000, "thousand"), (100, "hundred")):
        if number >= unit:
            rest = number % unit
            return f"{words(number // unit)} {name}" + (f" {words(rest)}" if rest else "")
    rest = number % 10
    return TENS[number // 10 - 2] + (f"-{SMALL[rest]}" if rest else "")


def numbers():
    """Numbers of one to six digits, those with few digits all, shuffled."""
    draw = random.Random(1)
    chosen = set(range(1000))
    while len(chosen) < PAIRS:
        chosen.add(draw.randrange(10 ** draw.randint(4, 6)))
    return draw.sample(sorted(chosen), PAIRS)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.splitlines()[0])
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(f"{n}\t{words(n)}\n" for n in numbers()), encoding="utf-8")
    print(f"make_number_words: {PAIRS} pairs in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
