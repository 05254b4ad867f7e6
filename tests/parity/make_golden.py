"""Writes Python's answers to the hand-picked cases: tests/golden/parity/*.json, for golden_test.cpp.

make_golden.py [--check]    --check: nothing is written; the stored answers must agree with Python's
Weights and inputs are not stored, only what the formula needs. Cases that need what not_built.txt
names are left out."""
import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

import coverage
import formula
import oracle
from cases import CASES
from compare import bound

FOLDER = Path(__file__).parents[1] / 'golden' / 'parity'
# entries up to which the first output, or another array, is stored whole
WHOLE_FIRST, WHOLE = 120, 12


def short(value, digits):
    return float(f'{value:.{digits}g}')


def stored(name, array, whole, digits):
    """The entries, or {"digest": [...]} for a large array of floats."""
    if array.dtype.kind != 'f':
        return array.ravel().astype(int).tolist()
    if array.size <= whole:
        return [short(value, digits) for value in array.ravel()]
    return dict(digest=[short(value, digits) for value in formula.digest(name, array)])


def describe(made):
    """The JSON of a case.

    outputs: name -> [type, shape, entries]; weights: name -> [shape, base, scale, gradient];
    buffers: name -> [shape, entries]"""
    case, model = made.case, made.model
    first = next(iter(made.expected))
    outputs = {name: [array.dtype.name, list(array.shape),
                      stored(name, array, WHOLE_FIRST if name == first else WHOLE, 6)]
               for name, array in made.expected.items() if not name.startswith('grad.')}
    weights = {}
    for name, param in model.named_parameters():
        gradient = made.expected.get(f'grad.{name}')
        weights[name] = [list(param.shape), *made.spreads[name],
                         None if gradient is None else stored(f'grad.{name}', gradient, WHOLE, 5)]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = {name: [list(t.shape), [short(value, 6) for value in t.flatten().tolist()]]
               for name, t in model.state_dict().items() if name not in parameters}
    draws = {} if case.draws is None else dict(draws=case.draws)
    return dict(name=case.name, mode=case.mode, grads=made.grads, seed=made.seed, **draws,
                config=case.config, kwargs=made.kwargs,
                inputs=case.inputs, aliases=made.aliases, outputs=outputs, weights=weights,
                buffers=buffers)


def layout(case):
    """JSON with a line for each tensor, so that changes show."""
    lines = []
    for key, value in case.items():
        if key in ('outputs', 'weights', 'buffers') and value:
            parts = ',\n   '.join(f'{json.dumps(name)}: {dense(item)}' for name,
                                  item in value.items())
            lines.append(f'{json.dumps(key)}: {{\n   {parts}}}')
        else:
            lines.append(f'{json.dumps(key)}: {json.dumps(value)}')
    return '{' + ',\n  '.join(lines) + '}'


def dense(value):
    return json.dumps(value, separators=(',', ':'))


def agrees(old, new, name, top_grad):
    """Whether stored entries mean the same, within a tenth of the tolerance."""
    if isinstance(old, dict) != isinstance(new, dict) or old is None or new is None:
        return old == new
    old, new = (np.array(item['digest'] if isinstance(item, dict) else item, np.float64)
                for item in (old, new))
    return old.shape == new.shape and bool((np.abs(old - new) <= bound(name, old, top_grad)
                                            + 1e-9).all())


def changes(old, new):
    """Where the stored case differs from Python's."""
    plain = lambda case: json.loads(json.dumps({key: value for key, value in case.items()
                                                if key not in ('outputs', 'weights', 'buffers')}))
    found = [key for key, value in plain(new).items() if plain(old)[key] != value]
    for kind, at in (('outputs', 2), ('weights', 3), ('buffers', 1)):
        if list(old[kind]) != list(new[kind]):
            found.append(f'names of {kind}')
            continue
        for name, item in new[kind].items():
            label = f'grad.{name}' if kind == 'weights' else name
            if list(old[kind][name][:at]) != list(item[:at]) or not agrees(old[kind][name][at],
                item[at], label, 1.):
                found.append(label)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
    patterns, groups, failed = coverage.read_patterns(), {}, []
    for case in CASES:
        if coverage.not_built(coverage.needs(case), patterns):
            continue
        try:
            groups.setdefault(case.group, []).append(describe(oracle.make(case)))
        except oracle.NoCase as reason:
            failed.append(f'{case.name}: {reason}')

    for group, cases in groups.items():
        path = FOLDER / f'{group}.json'
        if args.check:
            old = {case['name']: case for case in json.loads(path.read_text())['cases']}
            failed += [f'{case["name"]}: {found[:3]}' for case in cases
                       if (found := changes(old[case['name']], case) if case['name'] in old
                           else ['not stored'])]
            continue
        FOLDER.mkdir(parents=True, exist_ok=True)
        head = json.dumps(dict(x_transformers=version('x-transformers'),
                               torch=version('torch')))[:-1]
        path.write_text(f'{head}, "cases": [\n' + ',\n'.join(map(layout, cases)) + '\n]}\n')
    print(*failed, sep='\n')
    size = sum(path.stat().st_size for path in FOLDER.glob('*.json'))
    count = sum(map(len, groups.values()))
    print(f'{count} cases in {len(groups)} groups, {size / 1e6:.2f} MB, {len(failed)} failed')
    return bool(failed)


if __name__ == '__main__':
    sys.exit(main())
