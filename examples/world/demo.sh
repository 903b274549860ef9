#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Teaches the small model beside this file to answer questions, with two ranks, and shows what changed.
#   examples/world/demo.sh BUILD_DIR        (tools/dev demo builds first and calls it)
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
build=${1:?usage: demo.sh BUILD_DIR}
work=$build/world
tenon=$build/tools/tenon

echo "The model in examples/world/model has read about a valley and its people, but never a question." >&2
"$build/examples/tenon_world" "$work"
mpirun --allow-run-as-root --oversubscribe -np 2 "$tenon" finetune --force --out "$work/run" \
  --model "$here/model" --data "$work/qa_train.jsonl" --val "$work/qa_val.jsonl" --eval-every 12 \
  --method lora --rank 8 --alpha 16 --targets c_attn,c_proj,c_fc --weight-decay 0.1 \
  --seq-len 128 --batch 16 --micro-batch 8 --epochs 12 --lr 2e-3 --warmup 10 --schedule cosine --seed 1 --log-every 6 >&2
echo "The same questions, about people who were in none of the training questions, before and after:" >&2
"$build/examples/tenon_world_compare" "$tenon" "$here/model" "$work/run/adapter" "$work/qa_test.jsonl"
