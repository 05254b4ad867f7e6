#!/usr/bin/env python3
"""Writes the Jargon File 4.4.7, a dictionary of hackers' words, as one text file: tools/fetch_jargon.py OUT.txt

It is in the public domain (cite it with its version). It comes out of Debian's package `jargon-text`, which apt fetches
from the archive that it is set up for and checks by its signed lists; the package is not installed and none of its
scripts run.
"""

import gzip
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "jargon-text"
TEXT = "./usr/share/doc/jargon-text/jargon.txt.gz"
VERSION = "(version 4.4.7)"


def output_of(command, folder):
    try:
        return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"fetch_jargon: {error}; apt of Debian or Ubuntu, after `apt-get update`, has the package '{PACKAGE}'")


def jargon(folder):
    """The text, out of the package that apt fetches into `folder`."""
    # As the user who asks: apt's own may not write into a folder of root's.
    output_of(["apt-get", "-o", "APT::Sandbox::User=root", "-q", "download", PACKAGE], folder)
    archive = next(Path(folder).glob(f"{PACKAGE}_*.deb"))
    files = output_of(["dpkg-deb", "--fsys-tarfile", str(archive)], folder)
    with tarfile.open(fileobj=io.BytesIO(files)) as tar:
        return gzip.decompress(tar.extractfile(TEXT).read()).decode()


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        text = jargon(folder)
    if VERSION not in text[:200]:
        sys.exit(f"fetch_jargon: expected {VERSION} in the first lines, found {text[:200]!r}")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".part")
    partial.write_text(text)
    partial.replace(out)
    print(f"fetch_jargon: {out.stat().st_size:,} bytes in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
