"""Runs the program against the Python library, in the environment that run_live.sh makes.

run_live.py [--program build/x-transformers] [--random N] [--seed S] [--filter REGEX] [--keep DIR] [--release R]
All hand-picked cases and N random ones. Prints each disagreement, then `N of M cases agree`; the
exit status is 0 only if all agree, all properties hold, and nothing was refused as not built that
not_built.txt does not name."""
import argparse
import dataclasses
import importlib.metadata
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors.numpy import load_file, save_file

import coverage
import oracle
import properties
import python_api
from calls import FLASH_CLASSES
from cases import CASES, fuzz, fuzz_flash, fuzz_wrappers
from compare import compare
from program import Program


OLDEST = '2.16.1'  # the release that a model file means which says none
# Cases that another release cannot answer, or answers as is not meant.
LEFT_OUT = {'2.31.10': {
    r'^packed\.': 'needs a GPU there',
    r'^residual\.scale$': 'its Scale has other parameters',
}}
FLASH_EVERY = 8  # random cases of stacks to one of FLASH-pytorch
WRAPPERS_EVERY = 2  # and to one of the classes that hold a net


class Folder:
    """The files of a case, in the form of the program's contract."""

    def __init__(self, path, made):
        self.path, self.made = path, made
        path.mkdir(parents=True)
        (path / 'config.json').write_text(json.dumps(made.case.config))
        (path / 'kwargs.json').write_text(json.dumps(made.kwargs))
        weights = {name: t.detach().clone().contiguous().numpy() for name,
                   t in made.model.state_dict().items()}
        save_file(weights, path / 'weights.safetensors')
        self.inputs = {name: t.contiguous().numpy() for name, t in made.inputs.items()}
        save_file(made.expected, path / 'expected.safetensors')

    def ask(self, program, inputs, grads):
        """Exit status, message and outputs of the program."""
        save_file(inputs, self.path / 'inputs.safetensors')
        out = self.path / 'out.safetensors'
        out.unlink(missing_ok=True)
        status, message = program([
            self.made.case.mode, '--config', self.path / 'config.json', '--weights',
            self.path / 'weights.safetensors',
            '--inputs', self.path / 'inputs.safetensors', '--kwargs', json.dumps(self.made.kwargs),
            *(['--grads'] if grads else []),
            *(['--seed', self.made.case.draws] if self.made.case.draws is not None else []),
            '--outputs', out])
        if status != 0:
            return status, message, {}
        try:
            return 0, '', load_file(out)
        except Exception as error:
            return 'none', f'no readable output: {error}', {}


class Tally:
    """What became of the cases."""

    def __init__(self, patterns):
        self.patterns, self.counts, self.built_after_all = patterns, Counter(), Counter()

    def case(self, made, status, message, outputs):
        name = made.case.name
        missing = coverage.not_built(coverage.needs(made.case), self.patterns)
        if status == 2 and 'not built' in message and missing:
            self.counts['not built'] += 1
            print(f'NOT BUILT {name}: {", ".join(missing)}')
            return
        reasons = [f'exit status {status}: {message[-400:]}']
        if status == 0:
            reasons = compare(made.expected, outputs, made.aliases)
        if reasons:
            more = f' (and {len(reasons) - 2} more)' if len(reasons) > 2 else ''
            print(f'FAIL {name}: {"; ".join(reasons[:2])}{more}', flush=True)
        self.counts['disagree' if reasons else 'agree'] += 1
        if not reasons:
            self.built_after_all.update(missing)

    def property(self, name, what, reason):
        self.counts['broken' if reason else 'held'] += 1
        if reason:
            print(f'FAIL {name}: {what}: {reason}', flush=True)

    def report(self):
        for pattern in self.patterns:
            agree = sum(count for need, count in self.built_after_all.items()
                        if coverage.not_built([need], [pattern]))
            if agree:
                print(f'not_built.txt names {pattern}, yet {agree} cases that need it agree')
        c = self.counts
        print(f'{c["held"]} of {c["held"] + c["broken"]} properties hold')
        if c['not made']:
            print(f'{c["not made"]} hand-picked cases were refused by Python')
        print(f'{c["agree"]} of {c["agree"] + c["disagree"]} cases agree' + (
            f', {c["not built"]} not built yet' if c['not built'] else ''), flush=True)
        return c['agree'] == 0 or c['disagree'] + c['broken'] + c['not made'] > 0


def check(folder, program, tally, keep):
    made = folder.made
    status, message, outputs = folder.ask(program, folder.inputs, made.grads)
    tally.case(made, status, message, outputs)
    if status == 0 and all(name in outputs and outputs[name].shape == b.shape for name,
                           b in made.expected.items()):
        for what, changed, same in properties.of(made, folder.inputs):
            status, message, other = folder.ask(program, changed, False)
            tally.property(made.case.name, what, message if status != 0 else same(outputs, other))
    if not keep:
        shutil.rmtree(folder.path)


def random_cases(seed, patterns, release):
    """Random cases without what is not built."""
    def allowed(config, kwargs=None):
        needs = coverage.config_needs(config) | {f'{config["type"]}.forward.{name}'
                                                 for name in kwargs or ()}
        return not coverage.not_built(needs, patterns)

    def several():
        flash, wrappers = fuzz_flash(seed), fuzz_wrappers(seed, allowed)
        for index, case in enumerate(fuzz(seed, allowed)):
            yield case
            if index % FLASH_EVERY == 0:
                yield next(flash)
            if index % WRAPPERS_EVERY == 0 and release == OLDEST:
                yield next(wrappers)

    return (case for case in several()
            if not coverage.not_built(coverage.needs(case), patterns))


def of_release(case, release):
    """The case as that release of x-transformers has it."""
    own = {'xt_compat': release} if release != OLDEST and case.config['type'] not in FLASH_CLASSES else {}
    return dataclasses.replace(case, config=case.config | own)


def made_cases(args, patterns, tally):
    """Hand-picked cases, then random ones, as Python answers them."""
    left_out = LEFT_OUT.get(args.release, {})
    for case in CASES:
        if re.search(args.filter, case.name) and not any(re.search(pattern, case.name) for pattern in left_out):
            try:
                yield oracle.make(of_release(case, args.release))
            except oracle.NoCase as reason:
                tally.counts['not made'] += 1
                print(f'NOT MADE {case.name}: {reason}')
    for pattern, reason in left_out.items():
        print(f'LEFT OUT {pattern}: {reason}')
    count, dropped = 0, 0
    for case in random_cases(args.seed, patterns, args.release) if args.random else ():
        try:
            yield oracle.make(of_release(case, args.release))
            count += 1
        except oracle.NoCase:
            dropped += 1
        if count >= args.random:
            break
    print(f'{count} random cases of seed {args.seed}; Python refused {dropped} other combinations')


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).parents[2]
    parser.add_argument('--program', default=root / 'build' / 'x-transformers',
                        help='a .py is run with this Python')
    parser.add_argument('--random', type=int, default=300, help='how many random cases')
    parser.add_argument('--seed', type=int, default=random.SystemRandom().randrange(10 ** 6),
                        help='of the random cases')
    parser.add_argument('--filter', default='',
                        help='of the hand-picked cases, only those whose name has this pattern')
    parser.add_argument('--release', default=OLDEST,
                        help='of x-transformers, which is installed: cases mean what it makes of them (xt_compat)')
    parser.add_argument('--timeout', type=float, default=120, help='seconds for one call')
    parser.add_argument('--keep', type=Path, help='keep the files of the cases in this folder')
    args = parser.parse_args()
    print(f'seed {args.seed}', flush=True)
    installed = importlib.metadata.version('x-transformers')
    if installed != args.release:
        sys.exit(f'x-transformers {installed} is installed, and not {args.release}')
    # Its parameters are listed for the oldest release.
    if args.release == OLDEST and python_api.PATH.read_text() != python_api.text():
        sys.exit(f'{python_api.PATH.name} is not what python_api.py writes for the installed library')
    patterns = coverage.read_patterns()
    tally, start = Tally(patterns), time.monotonic()
    with (tempfile.TemporaryDirectory() as temp, Program(args.program, args.timeout) as program,
          ThreadPoolExecutor(1) as pool):
        waiting = []  # the program works on a case while Python answers the next
        for made in made_cases(args, patterns, tally):
            folder = Folder((args.keep or Path(temp)) / made.case.name, made)
            waiting.append(pool.submit(check, folder, program, tally, args.keep))
            if len(waiting) > 4:
                waiting.pop(0).result()
        for one in waiting:
            one.result()
    print(f'{time.monotonic() - start:.0f} s')
    return tally.report()


if __name__ == '__main__':
    sys.exit(main())
