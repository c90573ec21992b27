#!/usr/bin/env bash
# Makes the store that docs/results.md is about: `bash tools/results.sh DATA BASE MODELS STORE`.
#
# DATA holds GLUE files, BASE the pretrained encoder, MODELS the checkpoints SST-2, MRPC and MNLI. Checkpoints of
# other seeds are fine-tuned into a folder beside the store. A step that is done is not done again.
set -euo pipefail
data=$1 base=$2 models=$3 store=$4
attattr=${ATTATTR:-.venv/bin/attattr}
tuned=$(dirname "$store")/models

tune() { # NAME TASK OPTIONS...
  [ -e "$tuned/$1/model.safetensors" ] || "$attattr" finetune --task "$2" --base "$base" --data-dir "$data" \
    --learning-rate 5e-5 -o "$tuned/$1" "${@:3}"
}
tune RTE-seed0 rte --epochs 5 --batch-size 16 --seed 0
tune RTE-seed1 rte --epochs 5 --batch-size 16 --seed 1
tune MRPC-seed1 mrpc --epochs 5 --batch-size 16 --seed 1
tune SST-2-seed1 sst2 --epochs 1 --limit 20000 --seed 1

run() { # NAME TASK MODEL OPTIONS...
  "$attattr" run --db "$store" --name "$1" --task "$2" --model "$3" --data-dir "$data" --quiet "${@:4}"
}
run sst2-a sst2 "$models/SST-2"
run sst2-b sst2 "$tuned/SST-2-seed1"
run rte-a rte "$tuned/RTE-seed0"
run rte-b rte "$tuned/RTE-seed1"
run mrpc-a mrpc "$models/MRPC"
run mrpc-b mrpc "$tuned/MRPC-seed1"
run mnli mnli "$models/MNLI" --limit 1000

# The released code's rule beside the certified one.
fixed=(--quadrature left-riemann --nodes 20)
run sst2-left20 sst2 "$models/SST-2" "${fixed[@]}"
run mrpc-left20 mrpc "$models/MRPC" "${fixed[@]}"
run mnli-left20 mnli "$models/MNLI" --limit 1000 "${fixed[@]}"

main=(--run sst2-a --run sst2-b --run rte-a --run rte-b --run mrpc-a --run mrpc-b --run mnli)
params=(--param sample=200 --param variants=all --param path_rows=50)
cp "$store" "$store.mean" # the same runs; what is removed becomes its mean there
"$attattr" jobs run --db "$store" "${main[@]}" "${params[@]}"
"$attattr" jobs run faithfulness pruning_area effectiveness --db "$store.mean" "${main[@]}" "${params[@]}" \
  --param ablation=mean
"$attattr" verify --db "$store"
