SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-slurm docs bench campaign-accuracy campaign-scaling campaign-kills campaign-eval-kills campaign-chaos coverage mutants fuzz campaign-writes audit

# What `. .venv/bin/activate` does.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

SHELL_SCRIPTS = $(shell grep --recursive --files-with-matches --extended-regexp '^\#!/(usr/)?bin/(env )?(ba)?sh$$' scripts campaigns .ci) $(wildcard slurm/*.sh slurm/examples/*.sh scripts/*.sh)

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## set up .venv with all requirements and Horovod (8 minutes at first, later at once)
	@scripts/setup

demo: setup ## train and evaluate a small robust model on two ranks
	@scripts/demo

docs: setup ## write docs/reference anew, and build the documentation as a site in site/
	typer hpcfast.cli utils docs --name hpcfast --output docs/reference/cli.md
	python scripts/config_reference.py
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

check: setup ## lint, format, types, layers, spelling, requirements, shell scripts
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python scripts/rooms.py --check
	codespell
	python scripts/setuplib/requirements.py run horovod dali onnx trackers >.venv/requirements.txt && deptry .
	shellcheck --external-sources $(SHELL_SCRIPTS)

test: check ## check, then all tests but those of minutes on a Slurm (make test-slurm)
	pytest tests/unit --numprocesses auto --dist worksteal
	pytest tests --ignore tests/unit -m "not long"

test-slurm: setup ## all tests on a Slurm of four nodes that lives on this machine while they run
	pytest -x tests/slurm

bench: setup ## docs/speed.md: each stage beside its peers and its limit (20 minutes on 2 idle cores)
	@python -m benchmarks

campaign-accuracy: setup ## the tables of docs/results.md: three to five seeds a row, 2 hours on 2 cores
	@hpcfast data prepare digits
	@hpcfast data prepare fashion-mnist --source $${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
	@python campaigns/accuracy.py campaigns/accuracy/*.yaml

campaign-scaling: setup ## a scaling study, 40 jobs on 1 and 2 ranks, and its report; goes on where it was stopped
	@hpcfast data prepare digits
	@hpcfast data prepare fashion-mnist --source $${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
	@hpcfast scaling run configs/studies/small.yaml --local

campaign-kills: setup ## 200 kills at random moments; each run must end as one that nothing interrupted
	@campaigns/kills

campaign-eval-kills: setup ## 50 kills of evaluations; each must end with the numbers of one that nothing interrupted
	@nice -n 5 python campaigns/kill_evaluations.py

campaign-chaos: setup ## docs/reliability.md: half an hour of faults against a job on a Slurm of four nodes (as root)
	@python -m campaigns.chaos

coverage: setup ## which lines the unit tests run (tracing takes as long again as the tests)
	pytest tests/unit --numprocesses auto --dist worksteal --cov=hpcfast --cov-fail-under=94

mutants: setup ## docs/testing.md: 100 faults put into a copy of the code; how many do the unit tests notice? (an hour)
	@python campaigns/mutants.py

fuzz: setup ## docs/testing.md: damaged files for all that reads files, 30 minutes; needs atheris
	@nice -n 15 python campaigns/fuzz.py

campaign-writes: setup ## kills before each system call that writes a checkpoint or a summary, a run for each
	@nice -n 5 python campaigns/kill_writes.py

audit: setup ## licences and known vulnerabilities of all requirements; needs the network, so it is no part of CI
	@scripts/audit
