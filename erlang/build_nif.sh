#!/bin/sh
# Builds the NIF with cargo and puts it into the given folder, or into priv/ beside this script.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
priv=${1:-$here/priv}
crate=$here/..
# A sparse git dependency of Mix on this folder has the rest of the repository available but not
# checked out.
if [ ! -f "$crate/Cargo.toml" ]; then
    git -C "$crate" sparse-checkout disable >/dev/null 2>&1 || true
fi
[ -f "$crate/Cargo.toml" ] || { echo "curve_tun: the crate is expected in the folder above $here" >&2; exit 1; }
command -v cargo >/dev/null || { echo "curve_tun: cargo is needed to build the NIF, and is not in PATH: https://rustup.rs" >&2; exit 1; }
case $(uname -s) in
    Darwin) built=libcurve_tun.dylib ;;
    *) built=libcurve_tun.so ;;
esac
# The first build takes long, so cargo reports its progress. Later builds are silent unless they
# fail.
quiet=--quiet
if [ ! -f "$priv/curve_tun_nif.so" ]; then
    echo "curve_tun: cargo builds the NIF, which takes some minutes the first time"
    quiet=
fi
# A library mapped into a running node must not change in place: a new file takes over the name.
# shellcheck disable=SC2086 # No argument at all, if it is empty.
sh "$crate/scripts/cargo-build" "$built=$priv/curve_tun_nif.so" -- \
    $quiet --release --lib --no-default-features --features nif,pkcs11
