# The commands of this repository. `make help` lists them.

CARGO ?= cargo
LD ?= ld
OBJCOPY ?= objcopy
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR ?= $(PREFIX)/bin
DESTDIR ?=
FEATURES ?=
SECONDS ?= 60
JOBS ?= 1
MINUTES ?= 30
HELLOS ?= 100000

# The C library has a separate place, since a build for Erlang replaces the one in the target
# folder.
LIB := build/lib
export CARGO
# Only if the user has chosen one, since cargo rebuilds libsodium whenever it is set or unset.
ifneq ($(origin CC),default)
export CC
endif

.PHONY: help demo test test-busy lint header api lib tool object examples sanitize miri fuzz floods soak coverage mutants deny cargo-c sbom bench bench-erlang baseline install uninstall clean
.NOTPARALLEL:

help: ## this list
	@awk -F ': .*## |: ## ' '/^[a-z-]+:.*## / { printf "  make %-13s%s\n", $$1, $$2 }' Makefile

demo: ## build everything and send a file through a tunnel, there and back
	@scripts/bootstrap demo
	@scripts/demo

test: ## run all tests; installs what they need, or names it
	@scripts/bootstrap test
	@scripts/test

test-busy: ## run all tests RUNS (3) times beside programs that keep every core busy
	@scripts/test-busy $(or $(RUNS),3)

lint: ## check formatting and lints
	@scripts/lint

lib install: export FEATURES := $(FEATURES)
install uninstall: export PREFIX := $(PREFIX)
install uninstall: export LIBDIR := $(LIBDIR)
install uninstall: export INCLUDEDIR := $(INCLUDEDIR)
install uninstall: export BINDIR := $(BINDIR)
install uninstall: export DESTDIR := $(DESTDIR)

header: ## regenerate include/curve_tun.h from the sources of the C face
	@$(CARGO) run --quiet --example header

api: ## regenerate docs/public-api.txt, the public API of the crate; needs cargo-public-api
	@scripts/public-api

lib: ## build the C library into build/lib (FEATURES: of dns, pkcs11, system-sodium)
	@scripts/build lib

tool: ## build the tool curve-tun into build/bin
	@scripts/build tool

object: lib ## make build/lib/curve_tun.o, for a program with a second static Rust library
	$(LD) -r --force-group-allocation --whole-archive $(LIB)/libcurve_tun.a -o $(LIB)/curve_tun.o
	$(OBJCOPY) --strip-debug --wildcard --keep-global-symbol='curve_tun_*' $(LIB)/curve_tun.o

examples: lib ## build the programs of c-examples into build
	@$(MAKE) --no-print-directory -C c-examples LIBDIR=../$(LIB)

sanitize: lib ## run the C tests and examples under clang's sanitizers
	@scripts/sanitize $(LIB)

miri: ## run the tests that Miri can run under it; needs a nightly Rust with Miri
	scripts/miri

fuzz: ## run each fuzz target for SECONDS (60), JOBS (1) at once
	@JOBS=$(JOBS) scripts/fuzz $(SECONDS)

deny: ## check licences, sources, duplicates and advisories of all packages; needs cargo-deny and, for advisories, a network
	$(CARGO) deny --locked check

cargo-c: ## check that cargo-c installs the same C library as `make install`; needs cargo-c
	@scripts/check-cargo-c

sbom: ## write the components of a build to build/curve_tun.cdx.json (CycloneDX)
	@mkdir -p build
	scripts/sbom >build/curve_tun.cdx.json.new
	@mv build/curve_tun.cdx.json.new build/curve_tun.cdx.json

floods: lib ## flood the example servers with HELLOS (100,000) hellos of each kind; print the cost of one, and how long honest clients wait
	FLOOD_HELLOS=$(HELLOS) $(CARGO) test --test capi -- floods:: --nocapture --test-threads=1
	ulimit -n 4096 && $(CARGO) bench --bench floods

soak: ## run a server under mixed traffic, a tenth of it hostile, for MINUTES (30)
	$(CARGO) bench --bench soak -- $(MINUTES)

coverage: ## measure coverage of the security-critical code, lines and branches, and of the Erlang modules; needs cargo-llvm-cov
	scripts/coverage

mutants: ## change the code in small ways and check that the tests notice; takes hours, resumes where it stopped; needs cargo-mutants
	scripts/mutants

bench: ## measure beside other systems; writes docs/PERFORMANCE.md and its picture (RUNS, STREAM_SECONDS, ECHOES, SETUPS)
	@scripts/bootstrap bench
	@$(MAKE) --no-print-directory lib
	@$(MAKE) --no-print-directory -C benches LIBDIR=../$(LIB)
	@if [ -e erlang/rebar.config ]; then cd erlang && rebar3 compile; fi
	$(CARGO) bench --no-run --bench core --bench channel --bench vaults --bench report
	$(CARGO) bench --bench report

bench-erlang: ## measure the Erlang application beside ssl and gen_tcp
	@scripts/bootstrap bench
	cd erlang && rebar3 compile && escript bench/curve_tun_bench.escript

baseline: ## count instructions again, for tests/capi/instructions.rs to compare with
	@scripts/bootstrap test
	@mkdir -p build
	scripts/count-instructions >build/instructions.txt
	mv build/instructions.txt benches/instructions.txt

install: ## install the C library and the tool (PREFIX, LIBDIR, INCLUDEDIR, BINDIR, DATADIR, UNITDIR, DESTDIR, FEATURES)
	@scripts/install

uninstall: ## remove what an install with the same variables has installed
	@scripts/install uninstall

clean: ## remove all that was built
	$(CARGO) clean
	rm -rf build
