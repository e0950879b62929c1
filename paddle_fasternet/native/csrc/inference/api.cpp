// What Python calls (native.py).
#include <unistd.h>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>

#include "network.h"
#include "../common/processor.h"

using namespace fasternet;

namespace {

struct Kind {
    const char *name;
    bool (*works)();
    Engine *(*make)(const Network &);
};

// Best first.
const Kind KINDS[] = {
#if defined(FASTERNET_AMX)
    {"bf16-amx", has_amx, make_bf16_amx},
    {"bf16-avx512", has_bf16, make_bf16_avx512},
    {"fp32-amx", has_amx, make_fp32_amx},
#endif
#if defined(FASTERNET_X86)
    {"fp32-avx512", has_avx512, make_fp32_avx512},
    {"fp32-avx2", has_avx2, make_fp32_avx2},
#endif
    {"fp32-plain", always, make_fp32_plain},
};
constexpr int KIND_COUNT = sizeof(KINDS) / sizeof(KINDS[0]);

struct Handle {
    Engine *engine;
    int threads;
    Pool *pool;
    std::mutex *mutex;
    std::atomic<long> process;

    // A forked child has neither the threads nor a sound mutex: it begins afresh and leaves the old ones alone.
    void adopt() {
        constexpr long BUSY = 0;
        const long here = getpid();
        for (long before = process; before != here; before = process) {
            if (before == BUSY || !process.compare_exchange_strong(before, BUSY)) continue;  // another thread does it
            pool = new Pool(threads);
            mutex = new std::mutex;
            process = here;
        }
    }
};

}  // namespace

extern "C" {
#pragma GCC visibility push(default)

// What the library was built from: setup.py's checksum of all sources.
const char *fasternet_sources() {
#if defined(FASTERNET_SOURCES)
    return FASTERNET_SOURCES;
#else
    return "";
#endif
}

// The name of kind i if this processor has it, "" if not, null behind the last.
const char *fasternet_kind(int i) {
    return i < 0 || i >= KIND_COUNT ? nullptr : KINDS[i].works() ? KINDS[i].name : "";
}

// Null: out of memory.
void *fasternet_create(const Network *net, int kind, int threads) {
    try {
        std::unique_ptr<Engine> engine(KINDS[kind].make(*net));
        std::unique_ptr<Pool> pool(new Pool(threads));
        void *handle = new Handle{engine.get(), threads, pool.get(), new std::mutex, {getpid()}};
        engine.release(), pool.release();
        return handle;
    } catch (const std::exception &) {
        return nullptr;
    }
}

// 0, or 1: out of memory.
int fasternet_run(void *handle, const Images *images, float *answers) {
    Handle &h = *(Handle *)handle;
    h.adopt();
    std::lock_guard<std::mutex> lock(*h.mutex);
    try {
        h.engine->run(*images, answers, *h.pool);
        return 0;
    } catch (const std::exception &) {
        return 1;
    }
}

void fasternet_destroy(void *handle) {
    Handle *h = (Handle *)handle;
    if (h->process == getpid()) {
        delete h->pool;
        delete h->mutex;
    }
    delete h->engine;
    delete h;
}

#pragma GCC visibility pop
}
