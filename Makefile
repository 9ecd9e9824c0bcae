SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo check test docs campaign-accuracy

# What `. .venv/bin/activate` does.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

SHELL_SCRIPTS = $(shell grep --recursive --files-with-matches --extended-regexp '^\#!/(usr/)?bin/(env )?(ba)?sh$$' scripts .ci)

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## set up .venv with all requirements and Horovod (8 minutes at first, later at once)
	@scripts/setup

demo: setup ## train and evaluate a small robust model on two ranks
	@scripts/demo

docs: setup ## write docs/reference anew
	typer hpcfast.cli utils docs --name hpcfast --output docs/reference/cli.md

check: setup ## lint, format, types, layers, spelling, requirements, shell scripts
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	codespell
	python scripts/setuplib/requirements.py run >.venv/requirements.txt && deptry .
	shellcheck $(SHELL_SCRIPTS)

test: check ## check, then all tests with coverage
	pytest --cov=hpcfast --cov-fail-under=90

campaign-accuracy: setup ## the table of docs/results.md: three seeds a row, 40 minutes
	@scripts/campaign-accuracy
