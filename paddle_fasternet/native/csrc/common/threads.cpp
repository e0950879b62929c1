#include "threads.h"

#include <pthread.h>

#include <cassert>
#include <chrono>
#include <condition_variable>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fasternet {

static void relax(int turn) {
    if (turn < 1000) {
#if defined(__x86_64__)
        _mm_pause();
#endif
    } else {
        std::this_thread::yield();
    }
}

void Barrier::wait(int size) {
    int now = round.load(std::memory_order_relaxed);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
        arrived.store(0, std::memory_order_relaxed);
        round.store(now + 1, std::memory_order_release);
        return;
    }
    for (int turn = 0; round.load(std::memory_order_acquire) == now; turn++) {
        if (turn > 100000) std::this_thread::sleep_for(std::chrono::microseconds(50));
        else relax(turn);
    }
}

struct Pool::Workers {
    std::vector<std::thread> threads;
    std::mutex mutex;
    std::condition_variable wake;
    std::atomic<long> call{0};  // number of the present call
    std::atomic<int> working{0};
    std::atomic<bool> stop{false};
    void (*work)(void *, int, int) = nullptr;
    void *context = nullptr;
    int size;

    explicit Workers(int count) : size(count) {
        try {
            for (int rank = 1; rank < count; rank++) threads.emplace_back([this, rank] { serve(rank); });
        } catch (...) {
            finish();
            throw;
        }
    }
    void serve(int rank) {
        for (long served = 0;; served++) {
            // The next call often follows at once, and waking up takes longer than a small network: watch for a moment.
            auto start = std::chrono::steady_clock::now();
            for (int turn = 0; call.load(std::memory_order_acquire) == served; turn++) {
                relax(turn);
                if (turn % 64 == 0 && std::chrono::steady_clock::now() - start > std::chrono::microseconds(300)) {
                    std::unique_lock<std::mutex> lock(mutex);
                    wake.wait(lock, [&] { return call.load(std::memory_order_acquire) != served; });
                }
            }
            if (stop) return;
            work(context, rank, size);
            working.fetch_sub(1, std::memory_order_release);
        }
    }
    void announce() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            call.fetch_add(1, std::memory_order_release);
        }
        wake.notify_all();
    }
    void finish() {
        stop = true;
        announce();
        for (auto &thread : threads) thread.join();
    }
};

namespace {

struct Registry {
    std::mutex mutex;  // of the list of pools
    Pool *first = nullptr;
};
Registry &registry() {
    static Registry &only = *new Registry;  // never destroyed, so that it outlives every pool
    return only;
}

OpenMP openmp{};

}  // namespace

void use_openmp(const OpenMP &library) { openmp = library; }

Pool::Pool(int threads, bool openmp_first) : count(threads), on_openmp(openmp_first), previous(nullptr) {
    assert(threads >= 1);
    static const int handlers = pthread_atfork(before_fork, after_fork, in_child);
    if (handlers) throw std::bad_alloc();
    std::lock_guard<std::mutex> lock(registry().mutex);
    next = registry().first;
    if (next) next->previous = this;
    registry().first = this;
}

Pool::~Pool() {
    {
        std::lock_guard<std::mutex> lock(registry().mutex);
        (previous ? previous->next : registry().first) = next;
        if (next) next->previous = previous;
    }
    stop();
}

void Pool::before_fork() { registry().mutex.lock(); }
void Pool::after_fork() { registry().mutex.unlock(); }
// The child has one thread, this one. A pool's lock may be held by a thread that is not there, and so may its workers':
// both are left behind.
void Pool::in_child() {
    registry().mutex.unlock();
    openmp = {};  // its threads are not there either, and an old OpenMP library would wait for them
    for (Pool *pool = registry().first; pool; pool = pool->next) {
        new (&pool->mutex) std::mutex;
        pool->workers = nullptr;
    }
}

void Pool::stop() {
    if (workers) workers->finish();
    delete workers;
    workers = nullptr;
}

void Pool::resize(int threads) {
    assert(threads >= 1);
    if (threads != count) stop();
    count = threads;
}

void Pool::run(void (*work)(void *, int, int), void *context) {
    if (count == 1) return work(context, 0, 1);
    if (on_openmp && openmp.parallel) {
        struct Region {
            void (*work)(void *, int, int);
            void *context;
        } region{work, context};
        openmp.parallel(
            [](void *data) {
                const Region &r = *(const Region *)data;
                r.work(r.context, openmp.rank(), openmp.size());
            },
            &region, count, 0);
        return;
    }
    if (!workers) workers = new Workers(count);
    workers->work = work;
    workers->context = context;
    workers->working.store(count - 1, std::memory_order_relaxed);
    workers->announce();
    work(context, 0, count);
    for (int turn = 0; workers->working.load(std::memory_order_acquire); turn++) relax(turn);
}

}  // namespace fasternet
