// Newton-Schulz iteration on a matrix x of no more rows than columns: x <- (a + b s + c s s) x with s = x x^T, which
// takes each singular value v to a v + b v^3 + c v^5 and leaves the singular vectors. Divided by its norm first, x has
// none above 1.

template <class A> class Orthogonaliser {
    using V = typename A::V;
    Buffer<V> x, square, polynomial, forms;
    Packed<V> left, right;

    void grow(Packed<V> &w, long depth, long columns) {
        w.depth = depth, w.columns = columns;
        w.data.grow(depth * columns + SLACK);
    }

public:
    void run(float *matrix, long rows, long columns, int iterations, const float *coefficients) {
        const long m = round_up(rows, A::pad), n = round_up(columns, A::pad);
        const float a = coefficients[0], b = coefficients[1], c = coefficients[2];
        x.grow((m + 64) * n + SLACK), square.grow((m + 64) * m + SLACK), polynomial.grow((m + 64) * m + SLACK);
        grow(left, n, m), grow(right, m, n);
        double squares = 0;
        for (long i = 0; i < rows * columns; i++) squares += (double)matrix[i] * matrix[i];
        const float scale = (float)(1 / (std::sqrt(squares) + 1e-7));
        std::memset(x.data(), 0, m * n * sizeof(V));
        for (long r = 0; r < rows; r++)
            for (long j = 0; j < columns; j += LANES) {
                float values[LANES] = {};
                std::memcpy(values, matrix + r * columns + j, lesser(LANES, columns - j) * sizeof(float));
                vec v;
                std::memcpy(&v, values, sizeof v);
                A::store(x.data() + r * n + j, v * scale, lesser(LANES, columns - j));
            }
        for (int i = 0; i < iterations; i++) {
            A::pack_transposed(left, x.data());
            product(x.data(), n, m, left, [&](long, long, vec sum) { return sum; }, square.data(), m);
            left.depth = m;
            A::pack(left, square.data());
            product(square.data(), m, m, left, [&](long r, long j, vec sum) {
                vec v = A::load(square.data() + r * m + j) * b + sum * c;
                if (r >= j && r < j + LANES) v[r - j] += a;
                return v;
            }, polynomial.data(), m);
            left.depth = n;
            A::pack(right, x.data());
            product(polynomial.data(), m, m, right, [&](long, long, vec sum) { return sum; }, x.data(), n);
        }
        for (long r = 0; r < rows; r++)
            for (long j = 0; j < columns; j += LANES) {
                const vec v = A::load(x.data() + r * n + j);
                std::memcpy(matrix + r * columns + j, &v, lesser(LANES, columns - j) * sizeof(float));
            }
    }

private:
    template <class F>
    static void product(const V *from, long stride, long rows, const Packed<V> &w, F finish, V *to, long to_stride) {
        A::multiply(Left<V>{from, stride, stride}, rows, w, [&](long row, long count, long column, const float *sums) {
            for (long r = 0; r < count; r++)
                for (long j = 0; j < A::width; j += LANES) {
                    vec v;
                    std::memcpy(&v, sums + r * A::width + j, sizeof v);
                    A::store(to + (row + r) * to_stride + column + j, finish(row + r, column + j, v));
                }
        });
    }
};

template <class A> class Orthogonalisation : public Orthogonal {
    std::vector<Orthogonaliser<A>> own;

public:
    void run(float *matrices, long count, long rows, long columns, int iterations, const float *coefficients,
             Pool &pool) override {
        struct Context {
            std::atomic<long> next{0};
            std::atomic<bool> failed{false};
            std::vector<Orthogonaliser<A>> *own;
            float *matrices;
            long count, rows, columns;
            int iterations;
            const float *coefficients;
        } context;
        if (own.size() < (size_t)pool.size()) own = std::vector<Orthogonaliser<A>>(pool.size());
        context.own = &own, context.matrices = matrices, context.count = count, context.rows = rows;
        context.columns = columns, context.iterations = iterations, context.coefficients = coefficients;
        pool.run([](void *c, int rank) {
            Context &k = *(Context *)c;
            A::begin();
            try {
                for (long i; (i = k.next++) < k.count;)
                    (*k.own)[rank].run(k.matrices + i * k.rows * k.columns, k.rows, k.columns, k.iterations, k.coefficients);
            } catch (const std::bad_alloc &) {
                k.failed = true;
            }
            A::end();
        }, &context);
        if (context.failed) throw std::bad_alloc();
    }
};
