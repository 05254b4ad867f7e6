"""NonAutoregressiveWrapper and SelfCritic. Most results are random: both draw the same numbers from one seed."""
from .base import B, CONTEXT, V, add, enc, flt, lens, lm, tok

S = 6  # tokens of a sequence
NET = lm(enc(), max_seq_len=S)
X = dict(x=tok(B, S))
LOUDER = {'to_v.weight': 4., 'to_q.weight': 4., 'to_logits.weight': 3.}


def nar(net=NET, quirks=True, **options):
    own = dict(python_quirks=True) if quirks else {}
    return dict(dict(type='NonAutoregressiveWrapper', net=net, mask_id=V - 1), **options, **own)


def loss(name, kwargs=None, draws=3, inputs=X, **options):
    add(f'nar.{name}', nar(**options), inputs, kwargs, draws=draws)


def generate(name, kwargs=None, draws=3, inputs=None, **options):
    add(f'nar.{name}', nar(**options), inputs or {}, kwargs, mode='generate', grads=False, draws=draws,
        louder=LOUDER)


PLAIN = dict(use_simple_mdlm_loss_weight=False, quirks=False)
CRITIC = lm(enc(1), max_seq_len=S, logits_dim=1)
for draws in range(4):  # both sides of each coin
    loss(f'loss_{draws}', draws=draws, **PLAIN)
    loss(f'weighted_{draws}', draws=draws)
    loss(f'self_cond_{draws}', draws=draws, self_cond=True, **PLAIN)
loss('no_bert', no_replace_prob=0., random_token_prob=0., **PLAIN)
loss('much_bert', no_replace_prob=0.4, random_token_prob=0.7, **PLAIN)
loss('cosine', schedule='cosine', **PLAIN)
loss('cosine_weighted', schedule='cosine')
loss('never_self_cond', self_cond=True, self_cond_train_prob=0., **PLAIN)
loss('always_self_cond', self_cond=True, self_cond_train_prob=1., **PLAIN)
loss('log_probs', net=dict(NET, mixture_of_softmax=True), **PLAIN)
loss('mask', inputs=X | dict(mask=lens(S, S, 4)), **PLAIN)
loss('context', net=lm(enc(cross_attend=True), max_seq_len=S), inputs=X | CONTEXT, **PLAIN)
loss('self_critic', self_token_critic=True, critic_loss_weight=0.7)
loss('critic', token_critic=CRITIC, **(PLAIN | dict(quirks=True)))
loss('critic_cold', dict(generator_sample_temperature=0.1), token_critic=CRITIC, **(PLAIN | dict(quirks=True)))
loss('only_generator', dict(only_train_generator=True), self_token_critic=True, **PLAIN)
loss('only_critic', dict(only_train_critic=True, generator_sample_temperature=0.5), token_critic=CRITIC)
loss('only_self_critic', dict(only_train_critic=True), self_token_critic=True)

generate('generate')
generate('generate_batch', dict(batch_size=3, start_temperature=0.6), steps=4)
generate('generate_cosine', dict(batch_size=2), schedule='cosine', steps=7)
generate('generate_unfiltered', dict(batch_size=2, filter_thres=None), steps=5)
generate('generate_one', dict(batch_size=2, filter_thres=0.97), steps=3)
generate('generate_again', dict(batch_size=2), steps=6, can_mask_prev_unmasked=True)
generate('generate_self_cond', dict(batch_size=2), steps=5, self_cond=True)
generate('generate_critic', dict(batch_size=2, noise_level_scale=0.4), steps=5, token_critic=CRITIC)
generate('generate_self_critic', dict(batch_size=2), steps=5, self_token_critic=True)
generate('generate_context', dict(batch_size=2), net=lm(enc(cross_attend=True), max_seq_len=S), steps=4,
         inputs=dict(context=flt(2, 5, 16)))

add('nar.self_critic_alone', dict(type='SelfCritic', net=NET), X)
