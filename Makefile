# STACK: which set of OpenMMLab packages to use. They share import names, so each has an environment of its own.
STACK ?= openmmlab
VENV_openmmlab := .venv
VENV_onedl := .venv-onedl
ifeq ($(VENV_$(STACK)),)
$(error STACK is "$(STACK)", but must be openmmlab (official packages) or onedl (maintained forks))
endif
# VENV: the environment to use. One that exists keeps what it has; only what is missing is added.
VENV ?= $(VENV_$(STACK))
# PYTHON: makes VENV where there is none.
PYTHON ?= python3
PY := $(VENV)/bin/python
INSTALL := $(PY) tools/install.py --stack $(STACK)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Wheels of mmcv that were built before are used, next to every place that pip looks in already.
ifneq ($(wildcard ../shared/wheels),)
PIP_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
export PIP_FIND_LINKS := $(strip $(PIP_FIND_LINKS) ../shared/wheels)
endif

.PHONY: help install demo demo-teacher test extras lint weights campaign

help:
	@echo 'make demo     distil a small network on generated streets: a table and a picture in minutes'
	@echo 'make demo FULL=1  more methods and detectors, too: a report after 20 minutes of CPU time'
	@echo 'make test     run the tests'
	@echo 'make extras   put MMPretrain, timm and OpenMIM into .extras, for the tests that need them'
	@echo 'make lint     ruff and mypy'
	@echo 'make install  install what is missing and mmadm itself (editable)'
	@echo 'make campaign kill trainings and ranks, fill disks, spoil configs, data and files (half an hour)'
	@echo 'make weights  install the ImageNet weights of MobileNetV2 that configs/camvid/*_mbv2.py start from'
	@echo 'STACK=onedl   use the maintained forks, in .venv-onedl, instead of the official packages in .venv'
	@echo 'VENV=path     use that environment instead'

$(PY):
	$(PYTHON) -m venv $(VENV)

install: $(PY)
	@$(INSTALL)

# FULL: compare more methods, and detectors, too
demo: install
	$(PY) tools/demo.py $(if $(FULL),--full)

# makes mmadm/demo/teacher.pth anew
demo-teacher: $(PY)
	$(PY) -m mmadm.demo.teacher_command

# the tests of classifiers, of foundation models and of `mim train` are skipped without it
extras: .extras
.extras: tests/extras.txt | $(PY)
	$(PY) -m pip install -q --no-deps --upgrade --target $@ -r $< && touch $@

test: $(PY)
	@$(INSTALL) --dev
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile tests

lint: $(PY)
	@$(INSTALL) --dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

campaign: $(PY)
	@$(INSTALL) --dev
	@failed=0; for part in config_fuzz kill_and_resume ranks full_disk poisoned_data files_of_others; do \
		OMP_NUM_THREADS=1 $(PY) tests/campaigns/$$part.py || failed=1; \
	done; exit $$failed

weights: $(PY)
	@$(INSTALL) --weights
