// Threads that stay: started once for an engine, asleep between calls.
#pragma once
#include <atomic>

namespace fasternet {

// Where the threads of a team meet. The wait is short (the others are at work on the same layer), so it spins; a
// thread that was robbed of its core is waited for without burning one.
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

class Pool {
    struct State;
    State *state;
    int count;

public:
    explicit Pool(int threads);
    ~Pool();
    int size() const { return count; }
    // Call work(context, rank) on every thread, the caller being rank 0, and wait for all. One call at a time.
    void run(void (*work)(void *context, int rank), void *context);
};

}  // namespace fasternet
