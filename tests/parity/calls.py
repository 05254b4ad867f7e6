"""Calls of the Python libraries by JSON and named tensors: models from configs, arguments from flat names, results to flat
names. Importing this changes nothing in the library."""
import dataclasses
import importlib

import torch

import own_modules

MODULES = [f'x_transformers.{name}' for name in (
    'x_transformers', 'attend', 'autoregressive_wrapper', 'nonautoregressive_wrapper',
    'xl_autoregressive_wrapper',
    'continuous', 'xval', 'multi_input', 'belief_state_wrapper', 'dpo', 'neo_mlp',
    'entropy_based_tokenizer',
    'free_transformer', 'gpt_vae', 'up_wrapper')]


FLASH = 'flash_pytorch.flash_pytorch'
# FLASH-pytorch 0.1.9, as model files name it: type -> module, class
FLASH_CLASSES = dict(
    GAU=(FLASH, 'GAU'), FLASH=(FLASH, 'FLASH'), FLASHTransformer=(FLASH, 'FLASHTransformer'),
    FLASHAutoregressiveWrapper=('flash_pytorch.autoregressive_wrapper', 'AutoregressiveWrapper'),
    FLASHScaleNorm=(FLASH, 'ScaleNorm'), FLASHScaledSinuEmbedding=(FLASH, 'ScaledSinuEmbedding'),
    FLASHT5RelativePositionBias=(FLASH, 'T5RelativePositionBias'),
    FLASHRotaryEmbedding=('rotary_embedding_torch.rotary_embedding_torch', 'RotaryEmbedding'),
    OffsetScale=(FLASH, 'OffsetScale'), LaplacianAttnFn=(FLASH, 'LaplacianAttnFn'))
NORM_KLASS = dict(LayerNorm=lambda: torch.nn.LayerNorm, ScaleNorm=lambda: find_class('FLASHScaleNorm'))


# from JSON to Python

def find_class(name):
    if name in FLASH_CLASSES:
        module, name = FLASH_CLASSES[name]
        return getattr(importlib.import_module(module), name)
    for module in MODULES:
        found = getattr(importlib.import_module(module), name, None)
        if isinstance(found, type):
            return found
    return getattr(own_modules, name, None) or getattr(torch.nn, name)


def from_json(value):
    """JSON arrays stand for tuples, objects with a "type" for modules."""
    if isinstance(value, (list, tuple)):
        return tuple(map(from_json, value))
    if not isinstance(value, dict):
        return value
    value = {key: from_json(item) for key, item in value.items()}
    if 'norm_klass' in value:
        value['norm_klass'] = NORM_KLASS[value['norm_klass']]()
    if 'custom_freqs' in value:
        value['custom_freqs'] = torch.tensor(value['custom_freqs'])
    if isinstance(value.get('type'), str):
        return find_class(value.pop('type'))(**value)
    return value


# inputs

def unflatten(flat):
    """{'a.0': x, 'a.1': y, 'b.k': z} -> {'a': [x, y], 'b': {'k': z}}"""
    tree = {}
    for name, tensor in flat.items():
        *path, last = name.split('.')
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = tensor

    def lists(node):
        if not isinstance(node, dict):
            return node
        node = {key: lists(item) for key, item in node.items()}
        if all(key.isdigit() for key in node):
            return [node.get(str(i)) for i in range(1 + max(map(int, node)))]
        return node

    return {key: lists(item) for key, item in tree.items()}


def to_cache(tree):
    """The cache that forward takes: LayerIntermediates, or Intermediates for a lone Attention."""
    if tree is None:
        return None
    if 'attn_intermediates' in tree:
        tree['attn_intermediates'] = [to_cache(item) for item in tree['attn_intermediates']]
        tree['cache_length'] = int(tree['cache_length'])
        return find_class('LayerIntermediates')(**tree)
    tree['cached_kv'] = (*tree['cached_kv'], None)[:2]
    return find_class('Intermediates')(**tree)


def arguments(inputs, kwargs):
    """The keyword arguments of a call."""
    args = unflatten(inputs)
    for key, item in kwargs.items():  # tensors of a dict may stand among the inputs
        item = from_json(item)
        args[key] = {**args[key], **item} if isinstance(args.get(key), dict) else item
    if 'cache' in args:
        args['cache'] = to_cache(args['cache'])
    return args


# outputs

def fields(value):
    """The names and parts of a tuple, dict, named tuple or dataclass that the contract flattens."""
    if isinstance(value, (list, tuple)) and not hasattr(value, '_fields'):
        return enumerate(value)
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, '_fields'):
        value = value._asdict()
    if not isinstance(value, dict):
        return ()
    tensors = lambda item: torch.is_tensor(item) or isinstance(item, (list, tuple)) and all(
        part is None or torch.is_tensor(part) for part in item)
    return [(key, item) for key, item in value.items() if tensors(item)]


def flatten(value, name='out'):
    if torch.is_tensor(value):
        return {name: value}
    return {key: tensor for part, item in fields(value) for key,
            tensor in flatten(item, f'{name}.{part}').items()}


def objective(out):
    """What gradients are taken of: the first result, if a scalar, else the mean square of the first floating one."""
    first = next(iter(out.values()))
    if first.ndim == 0:
        return first
    return next(tensor for tensor in out.values() if tensor.is_floating_point()).float().pow(2).mean()
