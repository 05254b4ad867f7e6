"""Fails when a class or parameter of Python x-transformers is neither built, with a parity case,
nor explained in docs/python-to-cpp.md. Needs no package.

tracker_test.py PROGRAM"""
import json
import re
import subprocess
import sys
import unittest
from functools import cache
from pathlib import Path

import coverage
from cases import CASES

TREE = Path(__file__).parents[2]
PAGE = TREE / 'docs' / 'python-to-cpp.md'
CALLS = ('forward', 'generate', 'beam_search', 'generate_with_suffix_cond')
PROGRAM = ''


def cells(line):
    """The backticked names in each cell of a table row."""
    return [re.findall(r'`([^`]+)`', cell) for cell in line.strip().strip('|').split('|')]


class Page:
    """What the tables of docs/python-to-cpp.md say.

    A row of a table whose second column is headed `ours` speaks of functions: Python's names, ours,
    and the files that have them. A row of a table whose second column is headed `parameters` speaks of those parameters of the
    classes (or Class.method) in its first; other rows speak of the classes in their first cell."""

    def __init__(self, text):
        self.classes, self.classes_not_built, self.classes_not_needed = set(), set(), set()
        self.parameters, self.not_built = set(), set()
        self.functions, self.rooms, self.placed = [], set(), set()
        section, header = '', None
        for line in text.splitlines():
            if line.startswith('#'):
                section = line.lower()
            if not line.startswith('|'):
                header = None
            elif header is None:
                header = [cell.strip().lower() for cell in line.strip().strip('|').split('|')]
            elif 'parameters' in header[1:2]:
                self.read_parameters(line, 'not built' in section)
            elif 'ours' in header[1:2]:
                self.functions.append(tuple(cells(line)[:3]))
            else:
                names = set(cells(line)[0])
                self.classes |= names
                if line.split('|')[2].strip().startswith('none:'):
                    self.classes_not_needed |= names
                self.placed |= set(re.findall(r'`(\w+)` in `([\w/.]+)`', line))
                if 'not built yet' not in line:
                    self.rooms |= {name for name in cells(line)[1] if '/' in name}
                self.classes_not_built |= names if 'not built yet' in line else set()

    def read_parameters(self, line, not_built):
        first, second = cells(line)[:2]
        found = {f'{owner}.{name}' for owner in first for name in second}
        self.parameters |= found
        self.not_built |= found if not_built else set()


def has_word(path, word):
    """Whether a file, or one below a folder, has the word."""
    place = next(base / path for base in (TREE / 'x_transformers', TREE) if (base / path).exists())
    files = place.rglob('*.*') if place.is_dir() else [place]
    return any(re.search(rf'\b{word}\b', file.read_text()) for file in files)


def exists(path):
    return any((base / path).exists() for base in (TREE / 'x_transformers', TREE))


@cache
def answer(type_name):
    """What the program says of a type: 'built', 'not built yet' or 'unknown'."""
    done = subprocess.run([PROGRAM, 'options', type_name, '--json'], capture_output=True, text=True)
    return ('built' if done.returncode == 0 else
            'not built yet' if 'not built yet' in done.stderr else 'unknown')


@cache
def options(type_name):
    """name -> whether it is built, of the options of a type; None for a type that is not known."""
    done = subprocess.run([PROGRAM, 'options', type_name, '--json'], capture_output=True, text=True)
    if done.returncode == 2:
        return None
    assert done.returncode == 0, f'options {type_name} --json: {done.returncode}: {done.stderr}'
    return {option['name']: option.get('built', 'not built yet' not in option['meaning'])
            for option in json.loads(done.stdout)['options']}


class Tracker(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.page = Page(PAGE.read_text())
        cls.cases = set().union(*map(coverage.needs, CASES))
        cls.api = coverage.API

    def modules(self):
        """The neural modules that are not documented as not built as a whole."""
        return {name: described['methods'] for name, described in self.api.items()
                if 'Module' in self.ancestors(name) and name not in self.page.classes_not_built}

    def ancestors(self, name):
        bases = self.api.get(name, {}).get('bases', [])
        return set(bases).union(*map(self.ancestors, bases))

    def test_every_class_has_a_row(self):
        missing = sorted(set(self.api) - self.page.classes)
        self.assertEqual(missing, [], f'classes without a row in {PAGE.name}')

    def test_every_file_that_the_page_names_exists(self):
        rooms = self.page.rooms | {path for _, path in self.page.placed}
        rooms |= {path for _, _, files in self.page.functions for path in files}
        self.assertEqual(sorted(path for path in rooms if not exists(path)), [])

    def test_every_name_that_the_page_calls_ours_is_there(self):
        self.assertGreater(len(self.page.functions), 15)
        missing = [name for _, ours, files in self.page.functions for name in ours
                   if not any(has_word(path, name) for path in files)]
        missing += [f'{name} in {path}' for name, path in sorted(self.page.placed)
                    if not has_word(path, name)]
        self.assertEqual(missing, [], f'{PAGE.name} names them, and no file it gives has them')

    def test_a_class_that_is_not_built_is_called_that(self):
        wrong = [name for name in sorted(self.page.classes_not_built)
                 if answer(name) != 'not built yet']
        self.assertEqual(wrong, [], f'not built yet in {PAGE.name}, and the program says otherwise')
        unknown = [name for name in self.api
                   if {'Module', 'Function'} & self.ancestors(name) and answer(name) == 'unknown'
                   and name not in self.page.classes_not_needed]
        self.assertEqual(unknown, [], 'classes of Python that the program does not know')

    def test_types_to_come_are_those_of_the_page(self):
        source = (TREE / 'x_transformers' / 'core' / 'types_to_come.cpp').read_text()
        self.assertEqual(sorted(re.findall(r'"(\w+)"', source)),
                         sorted(self.page.classes_not_built))

    def test_every_option_is_built_or_explained(self):
        missing = [f'{cls}.{name}' for cls, methods in self.modules().items()
                   for name in methods.get('__init__', {})
                   if f'{cls}.{name}' not in self.page.parameters
                   and not (options(cls) or {}).get(name)]
        self.assertEqual(missing, [],
                         f'options that are neither built nor explained in {PAGE.name}')

    def test_every_parameter_has_a_case_or_is_explained(self):
        wanted = [f'{cls}.{name}' for cls, methods in self.modules().items()
                  for name in methods.get('__init__', {})]
        wanted += [f'{cls}.{method}.{name}' for cls, methods in self.modules().items()
                   for method in CALLS for name in methods.get(method, {})]
        missing = [need for need in wanted if need not in self.cases
                   and need not in self.page.parameters]
        self.assertEqual(missing, [],
                         f'parameters that no case sets and {PAGE.name} does not explain')

    def test_the_page_calls_nothing_not_built_that_is(self):
        built = [name for name in sorted(self.page.not_built)
                 if name.count('.') == 1
                 and (options(name.split('.')[0]) or {}).get(name.split('.')[1])]
        self.assertEqual(built, [], f'{PAGE.name} says that they are not built')

    def test_the_live_run_lets_pass_only_what_the_page_says(self):
        everything = set(self.api) | self.cases | {
            f'{cls}.{name}' for cls, described in self.api.items()
            for name in described['methods'].get('__init__', {})}
        allowed = coverage.not_built(everything, coverage.read_patterns())
        said = self.page.classes_not_built | self.page.not_built
        missing = [need for need in allowed if need not in said
                   and need.split('.')[0] not in self.page.classes_not_built]
        self.assertEqual(missing, [], f'not_built.txt names them, {PAGE.name} does not')


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAM = sys.argv.pop(1)
    unittest.main()
