#!/usr/bin/env python3
"""Writes docs/options/: a page for each idea of the examples, in the order of the Python README, and a list of all options.

    python3 tools/make_option_pages.py [--program build/x-transformers] [--check]

What the pages say comes from the field lists of the library (`options TYPE --json`), what an idea costs from counting it
(`info --json`) and from the tables of docs/performance.md, and the ideas from examples/index.json. --check writes nothing and ends with 1 where a page is not what
would be written."""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu  # noqa: E402: what was measured, by the names of the tables' rows

PAGES = ROOT / "docs" / "options"
# What every model has, and no idea of its own.
BASIC = re.compile(r"(type|net|attn_layers|((enc|dec)_)?(dim|depth|heads|num_tokens|max_seq_len|attn_dim_head)|image_size|patch_size"
                   r"|num_classes|dim_in|dim_out|mask_id|model|numerical_token_id)$")
STACKS = {"AttentionLayers", "Decoder", "Encoder"}  # of which the options of gpu.OPTIONS are
LISTED = ["TransformerWrapper", "AttentionLayers"]  # for the page of all options


class Program:
    def __init__(self, path):
        self.path = path
        self.folder = Path(tempfile.mkdtemp(prefix="option_pages."))

    def json(self, *arguments):
        done = subprocess.run([self.path, *map(str, arguments), "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"make_option_pages: {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    @lru_cache(maxsize=None)
    def options(self, type_name):
        """The options of a type by name."""
        return {option["name"]: option for option in self.json("options", type_name)["options"]}

    def info(self, name, model):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(model))
        return self.json("info", path)


def ideas(model):
    """(type, option, value) of what makes a model's example one of an idea."""
    found = []
    for key, value in model.items():
        if isinstance(value, dict) and "type" in value:
            found += ideas(value)
        if not BASIC.match(key):
            found.append((model["type"], key, value))
    return found


def source_of(paper):
    for start, address in (("arXiv:", "https://arxiv.org/abs/"), ("doi:", "https://doi.org/")):
        if paper.startswith(start):
            return f"[{paper}]({address}{paper[len(start):]})"
    return paper


def sources_of(papers):
    return ", ".join(source_of(paper.strip()) for paper in papers.split(","))


def sentence(name, option):
    meaning = option["meaning"]
    end = "" if meaning.endswith(".") else "."
    default = f" By default {option['default']}." if option["default"] not in (None, "") and "default" not in meaning else ""
    return f"`{name}`: {meaning}{end}{default}"


def count(number):
    for size, word in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if abs(number) >= size:
            return f"{number / size:.3g}{word}"
    return f"{number:.3g}"


def share(part, whole):
    percent = 100 * part / whole
    return f"{percent:+.2g} %" if abs(percent) >= 0.1 else "less than 0.1 %"


def costs(info, names):
    """What options cost of the whole, a line each."""
    lines = []
    for name in names:
        cost = info["options"].get(name)
        if cost is None or "parameters" not in cost:  # the model needs it
            continue
        parts = [f"{count(abs(cost[key]))} {'more' if cost[key] > 0 else 'fewer'} {unit} ({share(cost[key], whole)})"
                 for key, unit, whole in (("parameters", "parameters", info["parameters"] - cost["parameters"]),
                                          ("flops_per_token", "FLOPs per token", info["flops_per_token"] - cost["flops_per_token"]))
                 if abs(cost[key]) >= 0.5 and whole]
        lines.append(f"- `{name}`: {', '.join(parts) if parts else 'no parameters and no FLOPs'}")
    return lines


@lru_cache(maxsize=None)
def tables():
    """The rows of each table of docs/performance.md, as {heading: cell}, by the heading of the first column and the cell there."""
    found, heads = {}, None
    for line in (ROOT / "docs/performance.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            heads = None
        elif heads is None:
            heads = cells
            table = found.setdefault(tuple(heads), {})
        elif not set(line) <= set("|- "):
            table[cells[0]] = dict(zip(heads, cells))
    return found


def table_with(*heads):
    """The table of docs/performance.md that has these headings, which one has."""
    tables_with = [rows for found, rows in tables().items() if set(heads) <= set(found)]
    if len(tables_with) != 1:
        sys.exit(f"make_option_pages: docs/performance.md has {len(tables_with)} tables with {', '.join(heads)}, expected one")
    return tables_with[0]


def measured(models, found):
    """What was measured of an idea, a line each."""
    lines = []
    names = {name for type_name, name, _ in found if type_name in STACKS}
    training, decoding = table_with("option", "35006f4: ms, price"), table_with("GPT-2 124M, B=1, ms per token", "price")
    by_row = {row.lower(): cells for row, cells in decoding.items()}
    for row, options in gpu.OPTIONS.items():
        if not options or not options.keys() <= names or row not in training:
            continue
        said = " with ".join(f"`{name}`" + ("" if value is True else f" = {value}") for name, value in options.items())
        line = f"- {said}: a training step of GPT-2's shape (8 x 1,024 tokens) takes {training[row]['price']} times as long as without"
        if row in by_row:
            line += f", a token of one sequence {by_row[row]['price']} times"
        lines.append(line)
    steps = table_with("model", "GPU, ms", "ratio")
    for row, cells in steps.items():
        if row.split(",")[0] in {model["type"] for model in models}:
            lines.append(f"- {row}: a training step takes {cells['ratio']} of the time of Python's in eager mode")
    return lines


def models_of(entry):
    python = entry["python"]
    return python if isinstance(python, list) else [python]


def page(entry, program):
    """The page of an idea, and the line for the index."""
    models = models_of(entry)
    found = [idea for model in models for idea in ideas(model)]
    papers = {entry["paper"]} if entry.get("paper") else set()
    lines = [f"# {entry['title']}"]
    for type_name, name, _ in found:
        option = program.options(type_name).get(name)
        if option is None:
            continue
        lines += ["", sentence(name, option)]
        papers |= {paper.strip() for paper in option["paper"].split(",") if paper.strip()}
    if not found:
        lines += ["", "A " + " beside a ".join(f"`{model['type']}`" for model in models) + " with its usual options."]
    if papers:
        lines += ["", "Papers: " + ", ".join(source_of(paper) for paper in sorted(papers)) + "."]
    lines += ["", "As a model file:"]
    for model in models:
        lines += ["```json", json.dumps(model, indent=1, ensure_ascii=False), "```"]
    lines += [f"In C++: [{entry['file']}.cpp](../../examples/{entry['file']}.cpp)."]
    if len(models) == 1 and found:
        cost = costs(program.info(entry["file"], models[0]), [name for _, name, _ in found])
        if cost:
            lines += ["", "Cost, counted against the same model without the option:", *cost]
    measurements = measured(models, found)
    if measurements:
        lines += ["", "Measured on one H200 in bfloat16 ([performance](../performance.md)):", *measurements]
    names = list(dict.fromkeys(name for _, name, _ in found))
    row = (f"| [{entry['title']}]({stem(entry)}.md) | {', '.join(f'`{name}`' for name in names)} "
           f"| {source_of(entry['paper']) if entry.get('paper') else ''} |")
    return "\n".join(lines) + "\n", row


def stem(entry):
    return entry["file"].split("_", 1)[1]


def all_options(program):
    lines = []
    for type_name in LISTED:
        lines += ["", f"## {type_name}", "| option | meaning | default | paper |", "|---|---|---|---|"]
        for name, option in program.options(type_name).items():
            if not option["built"]:
                continue
            default = "needed" if option["required"] else option["default"] if option["default"] is not None else "that of `attn_`"
            meaning = option["meaning"].replace("|", "\\|")
            lines.append(f"| `{name}` | {meaning} | {default} | {sources_of(option['paper']) if option['paper'] else ''} |")
    return lines


def written(program):
    """The text of each file of the folder, by its name."""
    entries = [entry for entry in json.loads((ROOT / "examples/index.json").read_text()) if entry["python"] is not None]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda entry: page(entry, program), entries))
    index = ["# Options",
             "One page per idea, in the order of the Python README: what it is, the paper, the model file, what it costs. `x-transformers "
             "options TYPE` lists the options of any type, `x-transformers options --grep WORD` every option that mentions a word; `x-transformers "
             "info MODEL` counts what each option costs in your model. This folder is written by `tools/make_option_pages.py` from the "
             "field lists of the library.",
             "", "| idea | options | paper |", "|---|---|---|", *(row for _, row in made), *all_options(program)]
    files = {f"{stem(entry)}.md": text for entry, (text, _) in zip(entries, made)}
    files["README.md"] = "\n".join(index) + "\n"
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build/x-transformers")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a page is not up to date")
    arguments = parser.parse_args()
    files = written(Program(arguments.program.resolve()))
    there = {path.name: path.read_text() for path in PAGES.glob("*.md")}
    wrong = sorted(name for name in files.keys() | there.keys() if files.get(name) != there.get(name))
    if arguments.check:
        if wrong:
            sys.exit(f"docs/options: not up to date: {', '.join(wrong)}; tools/make_option_pages.py writes them")
        return
    PAGES.mkdir(exist_ok=True)
    for name in wrong:
        if name in files:
            (PAGES / name).write_text(files[name])
        else:
            (PAGES / name).unlink()
    print(f"docs/options: {len(files)} pages, {len(wrong)} changed")


if __name__ == "__main__":
    main()
