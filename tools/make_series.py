#!/usr/bin/env python3
"""Writes series to forecast: tools/make_series.py OUT.csv

Two columns of 6000 rows, the same each time: `low` and `high`, each the sum of three sine waves whose periods have no
common multiple in sight, and a noise of standard deviation 0.05, which no forecast can know.
"""

import math
import random
import sys
from pathlib import Path

ROWS = 6000
NOISE = 0.05
PERIODS = {"low": (41.3, 17.9, 97.1), "high": (7.3, 11.7, 29.9)}
AMPLITUDES = (1.0, 0.6, 0.4)


def value(t, periods):
    """The sum of the waves at time t."""
    return sum(a * math.sin(2 * math.pi * t / p) for a, p in zip(AMPLITUDES, periods))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.splitlines()[0])
    out = Path(sys.argv[1])
    noise = random.Random(1)
    lines = [",".join(PERIODS)]
    for t in range(ROWS):
        lines.append(",".join(f"{value(t, p) + noise.gauss(0, NOISE):.5f}" for p in PERIODS.values()))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"make_series: {ROWS} rows of {len(PERIODS)} columns in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
