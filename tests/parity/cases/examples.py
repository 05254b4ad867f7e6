"""The README's usage examples (examples/index.json) at a small size: what a program of examples/ builds gives the
numbers of the Python call beside it."""
import json
from pathlib import Path

from .base import V, add, flt, lens, tok

INDEX = Path(__file__).parents[3] / 'examples' / 'index.json'
DIM, LENGTH, SEGMENT = 16, 12, 8
SMALL = dict(dim=DIM, heads=8, num_tokens=V, enc_num_tokens=V, dec_num_tokens=V, image_size=16, patch_size=8,
             num_classes=10, max_mem_len=20, attn_dim_head=8, group_size=5, query_key_dim=12, num_memory_tokens=4,
             attn_num_mem_kv=4, dim_in=5, dim_out=5)
# Of as many layers as another option speaks of.
LISTED = ('sandwich_coef', 'shift_tokens')


def small(value, length=LENGTH):
    if not isinstance(value, dict):
        return value
    length = SEGMENT if 'max_mem_len' in value else length
    made = {key: small(item, length) for key, item in value.items()}
    made |= {key: min(value[key], most) for key, most in SMALL.items() if key in value}
    made |= {key: 2 * length for key in ('max_seq_len', 'enc_max_seq_len', 'dec_max_seq_len') if key in value}
    if 'max_mem_len' in value:
        made['max_seq_len'] = length
    if not any(isinstance(value.get(key), (list, tuple)) or key == 'sandwich_coef' and key in value for key in LISTED):
        made |= {key: min(value[key], 2) for key in ('depth', 'enc_depth', 'dec_depth') if key in value}
    return made


def inner(config):
    return inner(config['net']) if 'net' in config else config


def inputs(config, calls):
    """What the README gives it, smaller: `calls` are all of the example's models."""
    kind, net = config['type'], inner(config)
    if kind == 'XTransformer':
        images = dict(src_prepend_embeds=flt(1, 4, DIM)) if len(calls) > 1 else {}
        return dict(src=tok(1, LENGTH), tgt=tok(1, LENGTH), mask=lens(LENGTH, LENGTH)) | images
    if kind == 'ViTransformerWrapper':
        return dict(img=flt(1, 3, net['image_size'], net['image_size']))
    if kind == 'Encoder':
        return dict(x=flt(1, 5, DIM), mask=lens(5, 5))
    if kind == 'CrossAttender':
        return dict(x=flt(1, 1, DIM), context=flt(1, 5, DIM), mask=lens(1, 1), context_mask=lens(5, 5))
    if kind in ('GAU', 'FLASH'):
        return dict(x=flt(1, LENGTH, DIM))
    if kind.startswith('Continuous'):
        return dict(x=flt(1, LENGTH, net['dim_in']), mask=lens(LENGTH, LENGTH))
    if kind.startswith('XVal'):
        return dict(x=tok(1, LENGTH, bound=net['num_tokens']), x_num=flt(1, LENGTH))
    if kind == 'XLAutoregressiveWrapper':
        return dict(x=tok(1, 3 * SEGMENT))
    context = dict(context=flt(1, 4, DIM)) if net.get('attn_layers', {}).get('cross_attend') else {}
    count = 6 if config.get('mask_prob') else net.get('max_seq_len', LENGTH)  # of six none is hidden at random
    return dict(x=tok(1, min(count, LENGTH))) | context


def add_example(entry):
    python = entry['python']
    calls = [small(call) for call in (python if isinstance(python, list) else [python])]
    for index, config in enumerate(calls):
        name = entry['file'] + (f'_{index + 1}' if len(calls) > 1 else '')
        if config['type'].startswith('XVal'):
            config = config | dict(python_quirks=True)
        kwargs = dict(return_embeddings=True) if config['type'] == 'ViTransformerWrapper' and len(calls) > 1 else {}
        if 'max_mem_len' in config:
            kwargs = dict(return_mems=True)
        add(f'example.{name}', config, inputs(config, calls), kwargs)


for one in json.loads(INDEX.read_text()):
    # The README's own; 2.16.1 has no resi_dual any more, and of Zeta's there is zeta.py.
    if one['file'] < '80' and one['file'] != '46_resi_dual':
        add_example(one)
