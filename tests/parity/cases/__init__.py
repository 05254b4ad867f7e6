"""The hand-picked cases (importing the modules adds them), and random ones."""
from . import (attention, autoregressive, continuous, modules, multi_input, others,  # noqa: F401
               stacks, taken, wrapper, xval)
from .base import CASES, Case
from .fuzz import fuzz

__all__ = ['CASES', 'Case', 'fuzz']
