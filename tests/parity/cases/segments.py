"""XLAutoregressiveWrapper. Its generation is right in Python as long as one segment lasts."""
from .base import B, CONTEXT, V, add, dec, lm, mems, tok

S = 5  # tokens of a segment
TOP = dict(filter_kwargs=dict(k=1))
LOUDER = {'to_v.weight': 4., 'to_q.weight': 4.}


def net(stack=None, **options):
    return lm(stack or dec(), **dict(dict(max_seq_len=S, max_mem_len=7), **options))


def xl(inner=None, **options):
    return dict(type='XLAutoregressiveWrapper', net=inner or net(), **options)


def generate(name, config, inputs, seq_len, kwargs=TOP, **more):
    add(f'xl.{name}', config, inputs, dict(kwargs, seq_len=seq_len), mode='generate', grads=False,
        louder=LOUDER, **more)


def beyond(name, config, inputs, seq_len=9, **more):
    generate(f'beyond_{name}', config | dict(python_quirks=True), inputs, seq_len, **more)


REL, ROTARY = net(dec(rel_pos_bias=True)), net(dec(rotary_pos_emb=True))
SHIFT = net(dec(rotary_pos_emb=True), shift_mem_down=1)
add('xl.loss', xl(REL), dict(x=tok(B, 13)))
add('xl.loss_one', xl(REL), dict(x=tok(B, 4)))
add('xl.loss_rotary', xl(ROTARY), dict(x=tok(B, 11)))
add('xl.loss_shifted', xl(SHIFT), dict(x=tok(B, 12)))
add('xl.loss_all_mems', xl(net(max_mem_len=0)), dict(x=tok(B, 17)))
add('xl.loss_mems', xl(REL), dict(x=tok(B, 7)) | mems(2))
add('xl.loss_memory_tokens', xl(net(num_memory_tokens=2)), dict(x=tok(B, 12)))
add('xl.loss_context', xl(net(dec(cross_attend=True))), dict(x=tok(B, 12)) | CONTEXT)
add('xl.loss_log_probs', xl(net(mixture_of_softmax=True)), dict(x=tok(B, 12)))
add('xl.ignore_index', xl(ignore_index=3, pad_value=1), dict(x=tok(B, 13)))

generate('within', xl(REL), dict(start_tokens=tok(B, 2)), 3)
generate('within_rotary', xl(ROTARY), dict(start_tokens=tok(B, 13)), 2)
generate('within_mems', xl(), dict(start_tokens=tok(B, 8)) | mems(2), 2)
generate('within_row', xl(), dict(start_tokens=tok(6)), 4, TOP | dict(temperature=0.6))
generate('eos', xl(pad_value=2), dict(start_tokens=tok(1, 11)), 4, eos_after=1)
generate('eos_of_one', xl(pad_value=2, python_quirks=True), dict(start_tokens=tok(B, 11)), 4,
         eos_after=1)
generate('context', xl(net(dec(cross_attend=True))), dict(start_tokens=tok(B, 1)) | CONTEXT, 1)
beyond('plain', xl(), dict(start_tokens=tok(B, 3)))
beyond('whole_segments', xl(), dict(start_tokens=tok(B, 10)))
beyond('relative', xl(REL), dict(start_tokens=tok(B, 7)))
beyond('alibi', xl(net(dec(alibi_pos_bias=True))), dict(start_tokens=tok(B, 4)))
beyond('all_mems', xl(net(max_mem_len=0)), dict(start_tokens=tok(B, 7)))
beyond('shifted', xl(net(dec(rel_pos_bias=True), shift_mem_down=1)), dict(start_tokens=tok(B, 7)))
beyond('mems', xl(), dict(start_tokens=tok(B, 4)) | mems(2))
beyond('no_positions', xl(net(use_abs_pos_emb=False)), dict(start_tokens=tok(B, 4)))
