# make demo | make test | make check: set-up happens by itself, from locked versions, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Idle OpenMP threads sleep: spinning makes two busy cores ten times slower.
export OMP_WAIT_POLICY := passive

.PHONY: demo test check format readme-output setup clean

demo: setup
	$(BIN)/holdfast demo

# Two files at a time, one thread each: small models gain more from that than from two threads.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest tests/docs

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Puts what the finished demo prints into README.md.
readme-output: setup
	$(BIN)/holdfast demo --dir runs | $(BIN)/python tools/docs.py --readme

setup: .venv/ready

.venv/ready: requirements/torch.txt requirements/run.txt requirements/dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements/torch.txt -c requirements/run.txt
	$(BIN)/python -m pip install --quiet -r requirements/run.txt -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv build runs
