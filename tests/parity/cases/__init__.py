"""The hand-picked cases (importing the modules adds them), and random ones."""
from . import attention, autoregressive, entropy_tokenizer, flash, modules, neo_mlp  # noqa: F401
from . import others, stacks, taken, wrapper  # noqa: F401
from .base import CASES, Case
from .flash import fuzz_flash
from .fuzz import fuzz

__all__ = ['CASES', 'Case', 'fuzz', 'fuzz_flash']
