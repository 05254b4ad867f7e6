"""Prints the numbers that the tests of this folder expect, out of x-transformers 2.16.1.

Net has the logits of FakeSession (fake_session.h). Contrastive decoding gets its alpha as a tensor, because Python
fails on a number there. Run with OMP_NUM_THREADS=1.
"""
import math, torch
from torch import nn, tensor
import x_transformers.autoregressive_wrapper as aw
from x_transformers.autoregressive_wrapper import *
V=13
class Net(nn.Module):
    def __init__(self, start=1, vocab=V):
        super().__init__()
        self.max_seq_len=1000; self.can_cache_kv=False; self.can_cache_kv_outside_max_seq_len=True
        self.add_continuous_pred_head=False; self.start=start; self.vocab=vocab
    def row(self, toks):
        h=self.start
        for t in toks: h=(h*31+t+7)%1009
        return [4*math.sin(0.37*(v+1)*(h%97+1)+v) for v in range(self.vocab)]
    def forward(self, x, return_intermediates=False, cache=None, seq_start_pos=None, **kw):
        starts=[0]*len(x) if seq_start_pos is None else seq_start_pos.tolist()
        out=tensor([self.row(r[s:]) for r,s in zip(x.tolist(), starts)], dtype=torch.float64).float()
        return out[:,None], None
P=tensor([[1,2,3,4],[5,6,7,8]])
w=AutoregressiveWrapper(Net(), pad_value=0)
def show(n,t): print(n, t.tolist() if hasattr(t,'tolist') else t)
if __name__=='__main__':
    torch.set_printoptions(precision=9)
    L=tensor([[0.1,2.0,-1.0,1.5,0.7,-3.0,2.2,0.0],[3.0,-2.0,0.5,0.4,0.3,-0.2,1.0,2.9]])
    for n,f in dict(top_k=top_k(L), top_k_frac=top_k(L,0.3), top_k3=top_k(L,k=3), top_p=top_p(L), top_p5=top_p(L,0.5), top_p0=top_p(L,0.), top_a=top_a(L), top_a2=top_a(L,1.5,.4), min_p=min_p(L), min_p4=min_p(L,.4)).items():
        show(n, (f!=-math.inf).int())
        assert torch.equal(f[f!=-math.inf], L[f!=-math.inf])
    show('contrast', contrastive_decode_fn(L, L.flip(1), alpha=tensor(0.1)))
    show('greedy', w.generate(P, 12, temperature=0.))
    show('greedy eos each', [ (e, w.generate(P,12,temperature=0.,eos_token=e).tolist()) for e in range(V)])
    lens=tensor([2,4])
    show('ragged', w.generate(P,8,temperature=0.,prompt_lens=lens))
    show('list', w.generate([P[0][:2],P[1]],8,temperature=0.))
    show('single', w.generate(P[0],5,temperature=0.))
    for name,kw in [('top_k',{}),('top_k',dict(k=4)),('top_p',dict(thres=.7)),('top_a',dict(min_p_ratio=.1)),('min_p',dict(min_p=.2))]:
        torch.manual_seed(11)
        show(f'sampled {name} {kw}', w.generate(P,10,temperature=.8,filter_logits_fn=name,filter_kwargs=kw))
    torch.manual_seed(3); show('sampled default', w.generate(P,10))
    a=tensor(.1)
    show('contrast greedy', w.generate(P,10,temperature=0.,amateur_model=(Net(5),),contrastive_decode_kwargs=(dict(beta=.5,alpha=a),)))
    show('contrast two', w.generate(P,10,temperature=0.,amateur_model=(Net(5),Net(9)),contrastive_decode_kwargs=(dict(beta=.5,alpha=a),dict(beta=1.,alpha=tensor(.3)))))
    torch.manual_seed(5); show('contrast sampled', w.generate(P,10,temperature=1.5,amateur_model=(Net(5),),contrastive_decode_kwargs=(dict(beta=.5,alpha=a),)))
    for b in (1,3):
        o,s=w.beam_search(P,6,beams=b,return_beams_and_scores=True,cache_kv=False); show(f'beam{b}',o); show('  scores',s)
        show('  top', w.beam_search(P,6,beams=b,cache_kv=False))
    torch.manual_seed(7)
    o,s=w.beam_search(P,6,beams=3,stochastic=True,temperature=1.3,filter_logits_fn='top_k',filter_kwargs=dict(k=6),return_beams_and_scores=True,cache_kv=False); show('stochastic',o); show('  scores',s)
    torch.manual_seed(2); show('gumbel', gumbel_sample(L, .7))
    show('align', align_right(tensor([[1,2,3,4],[5,6,7,8],[9,1,2,3]]), tensor([1,4,3]), pad_id=99))
    show('align short', align_right(tensor([[1,2,3,4],[5,6,7,8]]), tensor([1,3]), pad_id=99))
