// Threads that share one call.
#pragma once
#include <atomic>
#include <mutex>

namespace fasternet {

// Where the threads of a team meet. The wait is short (the others are at work on the same layer), so it spins; after a
// while it sleeps, because a thread that lost its core may be away for long.
class alignas(64) Barrier {
    std::atomic<int> arrived{0}, round{0};

public:
    void wait(int size);
};

// The threads that share one piece of work.
struct Team {
    int rank, size;
    Barrier *barrier;

    void wait() const {
        if (size > 1) barrier->wait(size);
    }
    // This thread's part [begin, end) of `total`, in whole units.
    void share(long total, long unit, long &begin, long &end) const {
        long units = (total + unit - 1) / unit;
        begin = units * rank / size * unit;
        end = units * (rank + 1) / size * unit;
        if (begin > total) begin = total;
        if (end > total) end = total;
    }
};

// A lock and the threads that work while it is held. The threads start with the first piece of work and sleep between
// calls. In a forked child, a Pool has a new lock and new threads: a handler of fork() sees to it before anything else
// runs there.
class Pool {
    struct Workers;
    std::mutex mutex;
    Workers *workers = nullptr;
    int count;
    const bool on_openmp;
    Pool *previous, *next;  // of all pools

    void stop();
    void run(void (*work)(void *context, int rank, int size), void *context);
    static void before_fork(), after_fork(), in_child();

public:
    // on_openmp: prefers the OpenMP threads of `use_openmp` to threads of its own.
    explicit Pool(int threads, bool on_openmp = false);
    ~Pool();
    int size() const { return count; }
    void resize(int threads);  // within `alone`

    // work(), while other threads' calls of `alone` wait.
    template <class F> void alone(F work) {
        std::lock_guard<std::mutex> lock(mutex);
        work();
    }
    // work(rank, size) on every thread, the caller being rank 0; returns when all have returned. Within `alone`; the
    // size is that of the pool, or less where OpenMP gives fewer threads. `work` must not throw.
    template <class F> void run(F work) {
        run([](void *f, int rank, int size) { (*(F *)f)(rank, size); }, &work);
    }
};

// The entry points of an OpenMP library: GOMP_parallel, omp_get_thread_num, omp_get_num_threads.
struct OpenMP {
    void (*parallel)(void (*function)(void *), void *data, unsigned threads, unsigned flags);
    int (*rank)();
    int (*size)();
};
void use_openmp(const OpenMP &);

}  // namespace fasternet
