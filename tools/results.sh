#!/usr/bin/env bash
# Makes the three stores that docs/results.md is filled from, and fills it:
#   bash tools/results.sh DATA BASE MODELS FOLDER
#
# DATA holds GLUE files, BASE a pretrained encoder, MODELS its checkpoints SST-2, MRPC and MNLI. Checkpoints of RTE
# and of second seeds are fine-tuned into FOLDER/models. On two cores all of it takes three to four hours; after an
# interruption, fine-tuning and attribution go on where they stopped.
set -euo pipefail
data=$1 base=$2 models=$3 folder=$4
attattr=${ATTATTR:-.venv/bin/attattr}
tuned=$folder/models first=$folder/results.duckdb second=$folder/second.duckdb triggers=$folder/triggers.duckdb

tune() { # NAME TASK OPTIONS...
  [ -e "$tuned/$1/model.safetensors" ] || "$attattr" finetune --task "$2" --base "$base" --data-dir "$data" \
    --learning-rate 5e-5 -o "$tuned/$1" "${@:3}"
}
tune RTE-seed0 rte --epochs 5 --batch-size 16 --seed 0
tune RTE-seed1 rte --epochs 5 --batch-size 16 --seed 1
tune MRPC-seed1 mrpc --epochs 5 --batch-size 16 --seed 1
tune SST-2-seed1 sst2 --epochs 1 --limit 20000 --seed 1

run() { # STORE NAME TASK MODEL OPTIONS...
  "$attattr" run --db "$1" --name "$2" --task "$3" --model "$4" --data-dir "$data" "${@:5}"
}
run "$first" sst2-a sst2 "$models/SST-2"
run "$first" mrpc-a mrpc "$models/MRPC"
run "$first" rte-a rte "$tuned/RTE-seed0"
run "$first" rte-b rte "$tuned/RTE-seed1"
run "$first" mnli mnli "$models/MNLI" --limit 1000
run "$first" sst2-b sst2 "$tuned/SST-2-seed1"
run "$first" mrpc-b mrpc "$tuned/MRPC-seed1"
[ -e "$second" ] || cp "$first" "$second"

[ -e "$triggers" ] || cp "$first" "$triggers"

tasks=(--run sst2-a --run mnli --run mrpc-a --run rte-a)
seeds=(--run sst2-b --run mrpc-b --run rte-b)
fewer=(--param sample=100 --param draws=10)
board=(head_stability top_heads faithfulness pruning_area effectiveness token_pairs interaction_distance)
"$attattr" jobs run --db "$first" --run sst2-a --run mnli "${fewer[@]}" --param path_rows=24 \
  --param variants=all "${board[@]}"
"$attattr" jobs run --db "$first" --run mrpc-a --run rte-a "${fewer[@]}" --param path_rows=24 "${board[@]}"
"$attattr" jobs run --db "$triggers" "${tasks[@]}" --param sample=200 --param patterns=5 --param victims=20 \
  --param control_draws=1 --param top=1 --param report_victims=25 --param report_draws=19 trigger_effects

# The second store: the released code's rule beside the certified one; seeds beside tasks; and what is removed
# becomes its mean context, not zero.
released=(--limit 200 --quadrature left-riemann --nodes 20)
run "$second" sst2-left20 sst2 "$models/SST-2" "${released[@]}"
run "$second" mrpc-left20 mrpc "$models/MRPC" "${released[@]}"
run "$second" mnli-left20 mnli "$models/MNLI" "${released[@]}"
mean=(--param variants=none --param ablation=mean)
"$attattr" jobs run --db "$second" "${tasks[@]}" "${seeds[@]}" "${mean[@]}" --param sample=30 universality_summary
"$attattr" jobs run --db "$second" --run sst2-a "${mean[@]}" --param sample=100 --param draws=10 \
  faithfulness effectiveness

for store in "$first" "$second" "$triggers"; do "$attattr" verify --db "$store"; done
"$(dirname "$attattr")/python" tools/fill_results.py "$folder"
for figure in effectiveness pruning faithfulness stability; do
  "$attattr" plot "$figure" --db "$first" "${tasks[@]}" -o "docs/images/results-$figure.svg"
done
"$attattr" plot universality --db "$second" "${tasks[@]}" "${seeds[@]}" -o docs/images/results-universality.svg
