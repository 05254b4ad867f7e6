"""Which classes and parameters of the Python library a case needs. No torch here."""
import fnmatch
import json
from pathlib import Path

HERE = Path(__file__).parent
API = json.loads((HERE / 'python_api.json').read_text())['classes']
STACKS = ('AttentionLayers', 'Encoder', 'Decoder', 'PrefixDecoder', 'CrossAttender')
WRAPPER_KEYS = ('num_tokens', 'max_seq_len', 'emb_dropout', 'num_memory_tokens',
                'scaled_sinu_pos_emb', 'use_abs_pos_emb')
# where a wrapper keeps what it forwards to
INNER = ('net', 'attn_layers', 'decoder', 'model', 'forward_decoder')


def declares(cls, method, name):
    return name in API.get(cls, {}).get('methods', {}).get(method, {})


def changed(cls, method, name, value):
    """Whether the value differs from the default."""
    parameter = API[cls]['methods'][method][name]
    return 'default' not in parameter or parameter['default'] != value


def owner(type_name, key):
    """The class and parameter that a key of a config stands for: prefixes routed as in Python."""
    if type_name == 'XTransformer' and key[:4] in ('enc_', 'dec_'):
        rest = key[4:]
        return ('TransformerWrapper', rest) if rest in WRAPPER_KEYS else owner('AttentionLayers',
            rest)
    if type_name in STACKS:
        if declares('AttentionLayers', '__init__', key):
            return 'AttentionLayers', key
        for prefix, cls in (('cross_attn_', 'Attention'), ('attn_', 'Attention'),
                            ('ff_', 'FeedForward')):
            if key.startswith(prefix):
                return cls, key[len(prefix):]
    return type_name, key


def config_needs(config):
    type_name = config['type']
    needs = {type_name}
    for key, value in config.items():
        if key == 'type':
            continue
        cls, name = owner(type_name, key)
        if declares(cls, '__init__', name) and changed(cls, '__init__', name, value):
            needs.add(f'{cls}.{name}')
        if isinstance(value, dict) and 'type' in value:
            needs |= config_needs(value)
    return needs


def chain(config):
    """The classes that see a keyword argument of forward, outermost first."""
    classes = []
    while config:
        type_name = config['type']
        classes.append(type_name)
        if type_name in STACKS:
            return classes + ['AttentionLayers']
        if type_name == 'XTransformer':
            return classes + ['AutoregressiveWrapper', 'TransformerWrapper', 'AttentionLayers']
        config = next((config[key] for key in INNER if isinstance(config.get(key), dict)), None)
    return classes


def call_needs(case):
    method = case.kwargs.get('method', 'generate') if case.mode == 'generate' else 'forward'
    given = {name.split('.')[0]: ... for name in case.inputs} | case.kwargs
    if case.eos_after is not None:
        given['eos_token'] = ...
    needs = set()
    for name, value in given.items():
        for i, cls in enumerate(chain(case.config)):
            at = method if i == 0 else 'forward' if not declares(cls, method, name) else method
            if declares(cls, at, name):
                if changed(cls, at, name, value):
                    needs.add(f'{cls}.{at}.{name}')
                break
    return needs


def needs(case):
    """'Class', 'Class.option', 'Class.method.argument' that the case sets off its default."""
    return config_needs(case.config) | call_needs(case)


def read_patterns(path=HERE / 'not_built.txt'):
    lines = (line.split('#')[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def not_built(case_needs, patterns):
    """Those of the needs that a pattern of not_built.txt names."""
    return sorted(need for need in case_needs
                  if any(fnmatch.fnmatchcase(need, pattern) for pattern in patterns))
