# SPDX-License-Identifier: Apache-2.0
# Every target sets up what it needs by itself; see tools/setup_environment.py.

PYTHON ?= python3
# PyTorch for the tests of `perception import`: its CPU build if the package index offers it (cpu),
# any build (which may be several GB for CUDA), or none (no). Tests that need it are then skipped.
export TORCH ?= cpu
BIN := .venv/bin
SECONDS ?= 60
MINUTES ?= 30
DAMAGED ?= 10000
MUTATED ?= 2000
# The tests wait for DDS and for processes about half of their time.
WORKERS ?= $(shell echo $$((2 * $$(nproc))))
# A lock file serves all Python versions from 3.10 on.
COMPILE := uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"
# What ros.in says of one release.
ROS_OF = sed --quiet 's/RELEASE/$(1)/; /^ros-$(1)-/p; /^ros-/!p' ros.in

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-lanes test-makers test-arm64 bench soak siege damaged gpu-check
.PHONY: mutated lint format lock clean
SIZES := --size 640x480 --size 1280x720 --size 1920x1080

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: ## prepare .venv (the other targets do it when needed)
	@python=$$(tools/find_python.sh $(PYTHON)) && $$python tools/setup_environment.py

demo: setup ## classify sample photos through the whole ROS node
	@$(BIN)/perception demo

check: lint ## the quick part of `make test`, under 2 min: lint, types, unit tests; no DDS
	$(BIN)/pytest -q -n $(WORKERS) -m "not (ros or alone or slow)" tests/unit

test: lint ## lint, types, colcon, then all tests with coverage
	@python=$$(tools/find_python.sh $(PYTHON)) && $$python tools/setup_environment.py --tests
	tools/colcon_check.sh
	$(BIN)/pytest -n $(WORKERS) -m "not alone" --durations 30 --cov --cov-report=
	$(BIN)/python tools/check_coverage.py
	$(BIN)/pytest -m alone --durations 15

test-lanes: setup ## other Pythons, releases of ROS and old packages, after `make test`; 30 min
	@python=$$(tools/find_python.sh $(PYTHON)) && $$python tools/test_lanes.py $(LANES)

# Not locked: what is compared with is the makers' newest. Ultralytics would bring a second OpenCV.
test-makers: ## compare imports with the makers' own pipelines; 2 GB into .venv-makers, 10 min
	@python=$$(tools/find_python.sh $(PYTHON)) && $$python -m venv .venv-makers
	.venv-makers/bin/pip install --quiet --requirement requirements/makers.in
	.venv-makers/bin/pip install --quiet --no-deps ultralytics
	rm -f bench/reports/makers.json
	MAKERS_REPORT=bench/reports/makers.json .venv-makers/bin/python -m pytest -rs tests/makers

test-arm64: setup ## run the core's unit tests on an emulated arm64 machine, write bench/reports/arm64.json
	@$(BIN)/python tools/test_arm64.py

bench: setup ## measure bench/reports/ and the README's table again; 30 min, nothing else may run
	$(BIN)/perception bench node $(SIZES) --runs 3 --baseline naive --baseline floor --out bench/reports/node
	$(BIN)/perception bench node --rate 240 --frames 4800 --baseline floor --out bench/reports/overload
	$(BIN)/perception bench node --cameras 4 --rate 60 --frames 1200 --out bench/reports/cameras
	$(BIN)/perception bench node --sweep --out bench/reports/sweep
	$(BIN)/perception bench engine pipeline --runs 3 --frames 300 --out bench/reports/parts
	$(BIN)/perception bench startup --runs 3 --out bench/reports/startup
	$(BIN)/python tools/generate_benchmark_table.py

soak: setup ## let a failing camera play to the node for SECONDS (60), send hostile messages, then judge
	@$(BIN)/python -m perception_node.bench.soak --seconds $(SECONDS)

siege: setup ## attack nodes and server from outside for MINUTES (30), then judge; SEED=... repeats one
	@$(BIN)/python -m perception_node.bench.siege --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) \
		--json bench/reports/siege.json

damaged: setup ## decode DAMAGED (10000) damaged images: which pass, the slowest, the memory
	@DAMAGED=$(DAMAGED) $(BIN)/pytest -q -rP -p no:xdist tests/unit/vision/codecs/test_damaged_images.py

mutated: setup ## import MUTATED (2000) damaged ONNX files: none may end in a traceback
	@MUTATED=$(MUTATED) $(BIN)/pytest -q -rP -p no:xdist tests/faults/test_mutated_models.py

gpu-check: setup ## run the GPU code on this machine's NVIDIA GPU, write bench/reports/gpu-*.json
	@$(BIN)/python -m perception_node.bench.gpu_check

lint: setup ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup ## fix style and formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## pin requirements/*.in anew (needs uv: pip install uv)
	cd requirements && $(COMPILE) build.in -o build.txt
	cd requirements && $(call ROS_OF,jazzy) | $(COMPILE) -c build.txt runtime.in test.in - -o ros-jazzy.txt
	cd requirements && $(call ROS_OF,kilted) | $(COMPILE) -c build.txt runtime.in test.in - -o ros-kilted.txt
	cd requirements && $(COMPILE) -c build.txt runtime.in test.in ros-sourced.in -o ros-sourced.txt
	cd requirements && $(COMPILE) -c ros-jazzy.txt serve.in -o serve.txt
	cd requirements && $(COMPILE) -c build.txt -c ros-sourced.txt robot-gpu.in -o robot.txt
	cd requirements && $(subst --universal,--python-platform x86_64-manylinux_2_35,$(COMPILE)) -c build.txt \
		--override jetpack6-overrides.in jetpack6.in -o jetpack6.txt
	cd requirements && $(COMPILE) tensorrt-rtx.in -o tensorrt-rtx.txt
	cd requirements && $(COMPILE) --no-deps -c ros-jazzy.txt -c ros-sourced.txt torch.in -o torch.txt
	$(PYTHON) tools/list_wheels.py

clean: ## remove everything that was made here
	rm -rf .venv .venv-makers build *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
