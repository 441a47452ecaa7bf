# Every target installs what it needs into .venv first; a second call finds it done.
SCALE  = desk
GPUS   =
ARGS   =
GOLDEN = tests/data/golden
NAME   =
PAPER  = *
PYTHON =
ENTITY =
OUTPUTS = outputs

STAMP  = .venv/.installed
TESTS  = .venv/.installed-test
PY     = .venv/bin/python
RANKS  = OMP_NUM_THREADS=1 $(PY) -m torch.distributed.run --standalone --nproc-per-node=$(GPUS)
# One process per GPU, after a dry run in one: a mistake is then one line, not a report of every rank.
LAUNCH = $(if $(filter-out 0 1,$(GPUS)),$(PY) $(1) dry_run=true >/dev/null && $(RANKS) $(1),$(PY) $(1))
TABLE  = $(call LAUNCH,scripts/reproduce.py table=$(1) scale=$(SCALE) $(ARGS))

LOCKING = --universal --fork-strategy fewest --generate-hashes --python-version 3.11 --quiet

TABLES    = $(patsubst configs/table/%.yaml,%,$(wildcard configs/table/$(PAPER)/*.yaml))
COMMA    := ,
SPACE    := $(subst ,, )
# Those of the desk, teachers, autoencoders and feature networks before what is made from them; each of EDM2 goes on with
# the weights of the one before it.
DESK      = $(filter-out %_imagenet64 edm_imagenet64_% %_cifar10 %_celeba,$(patsubst configs/training/%.yaml,%,$(wildcard configs/training/*.yaml)))
EDM2      = edm2_glyphs edm2_glyphs_attention edm2_glyphs_midnoise edm2_glyphs_lownoise edm2_glyphs_widenoise
FIRST     = edm_glyphs $(EDM2) autoencoder_glyphs glyphs_features
TRAININGS = $(FIRST) $(filter-out $(FIRST) ddim1_digits,$(DESK))
# Trained from four more seeds, for intervals that hold the spread of trainings. ddim2_digits exports ddim1_digits on its way.
SEEDED    = ddim2_digits s2dm_skip2_digits s2dm_skip10_digits s2dm_skip50_digits s2dm_weights50_digits s2dm_algorithm1_digits

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help install download paper-check status report sync browse dashboard reproduce-all train-desk-models test check benchmark verify-golden lock clean FORCE

help: ## Show this list
	@echo "make TARGET [SCALE=desk|paper] [GPUS=n] [PAPER=name] [ARGS='more=settings'] [PYTHON=/path/to/python3.11]"
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / { sub(/%/, "N", $$1); printf "  %-24s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

reproduce-table-%: $(STAMP) FORCE ## Table N of Skip-Tuning
	@$(call TABLE,skip_tuning/$*)

reproduce-figure-%: $(STAMP) FORCE ## Figure N of Skip-Tuning
	@$(call TABLE,skip_tuning/figure_$*)

reproduce-appendix-%: $(STAMP) FORCE ## Appendix N (a letter) of Skip-Tuning
	@$(call TABLE,skip_tuning/appendix_$*)

reproduce-supplement-%: $(STAMP) FORCE ## Supplement N (a name) to Skip-Tuning, beyond the paper
	@$(call TABLE,skip_tuning/supplement_$*)

reproduce-s2dm-table-%: $(STAMP) FORCE ## Table N of S2-DMs
	@$(call TABLE,s2dm/$*)

reproduce-s2dm-figure-%: $(STAMP) FORCE ## Figure N of S2-DMs
	@$(call TABLE,s2dm/figure_$*)

reproduce-s2dm-supplement-%: $(STAMP) FORCE ## Supplement N (a name) to S2-DMs, beyond the paper
	@$(call TABLE,s2dm/supplement_$*)

# Text to image needs diffusers and transformers, which only the larger installation has.
reproduce-ip-table-%: $(TESTS) FORCE ## Table N of Importance Probe
	@$(call TABLE,importance_probe/$*)

reproduce-ip-supplement-%: $(TESTS) FORCE ## Supplement N (a name) to Importance Probe, beyond the paper
	@$(call TABLE,importance_probe/supplement_$*)

reproduce-ip-figure-%: $(TESTS) FORCE ## Figure N of Importance Probe
	@$(call TABLE,importance_probe/figure_$*)

# Without GPUS all tables in one process, which starts its workers once. Ranks stop with the first that fails, hence the loop.
# Two of the papers have no text to image.
reproduce-all: $(if $(filter skip_tuning s2dm,$(PAPER)),$(STAMP),$(TESTS)) ## Every table and figure (of PAPER=skip_tuning, ...); one that fails does not stop the others
	@$(if $(filter-out 0 1,$(GPUS)),failed=; for table in $(TABLES); do $(call TABLE,$$table) || failed="$$failed $$table"; done; \
	if [ -n "$$failed" ]; then echo "error: not made:$$failed" >&2; exit 1; fi,\
	$(PY) scripts/reproduce.py -m table=$(subst $(SPACE),$(COMMA),$(strip $(TABLES))) scale=$(SCALE) $(ARGS))

download: $(STAMP) ## Get the official files NAME="a b" or NAME=all; without NAME list them
	@$(PY) scripts/download.py $(NAME) $(ARGS)

paper-check: $(STAMP) ## Files, download, GPU-hours of all tables at SCALE=paper, and what is missing here
	@$(PY) scripts/paper_check.py $(ARGS)

status: $(STAMP) ## What is done and missing of every table, and the time left, from the run store alone
	@$(PY) scripts/status.py scale=$(SCALE) $(ARGS)

report: $(STAMP) ## All results as pages to open from the disk: results/report/index.html
	@$(PY) scripts/report.py $(ARGS)

sync: $(STAMP) ## Upload to Weights & Biases what was tracked offline (needs an account: wandb login)
	@runs=$$(ls -d $(OUTPUTS)/wandb/offline-run-* 2>/dev/null); \
	if [ -z "$$runs" ]; then echo "error: nothing was tracked offline in $(OUTPUTS)/wandb" >&2; exit 1; fi; \
	.venv/bin/wandb sync --yes $$runs

browse: $(STAMP) ## Look at offline runs in the terminal (the viewer of Weights & Biases)
	@if [ ! -d $(OUTPUTS)/wandb ]; then echo "error: nothing was tracked in $(OUTPUTS)/wandb" >&2; exit 1; fi; \
	.venv/bin/wandb leet $(OUTPUTS)/wandb

dashboard: $(STAMP) ## A dashboard of PAPER on the site of Weights & Biases, for ENTITY (a user or team there)
	@$(PY) scripts/dashboard.py paper=$(PAPER) entity=$(ENTITY) scale=$(SCALE) $(ARGS)

train-desk-models: $(TESTS) ## Train all desk models, shipped or not yet (about a day on 2 cores; stop and go on at will)
	@for name in $(TRAININGS); do \
	    model=; if [ -f configs/model/$$name.yaml ]; then model=model=$$name; fi; \
	    $(PY) scripts/train.py training=$$name $$model $(ARGS) || exit; \
	done
	@for seed in 1 2 3 4; do for name in $(SEEDED); do \
	    $(PY) scripts/train.py training=$$name model=$$name training.seed=$$seed suffix=_seed$$seed $(ARGS) || exit; \
	done; done

test: $(TESTS) ## Install, then run the test suite
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

check: $(TESTS) ## Lint and type-check (ruff, mypy)
	@failed=0; $(PY) -m ruff check . || failed=1; $(PY) -m mypy || failed=1; exit $$failed

benchmark: $(STAMP) ## Images per second of the samplers, with and without Skip-Tuning
	@$(PY) scripts/benchmark.py sampling $(ARGS)

verify-golden: $(STAMP) ## Compare with the official implementations' tensors in GOLDEN=DIR
	@$(PY) scripts/verify_golden.py $(GOLDEN) $(ARGS)

install: $(TESTS) ## Make .venv with all pinned packages, those of the tests and of text-to-image included

$(STAMP): requirements.lock pyproject.toml scripts/install.sh
	@PYTHON="$(PYTHON)" sh scripts/install.sh .venv requirements.lock
	@touch $@

$(TESTS): requirements-test.lock pyproject.toml scripts/install.sh
	@PYTHON="$(PYTHON)" sh scripts/install.sh .venv requirements-test.lock
	@touch $(STAMP) $@

lock: ## Pin anew what pyproject.toml asks for (needs uv; ARGS=--upgrade moves to the newest)
	@command -v uv >/dev/null || { echo "error: make lock needs uv: pip install uv" >&2; exit 1; }
	@uv pip compile $(LOCKING) $(ARGS) pyproject.toml -o requirements.lock
	@uv pip compile $(LOCKING) $(ARGS) --extra test --extra text-to-image --extra image-metrics --extra slurm \
	    pyproject.toml -o requirements-test.lock

clean: ## Remove caches and build leftovers (keeps .venv, outputs and results)
	@rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find skiptune experiments scripts tests -name __pycache__ -prune -exec rm -rf {} +
