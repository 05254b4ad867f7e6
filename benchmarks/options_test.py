"""Fails when a parameter of the classes that options.json is about is neither in an entry nor explained there. Needs no
package.

options_test.py"""
import json
import re
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

import option_list

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests' / 'parity'))
import coverage  # noqa: E402

CLASSES = ('Attend', 'Attention', 'FeedForward', 'AttentionLayers', 'Encoder', 'Decoder', 'PrefixDecoder', 'CrossAttender',
           'AttentionPool', 'TransformerWrapper', 'ViTransformerWrapper', 'XTransformer', 'AutoregressiveWrapper', 'GAU', 'FLASH',
           'FLASHTransformer', 'FLASHAutoregressiveWrapper')
# Of the other wrappers and models a step as such is measured, and what changes it much.
STEPS = ('XLAutoregressiveWrapper', 'NonAutoregressiveWrapper', 'BeliefStateWrapper', 'ContinuousTransformerWrapper',
         'ContinuousAutoregressiveWrapper', 'XValTransformerWrapper', 'XValAutoregressiveWrapper', 'MultiInputTransformerWrapper', 'DPO',
         'GPTVAE', 'FreeTransformer', 'NeoMLP')
# Attention and FeedForward are called by the stack, which has their arguments as its own.
CALLED = tuple(name for name in CLASSES if name not in ('Attend', 'Attention', 'FeedForward'))


def needs(entry):
    """'Class', 'Class.option', 'Class.forward.argument' that the entry has off its default."""
    case = SimpleNamespace(config=entry.config, inputs=entry.inputs, kwargs=entry.kwargs, mode='forward', eos_after=None)
    found = coverage.needs(case)
    # Attention hands most of what Attend takes on to it.
    return found | {need.replace('Attention.', 'Attend.') for need in found if need.startswith('Attention.')}


def wanted():
    methods = {name: coverage.API[name]['methods'] for name in CLASSES}
    names = [f'{cls}.{name}' for cls in CLASSES for name in methods[cls].get('__init__', {})]
    return list(CALLED) + names + [f'{cls}.forward.{name}' for cls in CALLED for name in methods[cls].get('forward', {})]


class Options(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.covered = set().union(*map(needs, option_list.entries('small_sizes')))
        cls.explained = {name for names in option_list.read_file()['explained'] for name in names.split(', ')}

    def test_every_parameter_has_an_entry_or_is_explained(self):
        missing = [name for name in wanted() if name not in self.covered | self.explained]
        self.assertEqual(missing, [], f'neither in an entry of {option_list.PATH.name} nor explained there')

    def test_every_wrapper_has_an_entry(self):
        missing = [name for name in STEPS if name not in self.covered]
        self.assertEqual(missing, [], f'no entry of {option_list.PATH.name}')

    def test_what_is_explained_exists_and_has_no_entry(self):
        self.assertEqual(sorted(self.explained - set(wanted())), [], 'explained, but no parameter')
        self.assertEqual(sorted(self.explained & self.covered), [], 'explained, but there is an entry')

    def test_no_name_stands_twice(self):
        names = []
        json.loads(option_list.PATH.read_text(), object_pairs_hook=lambda pairs: names.append([key for key, _ in pairs]))
        twice = [key for keys in names for key in keys if keys.count(key) > 1]
        self.assertEqual(twice, [])

    def test_sizes_are_those_that_are_used(self):
        file = option_list.read_file()
        used = set(re.findall(r'"\$(\w+)"', option_list.PATH.read_text())) - {'dim'}
        for sizes in ('sizes', 'small_sizes'):
            self.assertEqual(used, set(file[sizes]) - {'dim'})


if __name__ == '__main__':
    unittest.main()
