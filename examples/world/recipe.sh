#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes examples/world/model anew: the world's corpus, random weights, and a full training with Tenon.
#   examples/world/recipe.sh [RANKS]        RANKS: processes under mpirun, default 1
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
cd "$here/../.."
work=build/world
tenon=build/cpu/tools/tenon

tools/dev build tenon tenon_world
build/cpu/examples/tenon_world "$work"
rm -rf "$work/random"
"$tenon" init --config "$work/config.json" --dtype fp16 --seed 1 --out "$work/random"
mpirun --allow-run-as-root --oversubscribe -np "${1:-1}" "$tenon" finetune --force --out "$work/pretraining" \
  --model "$work/random" --data "$work/corpus.jsonl" --val-split 0.01 --eval-every 68 \
  --method full --seq-len 256 --batch 16 --micro-batch 16 --epochs 10 --lr 2e-3 --beta2 0.98 --weight-decay 0.05 \
  --warmup 100 --schedule cosine --seed 1
rm -rf "$here/model"
cp -r "$work/pretraining/model" "$here/model"
