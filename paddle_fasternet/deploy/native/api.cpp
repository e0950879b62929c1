// What Python calls (native.py).
#include <unistd.h>

#include <atomic>
#include <exception>
#include <mutex>

#include "network.h"
#include "processor.h"

using namespace fasternet;

namespace {

struct Kind {
    const char *name;
    bool (*works)();
    Engine *(*make)(const Network &);
};

// Best first.
const Kind KINDS[] = {
#if defined(__x86_64__)
    {"bf16-amx", has_amx, make_bf16_amx},
    {"bf16-avx512", has_bf16, make_bf16_avx512},
    {"fp32-amx", has_amx, make_fp32_amx},
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
        long before = process.load(), here = getpid();
        if (before != here && process.compare_exchange_strong(before, here)) {
            pool = new Pool(threads);
            mutex = new std::mutex;
        }
    }
};

}  // namespace

extern "C" {
#pragma GCC visibility push(default)

// The name of kind i if this processor has it, "" if not, null behind the last.
const char *fasternet_kind(int i) {
    return i < 0 || i >= KIND_COUNT ? nullptr : KINDS[i].works() ? KINDS[i].name : "";
}

// Null: out of memory.
void *fasternet_create(const Network *net, int kind, int threads) {
    try {
        return new Handle{KINDS[kind].make(*net), threads, new Pool(threads), new std::mutex, {getpid()}};
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
