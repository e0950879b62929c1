// Products in vector registers: ROWS rows times VECTORS vectors of columns are summed at once. A says what a value is
// (../../deploy/native/arithmetic.h).

template <class A, int ROWS, int VECTORS> struct Registers : A {
    using V = typename A::Value;
    static constexpr long pad = 32, width = VECTORS * LANES, step = A::step;

    static void begin() {}
    static void end() {}

    // The right factor dense[depth][columns], to [width columns][steps of the depth][width][values of a step].
    static void pack(Packed<V> &w, const V *dense) {
        V *to = w.data.data();
        for (long column = 0; column < w.columns; column += width)
            for (long k = 0; k < w.depth; k += step)
                for (long c = column; c < column + width; c += 16, to += 16 * step)
                    A::lace(to, dense + k * w.columns + c, w.columns, step);
    }
    // ... of dense[columns][depth]
    static void pack_transposed(Packed<V> &w, const V *dense) {
        for (long column = 0; column < w.columns; column++) {
            const V *from = dense + column * w.depth;
            V *to = w.data.data() + column / width * width * w.depth + column % width * step;
            for (long k = 0; k < w.depth; k += step) std::memcpy(to + k * width, from + k, step * sizeof(V));
        }
    }

    struct Sums {
        vec of[ROWS][VECTORS];

        // The next values of every row, at `left[r * stride]`, times the columns at `right`.
        void add(const V *left, long stride, const V *right) {
            typename A::Lanes columns[VECTORS];
#pragma GCC unroll 16
            for (int n = 0; n < VECTORS; n++) columns[n] = A::right(right + n * LANES * step);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++) {
                const typename A::Lanes value = A::left(left + r * stride);
#pragma GCC unroll 16
                for (int n = 0; n < VECTORS; n++) of[r][n] = A::multiply(of[r][n], value, columns[n]);
            }
        }
        void store(float *to, long stride) const {
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
                for (int n = 0; n < VECTORS; n++) std::memcpy(to + r * stride + n * LANES, &of[r][n], sizeof(vec));
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
                    for (const V *end = from + a.length; from < end; from += step, b += width * step)
                        sums.add(from, a.stride, b);
                }
                sums.store(results, width);
                finish(row, lesser(ROWS, rows - row), column, results);
            }
    }

    // sums[m][n] of u[i][m] v[i][n] over `rows` rows i, added to what is there unless `first`; m, n: multiples of 32.
    // `forms` holds both factors in the order in which they are read.
    static void accumulate(const V *u, long u_stride, long m, const V *v, long v_stride, long n, long rows, float *sums,
                           bool first, Buffer<V> &forms) {
        const long steps = (rows + step - 1) / step, u_line = m * step, v_panel = steps * width * step;
        forms.grow(steps * step * (m + n) + SLACK);
        V *us = forms.data(), *vs = us + steps * u_line;
        for (long s = 0; s < steps; s++) {
            const long row = s * step;
            for (long i = 0; i < m; i += 16)
                A::lace(us + s * u_line + i * step, u + row * u_stride + i, u_stride, rows - row);
            for (long j = 0; j < n; j += 16)
                A::lace(vs + j / width * v_panel + (s * width + j % width) * step, v + row * v_stride + j, v_stride,
                        rows - row);
        }
        for (long i = 0; i < m; i += ROWS)
            for (long j = 0; j < n; j += width) {
                Sums part{};
                const V *left = us + i * step, *right = vs + j / width * v_panel;
                for (long s = 0; s < steps; s++, left += u_line, right += width * step) part.add(left, step, right);
                for (int r = 0; r < ROWS && i + r < m; r++)
                    for (int c = 0; c < VECTORS; c++) {
                        float *to = sums + (i + r) * n + j + c * LANES;
                        Float::store(to, first ? part.of[r][c] : Float::load(to) + part.of[r][c]);
                    }
            }
    }
};
