// Products in vector registers, float32: ROWS rows times VECTORS vectors of columns are summed at once.

template <int ROWS, int VECTORS> struct Registers {
    using V = float;
    static constexpr long pad = 32, width = VECTORS * LANES;
    static constexpr bool rough = false;

    static void begin() {}
    static void end() {}

    static vec load(const V *p) {
        vec v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static void store(V *p, vec v) { std::memcpy(p, &v, sizeof v); }
    static void store(V *p, vec v, long count) { std::memcpy(p, &v, lesser(count, LANES) * sizeof(float)); }

    // The right factor dense[depth][columns], to [width columns][depth][width].
    static void pack(Packed<V> &w, const V *dense) {
        V *to = w.data.data();
        for (long column = 0; column < w.columns; column += width)
            for (long k = 0; k < w.depth; k++, to += width)
                std::memcpy(to, dense + k * w.columns + column, width * sizeof(V));
    }
    // ... of dense[columns][depth]
    static void pack_transposed(Packed<V> &w, const V *dense) {
        for (long column = 0; column < w.columns; column++) {
            const V *from = dense + column * w.depth;
            V *to = w.data.data() + column / width * width * w.depth + column % width;
            for (long k = 0; k < w.depth; k++) to[k * width] = from[k];
        }
    }

    struct Sums {
        vec of[ROWS][VECTORS];

        // `left[r * stride]` times the columns at `right`, for every row r
        void add(const V *left, long stride, const V *right) {
            vec columns[VECTORS];
#pragma GCC unroll 16
            for (int n = 0; n < VECTORS; n++) columns[n] = load(right + n * LANES);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++) {
                const vec value = all(left[r * stride]);
#pragma GCC unroll 16
                for (int n = 0; n < VECTORS; n++) of[r][n] += value * columns[n];
            }
        }
        void store(float *to, long stride) const {
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
                for (int n = 0; n < VECTORS; n++) Registers::store(to + r * stride + n * LANES, of[r][n]);
        }
    };

    template <class F> static void multiply(const Left<V> &a, long rows, const Packed<V> &w, F finish) {
        alignas(64) float results[ROWS * width];
        for (long column = 0; column < w.columns; column += width)
            for (long row = 0; row < rows; row += ROWS) {
                const V *b = w.data.data() + column * w.depth;
                Sums sums{};
                for (int run = 0; run < a.runs; run++) {
                    const V *from = a.start + run * a.jump + row * a.stride;
                    for (const V *end = from + a.length; from < end; from++, b += width) sums.add(from, a.stride, b);
                }
                sums.store(results, width);
                finish(row, lesser(ROWS, rows - row), column, results);
            }
    }

    // sums[m][n] of u[i][m] v[i][n] over `rows` rows i, added to what is there unless `first`; m, n: multiples of 32
    static void accumulate(const V *u, long u_stride, long m, const V *v, long v_stride, long n, long rows, float *sums,
                           bool first, Buffer<V> &) {
        for (long i = 0; i < m; i += ROWS)
            for (long j = 0; j < n; j += width) {
                Sums part{};
                for (long row = 0; row < rows; row++) part.add(u + row * u_stride + i, 1, v + row * v_stride + j);
                for (int r = 0; r < ROWS && i + r < m; r++)
                    for (int c = 0; c < VECTORS; c++) {
                        float *to = sums + (i + r) * n + j + c * LANES;
                        store(to, first ? part.of[r][c] : load(to) + part.of[r][c]);
                    }
            }
    }
};
