// What Python calls, by ctypes (native/library.py, native/inference.py, training/native.py). A function that can run out
// of memory returns null, or 1; 0 means that it is done.
#include <exception>
#include <memory>

#include "kinds/kinds.h"

using namespace fasternet;

namespace {

struct Runnable {
    std::unique_ptr<Engine> engine;
    Pool pool;
};

// Training passes share one team of threads: they take turns.
Pool &training_pool = *new Pool(1, true);

template <class F> int on_threads(Pool &pool, int threads, F work) {
    try {
        pool.alone([&] {
            pool.resize(threads);
            work();
        });
        return 0;
    } catch (const std::exception &) {
        return 1;
    }
}

const char *name_of(int i, bool (*offers)(const Kind &)) {
    if (i < 0 || i >= KIND_COUNT) return nullptr;
    return KINDS[i] && offers(*KINDS[i]) && KINDS[i]->works() ? KINDS[i]->name : "";
}

template <class F> auto or_null(F make) -> decltype(make()) {
    try {
        return make();
    } catch (const std::exception &) {
        return nullptr;
    }
}

}  // namespace

extern "C" {
#pragma GCC visibility push(default)

// What the library was built from: setup.py's checksum of all sources, "" without it.
const char *fasternet_sources() {
#if defined(FASTERNET_SOURCES)
    return FASTERNET_SOURCES;
#else
    return "";
#endif
}

// The name of kind i if this processor has it, "" if not, null after the last.
const char *fasternet_kind(int i) {
    return name_of(i, [](const Kind &kind) { return kind.new_engine != nullptr; });
}
const char *fasternet_training_kind(int i) {
    return name_of(i, [](const Kind &kind) { return kind.new_pass != nullptr; });
}

// Training runs on this library's threads from now on: see OpenMP in threads.h.
void fasternet_use_openmp(decltype(OpenMP::parallel) parallel, int (*rank)(), int (*size)()) {
    training_pool.alone([&] { use_openmp({parallel, rank, size}); });
}

void *fasternet_create(const Network *net, int kind, int threads) {
    return or_null([&] { return new Runnable{std::unique_ptr<Engine>(KINDS[kind]->new_engine(*net)), Pool(threads)}; });
}
// answers: float32 [count, classes], owned by the caller.
int fasternet_run(void *network, const Images *images, float *answers) {
    Runnable &n = *(Runnable *)network;
    return on_threads(n.pool, n.pool.size(), [&] { n.engine->run(*images, answers, n.pool); });
}
void fasternet_destroy(void *network) { delete (Runnable *)network; }

void *fasternet_pass_create(int kind) {
    return or_null([&] { return KINDS[kind]->new_pass(); });
}
void fasternet_pass_destroy(void *pass) { delete (Pass *)pass; }

// maps, d_maps: for each stage a float32 [count, dim, h, w], owned by the caller, or null.
int fasternet_forward(void *pass, const TrainNetwork *net, const Images *images, float *const *maps, int threads) {
    return on_threads(training_pool, threads, [&] { ((Pass *)pass)->forward(*net, *images, maps, training_pool); });
}
int fasternet_backward(void *pass, const TrainNetwork *net, const Images *images, const float *const *d_maps,
                       int threads) {
    return on_threads(training_pool, threads, [&] { ((Pass *)pass)->backward(*net, *images, d_maps, training_pool); });
}

// One step for all matrices.
int fasternet_muon(int kind, const MuonMatrix *matrices, long count, const MuonSettings *settings, int threads) {
    static Muon *muon[64];
    return on_threads(training_pool, threads, [&] {
        assert(kind < 64);
        if (!muon[kind]) muon[kind] = KINDS[kind]->new_muon();
        muon[kind]->step(matrices, count, *settings, training_pool);
    });
}

#pragma GCC visibility pop
}
