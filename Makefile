# Aliases, nothing more: what they do stands in scripts/. Every one installs what it lacks (Debian packages, npm).
.PHONY: help build run test lint fmt fuzz bench soak clean

help:
	@echo "make run              build, and start the gateway on an example configuration"
	@echo "make build            the release binary, build/cardea, and build/check-*: one parser each, for files of yours"
	@echo "make test [T=word]    every test, or those whose name has the word"
	@echo "make lint             formatting, static analysis, the include graph, sizes"
	@echo "make fmt              format the C sources"
	@echo "make fuzz [MINUTES=5] libFuzzer on every parser, for so long in all; EACH=1: each; JOBS=N at once"
	@echo "make bench [QUICK=1]  measure beside nginx; CASES=WORD,... SECONDS=N JSON=FILE; RECORD=1: docs/BENCHMARKS.md"
	@echo "make soak [MINUTES=5] load and trouble for so long: nothing may be lost or left; SEED=N: the same load again"
	@echo "make clean            remove everything that was built"

build:
	@scripts/setup build
	@scripts/build release cardea 'check-*'

run:
	@scripts/run

test:
	@scripts/setup build test
	@scripts/build release
	@scripts/build asan
	@scripts/test $(T)

lint:
	@scripts/setup build lint
	@scripts/lint

fmt:
	@scripts/setup lint
	@git ls-files -co --exclude-standard '*.c' '*.h' '*.cpp' | xargs -r clang-format-14 -i

fuzz:
	@scripts/setup build fuzz
	@JOBS=$(or $(JOBS),1) scripts/fuzz $(or $(MINUTES),5) $(if $(EACH),each)

bench:
	@scripts/setup build bench
	@scripts/bench $(if $(QUICK),--quick) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(CASES),--cases '$(CASES)') $(if $(JSON),--json '$(JSON)') $(if $(RECORD),--record)

soak:
	@scripts/setup build test
	@scripts/soak $(or $(MINUTES),5) $(SEED)

clean:
	@rm -rf build build-asan build-fuzz build-lint
