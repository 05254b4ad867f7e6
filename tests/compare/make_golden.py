"""Writes what SciPy says of simulated comparisons to tests/golden/statistics.json, which statistics_test.cpp reads.

    python -B tests/compare/make_golden.py [--check]     # needs scipy

Of each comparison the losses of base and variant, Welch's and the paired test with their 95 % intervals, and the difference
that Welch's test would find in 4 of 5 comparisons; of Student's t some quantiles. `--check` compares the stored numbers
instead.
"""
import argparse
import json
import math
import random
import sys
from pathlib import Path

from scipy import stats

PATH = Path(__file__).parent / ".." / "golden" / "statistics.json"
# Seeds, standard deviations of base and variant, the true difference.
KINDS = [(2, 0.02, 0.02, 0), (2, 0.001, 0.2, -0.1), (3, 0.02, 0.02, 0), (3, 0.01, 0.05, 0.03), (3, 1e-6, 1e-6, -1e-6),
         (5, 0.02, 0.02, -0.02), (5, 0.3, 0.001, 0), (10, 0.02, 0.03, 0.01), (40, 0.02, 0.02, 0.5)]
EACH = 4


def number(value):
    return float(f"{value:.12g}")


def said(test):
    interval = test.confidence_interval(0.95)
    return {"p_value": number(test.pvalue), "low": number(interval.low), "high": number(interval.high)}


def comparison(base, variant):
    welch = stats.ttest_ind(variant, base, equal_var=False)
    error = math.sqrt(sum(stats.describe(losses).variance / len(losses) for losses in (base, variant)))
    detectable = (stats.t.ppf(0.975, welch.df) + stats.t.ppf(0.8, welch.df)) * error
    return {"base": base, "variant": variant, "welch": said(welch) | {"detectable": number(detectable)},
            "paired": said(stats.ttest_rel(variant, base))}


def golden():
    draw = random.Random(1)
    comparisons = []
    for seeds, of_base, of_variant, difference in KINDS:
        for _ in range(EACH):
            base = [round(draw.gauss(2.5, of_base), 9) for _ in range(seeds)]
            variant = [round(draw.gauss(2.5 + difference, of_variant), 9) for _ in range(seeds)]
            comparisons.append(comparison(base, variant))
    quantiles = [[probability, degrees, number(stats.t.ppf(probability, degrees))]
                 for probability in (0.025, 0.6, 0.8, 0.975, 0.9999) for degrees in (1, 1.07, 2.5, 4, 38.3, 1000)]
    return {"comparisons": comparisons, "quantiles": quantiles}


def differs(one, other):
    if isinstance(one, dict):
        return one.keys() != other.keys() or any(differs(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) != len(other) or any(map(differs, one, other))
    return not math.isclose(one, other, rel_tol=1e-8, abs_tol=1e-11)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    found = golden()
    if parser.parse_args().check:
        stored = json.loads(PATH.read_text())
        print(f"{len(stored['comparisons'])} comparisons, {len(stored['quantiles'])} quantiles")
        return 1 if differs(found, stored) else 0
    rows = ",\n".join(json.dumps(each) for each in found["comparisons"])
    PATH.write_text(f'{{"comparisons": [\n{rows}],\n"quantiles": {json.dumps(found["quantiles"])}}}\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
