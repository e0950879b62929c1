// Products in vector registers: ROWS rows times VECTORS vectors of columns are summed at once. A says what a value is
// (../common/arithmetic.h).

template <class A, int ROWS, int VECTORS> struct Registers : A {
    using V = typename A::Value;
    static constexpr long pad = 16, width = VECTORS * LANES, step = A::step;  // width: `pad` or twice that
    static_assert(pad % LANES == 0 && (width == pad || width == 2 * pad));

    static void begin() {}
    static void end() {}

    // The right factor dense[depth][columns], to [width columns][steps of the depth][width][values of a step]; the last
    // panel may be half as wide.
    static void pack(Packed<V> &w, const V *dense) {
        V *to = w.data.data();
        for (long column = 0; column < w.columns; column += width)
            for (long k = 0; k < w.depth; k += step)
                for (long c = column; c < lesser(column + width, w.columns); c += 16, to += 16 * step)
                    A::lace(to, dense + k * w.columns + c, w.columns, step);
    }
    // ... of dense[columns][depth]
    static void pack_transposed(Packed<V> &w, const V *dense) {
        for (long column = 0; column < w.columns; column++) {
            const V *from = dense + column * w.depth;
            const long first = column / width * width, panel = lesser(width, w.columns - first);
            V *to = w.data.data() + first * w.depth + (column - first) * step;
            for (long k = 0; k < w.depth; k += step) std::memcpy(to + k * panel, from + k, step * sizeof(V));
        }
    }

    template <int COUNT> struct Sums {  // of COUNT vectors
        vec of[ROWS][COUNT];

        // The next values of every row, at `left[r * stride]`, times the columns at `right`.
        void add(const V *left, long stride, const V *right) {
            typename A::Lanes columns[COUNT];
#pragma GCC unroll 16
            for (int n = 0; n < COUNT; n++) columns[n] = A::right(right + n * LANES * step);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++) {
                const typename A::Lanes value = A::left(left + r * stride);
#pragma GCC unroll 16
                for (int n = 0; n < COUNT; n++) of[r][n] = A::multiply(of[r][n], value, columns[n]);
            }
        }
        void store(float *to, long stride) const {
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
                for (int n = 0; n < COUNT; n++) std::memcpy(to + r * stride + n * LANES, &of[r][n], sizeof(vec));
        }
    };

    // f(n), where n is a constant of the compiler's: of how many vectors the panel from `column` on is.
    template <class F> static void with_panel(long column, long columns, F f) {
        if (width == pad || columns - column > pad) f(std::integral_constant<int, VECTORS>{});
        else f(std::integral_constant<int, pad / LANES>{});
    }
    // finish(row, rows, column, columns, sums): up to `width` columns of up to ROWS rows. What it reads or writes of
    // `touched` and `also` is fetched during the product.
    template <class F>
    static void multiply(const Left<V> &a, long rows, const Packed<V> &w, F finish, Rows<V> touched = {},
                         Rows<V> also = {}) {
        alignas(64) float results[ROWS * width];
        for (long column = 0; column < w.columns; column += width)
            with_panel(column, w.columns, [&](auto vectors) {
                constexpr long columns = vectors.value * LANES;
                for (long row = 0; row < rows; row += ROWS) {
                    const long count = lesser(ROWS, rows - row);
                    fetch<columns>(touched, row, count, column), fetch<columns>(also, row, count, column);
                    const V *b = w.data.data() + column * w.depth;
                    Sums<vectors.value> sums{};
                    for (int run = 0; run < a.runs; run++) {
                        const V *from = a.start + run * a.jump + row * a.stride;
                        for (const V *end = from + a.length; from < end; from += step, b += columns * step)
                            sums.add(from, a.stride, b);
                    }
                    sums.store(results, width);
                    finish(row, count, column, columns, results);
                }
            });
    }
    template <long COLUMNS> static void fetch(Rows<V> rows, long first, long count, long column) {
        if (!rows.start) return;
        for (long r = first; r < first + count; r++)
            for (long c = 0; c < COLUMNS; c += 64 / sizeof(V))
                __builtin_prefetch(rows.start + r * rows.stride + column + c, 1);
    }

    // sums[m][n] of u[i][m] v[i][n] over `rows` rows i, added to what is there unless `first`; m, n: multiples of 16.
    // `forms` holds both factors in the order in which they are read.
    static void accumulate(const V *u, long u_stride, long m, const V *v, long v_stride, long n, long rows, float *sums,
                           bool first, Buffer<V> &forms) {
        const long steps = (rows + step - 1) / step, u_line = m * step;
        forms.grow(steps * step * (m + n) + SLACK);
        V *us = forms.data(), *vs = us + steps * u_line;
        for (long s = 0; s < steps; s++) {
            const long row = s * step;
            for (long i = 0; i < m; i += 16)
                A::lace(us + s * u_line + i * step, u + row * u_stride + i, u_stride, rows - row);
            for (long j = 0; j < n; j += 16) {
                const long panel = j / width * width, columns = lesser(width, n - panel);
                A::lace(vs + (panel * steps + s * columns + j - panel) * step, v + row * v_stride + j, v_stride,
                        rows - row);
            }
        }
        for (long i = 0; i < m; i += ROWS)
            for (long j = 0; j < n; j += width)
                with_panel(j, n, [&](auto vectors) {
                    Sums<vectors.value> part{};
                    const V *left = us + i * step, *right = vs + j * steps * step;
                    for (long s = 0; s < steps; s++, left += u_line, right += vectors.value * LANES * step)
                        part.add(left, step, right);
                    for (int r = 0; r < ROWS && i + r < m; r++)
                        for (int c = 0; c < vectors.value; c++) {
                            float *to = sums + (i + r) * n + j + c * LANES;
                            Float::store(to, first ? part.of[r][c] : Float::load(to) + part.of[r][c]);
                        }
                });
    }
};
