#!/usr/bin/env bash
# Tests marked `gpu` and benchmarks/gpu.py, from a bare checkout, on a machine without a package index.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'HELP'
usage: bash benchmarks/gpu.sh [options]

Runs the tests marked `gpu`, then benchmarks/gpu.py, in less than eight minutes. `python3` must have torch,
transformers, numpy, pandas, pytest and what these bring; everything else comes from a folder of wheels and is
installed into a folder of its own. What is missing is named, with what is skipped without it.

  --fetch-wheels     only download the wheels into --wheels (needs a package index): packs of at most 60 MB,
                     which may be brought one by one; all but the last do for everything but Ray
  --install-only     only install what is in --wheels, and keep parts of wheels until the others are brought
  --wheels DIR       wheels, in packs or not; default .wheels
  --site DIR         where they are installed; default a folder in TMPDIR
  --out DIR          log and results; default build/gpu
  --commit ID        the commit that is measured, where git cannot say it
  --tests-only, --benchmark-only
  --rehearse         the same on a CPU in tiny sizes, in an environment of Python 3.12, torch 2.11 and
                     transformers 5.17, which is made in build/gpu-rehearsal if it is not there (needs a package
                     index, and 6 GB); PYTHON312 names the interpreter, TORCH_INDEX an index with CPU builds

Exit code: 0 all well, 1 a test or a part of the benchmark failed, 2 nothing could be run.
HELP
}

wheels=.wheels out=build/gpu mode=all rehearse= commit= python=python3 tests_s=180 benchmark_s=270
site=${TMPDIR:-/tmp}/attattr-gpu-site
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=$2; shift ;;
    --site) site=$2; shift ;;
    --out) out=$2; shift ;;
    --commit) commit=$2; shift ;;
    --fetch-wheels | --install-only | --tests-only | --benchmark-only) mode=${1#--} ;;
    --rehearse) rehearse=--rehearse ;;
    --help | -h) usage; exit 0 ;;
    *) echo "unknown option $1; --help lists them" >&2; exit 2 ;;
  esac
  shift
done

if [ "$mode" = fetch-wheels ]; then
  exec "$python" benchmarks/wheels.py fetch "$wheels"
fi

# The first interpreter of Python 3.12 among those that there may be.
find_python312() {
  local one
  for one in "${PYTHON312:-}" python3.12 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python; do
    if "$one" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
      echo "$one"
      return
    fi
  done
  echo "no Python 3.12 here; PYTHON312=... names one" >&2
  return 2
}

# The versions that the machines with GPUs have; pydantic came with typer, and is not theirs.
make_rehearsal() {
  local place=build/gpu-rehearsal
  if [ ! -e "$place/made" ]; then
    echo "making $place (minutes)"
    local interpreter
    interpreter=$(find_python312)
    "$interpreter" -m venv "$place"
    local pip=("$place/bin/python" -m pip --disable-pip-version-check --quiet)
    if [ -n "${TORCH_INDEX:-}" ]; then
      "${pip[@]}" install torch==2.11.0 --index-url "$TORCH_INDEX"
    fi
    "${pip[@]}" install torch==2.11.0 transformers==5.17.0 numpy pandas pytest pytest-timeout safetensors typer \
      rich jaxtyping
    "${pip[@]}" uninstall --yes pydantic pydantic-core annotated-types typing-inspection
    touch "$place/made"
  fi
  [ -d "$wheels" ] || "$place/bin/python" benchmarks/wheels.py fetch "$wheels"
  python=$place/bin/python site=build/gpu-rehearsal/site tests_s=1800 benchmark_s=900
  export ATTATTR_GPU_REHEARSAL=cpu CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
}
[ -z "$rehearse" ] || make_rehearsal

mkdir -p "$out"
step() { printf '\n=== %s (%d s)\n' "$1" "$SECONDS"; }

everything() {
  step "wheels"
  if [ -d "$wheels" ]; then
    "$python" benchmarks/wheels.py install "$wheels" "$site"
  else
    echo "no folder $wheels; \`bash benchmarks/gpu.sh --fetch-wheels\` makes it where there is a package index"
  fi
  [ "$mode" != install-only ] || return 0
  export PYTHONPATH=$site:$PWD PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

  step "what is here"
  "$python" benchmarks/wheels.py missing
  "$python" - <<'VERSIONS'
import platform, torch, transformers
print(f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}")
for index in range(torch.cuda.device_count()):
    card = torch.cuda.get_device_properties(index)
    print(f"card {index}: {card.name}, {card.total_memory / 2**30:.1f} GiB, CUDA {torch.version.cuda}")
VERSIONS
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv || true
  fi

  local code=0
  if [ "$mode" != benchmark-only ]; then
    step "tests"
    # Warnings stay warnings: other versions than ours have others, and a GPU may be at hand for minutes only.
    timeout --kill-after 10 "$tests_s" "$python" -m pytest tests/gpu -m gpu -q -W default -p no:cacheprovider \
      --timeout "$tests_s" --durations 10 || { code=1; echo "tests: not all good (124: not done in $tests_s s)"; }
  fi
  if [ "$mode" != tests-only ]; then
    step "benchmark"
    timeout --kill-after 10 "$benchmark_s" "$python" benchmarks/gpu.py $rehearse --out "$out" \
      ${commit:+--commit "$commit"} || code=1
  fi
  step "done, exit code $code, log and results in $out"
  return $code
}
everything 2>&1 | tee "$out/gpu.log"
