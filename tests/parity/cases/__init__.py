"""The hand-picked cases (importing the modules adds them), and random ones."""
from . import (attention, autoregressive, continuous, modules, others, stacks, taken,  # noqa: F401
               wrapper)
from .base import CASES, Case
from .fuzz import fuzz

__all__ = ['CASES', 'Case', 'fuzz']
