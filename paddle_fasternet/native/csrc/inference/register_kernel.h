// Inference's products in vector registers.

template <class A, int MR_, int VECTORS> struct RegisterKernel : Registers<A, MR_, VECTORS> {
    using Base = Registers<A, MR_, VECTORS>;
    using V = typename A::Value;
    using A::load, A::store, OnePart<A>::load, OnePart<A>::store;
    static constexpr int pad = 64 / sizeof(V), MR = MR_;

    static float rounded(float value) {
        V values[LANES];
        A::store(values, splat(value));
        return A::load(values)[0];
    }

    // dense: [w.depth, w.columns]
    static void pack(Rhs<V> &w, const float *dense) {
        Buffer<V> values;
        values.grow(w.depth * w.columns);
        for (long i = 0; i < w.depth * w.columns; i += LANES)
            A::store(values.data() + i, INSTRUCTIONS::load(dense + i));
        w.data.grow(w.depth * w.columns);
        Base::pack(w, values.data());
    }

    static void finish(vec sum, const Output<V> &out, long row, long column) {
        sum = activate<A>(sum, out.act);
        const long left = out.columns - column;
        if (out.floats) {
            std::memcpy(out.floats + row * out.columns + column, &sum, lesser(left, LANES) * sizeof(float));
            return;
        }
        V *to = out.rows.row(out.places ? out.places[row] : row) + column;
        if (out.add) sum += A::load(to);
        if (out.places && left < LANES) A::store(to, sum, left);
        else A::store(to, sum);
    }

    // Panels [begin, end) of runs times w, plus its bias, for `rows` rows; `begin` is even. Rows up to the next multiple
    // of MR are read. The output does not overlap what is read, but for sums that are added.
    static void multiply(const Lhs<V> *runs, int count, const Rhs<V> &w, long rows, long begin, long end,
                         const Output<V> &out) {
        auto epilogue = [&](long row, long present, long column, long columns, const float *sums) {
            for (long r = 0; r < present; r++, sums += Base::NR) {
                if (out.places && out.places[row + r] < 0) continue;
                for (long c = 0; c < columns; c += LANES)
                    if (!(out.places || out.floats) || column + c < out.columns)
                        finish(INSTRUCTIONS::load(sums + c), out, row + r, column + c);
            }
        };
        Base::multiply(runs, count, rows, w, 16 * begin, 16 * end, epilogue, [](long, long, long, long) {});
    }
};
