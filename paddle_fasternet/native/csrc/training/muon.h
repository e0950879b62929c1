// Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum whose update is made orthogonal by a
// Newton-Schulz iteration on a matrix x of no more rows than columns, x <- (a + b s + c s s) x with s = x x^T. It takes
// each singular value v to a v + b v^3 + c v^5 and leaves the singular vectors; divided by its norm first, x has none
// above 1.

template <class A> class Orthogonaliser {
    using V = typename A::V;
    Buffer<V> x, square, polynomial;
    Buffer<float> values;
    Rhs<V> left, right;

    static void grow(Rhs<V> &w, long depth, long columns) {
        w.depth = depth, w.columns = columns;
        w.data.grow(depth * columns + SLACK);
    }

public:
    // matrix: [rows, columns], rows <= columns, in rows of up(columns) floats
    void run(float *matrix, long rows, long columns, const MuonSettings &k) {
        const long m = round_up(rows, A::pad), n = round_up(columns, A::pad);
        x.grow((m + 64) * n + SLACK), square.grow((m + 64) * m + SLACK), polynomial.grow((m + 64) * m + SLACK);
        grow(left, n, m), grow(right, m, n);
        double squares = 0;
        for (long r = 0; r < rows; r++) {
            vec sum{};
            for (long j = 0; j < n; j += LANES) sum += load(matrix + r * n + j) * load(matrix + r * n + j);
            for (int i = 0; i < LANES; i++) squares += sum[i];
        }
        const float scale = (float)(1 / (std::sqrt(squares) + 1e-7));
        std::memset(x.data(), 0, m * n * sizeof(V));
        for (long i = 0; i < rows * n; i += LANES) A::store(x.data() + i, load(matrix + i) * scale);
        for (int i = 0; i < k.iterations; i++) {
            left.depth = n;
            A::pack_transposed(left, x.data());
            product(x.data(), n, m, left, [&](long, long, vec sum) { return sum; }, square.data(), m);
            left.depth = m;
            A::pack(left, square.data());
            product(
                square.data(), m, m, left,
                [&](long r, long j, vec sum) {
                    vec v = A::load(square.data() + r * m + j) * k.b + sum * k.c;
                    if (r >= j && r < j + LANES) v[r - j] += k.a;
                    return v;
                },
                polynomial.data(), m);
            A::pack(right, x.data());
            product(polynomial.data(), m, m, right, [&](long, long, vec sum) { return sum; }, x.data(), n);
        }
        for (long i = 0; i < rows * n; i += LANES) {
            const vec v = A::load(x.data() + i);
            std::memcpy(matrix + i, &v, sizeof v);
        }
    }

    // One weight's momentum and update.
    void step(const MuonMatrix &w, const MuonSettings &k) {
        const bool tall = w.rows > w.columns;
        const long rows = tall ? w.columns : w.rows, columns = tall ? w.rows : w.columns, n = round_up(columns, A::pad);
        values.grow(rows * n + SLACK);
        std::memset(values.data(), 0, rows * n * sizeof(float));
        for (long r = 0, i = 0; r < w.rows; r++)
            for (long j = 0; j < w.columns; j++, i++) {
                const float momentum = k.momentum * w.momentum[i] + (1 - k.momentum) * w.gradient[i];
                w.momentum[i] = momentum;
                values.data()[tall ? j * n + r : r * n + j] = k.momentum * momentum + (1 - k.momentum) * w.gradient[i];
            }
        run(values.data(), rows, columns, k);
        const float factor = k.rate * k.size * std::sqrt((float)columns), kept = 1 - k.rate * k.decay;
        for (long r = 0, i = 0; r < w.rows; r++)
            for (long j = 0; j < w.columns; j++, i++)
                w.weight[i] = kept * w.weight[i] - factor * values.data()[tall ? j * n + r : r * n + j];
    }

private:
    template <class F>
    static void product(const V *from, long stride, long rows, const Rhs<V> &w, F finish, V *to, long to_stride) {
        const Lhs<V> lhs{from, stride, stride};
        A::multiply(&lhs, 1, rows, w, [&](long row, long count, long column, long columns, const float *sums) {
            for (long r = 0; r < count; r++)
                for (long j = 0; j < columns; j += LANES)
                    A::store(to + (row + r) * to_stride + column + j,
                             finish(row + r, column + j, load(sums + r * A::NR + j)));
        });
    }
};

template <class A> class MuonOf : public Muon {
    std::vector<Orthogonaliser<A>> own;

public:
    void step(const MuonMatrix *matrices, long count, const MuonSettings &settings, Pool &pool) override {
        if (own.size() < (size_t)pool.size()) own = std::vector<Orthogonaliser<A>>(pool.size());
        std::atomic<long> next{0};
        std::atomic<bool> failed{false};
        pool.run([&](int rank, int) {
            A::begin();
            try {
                for (long i; (i = next++) < count;) own[rank].step(matrices[i], settings);
            } catch (const std::bad_alloc &) {
                failed = true;
            }
            A::end();
        });
        if (failed) throw std::bad_alloc();
    }
};
