#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PEFT loads adapters that Tenon wrote and computes the same logits: check_peft.sh WRITE_PEFT_CASE REFERENCE SCRATCH
# The Python is $TENON_PYTHON, or python3. Exit 77: it, or PyTorch and peft in it, is not there.
set -euo pipefail
writer=$1 reference=$2 scratch=$3
python=${TENON_PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
  echo "SKIPPED: there is no $python"
  exit 77
fi
for case in gpt2-small:plain gpt2-odd:rslora gpt2-small:dora gpt2-small:parts; do
  model=$reference/cases/${case%:*}/model
  rm -rf "$scratch"
  mkdir -p "$scratch"
  "$writer" "$model" "$scratch" "${case#*:}"
  "$python" "$reference/check_peft.py" "$scratch" "$model"
done
