"""The hand-picked cases (importing the modules adds them), and random ones."""
from . import (attention, autoregressive, continuous, flash, modules, multi_input,  # noqa: F401
               nonautoregressive, others, preference, segments, stacks, taken, wrapper, xval)
from .base import CASES, Case
from .flash import fuzz_flash
from .fuzz import fuzz

__all__ = ['CASES', 'Case', 'fuzz', 'fuzz_flash']
