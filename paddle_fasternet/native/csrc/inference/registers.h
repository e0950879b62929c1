// Products in vector registers: ROWS rows times VECTORS vectors of columns are summed at once, each step reading one
// value of every row and one row of the right factor. A says what a value is (arithmetic.h).

template <class A, int ROWS, int VECTORS> struct Registers : A {
    using V = typename A::Value;
    using Value = V;
    static constexpr int parts = 1, step = A::step, pad = 64 / sizeof(V), row_tile = ROWS;
    static constexpr int panels = VECTORS * LANES > 16 ? VECTORS * LANES / 16 : 1;  // of 16 columns, at once

    static void begin() {}
    static void end() {}

    static void load(const V *from, long, float *to) {
        for (int i = 0; i < 16; i += LANES) {
            vec v = A::load(from + i);
            std::memcpy(to + i, &v, sizeof v);
        }
    }
    template <class T> static void store(V *to, long, const T *from) {
        for (int i = 0; i < 16; i += LANES) {
            vec v;
            for (int j = 0; j < LANES; j++) v[j] = from[i + j];
            A::store(to + i, v);
        }
    }

    // dense: [depth, 16 panels] to [panel][step][16 columns][values of a step]
    static void pack(Weights<V> &w, const float *dense) {
        w.data.grow(w.depth * w.panels * 16);
        V *to = w.data.data();
        for (long panel = 0; panel < w.panels; panel++)
            for (long k = 0; k < w.depth; k += step)
                for (int column = 0; column < 16; column++)
                    for (int i = 0; i < step; i++) {
                        V value[16];
                        A::store(value, all(dense[(k + i) * w.panels * 16 + panel * 16 + column]));
                        *to++ = value[0];
                    }
    }

    static void finish(vec sum, const Output<V> &out, long row, long column) {
        if (out.act == RELU) sum = larger(sum, vec{});
        if (out.act == GELU) sum = A::gelu(sum);
        const long left = out.columns - column;
        if (out.floats) {
            std::memcpy(out.floats + row * out.columns + column, &sum, (left < LANES ? left : LANES) * sizeof(float));
            return;
        }
        V *to = out.rows.row(out.places ? out.places[row] : row) + column;
        if (out.add) sum += A::load(to);
        if (out.places && left < LANES) {
            V values[LANES];
            A::store(values, sum);
            std::memcpy(to, values, left * sizeof(V));
        } else {
            A::store(to, sum);
        }
    }

    // N vectors of columns of ROWS rows. A function by itself, which does nothing else: within a larger one the compiler
    // keeps the sums in memory, not in registers.
    template <int N>
    __attribute__((noinline)) static void sum(const Run<V> *runs, int count, long row, const V *b, long panel,
                                              const float *bias, float *results) {
        vec sums[ROWS][N];
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
            for (int n = 0; n < N; n++) std::memcpy(&sums[r][n], bias + n * LANES, sizeof(vec));
        for (int i = 0; i < count; i++) {
            const long stride = runs[i].stride;
            const V *a = runs[i].start + row * stride;
            for (const V *end = a + runs[i].length; a < end; a += step, b += 16 * step) {
                typename A::Lanes right[N];
#pragma GCC unroll 16
                for (int n = 0; n < N; n++) right[n] = A::right(b + n * LANES / 16 * panel + n * LANES % 16 * step);
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; r++) {
                    typename A::Lanes left = A::left(a + r * stride);
#pragma GCC unroll 16
                    for (int n = 0; n < N; n++) sums[r][n] = A::multiply(sums[r][n], left, right[n]);
                }
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
            for (int n = 0; n < N; n++) std::memcpy(results + (r * N + n) * LANES, &sums[r][n], sizeof(vec));
    }

    template <int N>
    static void block(const Run<V> *runs, int count, long row, long rows, const V *b, long panel, const float *bias,
                      const Output<V> &out, long column) {
        alignas(64) float results[ROWS * N * LANES];
        sum<N>(runs, count, row, b, panel, bias, results);
        for (long r = 0; r < (rows < ROWS ? rows : ROWS); r++) {
            if (out.places && out.places[row + r] < 0) continue;
            for (int n = 0; n < N; n++)
                if (!(out.places || out.floats) || column + n * LANES < out.columns) {
                    vec v;
                    std::memcpy(&v, results + (r * N + n) * LANES, sizeof v);
                    finish(v, out, row + r, column + n * LANES);
                }
        }
    }

    static void multiply(const Run<V> *runs, int count, const Weights<V> &w, long rows, long begin, long end,
                         const Output<V> &out) {
        const long panel = w.depth * 16;
        for (long p = begin; p < end; p += panels) {
            const V *b = w.data.data() + p * panel;
            const float *bias = w.bias.data() + p * 16;
            for (long row = 0; row < rows; row += ROWS)
                if (end - p >= panels)
                    block<VECTORS>(runs, count, row, rows - row, b, panel, bias, out, p * 16);
                else
                    block<16 / LANES>(runs, count, row, rows - row, b, panel, bias, out, p * 16);
        }
    }
};
