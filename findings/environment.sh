# Sourced by the findings: makes a Python environment with the packages given and sets `python`.
venv=${XT_FINDINGS_VENV:-$(mktemp -d)/venv}
python=$venv/bin/python
[ -x "$python" ] || python3 -m venv "$venv"
"$python" -m pip install --quiet --disable-pip-version-check "$@"
