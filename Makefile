# The project's chores; cmake does the building. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help check soak bench demo format build dev

help:
	@echo 'make check    setup, build, every test, layering, format (what CI runs)'
	@echo 'make demo     teaches the small model a style with a LoRA and shows it: demo/index.html'
	@echo 'make soak     the long counts: fuzzing, random graphs'
	@echo 'make bench    times of a step of SD1.5 and of its kernels, as JSON lines'
	@echo 'make format   puts every C file into the project'"'"'s form'
	@echo 'make build    only the program: build/graphrun'

build:
	scripts/setup
	cmake --preset release --log-level=WARNING
	cmake --build --preset release

# The tests run on the program that ships; the unit tests and the command line once more
# under AddressSanitizer and UndefinedBehaviorSanitizer.
check: build
	cmake --preset dev --log-level=WARNING
	cmake --build --preset dev
	ctest --preset release -j2
	ctest --preset dev -j2 -L unit

soak: build
	scripts/soak

bench: build
	scripts/bench

demo: build
	scripts/style-demo demo

format:
	scripts/setup
	scripts/format
