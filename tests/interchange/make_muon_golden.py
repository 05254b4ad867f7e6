"""Writes what x-transformers says of Muon and QK-clip to tests/golden/muon.json, which muon_test.cpp reads: the names that
muon_parameters() has, and to_q and to_k after attn_qk_clip_() as it is meant (see clip), by the scores of the original.

    python -B tests/interchange/make_muon_golden.py [--check]     # needs x-transformers 2.16.1

Parameters are a hash of (place among the sorted names, entry), the same in muon_test.cpp.
"""
import argparse, json, os, sys
import torch
import x_transformers

BASE = {"type": "Decoder", "dim": 8, "depth": 2, "heads": 2, "attn_dim_head": 4}
CASES = {
    "decoder": ({}, 0.02),
    "nothing above": ({}, 50.0),
    "cross": ({"cross_attend": True}, 0.03),
    "gated": ({"rotary_pos_emb": True, "rotary_emb_dim": 4, "ff_glu": True, "attn_on_attn": True, "attn_gate_values": True}, 0.05),
    "scores changed": ({"attn_pre_talking_heads": True, "attn_softclamp_logits": True, "attn_head_learned_sink": True, "alibi_pos_bias": True}, 0.1),
    "macaron": ({"macaron": True, "ff_post_act_ln": True, "ff_no_bias": True}, 0.05),
    "no intermediate": ({"attn_value_dim_head": 3, "ff_swish": True, "sandwich_norm": True}, 0.01),
}


def mixed(x):
    x = (x ^ (x >> 16)) * 0x7feb352d & 0xffffffff
    x = (x ^ (x >> 15)) * 0x846ca68b & 0xffffffff
    return x ^ (x >> 16)


def numbers(shape, seed):
    count = 1
    for size in shape:
        count *= size
    values = [mixed(mixed(seed + 1) + entry) / 2.0 ** 31 - 1.0 for entry in range(count)]
    return torch.tensor(values, dtype=torch.float64).float().reshape(shape)


def clip(stack, intermediates, tau):
    """attn_qk_clip_ as it is meant: the rows of each head. The original multiplies the columns, features of the input, by the
    heads' factors, and fails unless these are as many."""
    layers = [layer for (_, layer, _), kind in zip(stack.layers, stack.layer_types) if kind in ("a", "c")]
    with torch.no_grad():
        for layer, scores in zip(layers, intermediates.attn_intermediates):
            maxes = scores.pre_softmax_attn.amax(dim=(0, 2, 3))
            scale = torch.where(maxes > tau, tau / maxes, torch.ones(())).sqrt()
            rows = scale.repeat_interleave(layer.to_q.weight.shape[0] // len(scale))[:, None]
            layer.to_q.weight.mul_(rows)
            layer.to_k.weight.mul_(rows)


def run(layers, tau):
    layers = {**BASE, **layers}
    stack = getattr(x_transformers, layers.pop("type"))(**layers)
    net = x_transformers.TransformerWrapper(num_tokens=11, max_seq_len=6, attn_layers=stack).eval()
    parameters = dict(net.named_parameters())
    with torch.no_grad():
        for i, name in enumerate(sorted(parameters)):
            parameters[name].copy_(numbers(parameters[name].shape, i))
    given = {"context": numbers([2, 4, 8], 1000)} if layers.get("cross_attend") else {}
    x = torch.arange(12).reshape(2, 6) % 11
    _, intermediates = net(x, return_intermediates=True, **given)
    clip(stack, intermediates, tau)
    names = {id(p): n for n, p in parameters.items()}
    clipped = {n: [float(f"{v:.9g}") for v in p.detach().flatten().tolist()] for n, p in parameters.items()
               if n.endswith(("to_q.weight", "to_k.weight"))}
    return {"muon": [names[id(p)] for p in net.muon_parameters()], "clipped": clipped}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    path = os.path.join(os.path.dirname(__file__), "..", "golden", "muon.json")
    golden = {name: {"attn_layers": {**BASE, **layers}, "tau": tau, **run(layers, tau)} for name, (layers, tau) in CASES.items()}
    if not check:
        with open(path, "w") as file:
            file.write("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(g)}" for n, g in golden.items()) + "\n}\n")
        return 0
    with open(path) as file:
        stored = json.load(file)
    same = all(stored[n]["muon"] == g["muon"] for n, g in golden.items())
    worst = max(abs(a - b) for n, g in golden.items() for w in g["clipped"]
                for a, b in zip(g["clipped"][w], stored[n]["clipped"][w]))
    print(f"names {'agree' if same else 'differ'}, largest difference {worst:.3g}")
    return 0 if same and worst < 1e-6 else 1


if __name__ == "__main__":
    sys.exit(main())
