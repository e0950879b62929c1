#include "threads.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
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

struct Pool::State {
    std::vector<std::thread> workers;
    std::mutex mutex;
    std::condition_variable wake;
    std::atomic<long> call{0};   // number of the present call
    std::atomic<int> working{0};
    std::atomic<bool> stop{false};
    void (*work)(void *, int) = nullptr;
    void *context = nullptr;

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
            work(context, rank);
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
};

Pool::Pool(int threads) : state(new State), count(threads) {
    for (int rank = 1; rank < threads; rank++)
        state->workers.emplace_back([this, s = state, rank] { s->serve(rank); });
}

Pool::~Pool() {
    state->stop = true;
    state->announce();
    for (auto &worker : state->workers) worker.join();
    delete state;
}

void Pool::run(void (*work)(void *, int), void *context) {
    if (count > 1) {
        state->work = work;
        state->context = context;
        state->working.store(count - 1, std::memory_order_relaxed);
        state->announce();
    }
    work(context, 0);
    for (int turn = 0; count > 1 && state->working.load(std::memory_order_acquire); turn++) relax(turn);
}

}  // namespace fasternet
