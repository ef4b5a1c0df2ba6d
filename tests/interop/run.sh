#!/bin/sh
# Do exports load elsewhere? Quantizes small models with ptq, opens the results with other people's software from PyPI,
# and compares logits. Needs network access to PyPI and a few GiB of disk; not part of run-tests.
#
#   tests/interop/run.sh [build/ptq]
#
# PTQ_INTEROP      where the virtual environments and the models go (default /tmp/ptq-interop-work)
# PTQ_MODELS       if it holds stories260K, that model is used as well
# PTQ_SKIP_GPTQMODEL=1  leaves out GPTQModel, whose environment takes long to install
set -eu
here=$(cd "$(dirname "$0")" && pwd)
ptq=$(realpath "${1:-$here/../../build/ptq}")
work=${PTQ_INTEROP:-/tmp/ptq-interop-work}
mkdir -p "$work"

environment() { # name packages...
  name=$1
  shift
  [ -f "$work/$name.ok" ] && return 0
  python3 -m venv "$work/$name"
  "$work/$name/bin/pip" install --quiet --disable-pip-version-check "$@" && touch "$work/$name.ok"
}

environment transformers torch==2.9.1 transformers==4.57.6 accelerate psutil sentencepiece 'compressed-tensors==0.15.*'
# The unpacking code alone; its other dependencies are for GPUs.
"$work/transformers/bin/pip" download --quiet --disable-pip-version-check --no-deps autoawq==0.2.9 \
  --dest "$work/autoawq" 2>"$work/autoawq.log" || echo "run.sh: the sources of AutoAWQ could not be fetched"
gptqmodel=
if [ -z "${PTQ_SKIP_GPTQMODEL:-}" ]; then
  if environment gptqmodel gptqmodel >"$work/gptqmodel.log" 2>&1; then
    gptqmodel=$work/gptqmodel/bin/python
  else
    echo "run.sh: GPTQModel does not install here: $(tail -n 1 "$work/gptqmodel.log")"
  fi
fi
exec "$work/transformers/bin/python" "$here/interop.py" --ptq "$ptq" --work "$work" ${gptqmodel:+--gptqmodel "$gptqmodel"}
