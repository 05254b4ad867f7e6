"""Tables of docs/performance.md for one GPU, in one run: training and greedy decoding of two shapes, and what one option costs at
1,024 and at 8,192 tokens. bfloat16 with float32 master weights, AdamW included.

gpu.py --program build/x-transformers [--peers] [--only train|decode|options|long] [--filter REGEX] [--json FILE]
--peers also measures a GPT as a PyTorch user would write it, compiled, and x-transformers compiled (peer.py), where the
interpreter has them. Ratios: a peer's time / ours (above 1 is faster), and an option's time / that of none (1 is free)."""
import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GPT2 = dict(num_tokens=50304, dim=768, depth=12, heads=12)
LLAMA = dict(num_tokens=32000, dim=1024, depth=24, heads=16, rotary_pos_emb=True, use_rmsnorm=True, ff_glu=True, ff_swish=True,
             ff_no_bias=True, attn_kv_heads=4)
TRAINING = {"GPT-2 124M, B=16": (GPT2, 16), "GPT-2 124M, B=32": (GPT2, 32), "GPT-2 124M of 50,257 tokens, B=16": (dict(GPT2, num_tokens=50257), 16),
            "Llama-like 431M, B=16": (LLAMA, 16)}
DECODING = {"GPT-2 124M, B=1": (GPT2, 1), "GPT-2 124M, B=8": (GPT2, 8), "GPT-2 124M, B=16": (GPT2, 16), "Llama-like 431M, B=1": (LLAMA, 1)}
OPTIONS = {
    "none": {}, "rotary": dict(rotary_pos_emb=True), "qk_norm": dict(attn_qk_norm=True), "rmsnorm": dict(use_rmsnorm=True),
    "ff_glu, swish": dict(ff_glu=True, ff_swish=True), "kv_heads 4": dict(attn_kv_heads=4), "alibi": dict(alibi_pos_bias=True),
    "softclamp": dict(attn_softclamp_logits=True), "sinks": dict(attn_head_learned_sink=True),
    "window 256": dict(attn_max_attend_past=256), "mem_kv 16": dict(attn_num_mem_kv=16), "zero_kv": dict(attn_add_zero_kv=True),
    "value gates": dict(attn_gate_values=True), "value residual": dict(add_value_residual=True), "dropout": dict(attn_dropout=0.1),
    "shift_tokens": dict(shift_tokens=1), "latent kv 128": dict(attn_use_latent_kv=True, attn_dim_latent_kv=128),
    "t5": dict(rel_pos_bias=True), "dynamic bias": dict(dynamic_pos_bias=True), "data-dependent alibi": dict(attn_data_dependent_alibi=True),
    "l2 distance": dict(attn_l2_distance=True), "polar": dict(polar_pos_emb=True), "sigmoid": dict(attn_sigmoid=True),
    "cog signed": dict(attn_cog_signed=True), "lime": dict(integrate_layers=True), "hyper-connections 4": dict(num_residual_streams=4),
    "selective": dict(attn_selective=True), "sparse_topk 32": dict(attn_sparse_topk=32), "talking heads": dict(attn_pre_talking_heads=True),
    "talking heads, all three": dict(attn_pre_talking_heads=True, attn_post_talking_heads=True, attn_pre_scale_post_talking_heads=True),
    "cope 16": dict(attn_use_cope=True, attn_cope_max_pos=16)}
LONG = ["none", "alibi", "softclamp", "sinks", "window 256", "t5", "dynamic bias", "data-dependent alibi", "l2 distance", "sigmoid",
        "cog signed", "selective", "sparse_topk 32", "talking heads", "cope 16"]
# What decoding with the GPT-2 shape costs beside plain greedy decoding.
DECODING_OPTIONS = ["none", "rotary", "qk_norm", "kv_heads 4", "alibi", "t5", "dynamic bias", "data-dependent alibi", "softclamp", "sinks",
                    "window 256", "mem_kv 16", "zero_kv", "value gates", "value residual", "latent kv 128"]
SAMPLING = {"temperature": dict(temperature=1, filter_logits_fn="identity"), "top-k 50": dict(temperature=1, top_k=50),
            "top-p 0.9": dict(temperature=1, top_p=0.9), "min-p 0.1": dict(temperature=1, min_p=0.1),
            "top-k 50, top-p 0.9": dict(temperature=1, top_k=50, top_p=0.9)}


def model(shape, seq, **options):
    layers = {key: value for key, value in shape.items() if key != "num_tokens"}
    return dict(type="TransformerWrapper", num_tokens=shape["num_tokens"], max_seq_len=seq,
                attn_layers=dict(type="Decoder", attn_flash=True, **layers, **options))


class Measurements:
    def __init__(self, args):
        self.args, self.rows = args, []

    def run(self, command):
        """The last line that it prints, as JSON; what went wrong as {"error": ...}."""
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=self.args.timeout)
        except subprocess.TimeoutExpired:
            return {"error": "timed out"}
        lines = result.stdout.strip().splitlines()
        if result.returncode or not lines:
            return {"error": (result.stderr.strip().splitlines() or ["no output"])[-1][:160]}
        return json.loads(lines[-1])

    def ours(self, work, config, *arguments):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(config, file)
            file.flush()
            return self.run([self.args.program, "bench", work, "--config", file.name, "--device", "cuda", "--precision", "bf16",
                             *map(str, arguments)])

    def peer(self, work, config, *arguments):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(config, file)  # the peer wraps it
            file.flush()
            return self.run([sys.executable, str(Path(__file__).with_name("peer.py")), work, file.name, "--device", "cuda", *map(str, arguments)])

    def show(self, table, name, **figures):
        self.rows.append(dict(table=table, name=name, **figures))
        text = {key: f"{value:,.3f}" if isinstance(value, float) else value for key, value in figures.items()}
        print(f"{table:9} {name:34}", "  ".join(f"{key} {value}" for key, value in text.items()), flush=True)


def plain_gpt(shape, batch, seq, steps=10):
    """Milliseconds and memory of a step of a GPT in plain PyTorch, compiled, under autocast."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

    dim, heads, tokens = shape["dim"], shape["heads"], shape["num_tokens"]

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.before_attention, self.before_hidden = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.to_qkv, self.to_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.to_hidden, self.from_hidden = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

        def forward(self, x):
            q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in self.to_qkv(self.before_attention(x)).chunk(3, -1))
            x = x + self.to_out(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
            return x + self.from_hidden(gelu(self.to_hidden(self.before_hidden(x)), approximate="tanh"))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.place = nn.Embedding(tokens, dim), nn.Embedding(seq, dim)
            self.layers, self.norm = nn.Sequential(*(Layer() for _ in range(shape["depth"]))), nn.LayerNorm(dim)

        def forward(self, ids):
            x = self.norm(self.layers(self.embedding(ids) + self.place.weight))
            logits = (x @ self.embedding.weight.t())[:, :-1]
            return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    torch.set_float32_matmul_precision("high")
    net = torch.compile(Net().cuda())
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, fused=True)
    ids = torch.randint(0, tokens, (batch, seq), device="cuda")
    times = []
    for _ in range(5 + steps):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = net(ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return dict(ms_per_step=sorted(times[5:])[steps // 2], memory_bytes=torch.cuda.max_memory_allocated())


def step_figures(result, batch, seq):
    if "error" in result:
        return dict(error=result["error"])
    return dict(ms=result["ms_per_step"], tokens_per_s=round(1e3 * batch * seq / result["ms_per_step"]),
                GB=result["memory_bytes"] / 1e9)


def train(m):
    for name, (shape, batch) in TRAINING.items():
        if not re.search(m.args.filter, name):
            continue
        config = model(shape, 1024)
        ours = m.ours("train", config, "--batch", batch, "--seq", 1024)
        m.show("training", name, **step_figures(ours, batch, 1024))
        if not m.args.peers or "error" in ours:
            continue
        if shape is GPT2:
            command = [sys.executable, __file__, "--plain", json.dumps([shape, batch, 1024])]
            plain = m.run(command)
            m.show("training", "  plain PyTorch, compiled", **step_figures(plain, batch, 1024),
                   **({} if "error" in plain else dict(ratio=plain["ms_per_step"] / ours["ms_per_step"])))
        peer = m.peer("train", config, "--batch", batch, "--seq", 1024, "--compile")
        if "error" in peer:
            m.show("training", "  x-transformers, compiled", error=peer["error"])
        else:
            m.show("training", "  x-transformers, compiled", ms=peer["ms_per_step"], ratio=peer["ms_per_step"] / ours["ms_per_step"])


def decode(m):
    def measure(config, batch, *arguments):
        return m.ours("generate", config, "--batch", batch, "--prompt", 128, "--tokens", 256, *arguments)

    def figures(result, plain=None):
        if "error" in result:
            return dict(error=result["error"])
        ms = result["ms_per_token"]
        return dict(ms_per_token=ms) if plain is None else dict(ms_per_token=ms, price=ms / plain)

    for name, (shape, batch) in DECODING.items():
        if re.search(m.args.filter, name):
            m.show("decoding", name, **figures(measure(model(shape, 1024), batch)))
    for batch in (1, 16):
        plain = None
        for name in DECODING_OPTIONS:
            if name != "none" and not re.search(m.args.filter, name):
                continue
            result = measure(model(GPT2, 1024, **OPTIONS[name]), batch)
            plain = plain or result.get("ms_per_token")
            m.show(f"B={batch}", name, **figures(result, plain))
        for name, sampling in SAMPLING.items():
            if re.search(m.args.filter, name):
                m.show(f"B={batch}", name, **figures(measure(model(GPT2, 1024), batch, "--sampling", json.dumps(sampling)), plain))


def options(m, table, names, batch, seq):
    base = None
    for name in names:
        if name != "none" and not re.search(m.args.filter, name):
            continue
        result = m.ours("train", model(GPT2, seq, **OPTIONS[name]), "--batch", batch, "--seq", seq, "--steps", 5)
        figures = step_figures(result, batch, seq)
        if name == "none":
            base = figures.get("ms")
        if base and "ms" in figures:
            figures["price"] = figures["ms"] / base
        if result.get("graph_unsupported"):
            figures["eager"] = result["graph_unsupported"]
        m.show(table, name, **figures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/x-transformers")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--only", choices=["train", "decode", "options", "long"])
    parser.add_argument("--filter", default="")
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--json")
    parser.add_argument("--plain", help=argparse.SUPPRESS)  # a process of its own for the peer
    args = parser.parse_args()
    if args.plain:
        print(json.dumps(plain_gpt(*json.loads(args.plain))))
        return
    m = Measurements(args)
    parts = dict(train=train, decode=decode, options=lambda m: options(m, "options", OPTIONS, 8, 1024),
                 long=lambda m: options(m, "8192", LONG, 1, 8192))
    for name, part in parts.items():
        if args.only in (None, name):
            part(m)
    if args.json:
        Path(args.json).write_text(json.dumps(m.rows, indent=1))


if __name__ == "__main__":
    main()
