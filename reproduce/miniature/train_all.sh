#!/usr/bin/env bash
# Trains every model of the miniature that is not finished; run it again after an interruption.
#
#     PYTHON=venv/bin/python reproduce/miniature/train_all.sh [NAME...]
#
# NAME: a family, or a family with -seedN. STEPS (2200) and OUT (models/ beside this script) can be set. A model is
# finished when its train.log says so; remove its directory to train it anew.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/models}
# Keep freed memory rather than ask for fresh pages in every step: the logits alone are 12 MB.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=200000000
names=("$@")
((${#names[@]})) || names=(opt llama llama3 mistral cohere opt-seed2 opt-seed3 opt-seed4)
for name in "${names[@]}"; do
  if grep -qs '^stored fp16 weights' "$out/$name/train.log"; then
    echo "$name: finished"
    continue
  fi
  seed=1
  [[ $name != *-seed* ]] || seed=${name##*-seed}
  "${PYTHON:-python3}" "$here/train.py" "${name%-seed*}" --seed "$seed" --steps "${STEPS:-2200}" --out "$out/$name"
done
