"""Times Python x-transformers 2.16.1 on a model file, in eager mode or compiled: a training step, or cached greedy generation.

peer.py train|generate CONFIG [--batch N] [--seq N] [--prompt N] [--tokens N] [--steps N] [--threads N] [--device D] [--compile]
Prints one JSON line, with the names that `x-transformers bench` uses."""
import argparse
import json
import resource
import time

import torch
import x_transformers


def build(value):
    """A module from its JSON form: "type" names the class, every other key is an argument."""
    if isinstance(value, dict) and "type" in value:
        arguments = {key: build(item) for key, item in value.items() if key != "type"}
        return getattr(x_transformers, value["type"])(**arguments)
    return tuple(value) if isinstance(value, list) else value


def median_ms(step, warm_up, count, synchronize):
    times = []
    for index in range(warm_up + count):
        synchronize()
        start = time.perf_counter()
        step()
        synchronize()
        if index >= warm_up:
            times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[len(times) // 2]


def train(model, args, synchronize):
    num_tokens = model.net.num_tokens
    if args.compile:
        model = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    tokens = torch.randint(0, num_tokens, (args.batch, args.seq), device=args.device)

    def step():
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.device == "cuda"):
            loss = model(tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    ms = median_ms(step, 5 if args.compile else 2, args.steps, synchronize)
    return {"ms_per_step": ms, "tokens_per_s": args.batch * args.seq / ms * 1e3}


@torch.no_grad()
def generate(model, args, synchronize):
    model = model.eval().to(torch.bfloat16 if args.device == "cuda" else torch.float32)
    prompt = torch.randint(0, model.net.num_tokens, (args.batch, args.prompt), device=args.device)
    ms = median_ms(lambda: model.generate(prompt, args.tokens, temperature=0.0), 1, 3, synchronize)
    return {"ms_per_token": ms / args.tokens, "tokens_per_s": args.batch * args.tokens / ms * 1e3}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["train", "generate"])
    parser.add_argument("config")
    for name, usual in {"batch": 16, "seq": 128, "prompt": 128, "tokens": 128, "steps": 7, "threads": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile, of training")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")
    with open(args.config, encoding="utf-8") as file:
        config = json.load(file)
    model = x_transformers.AutoregressiveWrapper(build(config)).to(args.device)
    synchronize = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    result = (train if args.work == "train" else generate)(model, args, synchronize)
    result["memory_bytes"] = (torch.cuda.max_memory_allocated() if args.device == "cuda" else
                              resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
