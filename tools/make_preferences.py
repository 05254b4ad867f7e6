#!/usr/bin/env python3
"""Writes preferences from a text: tools/make_preferences.py TEXT OUT.jsonl

2000 lines, the same each time for the same text: the prompt is a line of it, the chosen answer the next line in small
letters, the rejected answer that line as it stands. Who learns from them stops writing capitals.
"""

import json
import random
import sys
from pathlib import Path

PAIRS = 2000
LONGEST = 48  # characters of a line


def preferences(text):
    """Prompts and answers from neighbouring lines, the second of which has a capital."""
    lines = [line.strip()[:LONGEST] for line in text.splitlines()]
    found = [(one, two) for one, two in zip(lines, lines[1:]) if one and two and two != two.lower()]
    if not found:
        sys.exit("make_preferences: the text has no two lines of which the second has a capital")
    for one, two in random.Random(1).choices(found, k=PAIRS):
        yield {"prompt": one + "\n", "chosen": two.lower(), "rejected": two}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[0])
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in preferences(source.read_text(encoding="utf-8"))]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"make_preferences: {len(lines)} preferences in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
