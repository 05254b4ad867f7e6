"""Writes what torch.optim computes in 20 steps to tests/golden/optim.json, which tests/optim/golden_test.cpp reads.

    python -B tests/optim/make_golden.py [--check]     # needs torch 2.11

Weights and gradients are a hash of (tensor, entry, step), the same in golden_test.cpp. Tensors with two or more dimensions
decay, others not, as ours. Lion is not in torch.optim: it is written here from arXiv:2302.06675, algorithm 2. `--check`
compares the stored numbers instead.
"""
import argparse, json, os, sys
import torch

SHAPES = {"tall": [7, 4], "wide": [3, 8], "square": [5, 5], "vector": [6], "cube": [2, 3, 4]}
MUON = ("tall", "wide", "square")
STEPS = 20
KEPT = (1, 6, 20)
CASES = {
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "lion": {"optimizer": "lion", "learning_rate": 0.003, "weight_decay": 1.0},
    "lion betas": {"optimizer": "lion", "learning_rate": 0.003, "weight_decay": 0.0, "lion": {"beta1": 0.8, "beta2": 0.95}},
    "muon": {"optimizer": "muon", "learning_rate": 0.01, "muon": {"learning_rate": 0.02}},
    "muon as adamw": {"optimizer": "muon", "learning_rate": 0.01, "weight_decay": 0.3, "beta2": 0.9,
                      "muon": {"momentum": 0.8, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}},
    "muon steps": {"optimizer": "muon", "learning_rate": 0.02,
                   "muon": {"ns_steps": 3, "ns_coefficients": [3.0, -3.2, 1.2], "eps": 1e-3}},
    "adafactor": {"optimizer": "adafactor", "learning_rate": 0.3, "weight_decay": 0.0},
    "adafactor options": {"optimizer": "adafactor", "learning_rate": 0.05, "weight_decay": 0.2,
                          "adafactor": {"beta2_decay": -0.5, "eps1": 0.01, "eps2": 0.5, "d": 1.5}},
}


def numbers(shape, tensor, step):
    """Numbers from -1 to 1."""
    def mixed(x):
        x = (x ^ (x >> 16)) * 0x7feb352d & 0xffffffff
        x = (x ^ (x >> 15)) * 0x846ca68b & 0xffffffff
        return x ^ (x >> 16)
    count = 1
    for size in shape:
        count *= size
    values = [mixed(mixed(1000 * step + tensor + 1) + entry) / 2.0 ** 31 - 1.0 for entry in range(count)]
    return torch.tensor(values, dtype=torch.float64).float().reshape(shape)


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            near, far = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = (near * m + (1 - near) * p.grad).sign()
                p -= group["lr"] * (update + group["weight_decay"] * p)
                m.copy_(far * m + (1 - far) * p.grad)


def optimizers(options, weights):
    """Those of torch, each with the rate that its own has of the learning rate."""
    rate, decay = options["learning_rate"], options.get("weight_decay", 0.1)
    own = options.get(options["optimizer"], {})

    def groups(names):
        matrices = [weights[n] for n in names if weights[n].dim() >= 2]
        others = [weights[n] for n in names if weights[n].dim() < 2]
        return [dict(params=p, weight_decay=d) for p, d in ((matrices, decay), (others, 0.0)) if p]

    def adamw(names):
        return torch.optim.AdamW(groups(names), lr=rate, betas=(options.get("beta1", 0.9), options.get("beta2", 0.95)), eps=1e-8)

    name = options["optimizer"]
    if name == "adamw":
        return [(adamw(weights), 1.0)]
    if name == "lion":
        return [(Lion(groups(weights), rate, (own.get("beta1", 0.9), own.get("beta2", 0.99)), decay), 1.0)]
    if name == "adafactor":
        return [(torch.optim.Adafactor(groups(weights), lr=rate, beta2_decay=own.get("beta2_decay", -0.8),
                                       eps=(own.get("eps1"), own.get("eps2", 1e-3)), d=own.get("d", 1.0)), 1.0)]
    muon_rate = own.get("learning_rate", rate)
    muon = torch.optim.Muon([weights[n] for n in MUON], lr=muon_rate, weight_decay=decay, momentum=own.get("momentum", 0.95),
                            nesterov=own.get("nesterov", True), ns_steps=own.get("ns_steps", 5), eps=own.get("eps", 1e-7),
                            ns_coefficients=tuple(own.get("ns_coefficients", (3.4445, -4.775, 2.0315))),
                            adjust_lr_fn=own.get("adjust_lr_fn"))
    return [(muon, muon_rate / rate), (adamw([n for n in weights if n not in MUON]), 1.0)]


def run(options):
    weights = {n: torch.nn.Parameter(numbers(s, i, 0)) for i, (n, s) in enumerate(SHAPES.items())}
    chosen = optimizers(options, weights)
    kept = {}
    for step in range(1, STEPS + 1):
        for i, (name, weight) in enumerate(weights.items()):
            weight.grad = numbers(SHAPES[name], i, step) * (0.1 if step % 3 else 2.0)
        for optimizer, ratio in chosen:
            for group in optimizer.param_groups:
                group["lr"] = options["learning_rate"] * ratio * step / STEPS
            optimizer.step()
        if step in KEPT:
            kept[str(step)] = {n: [float(f"{v:.9g}") for v in w.detach().flatten().tolist()] for n, w in weights.items()}
    return kept


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    path = os.path.join(os.path.dirname(__file__), "..", "golden", "optim.json")
    golden = {name: {"options": options, "weights": run(options)} for name, options in CASES.items()}
    if not check:
        with open(path, "w") as file:
            file.write("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(g)}" for n, g in golden.items()) + "\n}\n")
        return 0
    with open(path) as file:
        stored = json.load(file)
    worst = 0.0
    for name, case in golden.items():
        for step, weights in case["weights"].items():
            for weight, values in weights.items():
                was = torch.tensor(stored[name]["weights"][step][weight])
                worst = max(worst, (torch.tensor(values) - was).abs().max().item())
    print(f"largest difference {worst:.3g}")
    return 0 if worst < 2e-3 and stored.keys() == golden.keys() else 1


if __name__ == "__main__":
    sys.exit(main())
