# Sourced, in the top folder, by the scripts that build and install the C library: defines its file
# names.

version=$(sed -nE 's/^version = "(.*)"/\1/p' Cargo.toml | head -n 1)
# The version of the C interface, by the rule of cargo-c: the major version, and until 1.0 the minor
# version with it.
interface=$(sed -nE 's/^version = "(0\.[0-9]+|[0-9]+)\..*/\1/p' Cargo.toml | head -n 1)
shared=libcurve_tun.so.$version
soname=libcurve_tun.so.$interface
