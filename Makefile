# Two commands do all set-up on a machine that has Python 3.10 or newer, make and git: `make sweep` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help sweep test check test-slow test-chaos test-cluster test-slurm audit bench screenshots demo format clean

PYTHON ?= python3
BIN := .venv/bin
# One thread for each process: Ray workers get theirs from cluster.cpus_per_worker, tests run beside workers.
TEST_ENV := OMP_NUM_THREADS=1 WANDB_MODE=disabled

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

sweep: .venv/.installed ## install, sweep the embedded model on Ray, print the summary, write outputs/report.html
	$(BIN)/laser-sweep -m tau=each layer=each rho=0.01,0.05,0.1,0.2,0.4
	@$(BIN)/python -m laser_sweep.report

test: check ## install, check style, types and architecture, see to a browser, run the tests
	@$(BIN)/python -m tests.browser
	$(TEST_ENV) $(BIN)/pytest -m "not slow and not chaos and not netns and not slurm" -n 2 --dist loadfile

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: .venv/.installed-dev .venv/.installed-bench .venv/.installed-optuna-sweeper ## the tests that take minutes: retraining the embedded model
	$(TEST_ENV) $(BIN)/pytest -m slow

test-chaos: .venv/.installed-dev ## kill workers and drivers, fill disks: a quarter of an hour
	$(TEST_ENV) $(BIN)/pytest -m chaos -s

test-cluster: .venv/.installed-dev .venv/.installed-ray-default ## as root: three hosts on this machine, one of which is cut off in mid-sweep
	@$(BIN)/python -m tests.hosts
	$(TEST_ENV) $(BIN)/pytest -m netns

test-slurm: .venv/.installed-dev ## as root: the sbatch script on a Slurm of its own (apt-get install slurm-wlm munge)
	@$(BIN)/python -m tests.launchers.slurm
	$(TEST_ENV) $(BIN)/pytest -m slurm

audit: .venv/.installed-audit ## look for known vulnerabilities of constraints.txt; fails only where some are found
	@PYTHONPATH=.venv/pip-audit $(BIN)/python .ci/audit.py constraints.txt

bench: .venv/.installed-dev .venv/.installed-bench ## run the benchmarks that fit a CPU, a quarter of an hour, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks

screenshots: .venv/.installed-dev ## sweep the embedded model and write pictures of all pages to docs/img
	$(TEST_ENV) $(BIN)/python -m docs.screenshots

demo: .venv/.installed ## retrain the embedded model and write the files that are shipped
	$(BIN)/python -m laser_sweep.demo

format: .venv/.installed-dev ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; results in outputs/ stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "laser_sweep needs Python 3.10 or newer; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Hydra's own Optuna sweeper wants optuna < 3, so it stands apart from the environment, which has a current one.
.venv/.installed-optuna-sweeper: .venv/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --upgrade --target .venv/optuna-sweeper \
		hydra-optuna-sweeper==1.3.0 optuna==2.10.1 cmaes==0.13.1
	@touch $@

# What `ray job submit` needs, apart from the environment, where Ray would start its agents in every run.
.venv/.installed-ray-default: .venv/.installed constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --upgrade --target .venv/ray-default \
		'ray[default]'
	@touch $@

.venv/.installed-audit: .venv/.installed constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --upgrade --target .venv/pip-audit \
		pip-audit
	@touch $@

# Hydra's own Ray launcher, apart from the environment, where Hydra would load it in every command.
.venv/.installed-bench: .venv/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --upgrade --target .venv/stock-launcher \
		hydra-ray-launcher==1.2.2
	@touch $@
