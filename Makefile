# make demo       environment, then a first training with pictures in work/demo (under five minutes on two cores)
# make test       environment, ruff and the tests
# make interpretdl InterpretDL in the environment, without the old versions it asks for (make test has it)
# make detection  PaddleDetection in the environment, likewise (make test has it)
# make notebooks  every notebook from top to bottom in quick mode, about five minutes on two cores; changes nothing
# make notebooks-full  as they stand, with all their training; their outputs are written into notebooks/
# make bench      every measurement anew, into work/results: one to two hours on a machine with nothing else to do; it
#                 needs CIFAR-10. make bench BENCH=--quick sees in two minutes that all of them run, and keeps nothing
# make sanitize  the C++ with asserts, address and undefined behaviour sanitizers, under its tests; three minutes
# make test-paddle26  the tests but the slow ones on Paddle 2.6; make lint, make clean
PYTHON ?= python3
VENV ?= .venv
NATIVE := $(wildcard paddle_fasternet/native/csrc/*.cpp paddle_fasternet/native/csrc/*/*)

.PHONY: demo test notebooks notebooks-full interpretdl detection test-device test-paddle26 lint bench sanitize clean

demo: $(VENV)/demo.ready
	OMP_NUM_THREADS=$$(nproc) $(VENV)/bin/paddle-fasternet demo --out work/demo

test: $(VENV)/test.ready $(VENV)/interpretdl.ready $(VENV)/detection.ready lint
	$(VENV)/bin/python -m pytest -q

notebooks: $(VENV)/notebooks.ready $(VENV)/detection.ready
	$(VENV)/bin/python tests/run_notebooks.py

notebooks-full: $(VENV)/notebooks.ready $(VENV)/interpretdl.ready $(VENV)/detection.ready
	$(VENV)/bin/python tests/run_notebooks.py --full

# every test on a device that is no CPU, made of Paddle's custom device interface (tests/device)
test-device: $(VENV)/test.ready $(VENV)/interpretdl.ready
	$(VENV)/bin/python -m pytest -q -p tests.device.plugin --ignore tests/soak --ignore tests/test_benchmarks.py

test-paddle26: .venv-paddle26/ready
	.venv-paddle26/bin/python -m pytest -q -m "not slow"

interpretdl: $(VENV)/interpretdl.ready

detection: $(VENV)/detection.ready

lint: $(VENV)/test.ready
	$(VENV)/bin/ruff check .

bench: $(VENV)/test.ready $(VENV)/interpretdl.ready
	for name in data_pipeline train_step side_effect mixers inference operators explain; do \
	  $(VENV)/bin/python benchmarks/$$name.py $(BENCH) || exit 1; done

# In a copy of the package. Paddle's libraries free with delete what came from new[], and find each other by RUNPATH, which
# the address sanitizer's dlopen does not know.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
PADDLE = import importlib.util as u; print(u.find_spec('paddle').submodule_search_locations[0])
sanitize: $(VENV)/test.ready
	rm -rf build/sanitize
	mkdir -p build/sanitize
	cp -r paddle_fasternet build/sanitize
	rm -f build/sanitize/paddle_fasternet/_native*
	cd build/sanitize && printf '%s\n' $(filter %.cpp,$(NATIVE)) | xargs -P $$(nproc) -I {} \
	  sh -c 'g++ -std=c++17 -O1 -g1 -fPIC -fwrapv -w -pthread $(SANITIZE) -c {} -o $$(echo {} | tr / _).o'
	cd build/sanitize && g++ -shared -pthread $(SANITIZE) *.o -o paddle_fasternet/_native.so
	libs="$$($(VENV)/bin/python -c "$(PADDLE)")/libs" && cd build/sanitize && PYTHONPATH=$$PWD OMP_NUM_THREADS=$$(nproc) \
	  ASAN_OPTIONS=detect_leaks=0:alloc_dealloc_mismatch=0 UBSAN_OPTIONS=print_stacktrace=1 LD_LIBRARY_PATH=$$libs \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" $(abspath $(VENV))/bin/pytest \
	  -x -q -s -p no:cacheprovider ../../tests/native ../../tests/training/test_training_native.py

clean:
	rm -rf .venv .venv-paddle26 build *.egg-info

# What a bare Debian lacks: venv, and the OpenMP library that Paddle loads.
define SYSTEM
@missing="$$($(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv) \
  $$($(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || echo libgomp1)"; \
if [ -n "$$(echo $$missing)" ]; then \
  echo "installing from Debian:" $$missing; \
  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq $$missing >/dev/null; \
fi
endef

# What the extras of setup.py ask for. (pip install -e ".[extra]" would compile the C++ once more each time.)
define EXTRAS
@needs=$$($(1)/bin/python -c "import importlib.metadata as m, re; print(*(need.split(';')[0] \
  for need in m.requires('paddle_fasternet') for extra in re.findall(r'extra == .(\w+)', need) \
  if extra in '$(2)'.split()), sep='\n')") && echo "$$needs" | $(1)/bin/pip install -q -r /dev/stdin
endef

# A Paddle that is there already (the GPU build of a notebook service, say) is used as it is.
$(VENV)/bin/pip:
	$(SYSTEM)
	$(PYTHON) -m venv $$($(PYTHON) -c 'import paddle' 2>/dev/null && echo --system-site-packages) $(VENV)

$(VENV)/demo.ready: $(VENV)/bin/pip setup.py $(NATIVE)
	$(VENV)/bin/pip install -q -e ".$$($(VENV)/bin/python -c 'import paddle' 2>/dev/null || echo '[cpu]')"
	touch $@

$(VENV)/test.ready: $(VENV)/demo.ready
	$(call EXTRAS,$(VENV),dev deploy app)
	touch $@

$(VENV)/notebooks.ready: $(VENV)/test.ready
	$(call EXTRAS,$(VENV),notebooks)
	touch $@

# The wheel brings a package named tests along, which must not stand before anybody's own.
define INTERPRETDL
$(1)/bin/pip install -q --no-deps interpretdl==0.8.0
$(1)/bin/python -c "import importlib.metadata as m, shutil; shutil.rmtree(m.distribution('interpretdl').locate_file('tests'), True)"
endef

$(VENV)/interpretdl.ready: $(VENV)/demo.ready
	$(call EXTRAS,$(VENV),interpretdl)
	$(call INTERPRETDL,$(VENV))
	touch $@

$(VENV)/detection.ready: $(VENV)/demo.ready
	$(call EXTRAS,$(VENV),detection)
	$(VENV)/bin/pip install -q --no-deps paddledet==2.6.0
	touch $@

# Paddle 2.6 is of the time of numpy 1 and expects setuptools.
.venv-paddle26/ready: setup.py $(NATIVE)
	$(SYSTEM)
	$(PYTHON) -m venv .venv-paddle26
	.venv-paddle26/bin/pip install -q "paddlepaddle==2.6.2" "numpy<2" setuptools -e ".[dev,deploy,app]"
	$(call INTERPRETDL,.venv-paddle26)
	.venv-paddle26/bin/pip install -q --no-deps paddledet==2.6.0
	touch $@
