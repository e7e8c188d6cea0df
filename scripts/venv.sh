# shellcheck shell=sh
# Sourced by its neighbours. Sets `root` and `venv`; `make_venv` leaves a whole .venv behind or ends with status 3.
#
# A .venv is whole if its stamp, which is written last, still says what would be installed now: an interrupted set-up
# has no stamp, a moved checkout or a changed dependency has another one, and both are made anew.

root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P) || exit 3
venv=$root/.venv
stamp=$venv/complete

# What the caller has set for another Python or another pip target would leak into ours.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
# Behind a company's proxy only the machine's own certificates are right; uv asks for them under either name.
export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1

say() {
    printf 'enim: %s\n' "$*" >&2
}

give_up() {
    say "$@"
    exit 3
}

# Prints "<real path> <major> <minor>" of an interpreter; nothing if it does not run.
identify() {
    "$1" -I -S -c 'import os, sys; print(os.path.realpath(sys.executable), *sys.version_info[:2])' 2>/dev/null
}

# Prints what the .venv depends on: where it is, its interpreter, and the tables of pyproject.toml that are installed.
describe() {
    printf '%s\n' "$venv" "$(identify "$venv/bin/python")"
    awk '/^\[/ { wanted = ($0 ~ /^\[(build-system|project|tool\.hatch)/) } wanted' "$root/pyproject.toml"
}

is_whole() {
    [ -f "$stamp" ] && [ -x "$venv/bin/enim-lab" ] && [ "$(cat "$stamp")" = "$(describe)" ]
}

# Sets `python` to the first interpreter of at least 3.11, if possible one that can make environments by itself,
# `builtin` to yes if it can, and `seen` to what was found instead.
find_python() {
    python='' builtin='' seen=''
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        # A pyenv shim is found here and still does not run.
        version=$(identify "$candidate") || continue
        if ! "$candidate" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            seen="$seen${seen:+, }$candidate is $(printf '%s' "$version" | awk '{ print $(NF-1) "." $NF }')"
            continue
        fi
        [ -n "$python" ] || python=$(command -v "$candidate")
        if "$candidate" -I -c 'import ensurepip, venv' 2>/dev/null; then
            python=$(command -v "$candidate") builtin=yes
            return
        fi
    done
}

# Makes an empty environment with pip in it, by whatever this machine has for that.
create_venv() {
    find_python
    if [ -n "$builtin" ]; then
        say "making .venv with $python"
        "$python" -m venv "$venv"
    elif command -v uv >/dev/null; then
        say "making .venv with uv"
        uv venv --quiet --seed --python "${python:->=3.11}" "$venv"
    elif [ -z "$python" ]; then
        give_up "Python 3.11 or newer is needed (${seen:-no python3 was found}). Install it, for example with" \
            "'sudo apt-get install python3 python3-venv' on Debian 12 or later or Ubuntu 24.04, or install uv, which brings one."
    elif command -v virtualenv >/dev/null; then
        say "making .venv with virtualenv"
        virtualenv --quiet --python "$python" "$venv"
    elif command -v pipx >/dev/null; then
        say "making .venv with pipx and virtualenv"
        pipx run --quiet virtualenv --quiet --python "$python" "$venv"
    else
        give_up "$python cannot make virtual environments. Install one of python3-venv" \
            "('sudo apt-get install python3-venv'), uv, virtualenv or pipx, then try again."
    fi
}

# Installs into the .venv. Args: what pip install takes.
install() {
    "$venv/bin/python" -m pip install --quiet "$@" || give_up "pip could not install $*; its own message is above." \
        "The first run needs a Python package index (PyPI, or the one of your pip.conf) and about 100 MB of disk."
}

make_venv() {
    # Two runs at once must not make the same .venv; the lock ends with this shell or with `exec 9<&-`.
    if command -v flock >/dev/null; then
        exec 9<"$root/scripts"
        flock 9
    fi
    if ! is_whole; then
        [ ! -e "$venv" ] || say ".venv is unfinished, out of date or from elsewhere: it is made anew"
        rm -rf -- "$venv" || give_up "$venv cannot be removed: was it made by another user? Remove it, then try again."
        create_venv || give_up "$venv could not be made; the message above says why."
        install --editable "$root"
        { describe >"$stamp.new" && mv -- "$stamp.new" "$stamp"; } || give_up "$stamp cannot be written."
    fi
    exec 9<&-
}
