"""The hand-picked cases (importing the modules adds them), and random ones."""
from . import (attention, autoregressive, flash, modules, nonautoregressive, others,  # noqa: F401
               preference, segments, stacks, taken, wrapper)
from .base import CASES, Case
from .flash import fuzz_flash
from .fuzz import fuzz

__all__ = ['CASES', 'Case', 'fuzz', 'fuzz_flash']
