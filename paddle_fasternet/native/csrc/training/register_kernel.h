// Training's products in vector registers.

template <class A, int MR, int VECTORS> struct RegisterKernel : Registers<A, MR, VECTORS> {
    using Base = Registers<A, MR, VECTORS>;
    using V = typename A::Value;
    using Base::NR, Base::step;
    static constexpr long pad = 16;

    // pack of dense[columns][depth]
    static void pack_transposed(Rhs<V> &w, const V *dense) {
        for (long column = 0; column < w.columns; column++) {
            const V *from = dense + column * w.depth;
            const long first = column / NR * NR, panel = lesser(NR, w.columns - first);
            V *to = w.data.data() + first * w.depth + (column - first) * step;
            for (long k = 0; k < w.depth; k += step) std::memcpy(to + k * panel, from + k, step * sizeof(V));
        }
    }

    // See Registers::multiply; all columns.
    template <class F>
    static void multiply(const Lhs<V> *runs, int count, long rows, const Rhs<V> &w, F epilogue, Rows<V> touched = {},
                         Rows<V> also = {}) {
        Base::multiply(runs, count, rows, w, 0, w.columns, epilogue,
                       [&](long row, long present, long column, long columns) {
                           fetch(touched, row, present, column, columns), fetch(also, row, present, column, columns);
                       });
    }
    static void fetch(Rows<V> rows, long first, long count, long column, long columns) {
        if (!rows.start) return;
        for (long r = first; r < first + count; r++)
            for (long c = 0; c < columns; c += 64 / (long)sizeof(V))
                __builtin_prefetch(rows.start + r * rows.stride + column + c, 1);
    }

    // sums[m][n] = or, unless `first`, += sum of u[i][m] v[i][n] over `rows` rows i; m, n: multiples of 16. `forms` holds
    // both factors in the order in which they are read.
    static void accumulate(const V *u, long u_stride, long m, const V *v, long v_stride, long n, long rows, float *sums,
                           bool first, Buffer<V> &forms) {
        const long steps = (rows + step - 1) / step, u_line = m * step;
        forms.grow(steps * step * (m + n) + SLACK);
        V *us = forms.data(), *vs = us + steps * u_line;
        for (long s = 0; s < steps; s++) {
            const long row = s * step;
            for (long i = 0; i < m; i += 16)
                A::interleave(us + s * u_line + i * step, u + row * u_stride + i, u_stride, rows - row);
            for (long j = 0; j < n; j += 16) {
                const long panel = j / NR * NR, columns = lesser(NR, n - panel);
                A::interleave(vs + (panel * steps + s * columns + j - panel) * step, v + row * v_stride + j, v_stride,
                              rows - row);
            }
        }
        for (long i = 0; i < m; i += MR)
            for (long j = 0; j < n; j += NR)
                Base::with_panel(j, n, [&](auto vectors) {
                    vec part[MR][vectors.value] = {};
                    const V *lhs = us + i * step, *rhs = vs + j * steps * step;
                    for (long s = 0; s < steps; s++, lhs += u_line, rhs += vectors.value * LANES * step)
                        Base::template add<vectors.value>(part, lhs, step, rhs);
                    for (int r = 0; r < MR && i + r < m; r++)
                        for (int c = 0; c < vectors.value; c++) {
                            float *to = sums + (i + r) * n + j + c * LANES;
                            INSTRUCTIONS::store(to, first ? part[r][c] : INSTRUCTIONS::load(to) + part[r][c]);
                        }
                });
    }
};
