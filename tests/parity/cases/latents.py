"""FreeTransformer, BinaryMapper and GPTVAE, which draw latents at random in evaluation too: cases make their
distribution so narrow that there is one to draw."""
from .base import B, D, N, V, add, flt, ints, layers, lm, nums, tok

# BinaryMapper: bits that are as good as certain

CERTAIN = nums([[[40., -50., 60.], [-45., -70., 30.]], [[-90., 35., 44.], [80., 66., 52.]]])


def mapper(name, kwargs=None, logits=CERTAIN, **options):
    add(f'mapper.{name}', dict(dict(type='BinaryMapper', bits=3), **options), dict(logits=logits), kwargs)


mapper('plain')
mapper('one_bit', logits=nums([[50.], [-50.]]), bits=1)
mapper('loss', dict(calc_aux_loss=True))
mapper('loss_threshold', dict(calc_aux_loss=True), kl_loss_threshold=0.2)
mapper('straight_through', dict(straight_through=True))
mapper('temperature', dict(temperature=1e-3, calc_aux_loss=True),
       logits=nums([[0.3, -0.4, 1.2], [-0.5, 0.7, -0.9]]))

# FreeTransformer

FREE = dict(type='FreeTransformer', num_tokens=V, dim=D, heads=4, attn_dim_head=8, dec_head_depth=1,
            dec_tail_depth=1, max_seq_len=12, latent_bits=3)
SEQ = dict(seq=tok(B, N))
SURE = {'to_latent_bit_logits.weight': 1e5}  # logits so large that no bit is left to chance
ALL = dict(return_all_losses=True)


def free(name, inputs=SEQ, kwargs=None, **options):
    add(f'free.{name}', dict(FREE, **options), inputs, kwargs, louder=SURE)


free('plain')
free('all_losses', SEQ, ALL)
free('no_head', SEQ, ALL, dec_head_depth=0)
free('deeper', dec_head_depth=2, dec_tail_depth=2, enc_depth=2)
free('one_latent', per_token_latents=False)
free('seq_for_latents', SEQ | dict(seq_for_latents=tok(B, 4)), ALL)
free('padding', dict(seq=ints([[4, 5, 6, 7, 0, 0], [1, 2, 3, 4, 5, 0]])), ALL, pad_id=0)
free('padded_seq_for_latents', SEQ | dict(seq_for_latents=ints([[4, 5, 0], [1, 2, 3]])), pad_id=0)
free('kl_loss', SEQ, ALL, kl_loss_threshold=0.1, kl_loss_weight=0.5)
free('five_bits', latent_bits=5, latent_dropout_prob=0.5, dim_latent=7)
free('kwargs', ff_glu=True, attn_qk_norm=True, attn_flash=True)
free('enc_dec_kwargs', enc_kwargs=dict(ff_mult=2, attn_flash=True),
     dec_kwargs=dict(ff_glu=True, attn_kv_heads=2))
free('default_heads', heads=8, attn_dim_head=64)


def free_generate(name, inputs, kwargs=None, **options):
    usual = dict(seq_len=9, logit_filter_kwargs=dict(thres=0.))
    add(f'free.generate_{name}', dict(FREE, python_quirks=True, **options), inputs, usual | (kwargs or {}),
        mode='generate', grads=False, louder={'token_unembed.weight': 8.})


PROMPTS = dict(prompts=tok(B, 4))
free_generate('plain', PROMPTS)
free_generate('codes', PROMPTS | dict(latents=ints([2, 7])))
free_generate('one_code', PROMPTS, dict(latents=5))
free_generate('code_list', PROMPTS, dict(latents=[1, 6]))
free_generate('weights', PROMPTS | dict(latents=flt(B, 8)))
free_generate('one_weights', PROMPTS | dict(latents=flt(8)))
free_generate('three_axes', PROMPTS | dict(latents=flt(B, 1, 8)))
free_generate('no_cache', PROMPTS | dict(latents=ints([3, 4])), dict(use_kv_cache=False))
free_generate('no_head', PROMPTS | dict(latents=ints([3, 4])), dec_head_depth=0)
free_generate('one_prompt', dict(prompts=tok(3)), dict(latents=3))
free_generate('short', PROMPTS, dict(seq_len=3))

# GPTVAE

LATENT = 6
VAE = dict(type='GPTVAE', num_tokens=V, dim=D, heads=4, attn_dim_head=8, depth=2, enc_depth=1, max_seq_len=12)
NARROW = {'to_latent_mean_log_variance.0.bias': [0.] * LATENT + [-40.] * LATENT}
NARROW_DIM = {'to_latent_mean_log_variance.0.bias': [0.] * D + [-40.] * D}
POOLED = lm(layers('Encoder', 1), max_seq_len=13, return_only_embed=True, use_cls_token=True)


def vae(name, inputs=SEQ, kwargs=None, offsets=None, **options):
    own = dict(VAE, dim_latent=LATENT, vae_kl_loss_weight=0.02)
    add(f'vae.{name}', dict(own, **options), inputs, kwargs, offsets=offsets or NARROW)


vae('plain')
vae('all_losses', SEQ, ALL)
vae('dim_latent', dim_latent=None, offsets=NARROW_DIM)
vae('kl_weight', vae_kl_loss_weight=1.)
vae('kl_floor', SEQ, ALL, vae_kl_div_floor=19.5)
vae('seq_for_latents', SEQ | dict(seq_for_latents=tok(B, 4)), ALL)
vae('padding', dict(seq=ints([[4, 5, 6, 7, 0, 0], [1, 2, 3, 4, 5, 0]])), ALL, pad_id=0)
vae('latents_dropout_prob', latents_dropout_prob=0.9)
vae('kwargs', rotary_pos_emb=True, ff_glu=True, attn_flash=True)
vae('enc_dec_kwargs', enc_kwargs=dict(ff_glu=True, alibi_pos_bias=True), dec_kwargs=dict(ff_mult=2))
vae('encoder', encoder=POOLED)
vae('encoder_padding', SEQ | dict(seq_for_latents=ints([[4, 5, 0], [1, 2, 3]])), pad_id=0, encoder=POOLED)


def vae_generate(name, inputs, kwargs=None, **options):
    add(f'vae.generate_{name}', dict(VAE, dim_latent=LATENT, **options), inputs,
        dict(dict(seq_len=5, temperature=0.), **(kwargs or {})), mode='generate', grads=False, offsets=NARROW,
        louder={'to_logits.weight': 6., 'from_latent_to_prepend_token.0.weight': 3.})


vae_generate('plain', PROMPTS)
vae_generate('latents', PROMPTS | dict(latents=flt(B, LATENT)))
vae_generate('one_latent', PROMPTS | dict(latents=flt(LATENT)))
vae_generate('seq_for_latents', PROMPTS | dict(seq_for_latents=tok(B, 6)))
vae_generate('one_prompt', dict(prompts=tok(4), latents=flt(LATENT)))
vae_generate('top_k', PROMPTS | dict(latents=flt(B, LATENT)),
             dict(temperature=1., filter_logits_fn='top_k', filter_kwargs=dict(k=1)))
