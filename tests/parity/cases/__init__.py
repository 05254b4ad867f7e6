"""The hand-picked cases (importing the modules adds them), and random ones."""
from . import attention, autoregressive, belief_state, entropy_tokenizer, flash, latents  # noqa: F401
from . import modules, neo_mlp, others, stacks, taken, universal_pretrain, wrapper  # noqa: F401
from .base import CASES, Case
from .flash import fuzz_flash
from .fuzz import fuzz

__all__ = ['CASES', 'Case', 'fuzz', 'fuzz_flash']
