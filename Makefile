# The front door: `make demo` and `make test` do everything on a fresh machine. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help deps configure build test demo bench format lint clean
SHELL := /bin/bash

BUILD := build
PROGRAM := $(BUILD)/x-transformers
JOBS = $(shell tools/jobs.sh)
# make demo DATA=my.txt PROMPT='Once upon' trains on your own text, in OUT. An interrupted demo goes on where it was.
PLAYS := runs/data/shakespeare.txt
DATA := $(PLAYS)
IS_OWN := $(filter-out $(PLAYS),$(DATA))
PROMPT := $(if $(IS_OWN),,ROMEO:)
OUT := runs/demo$(if $(IS_OWN),-$(basename $(notdir $(DATA))))

# For ccache, so that it takes files that use the precompiled header as well.
export CCACHE_SLOPPINESS ?= pch_defines,time_macros,include_file_mtime,include_file_ctime

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what is missing (tools/install_deps.sh)
	@tools/install_deps.sh

configure: deps
	@[ -e $(BUILD)/build.ninja ] || CMAKE_CXX_COMPILER_LAUNCHER=$$(command -v ccache) cmake --preset release

build: configure ## build everything: library, program, tests
	cmake --build $(BUILD) -j $(JOBS)

test: build ## build, and run all tests
	ctest --test-dir $(BUILD) --output-on-failure -j $(shell nproc)

$(PLAYS): | deps
	@python3 tools/fetch_plays.py $@

demo: configure $(filter $(PLAYS),$(DATA)) ## train a small model on Shakespeare for two minutes, and let it write (DATA=file: on your text)
	cmake --build $(BUILD) -j $(JOBS) --target x-transformers
	$(PROGRAM) train --config examples/demo.json --data "$(DATA)" --out "$(OUT)" --set "train.sample_prompt=$(PROMPT)" --resume
	$(PROGRAM) generate "$(OUT)" --prompt "$(PROMPT)"

bench: configure ## measure training and generation beside Python x-transformers
	cmake -B $(BUILD) -DXT_BENCHMARKS=ON
	cmake --build $(BUILD) -j $(JOBS)
	benchmarks/run.sh $(BUILD)

format: ## clang-format all C++ files in place
	git ls-files --cached --others --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' | xargs -r $$(command -v clang-format-14 || echo clang-format) -i

lint: configure ## check format, include rules, and changed files with clang-tidy
	python3 tools/lint.py

clean: ## remove all builds (not .deps/ and runs/)
	rm -rf build build-*
