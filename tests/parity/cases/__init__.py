"""The hand-picked cases (importing the modules adds them), and random ones."""
from . import (attention, autoregressive, belief_state, continuous, entropy_tokenizer, examples,  # noqa: F401
               flash, latents, modules, multi_input, neo_mlp, nonautoregressive, preference,
               segments, stacks, taken, universal_pretrain, wrapper, xval, zeta)
from .base import CASES, Case
from .flash import fuzz_flash
from .fuzz import fuzz
from .fuzz_wrappers import fuzz_wrappers

__all__ = ['CASES', 'Case', 'fuzz', 'fuzz_flash', 'fuzz_wrappers']
