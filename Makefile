# Every target sets up .venv from nothing; the stamp is remade when the dependencies change.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= $(shell getconf _NPROCESSORS_ONLN)
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow fuzz lint bench validate calibrate clean

demo: $(STAMP)
	$(BIN)/archsim run configs/runs/llama_3_8b_on_tpu_v4i.yaml --out out/demo --overwrite --what-if

# A process for each core takes a group of tests at a time (tests/conftest.py).
test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder --durations 5 --durations-min 5

test-slow: $(STAMP)
	ARCHSIM_TESTS=whole $(BIN)/python -m pytest -m "slow or not slow"

fuzz: $(STAMP)   # millions of inputs, others than those of make test; FIRST=123 for yet others
	cd tests && ../$(BIN)/python -m fuzz.hunt $(or $(COUNT),2000000) $(or $(FIRST),100000)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	rm -rf build/flat && mkdir -p build/flat && cp -RL archsim build/flat/   # grimp does not follow links
	cd build/flat && ../../$(BIN)/lint-imports --config ../../pyproject.toml

bench: $(STAMP)
	$(BIN)/python -m benchmarks

validate: $(STAMP)
	$(BIN)/archsim validate --workers $(JOBS)

calibrate: $(STAMP)
	$(BIN)/archsim calibrate nvidia --out configs/kernels/nvidia.yaml
	$(BIN)/archsim calibrate amd --out configs/kernels/amd.yaml

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build out dist
