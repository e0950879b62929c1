// Products in vector registers: MR rows times NR columns are summed at once, each step reading `step` values of every row
// and as many rows of NR columns of the right-hand side. A is the arithmetic policy (arithmetic.h).

template <class A, int MR, int VECTORS> struct Registers : OnePart<A> {
    using V = typename A::Value;
    static constexpr long NR = VECTORS * LANES, step = A::step;
    static_assert(16 % LANES == 0 && (NR == 16 || NR == 32), "NR is one panel or two");

    static void begin() {}
    static void end() {}

    // dense[depth][columns] to panels [NR columns][steps of the depth][NR][step]; the last may have 16 columns. w.depth
    // and w.columns are set, w.data has room for them.
    static void pack(Rhs<V> &w, const V *dense) {
        assert(w.depth % step == 0 && w.columns % 16 == 0);
        V *to = w.data.data();
        for (long column = 0; column < w.columns; column += NR)
            for (long k = 0; k < w.depth; k += step)
                for (long c = column; c < lesser(column + NR, w.columns); c += 16, to += 16 * step)
                    A::interleave(to, dense + k * w.columns + c, w.columns, step);
    }

    // f(n) with n, a compile-time constant, the number of vectors in the panel from `column` on.
    template <class F> static void with_panel(long column, long columns, F f) {
        if (NR == 16 || columns - column > 16) f(std::integral_constant<int, VECTORS>{});
        else f(std::integral_constant<int, 16 / LANES>{});
    }

    // sums[MR][N vectors] += MR rows at `lhs`, `stride` apart, times the columns at `rhs`: one step.
    template <int N> static void add(vec (&sums)[MR][N], const V *lhs, long stride, const V *rhs) {
        typename A::Lanes columns[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; n++) columns[n] = A::load_rhs(rhs + n * LANES * step);
#pragma GCC unroll 16
        for (int r = 0; r < MR; r++) {
            const typename A::Lanes value = A::splat_lhs(lhs + r * stride);
#pragma GCC unroll 16
            for (int n = 0; n < N; n++) sums[r][n] = A::multiply(sums[r][n], value, columns[n]);
        }
    }

    // The tile: results[MR][NR] = bias + rows from `row` on times one panel. A function by itself: inlined into a larger
    // one, the compiler keeps the sums in memory, not in registers.
    template <int N>
    __attribute__((noinline)) static void tile(const Lhs<V> *runs, int count, long row, const V *rhs, const float *bias,
                                               float *results) {
        vec sums[MR][N];
#pragma GCC unroll 16
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
            for (int n = 0; n < N; n++) sums[r][n] = INSTRUCTIONS::load(bias + n * LANES);
        for (int i = 0; i < count; i++) {
            const long stride = runs[i].stride;
            const V *lhs = runs[i].start + row * stride;
            for (const V *end = lhs + runs[i].length; lhs < end; lhs += step, rhs += N * LANES * step)
                add<N>(sums, lhs, stride, rhs);
        }
#pragma GCC unroll 16
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
            for (int n = 0; n < N; n++) INSTRUCTIONS::store(results + r * NR + n * LANES, sums[r][n]);
    }

    // Columns [begin, end) of the product of `rows` rows and w, in whole panels of NR but for the last.
    // epilogue(row, rows, column, columns, sums): up to MR x NR sums, whose rows are NR floats apart. Rows up to the next
    // multiple of MR are read. before(row, rows, column, columns) is called before each tile.
    template <class F, class G>
    static void multiply(const Lhs<V> *runs, int count, long rows, const Rhs<V> &w, long begin, long end, F epilogue,
                         G before) {
        assert(begin % NR == 0 && (end % NR == 0 || end == w.columns));
        alignas(64) static const float zeros[NR] = {};
        alignas(64) float results[MR * NR];
        for (long column = begin; column < end; column += NR)
            with_panel(column, w.columns, [&](auto vectors) {
                constexpr long columns = vectors.value * LANES;
                const V *rhs = w.data.data() + column * w.depth;
                const float *bias = w.bias.data() ? w.bias.data() + column : zeros;
                for (long row = 0; row < rows; row += MR) {
                    const long present = lesser(MR, rows - row);
                    before(row, present, column, columns);
                    tile<vectors.value>(runs, count, row, rhs, bias, results);
                    epilogue(row, present, column, columns, results);
                }
            });
    }
};
