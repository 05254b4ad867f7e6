#!/usr/bin/env python3
"""The pages of docs/, tried: what stands in them works.

    python3 tests/docs/run.py [--program build/x-transformers] [--filter PAGE ...] [--verbose]

Of each page in the table of docs/README.md, and of README.md itself,
- every ```sh block runs, one after the other, in a folder that looks like the repository: with recipes/ and tools/, with small
  files where tools/fetch_*.py would fetch some, and with a build/x-transformers that takes two steps where a run file
  has hundreds, two seeds, and processes where a page has GPUs;
- every ```json block is part of a recipe that the page links, or is a run or model file that a command of the page names;
- every ```cpp block stands word for word in a file of examples/ that the page links, which the tests build and run;
- every link to a file leads to one.
Of README.md the blocks that call make are left out, and its program, which tests/install/run.sh builds.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "tests" / "recipes"))
import run as recipes  # noqa: E402  (tests/recipes/run.py)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

# Stands where pages have the program: a training run is short, and leaves no pictures; so are those of a comparison.
PROGRAM = """#!/bin/sh
case $1 in
  train)
    left=$#
    while [ $left -gt 0 ]; do
      each=$1 left=$((left - 1))
      shift
      [ "$each" != --gpus ] || each=--processes
      set -- "$@" "$each"
    done
    set -- "$@" {settings} ;;
  compare)
    left=$# is_seeds=
    while [ $left -gt 0 ]; do
      each=$1 left=$((left - 1))
      shift
      if [ "$is_seeds" ]; then is_seeds=; elif [ "$each" = --seeds ]; then is_seeds=yes; else set -- "$@" "$each"; fi
    done
    set -- "$@" --seeds 2 --budget 2steps --set data.batch_size=2 --set data.val_batches=1 ;;
esac
exec {program} "$@"
"""
SETTINGS = ["train.steps=2", "train.eval_every=2", "train.sample_every=0", "train.plot=false", "train.tensorboard=false",
            "train.progress=none", "data.batch_size=2", "data.val_batches=1"]


# Other tests run beside this one.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Failure(Exception):
    pass


def require(holds, message):
    if not holds:
        raise Failure(message)


def blocks(text, language):
    return [content for name, content in FENCE.findall(text) if name == language]


def links(text, folder=DOCS):
    """The files that a page in `folder` links, as paths."""
    return [folder / target for target in LINK.findall(FENCE.sub("", text)) if "://" not in target]


def pages():
    """The pages of the index, in its order."""
    index = (DOCS / "README.md").read_text()
    rows = [line for line in index.splitlines() if line.startswith("| [")]
    found = [LINK.search(row).group(1) for row in rows]
    require(found, "docs/README.md: no table of pages")
    require("docs/README.md" in (ROOT / "README.md").read_text(), "README.md does not link docs/README.md")
    return [DOCS / name for name in found]


def holds(whole, part):
    """Whether `part` is `whole` less some keys."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    return part == whole


def inner(value):
    """A value and all objects within it."""
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inner(item)


def check_json(text, files):
    """Blocks are parts of recipes, or files that the commands make."""
    whole = [value for file in files if file.suffix == ".json" for value in inner(json.loads(file.read_text()))]
    for block in blocks(text, "json"):
        try:
            part = json.loads(block)
        except ValueError as error:
            raise Failure(f"a json block does not parse: {error}:\n{block}") from error
        require(any(holds(value, part) for value in whole), f"a json block is in none of the files that the page links:\n{block}")


def check_cpp(text, files):
    sources = [file.read_text() for file in files if file.suffix == ".cpp"]
    for block in blocks(text, "cpp"):
        require(any(block in source or textwrap.indent(block, "  ") in source for source in sources),
                f"a cpp block is in none of the examples that the page links:\n{block}")


def make_folder(folder, program):
    """What the commands see: the parts of the repository that they name."""
    data = folder / "runs" / "data"
    data.mkdir(parents=True)
    for wanted, made in recipes.make_small_data(data).items():
        if (folder / wanted) != made:
            made.rename(folder / wanted)
    for own in (data / "jargon.txt", folder / "my.txt"):
        own.write_text((data / "shakespeare.txt").read_text())
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "tools").mkdir()
    for tool in (ROOT / "tools").iterdir():
        if not tool.name.startswith("fetch_"):
            (folder / "tools" / tool.name).symlink_to(tool)
        else:  # the data are there
            (folder / "tools" / tool.name).write_text("import sys\nopen(sys.argv[1]).close()\n")
    (folder / "build").mkdir()
    wrapper = folder / "build" / "x-transformers"
    settings = " ".join(f"--set {setting}" for setting in SETTINGS)
    wrapper.write_text(PROGRAM.format(settings=settings, program=shlex.quote(str(program))))
    wrapper.chmod(0o755)


def make_weights(folder):
    """What a reader brings from Python: weights of recipes/bytes.json, and its model file. Their format is safetensors, which
    the program tells by its content."""
    subprocess.run(["build/x-transformers", "train", "--config", "recipes/bytes.json", "--out", "runs/python"], cwd=folder,
                   env=ENVIRONMENT, check=True, capture_output=True)
    shutil.copyfile(folder / "runs/python/model.safetensors", folder / "w.pt")
    (folder / "model.json").write_text(json.dumps(json.loads((ROOT / "recipes/bytes.json").read_text())["model"]))


def check_commands(text, program, verbose):
    with tempfile.TemporaryDirectory(prefix="docs.") as temporary:
        folder = Path(temporary)
        make_folder(folder, program)
        if " w.pt" in text:
            make_weights(folder)
        for block in blocks(text, "sh"):
            if block.startswith("make "):
                continue
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=ENVIRONMENT,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
            require(done.returncode == 0, f"status {done.returncode} of:\n{block}\n{done.stdout}")
            if verbose:
                print(textwrap.indent(done.stdout, "    "))


def check(page, program, verbose):
    require(page.exists(), "there is no such page")
    text = page.read_text()
    files = links(text)
    for file in files:
        require(file.exists(), f"a link leads nowhere: {file.relative_to(DOCS)}")
    require(blocks(text, "sh") or blocks(text, "cpp"), "no command and no program")
    check_json(text, files)
    check_cpp(text, files)
    check_commands(text, program, verbose)


def check_front(program, verbose):
    text = (ROOT / "README.md").read_text()
    for file in links(text, ROOT):
        require(file.exists(), f"a link leads nowhere: {file.relative_to(ROOT)}")
    require("build/x-transformers train" in text, "no command that trains")
    check_commands(text, program, verbose)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build/x-transformers")
    parser.add_argument("--filter", nargs="+", help="pages to try, without .md; default: all")
    parser.add_argument("--verbose", action="store_true", help="shows what the commands print")
    options = parser.parse_args()
    program = options.program.resolve()
    failures = 0
    for page in [ROOT / "README.md", *pages()]:
        if options.filter and page.stem not in options.filter:
            continue
        start = time.monotonic()
        try:
            check_front(program, options.verbose) if page.parent == ROOT else check(page, program, options.verbose)
            print(f"{page.name}: works, {time.monotonic() - start:.1f} s", flush=True)
        except Failure as failure:
            failures += 1
            print(f"{page.name}: {failure}", flush=True)
    if failures:
        sys.exit(f"{failures} pages of docs/ do not work")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(str(failure))
