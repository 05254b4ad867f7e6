"""SyntheticDataGenerator; UniversalPretrainWrapper draws all that it learns from."""
from .base import B, N, V, add, flt, tok

SYNTHETIC = dict(type='SyntheticDataGenerator', dim=8, num_tokens=V, max_seq_len=12)
INPUT = dict(input=tok(B, N))


def case(name, inputs=INPUT, kwargs=None, **options):
    add(f'synthetic.{name}', dict(SYNTHETIC, **options), inputs, kwargs)


case('plain')
case('use_gru', use_gru=True)
case('hidden_size', hidden_size=8)
case('hiddens', INPUT | {'hiddens.0': flt(1, B, 8), 'hiddens.1': flt(1, B, 8)})
case('gru_hiddens', INPUT | dict(hiddens=flt(1, B, 8)), use_gru=True)


def generate(name, inputs, kwargs=None, **options):
    add(f'synthetic.generate_{name}', dict(SYNTHETIC, **options), inputs, dict(dict(length=6), **(kwargs or {})),
        mode='generate', grads=False, louder={'to_logits.weight': 8.})


generate('both', dict(seed=tok(B, 3), condition=tok(B, 5)))
generate('seed', dict(seed=tok(B, 3)))
generate('condition', dict(condition=tok(B, 12)))
generate('gru', dict(seed=tok(B, 3), condition=tok(B, 5)), use_gru=True)
generate('temperature', dict(seed=tok(B, 3)), dict(temperature=1e-5))
generate('long', dict(seed=tok(B, 3), condition=tok(B, 5)), dict(length=15), max_seq_len=10)
