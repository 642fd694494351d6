# beamlens: see `make help`.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
CC       := gcc
B        ?= build
T        ?=
FUZZ_SECONDS ?= 20

# Debian packages: to build, to run the sample node and the specs, to lint.
BUILD_PACKAGES := gcc libc6-dev make pkg-config libluajit-5.1-dev lua-luv-dev libuv1-dev \
  libcurl4-openssl-dev libssl-dev lua-cjson-dev lua-lpeg-dev libseccomp-dev erlang-dev \
  zlib1g-dev libsqlite3-dev
RUN_PACKAGES   := erlang-base
TEST_PACKAGES  := elixir erlang-ssl lua-busted openssl xz-utils postgresql lua-sql-postgres \
  tzdata
RECORD_PACKAGES := rabbitmq-server ejabberd
OTP_PACKAGES   := debootstrap debian-archive-keyring
ASAN_PACKAGES  := dpkg-dev
BENCH_PACKAGES := luajit
LINT_PACKAGES  := clang clang-format lua-check

LIBDIR   := $(shell pkg-config --variable=libdir luajit 2>/dev/null)
CFLAGS   ?= -O2 -g
WARN     := -std=c11 -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes
HARDEN   := -fstack-protector-strong -fPIE
FORTIFY  ?= -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
CPPFLAGS += -D_GNU_SOURCE -D_REENTRANT -DBEAMLENS_VERSION='"$(VERSION)"' -Ihost \
  $(shell pkg-config --cflags luajit 2>/dev/null) -idirafter /usr/include/lua5.1 $(FORTIFY)
LDFLAGS  += -pie -Wl,-z,relro,-z,now
# -rdynamic and the whole of LuaJIT: the spec runner's own C modules find the Lua API in us.
LIBS     := -rdynamic -Wl,--whole-archive $(LIBDIR)/libluajit-5.1.a -Wl,--no-whole-archive \
  $(LIBDIR)/liblua5.1-luv.a $(LIBDIR)/liblua5.1-cjson.a $(LIBDIR)/liblua5.1-lpeg.a \
  $(LIBDIR)/libuv_a.a $(LIBDIR)/libz.a $(LIBDIR)/libsqlite3.a \
  -Wl,--exclude-libs,libz.a:libsqlite3.a -lei -lcrypto -lm -ldl -lpthread

HOST_C   := $(wildcard host/*.c)
HOST_O   := $(HOST_C:host/%.c=$(B)/obj/%.o)
LUA      := $(sort $(wildcard runtime/*.lua runtime/*/*.lua domains/*.lua domains/*/*.lua prompts/*.lua))

# The sandbox's worker is a program of its own, embedded in the host. Always static, without the
# loader, and without sanitizers, whose memory would not fit its limits.
WORKER_C     := $(wildcard host/worker/*.c)
CODEC_C      := $(wildcard host/codec_*.c)
WORKER_O     := $(WORKER_C:host/worker/%.c=$(B)/worker/%.o) $(CODEC_C:host/%.c=$(B)/worker/%.o)
WORKER_FLAGS := -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
WORKER_LINK  := -static-pie -s -Wl,-z,relro,-z,now \
  -Wl,--wrap=dlopen,--wrap=dlsym,--wrap=dlclose,--wrap=dlerror

C_FILES   = $(wildcard host/*.[ch] host/worker/*.[ch] tests/*/*.[ch])

# What `make test-otp` runs, with nodes of another Debian release than this machine's.
OTP_SUITE := trixie
OTP_RELEASE := 27
OTP_SPECS := support/node releases target sweep term_spec dist_ detector/node domains/ e2e/attach

.PHONY: all build deps deps-test deps-check run test test-otp spec check lint format asan soak bench record \
  fuzz fuzzers asan-worker install clean help

all: build

build: $(B)/beamlens
	@:

$(B)/beamlens: $(HOST_O) $(B)/obj/embedded.o $(B)/obj/worker_image.o
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/obj/%.o: host/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) $(HARDEN) $(WERROR) -MMD -MP -c -o $@ $<

$(B)/obj/embedded.c: host/embed.sh $(LUA)
	@mkdir -p $(@D)
	host/embed.sh $(LUA) > $@

# The files come in by the assembler's .incbin, which leaves no dependency of its own.
$(B)/obj/embedded.o: $(B)/obj/embedded.c $(LUA)
	$(CC) $(CPPFLAGS) $(CFLAGS) -fPIE -c -o $@ $<

$(B)/beamlens-worker: $(WORKER_O)
	$(CC) $(WORKER_FLAGS) $(WORKER_LINK) -o $@ $^ $(LIBDIR)/libluajit-5.1.a -lseccomp -lm

$(B)/worker/codec_%.o: host/codec_%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(WORKER_FLAGS) $(WARN) $(HARDEN) $(WERROR) -MMD -MP -c -o $@ $<

$(B)/worker/%.o: host/worker/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(WORKER_FLAGS) $(WARN) $(HARDEN) $(WERROR) -MMD -MP -c -o $@ $<

# The worker with a way to try its jail from inside, beside a host of its own, for the specs.
PROBE_O := $(WORKER_C:host/worker/%.c=$(B)/probe/%.o) $(CODEC_C:host/%.c=$(B)/probe/%.o) \
  $(B)/probe/probe.o

$(B)/probe/beamlens-worker: $(PROBE_O) $(B)/beamlens
	$(CC) $(WORKER_FLAGS) $(WORKER_LINK) -o $@ $(PROBE_O) $(LIBDIR)/libluajit-5.1.a -lseccomp -lm
	cp -f $(B)/beamlens $(@D)/beamlens

PROBE_CC = @mkdir -p $(@D); $(CC) -DWORKER_PROBE $(CPPFLAGS) $(WORKER_FLAGS) $(WARN) $(HARDEN) \
  $(WERROR) -MMD -MP -c -o $@ $<

$(B)/probe/%.o: host/worker/%.c Makefile
	$(PROBE_CC)

$(B)/probe/codec_%.o: host/codec_%.c Makefile
	$(PROBE_CC)

$(B)/probe/probe.o: tests/support/probe.c Makefile
	$(PROBE_CC)

# The worker with ASan, and one more whose pcall is LuaJIT's own, to see that ASan would tell. Both
# are dynamic and without a jail; LuaJIT is Debian's, built anew with assertions.
ASAN_DIR     := build/asan-worker
ASAN_C       := $(filter-out host/worker/jail.c,$(WORKER_C)) $(CODEC_C) tests/support/no_jail.c
ASAN_FLAGS   := -O1 -g -fno-omit-frame-pointer -fsanitize=address -fPIE
ASAN_BUILD    = $(CC) $(CPPFLAGS) -U_FORTIFY_SOURCE $(ASAN_FLAGS) $(WARN) \
  -DSANITIZER_LOG='"$(CURDIR)/$(@D)/report"' -o $@ $(ASAN_C) $(ASAN_DIR)/luajit/libluajit.a -pie \
  -Wl,--wrap=dlopen,--wrap=dlsym,--wrap=dlclose,--wrap=dlerror -lm

$(ASAN_DIR)/%/beamlens-worker: $(ASAN_C) host/worker/worker.h host/worker/protocol.h $(B)/beamlens \
    Makefile
	@mkdir -p $(@D)
	$(ASAN_BUILD) $(if $(filter raw,$*),-DWORKER_RAW_PCALL)
	cp -f $(B)/beamlens $(@D)/beamlens

asan-worker: deps-test
	@.ci/install-packages $(ASAN_PACKAGES)
	@tests/support/asan-luajit $(ASAN_DIR)/luajit
	@$(MAKE) --no-print-directory $(ASAN_DIR)/wrapped/beamlens-worker $(ASAN_DIR)/raw/beamlens-worker
	@$(B)/beamlens lua tests/runner.lua soak/asan

$(B)/obj/worker_image.o: host/worker_image.S $(B)/beamlens-worker
	$(CC) -DWORKER='"$(B)/beamlens-worker"' -c -o $@ $<

-include $(HOST_O:.o=.d) $(WORKER_O:.o=.d) $(PROBE_O:.o=.d)

deps:
	@.ci/install-packages $(BUILD_PACKAGES) $(RUN_PACKAGES)

deps-test:
	@.ci/install-packages $(BUILD_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES)

deps-check:
	@.ci/install-packages $(BUILD_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES) $(LINT_PACKAGES)

run: deps
	@$(MAKE) --no-print-directory build
	@tests/nodes/run-sample $(B)/beamlens

test: deps-test
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory spec

spec: $(B)/probe/beamlens-worker
	@$(if $(T),$(B)/beamlens lua tests/runner.lua $(T),tests/run-all $(B)/beamlens)

test-otp: deps-test
	@.ci/install-packages $(OTP_PACKAGES)
	@tests/nodes/debian-root $(OTP_SUITE)
	@$(MAKE) --no-print-directory build
	@BEAMLENS_TEST_RUN='tests/nodes/in-root build/otp/$(OTP_SUITE)' BEAMLENS_TEST_OTP=$(OTP_RELEASE) \
	  $(MAKE) --no-print-directory spec T='$(or $(T),$(OTP_SPECS))'

soak: deps-test
	@$(MAKE) --no-print-directory build
	@$(B)/beamlens lua tests/runner.lua soak$(if $(T),/$(T))

# Figures are ratios against a baseline of the same run wherever there is one.
bench: deps-test
	@.ci/install-packages $(BENCH_PACKAGES)
	@$(MAKE) --no-print-directory build
	@$(B)/beamlens lua tests/bench/run.lua $(T)

# Ordinary systems that look sick, for tests/recordings_spec.lua. RabbitMQ and ejabberd are started by
# the script alone, never as services of this machine.
RECORD_SECONDS ?= 1800

record: deps-test
	@.ci/install-packages $(RECORD_PACKAGES)
	@$(MAKE) --no-print-directory build
	@$(B)/beamlens lua tests/record/all.lua $(RECORD_SECONDS) $(T)

# PLAIN= leaves out the plain run of the specs, where `make test` has just made it.
PLAIN ?= spec

check: deps-check
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory build WERROR=-Werror B=build/gcc $(PLAIN)
	@$(MAKE) --no-print-directory build WERROR=-Werror B=build/clang CC=clang
	@$(MAKE) --no-print-directory asan

asan:
	@$(MAKE) --no-print-directory build spec B=build/asan WERROR=-Werror FORTIFY= \
	  CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"

# Each tests/fuzz/NAME_fuzz.c with all of the host but its main(); seeds in tests/fuzz/seeds/NAME.
FUZZERS = $(patsubst tests/fuzz/%.c,$(B)/%,$(wildcard tests/fuzz/*_fuzz.c))

$(B)/%_fuzz: tests/fuzz/%_fuzz.c $(filter-out $(B)/obj/main.o,$(HOST_O)) $(B)/obj/embedded.o \
    $(B)/obj/worker_image.o
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) -fsanitize=fuzzer -o $@ $^ $(LIBS)

# Those of streams share a main part.
$(B)/eventstream_fuzz $(B)/ndjson_fuzz $(B)/sse_fuzz: tests/fuzz/pieces.c

fuzzers: $(FUZZERS)

fuzz:
	@$(MAKE) --no-print-directory fuzzers B=build/fuzz CC=clang FORTIFY= \
	  CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
	@for source in tests/fuzz/*_fuzz.c; do \
	  name=$$(basename $$source _fuzz.c); \
	  mkdir -p build/fuzz/corpus/$$name; \
	  echo "fuzzing $$name for $(FUZZ_SECONDS) s"; \
	  build/fuzz/$${name}_fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 \
	    -print_final_stats=1 -artifact_prefix=build/fuzz/$$name- build/fuzz/corpus/$$name \
	    $$(ls -d tests/fuzz/seeds/$$name 2>/dev/null) || exit 1; \
	done

lint:
	clang-format --dry-run -Werror $(C_FILES)
	luacheck -q .

format:
	clang-format -i $(C_FILES)

install: build
	install -D -m 755 $(B)/beamlens $(DESTDIR)$(PREFIX)/bin/beamlens
	install -D -m 755 $(B)/beamlens-worker $(DESTDIR)$(PREFIX)/bin/beamlens-worker
ifneq ($(filter /usr /usr/local,$(PREFIX)),)
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|' packaging/beamlens.service.in \
	  > $(DESTDIR)$(PREFIX)/lib/systemd/system/beamlens.service
endif

clean:
	rm -rf build

help:
	@echo 'make              build build/beamlens'
	@echo 'make run          all set-up, then watch a sample Erlang node (or BEAMLENS_NODE)'
	@echo 'make test [T=x]   all set-up, then the specs (whose file name contains x)'
	@echo 'make check        lint, -Werror with gcc and clang, specs plain and under ASan and UBSan'
	@echo 'make test-otp     the specs that touch nodes, with nodes of Erlang/OTP 27 (as root; 0.3 GiB)'
	@echo 'make soak         the cases that take longer than 20 s'
	@echo 'make asan-worker  the attacks on the sandbox in a worker with ASan, on a LuaJIT with assertions'
	@echo 'make bench [T=x]  benchmarks (needs 4 GiB: one node has a million processes)'
	@echo 'make record [T=x] record the soaks of tests/recordings anew: five systems, side by side, 30 min'
	@echo 'make fuzz         fuzz what reads bytes of others, FUZZ_SECONDS=20 for each'
	@echo 'make deps         install the Debian packages to build and run'
	@echo 'make format       format the C files'
	@echo 'make install      install into PREFIX (default /usr/local), with a unit for systemd'
	@echo 'make clean        remove build/'
