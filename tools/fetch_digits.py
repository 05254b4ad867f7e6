#!/usr/bin/env python3
"""Writes scikit-learn's handwritten digits as examples: tools/fetch_digits.py OUT.safetensors

img [1797, 1, 8, 8] float32 from 0 to 1 and labels [1797] int64 (Alpaydin and Kaynak, UCI, 1998). They lie as a CSV file in
the package scikit-learn 1.5.2, which pip fetches from the index that it is set up for; the archive's hash is checked and
none of its code runs.
"""

import gzip
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "scikit-learn==1.5.2"
SHA256 = "f8b0ccd4a902836493e026c03256e8b206656f91fbcc4fde28c57a5b752561f1"
PLATFORM = ["--platform", "manylinux2014_x86_64", "--python-version", "3.11", "--implementation", "cp"]
DIGITS = "sklearn/datasets/data/digits.csv.gz"


def fetch(folder):
    """Path of the archive, fetched into `folder`."""
    requirements = Path(folder, "requirements.txt")
    requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary", ":all:", *PLATFORM, "--require-hashes", "--requirement", str(requirements),
               "--dest", folder]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"fetch_digits: pip could not fetch the package {PACKAGE}")
    return next(Path(folder).glob("*.whl"))


def digits(archive):
    """The lines of the CSV file: 64 pixels from 0 to 16, and the digit."""
    with zipfile.ZipFile(archive) as packed:
        text = gzip.decompress(packed.read(DIGITS)).decode()
    return [[int(number) for number in line.split(",")] for line in text.split()]


def safetensors(rows):
    pixels = [pixel / 16 for row in rows for pixel in row[:-1]]
    labels = [row[-1] for row in rows]
    parts = {"img": ("F32", [len(rows), 1, 8, 8], struct.pack(f"<{len(pixels)}f", *pixels)),
             "labels": ("I64", [len(rows)], struct.pack(f"<{len(labels)}q", *labels))}
    header, offset = {}, 0
    for name, (dtype, shape, content) in parts.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(content for _, _, content in parts.values())


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        content = safetensors(digits(fetch(folder)))
    partial = out.with_name(out.name + ".tmp")
    partial.write_bytes(content)
    partial.rename(out)


main()
