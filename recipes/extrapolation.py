#!/usr/bin/env python3
"""Trains byte models on short sequences and reads longer ones with them: recipes/extrapolation.py [options]

One model for each scheme of positions, all else alike (extrapolation.json), trained on 64 bytes at a time; then bits a
byte on the last tenth of the text, in pieces of 64, 128, 256 and 512 bytes. Results: OUT/extrapolation.csv, a table on
stdout, and, where gnuplot is found, OUT/extrapolation.png.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from tensors import read_tensors, write_tensors  # noqa: E402  (beside this file)

RECIPE = Path(__file__).with_name("extrapolation.json")
SCHEMES = {
    "none": {},
    "rotary": {"rotary_pos_emb": True},
    "xpos": {"rotary_pos_emb": True, "rotary_xpos": True},
    "alibi": {"alibi_pos_bias": True},
    "dynamic": {"dynamic_pos_bias": True},
}
LENGTHS = (64, 128, 256, 512)
BYTES = 1 << 14  # that are read at each length


def run(*arguments):
    """Runs the program; its messages stay on stderr."""
    done = subprocess.run([str(a) for a in arguments], stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(f"extrapolation: {' '.join(map(str, arguments[:2]))} ended with status {done.returncode}")


def train(options, name, out):
    """Trains the model of a scheme into `out`."""
    run_file = json.loads(RECIPE.read_text())
    run_file["model"]["net"]["attn_layers"].update(SCHEMES[name])
    if options.steps:
        run_file["train"]["steps"] = options.steps
    out.mkdir(parents=True)
    config = out.with_suffix(".json")
    config.write_text(json.dumps(run_file, indent=2) + "\n")
    run(options.program, "train", "--config", config, "--out", out)
    return config


def bits_a_byte(options, config, folder, text, length):
    """Mean over pieces of `length` bytes, spaced evenly over the text."""
    count = BYTES // length
    tokens = []
    for i in range(count):
        begin = i * (len(text) - length - 1) // count
        tokens.extend(text[begin:begin + length + 1])
    inputs, outputs = folder / "in.safetensors", folder / "out.safetensors"
    write_tensors(inputs, {"x": ("I64", [count, length + 1], tokens)})
    run(options.program, "forward", "--config", config, "--weights", folder / "model.safetensors", "--inputs", inputs,
        "--outputs", outputs)
    return read_tensors(outputs)["out"][1][0] / math.log(2)


def plot(out, names):
    """Draws the table."""
    gnuplot = shutil.which("gnuplot")
    if gnuplot is None:
        print("extrapolation: no picture, as there is no gnuplot", file=sys.stderr)
        return
    lines = ", ".join(f"'{out / 'extrapolation.csv'}' using 1:{i + 2} with linespoints pt 7 lw 2 title '{name}'"
                      for i, name in enumerate(names))
    script = f"""set terminal pngcairo size 1000,640
set output '{out / 'extrapolation.png'}'
set datafile separator ','
set logscale x 2
set xrange [{LENGTHS[0] * 0.93}:{LENGTHS[-1] * 1.07}]
set xtics ({', '.join(map(str, LENGTHS))})
set xlabel 'bytes read at once (trained on {LENGTHS[0]})'
set ylabel 'bits per byte'
set grid
set key top left
plot {lines}
"""
    subprocess.run([gnuplot], input=script, text=True, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="build/x-transformers")
    parser.add_argument("--out", type=Path, default=Path("runs/extrapolation"), help="a folder that is not there yet")
    parser.add_argument("--steps", type=int, help="of training, in place of the recipe's")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    options = parser.parse_args()
    if options.out.exists():
        sys.exit(f"extrapolation: {options.out} exists already")
    text = Path(json.loads(RECIPE.read_text())["data"]["path"]).read_bytes()
    text = text[-len(text) // 10:]
    table = {}
    for name in options.schemes:
        folder = options.out / name
        config = train(options, name, folder)
        table[name] = [bits_a_byte(options, config, folder, text, length) for length in LENGTHS]
        print(f"{name:8}" + "".join(f"  {length}: {bits:.3f}" for length, bits in zip(LENGTHS, table[name])), flush=True)
    rows = [["bytes", *table]] + [[length, *(f"{bits[i]:.4f}" for bits in table.values())]
                                  for i, length in enumerate(LENGTHS)]
    (options.out / "extrapolation.csv").write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    plot(options.out, list(table))


if __name__ == "__main__":
    main()
