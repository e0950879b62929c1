// What Python calls (training/native.py).
#include <unistd.h>

#include <exception>
#include <mutex>

#include "../common/processor.h"
#include "network.h"

using namespace fasternet;

namespace {

struct Kind {
    const char *name;
    bool (*works)();
    const Training &training;
};

// Best first.
const Kind KINDS[] = {
#if defined(FASTERNET_AMX)
    {"bf16-amx", has_amx, training_bf16_amx},
    {"bf16-avx512", has_bf16, training_bf16_avx512},
#endif
#if defined(FASTERNET_X86)
    {"fp32-avx512", has_avx512, training_fp32_avx512},
    {"fp32-avx2", has_avx2, training_fp32_avx2},
#endif
    {"fp32-plain", always, training_fp32_plain},
};
constexpr int KIND_COUNT = sizeof(KINDS) / sizeof(KINDS[0]);

// One team of threads for all passes of a process, made anew for another number of threads and in a forked child, which
// has neither the threads nor a sound mutex.
struct Shared {
    std::mutex mutex;
    Pool *pool = nullptr;
    Muon *muon[KIND_COUNT] = {};

    Pool &threads(int count) {
        if (!pool || pool->size() != count) {
            delete pool;
            pool = nullptr;
            pool = new Pool(count);
        }
        return *pool;
    }
};
Shared *shared = new Shared;
long owner = getpid();

Shared &here() {
    if (owner != getpid()) owner = getpid(), shared = new Shared;
    return *shared;
}

template <class F> int guarded(F work) {
    Shared &s = here();
    std::lock_guard<std::mutex> lock(s.mutex);
    try {
        work(s);
        return 0;
    } catch (const std::exception &) {
        return 1;
    }
}

}  // namespace

extern "C" {
#pragma GCC visibility push(default)

// The name of kind i if this processor has it, "" if not, null behind the last.
const char *fasternet_training_kind(int i) {
    return i < 0 || i >= KIND_COUNT ? nullptr : KINDS[i].works() ? KINDS[i].name : "";
}

void *fasternet_pass_create(int kind) {
    try {
        return KINDS[kind].training.new_pass();
    } catch (const std::exception &) {
        return nullptr;
    }
}
void fasternet_pass_destroy(void *pass) { delete (Pass *)pass; }

// 0, or 1: out of memory.
int fasternet_forward(void *pass, const TrainNetwork *net, const Batch *batch, float *map, int threads) {
    return guarded([&](Shared &s) { ((Pass *)pass)->forward(*net, *batch, map, s.threads(threads)); });
}
int fasternet_backward(void *pass, const TrainNetwork *net, const Batch *batch, const float *d_map, int threads) {
    return guarded([&](Shared &s) { ((Pass *)pass)->backward(*net, *batch, d_map, s.threads(threads)); });
}

// One step for all matrices. 0, or 1: out of memory.
int fasternet_muon(int kind, const MuonMatrix *matrices, long count, const MuonSettings *settings, int threads) {
    return guarded([&](Shared &s) {
        if (!s.muon[kind]) s.muon[kind] = KINDS[kind].training.new_muon();
        s.muon[kind]->step(matrices, count, *settings, s.threads(threads));
    });
}

#pragma GCC visibility pop
}
