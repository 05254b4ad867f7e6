#!/usr/bin/env python3
"""The recipes, trained and held to what recipes/README.md says that they reach.

    python3 tests/recipes/run.py [--program build/x-transformers] [--filter NAME ...] [--steps N] [--out DIR]
    python3 tests/recipes/run.py --quick [--program ...]

Makes the data that is missing below runs/data (two sets come from the package index), trains each recipe at its own
size, which takes some half an hour on two cores, and compares. With --steps the runs are shorter, and only have to end
with a finite loss. --quick takes one step of each, on data that it makes up: every file parses, every model builds.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "recipes"), str(ROOT / "tools")]
import make_number_words  # noqa: E402
import make_series  # noqa: E402
from tensors import read_tensors, write_tensors  # noqa: E402

TEXT = "runs/data/shakespeare.txt"
DATA = {  # what makes each file
    TEXT: ["tools/fetch_plays.py", TEXT],
    "runs/data/digits.safetensors": ["tools/fetch_digits.py", "runs/data/digits.safetensors"],
    "runs/data/series.csv": ["tools/make_series.py", "runs/data/series.csv"],
    "runs/data/number_words.tsv": ["tools/make_number_words.py", "runs/data/number_words.tsv"],
    "runs/data/preferences.jsonl": ["tools/make_preferences.py", TEXT, "runs/data/preferences.jsonl"],
}


class Trained:
    """A run that has ended."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        self.losses = [row["loss"] for row in rows if "loss" in row]
        self.val_losses = [row["val_loss"] for row in rows if "val_loss" in row]

    def call(self, command, inputs, kwargs=None):
        """Results of the trained model for some tensors."""
        given, results = self.folder / "in.safetensors", self.folder / "out.safetensors"
        write_tensors(given, inputs)
        subprocess.run([self.program, command, "--config", self.folder / "config.json", "--weights",
                        self.folder / "model.safetensors", "--inputs", given, "--kwargs", json.dumps(kwargs or {}),
                        "--outputs", results], check=True, stdout=subprocess.DEVNULL)
        return read_tensors(results)

    def text(self, prompt, tokens):
        """What it writes after a prompt."""
        return subprocess.run([self.program, "generate", self.folder, "--prompt", prompt, "--tokens", str(tokens), "--seed",
                               "1"], check=True, capture_output=True).stdout.decode(errors="replace")


def rows(flat, width):
    return [flat[i:i + width] for i in range(0, len(flat), width)]


def copied(run):
    """Share of symbols that are the source's, where the model writes each after its own."""
    draw = random.Random(2)
    src = [draw.randrange(2, 18) for _ in range(64 * 32)]
    out = run.call("generate", {"seq_in": ("I64", [64, 32], src), "seq_out_start": ("I64", [64, 1], [1] * 64)},
                   {"seq_len": 32, "temperature": 0.0})["out"][1]
    return sum(a == b for a, b in zip(out, src)) / len(src)


def right_parities(run):
    """Share of positions where the likelier label is right."""
    draw = random.Random(2)
    bits = [draw.randrange(2) for _ in range(128 * 32)]
    logits = rows(run.call("forward", {"x": ("I64", [128, 32], bits)})["out"][1], 2)
    odd = [sum(line[:i + 1]) % 2 for line in rows(bits, 32) for i in range(32)]
    return sum((b > a) == bool(label) for (a, b), label in zip(logits, odd)) / len(odd)


def right_words(run):
    """Share of 64 numbers of three to six digits, none of the training data, that it writes right in words."""
    draw, known = random.Random(2), set(make_number_words.numbers())
    right = 0
    for digits in (4, 5, 6):
        numbers = []
        while len(numbers) < 32:
            number = draw.randrange(10 ** (digits - 1), 10 ** digits)
            if number not in known:
                numbers.append(number)
        out = run.call("generate", {"seq_in": ("I64", [32, digits], [ord(c) for n in numbers for c in str(n)]),
                                    "seq_out_start": ("I64", [32, 1], [0] * 32)}, {"seq_len": 76, "temperature": 0.0})
        texts = [bytes(line).split(b"\0")[0].decode(errors="replace") for line in rows(out["out"][1], 76)]
        right += sum(text == make_number_words.words(n) for text, n in zip(texts, numbers))
    return right / 96


def forecast_error(run):
    """Root mean square error of 16 rows to come after 48, without noise, as a share of their standard deviation."""
    noise, series = random.Random(3), list(make_series.PERIODS.values())
    begins = [make_series.ROWS + 100 * i for i in range(16)]  # after all that the file has
    known = [make_series.value(b + t, p) + noise.gauss(0, make_series.NOISE)
             for b in begins for t in range(48) for p in series]
    out = run.call("generate", {"start_tokens": ("F32", [16, 48, 2], known)}, {"seq_len": 16, "temperature": 0.0})
    truth = [make_series.value(b + 48 + t, p) for b in begins for t in range(16) for p in series]
    error = sum((a - b) ** 2 for a, b in zip(out["out"][1], truth))
    return math.sqrt(error / sum(value ** 2 for value in truth))


def capitals(run):
    """Share of capitals among the letters that it writes after five speeches of the text have begun."""
    text = "".join(run.text(prompt, 100) for prompt in
                   ("What say you to it?\n", "I know not, my lord.\n", "Be not afraid.\n", "Go to the gate.\n", "Farewell.\n"))
    letters = [c for c in text if c.isalpha()]
    return sum(c.isupper() for c in letters) / max(1, len(letters))


def path_star_nodes(run):
    """Of 128 paths of two arms, for each place the share that the model writes right."""
    draw, prompts, paths = random.Random(2), [], []
    for _ in range(128):
        nodes = draw.sample(range(2, 22), 7)
        arms = [nodes[:4], nodes[:1] + nodes[4:]]
        edges = [edge for arm in arms for edge in zip(arm, arm[1:])]
        draw.shuffle(edges)
        path = draw.choice(arms)
        prompts.extend([node for edge in edges for node in edge] + [0, path[0], path[-1], 1])
        paths.append(path)
    out = run.call("generate", {"prompts": ("I64", [128, 16], prompts)}, {"seq_len": 4, "temperature": 0.0})["out"][1]
    written = rows(out, 4)
    return [sum(line[place] == path[place] for line, path in zip(written, paths)) / 128 for place in range(4)]


def path_ends(run):
    """Share of paths whose first and last nodes are right, which stand in the question."""
    shares = path_star_nodes(run)
    return min(shares[0], shares[3])


def path_turns(run):
    """Share of paths that turn into the right one of two arms, which asks for a plan."""
    return path_star_nodes(run)[1]


def last_val_loss(run):
    return run.val_losses[-1]


# What each recipe must reach: a measure, and its bounds.
EXPECTED = {
    "copy": [(copied, 0.99, 1)],
    "parity": [(right_parities, 0.99, 1)],
    "path_star": [(last_val_loss, 0, 1.5), (path_ends, 0.95, 1), (path_turns, 0.35, 0.65)],
    "digits": [(last_val_loss, 0, 0.4)],
    "bytes": [(last_val_loss, 1.2, 1.9)],
    "bytes_xl": [(last_val_loss, 1.2, 1.9)],
    "bytes_belief_state": [(last_val_loss, 1.2, 2.6)],
    "bytes_free": [(last_val_loss, 0.5, 2.0)],
    "bytes_vae": [(last_val_loss, 1.2, 1.9)],
    "bytes_flash": [(last_val_loss, 1.2, 2.1)],
    "masked": [(last_val_loss, 1.2, 3.0)],
    "masked_critic": [(last_val_loss, 0.5, 3.2)],
    "forecast": [(forecast_error, 0, 0.2)],
    "translation": [(right_words, 0.9, 1)],
    "preferences": [(last_val_loss, 0, 0.6), (capitals, 0, 0.04)],
    "extrapolation": [],  # recipes/extrapolation.py trains it with each scheme
}


def train(options, name, folder, settings):
    """Trains a recipe; exits where that fails, with what the program said."""
    command = [options.program, "train", "--config", ROOT / "recipes" / f"{name}.json", "--out", folder]
    if settings:
        command += ["--set", *settings]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, text=True,
                           stderr=subprocess.PIPE if options.quick else None, check=False)
    if ended.returncode != 0:
        sys.exit(f"{ended.stderr or ''}{name}: training failed; it was: {' '.join(map(str, command))}")
    return Trained(options.program, folder)


def make_small_data(folder):
    """The paths of DATA, each with a small file in its place."""
    text = folder / "text.txt"
    text.write_text("To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 100)
    paths = {TEXT: text}
    for path, (script, *arguments) in DATA.items():
        paths.setdefault(path, folder / Path(path).name)
        if path.endswith("digits.safetensors"):
            write_tensors(paths[path], {"img": ("F32", [20, 1, 8, 8], [0.5] * 1280), "labels": ("I64", [20], list(range(10)) * 2)})
        elif path != TEXT:
            subprocess.run([sys.executable, "-B", ROOT / script, *(paths[a] for a in arguments)], check=True,
                           stderr=subprocess.DEVNULL)
    return paths


def start_of(name):
    """The recipe whose run another starts from, or None."""
    path = json.loads((ROOT / "recipes" / f"{name}.json").read_text())["train"].get("init_from")
    return path and Path(path).name


def quick(options, names, folder):
    paths = make_small_data(folder)
    starts = {start_of(name) for name in names} - {None}
    for name in sorted(starts - set(names)) + names:
        recipe = json.loads((ROOT / "recipes" / f"{name}.json").read_text())
        settings = ["train.steps=1", "train.eval_every=1", "train.sample_every=0", "train.plot=false",
                    "train.tensorboard=false", "data.batch_size=2", "data.val_batches=1"]
        path = recipe["data"].get("path")
        if path:
            settings.append(f"data.path={paths[path]}")
        if start_of(name):
            settings.append(f"train.init_from={folder / start_of(name)}")
        run = train(options, name, folder / name, settings)
        if not all(map(math.isfinite, run.losses + run.val_losses)) or not run.val_losses:
            sys.exit(f"{name}: losses {run.losses}, {run.val_losses}")
        print(f"{name}: builds, trains and validates")


def nightly(options, names, folder):
    for path, command in DATA.items():
        if not (ROOT / path).exists():
            subprocess.run([sys.executable, "-B", *command], cwd=ROOT, check=True)
    failures = 0
    for name in names:
        if name == "extrapolation":
            continue
        settings = [f"train.steps={options.steps}"] if options.steps else []
        if start := start_of(name):
            if not (folder / start).exists():
                train(options, start, folder / start, settings)
            settings.append(f"train.init_from={folder / start}")
        run = Trained(options.program, folder / name) if (folder / name).exists() else train(options, name, folder / name,
                                                                                            settings)
        if options.steps:
            failures += not math.isfinite(run.losses[-1])
            print(f"{name}: loss {run.losses[-1]:.4f}", flush=True)
            continue
        for measure, least, most in EXPECTED[name]:
            value = measure(run)
            failures += not least <= value <= most
            verdict = "as expected" if least <= value <= most else f"FAILED, expected {least} to {most}"
            print(f"{name}: {measure.__name__} {value:.4f}, {verdict}", flush=True)
    if failures:
        sys.exit(f"{failures} failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build/x-transformers")
    parser.add_argument("--filter", nargs="+", help="recipes to run; default: all")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="where the runs go, and stay; those that are there are taken as they are")
    options = parser.parse_args()
    options.program = options.program.resolve()
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.json")}
    if recipes != set(EXPECTED):
        sys.exit(f"recipes and what they must reach differ: {sorted(recipes ^ set(EXPECTED))}")
    unknown = set(options.filter or []) - recipes
    if unknown:
        sys.exit(f"no such recipe: {', '.join(sorted(unknown))}")
    names = [name for name in EXPECTED if not options.filter or name in options.filter]
    with tempfile.TemporaryDirectory(prefix="recipes.") as temporary:
        folder = options.out.resolve() if options.out else Path(temporary)
        (quick if options.quick else nightly)(options, names, folder)


if __name__ == "__main__":
    main()
