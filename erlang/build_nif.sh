#!/bin/sh
# Builds the NIF with cargo and puts it into priv/. `rebar3 compile` runs this in every application folder of the
# build; it works on the one it stands in.
set -eu
cd "$(dirname "$0")"
[ -f ../Cargo.toml ] || { echo "curve_tun: the crate is expected in the folder above $(pwd)" >&2; exit 1; }
target=${CARGO_TARGET_DIR:-../target}
cargo build --quiet --release --lib --no-default-features --features nif --manifest-path ../Cargo.toml
case $(uname -s) in
    Darwin) built=libcurve_tun.dylib ;;
    *) built=libcurve_tun.so ;;
esac
mkdir -p priv
# A library that is mapped into a running node must not change under it: a new file takes the name.
if ! cmp -s "$target/release/$built" priv/curve_tun_nif.so; then
    cp "$target/release/$built" priv/curve_tun_nif.so.new
    mv -f priv/curve_tun_nif.so.new priv/curve_tun_nif.so
fi
