# Aliases, nothing more: what they do stands in scripts/. Every one installs what it lacks (Debian packages, npm).
.PHONY: help build run test lint fmt fuzz bench clean

help:
	@echo "make run              build, and start the gateway on an example configuration"
	@echo "make build            the release binary: build/cardea"
	@echo "make test [T=word]    every test, or those whose name has the word"
	@echo "make lint             formatting, static analysis, the include graph, sizes"
	@echo "make fmt              format the C sources"
	@echo "make fuzz [MINUTES=5] libFuzzer on every parser"
	@echo "make bench            measure"
	@echo "make clean            remove everything that was built"

build:
	@scripts/setup build
	@scripts/build release

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
	@scripts/fuzz $(or $(MINUTES),5)

bench:
	@scripts/setup build bench
	@scripts/bench

clean:
	@rm -rf build build-asan build-fuzz build-lint
