// BatchNorm over the batch, with the activation after it, on rows.

// Per channel. Forward: z = scale x + shift. Backward: the gradient at x is scale dz + slope x + offset.
struct Norm {
    Buffer<float> mean, inverse, scale, shift, slope, offset;
    void grow(long channels) {
        for (Buffer<float> *b : {&mean, &inverse, &scale, &shift, &slope, &offset}) b->grow(channels);
    }
};

static inline void add(float *to, vec v) { store(to, load(to) + v); }
// 0 in the first `count` lanes, 1 in the others.
static inline vec from_channel(long count) {
    vec v{};
    for (long i = 0; i < LANES; i++) v[i] = i < count ? 0.f : 1.f;
    return v;
}

// Rows at once: few, so that the cache line read for one vector is still there for the next. The rows after them are
// prefetched, because the processor does not predict strides of a whole row.
constexpr long AT_ONCE = 16;

// Rows of z = act(scale x + shift).
template <class A, int ACT, class V>
static void normalise_as(V *to, long to_stride, const V *from, long stride, long rows, long columns, const Norm &n) {
    for (long c = 0; c < columns; c += LANES) {
        const vec scale = load(n.scale.data() + c), shift = load(n.shift.data() + c);
        for (long r = 0; r < rows; r++) {
            __builtin_prefetch(from + (r + AT_ONCE) * stride + c);
            A::store(to + r * to_stride + c, activate<A>(A::load(from + r * stride + c) * scale + shift, ACT));
        }
    }
}
template <class A, class V>
static void normalise(V *to, long to_stride, const V *from, long stride, long rows, long columns, const Norm &n,
                      int act) {
    for (long r = 0; r < rows; r += AT_ONCE) {
        const long count = lesser(AT_ONCE, rows - r);
        V *target = to + r * to_stride;
        const V *source = from + r * stride;
        with_activation(act, [&](auto constant) {
            normalise_as<A, decltype(constant)::value>(target, to_stride, source, stride, count, columns, n);
        });
    }
}
// Rows of scale dz + slope x + offset.
template <class A, class V>
static void denormalise(V *to, long to_stride, const V *dz, const V *x, long stride, long rows, long columns,
                        const Norm &n) {
    for (long top = 0; top < rows; top += AT_ONCE)
        for (long c = 0; c < columns; c += LANES) {
            const vec scale = load(n.scale.data() + c), slope = load(n.slope.data() + c);
            const vec offset = load(n.offset.data() + c);
            for (long r = top; r < lesser(rows, top + AT_ONCE); r++) {
                __builtin_prefetch(dz + (r + AT_ONCE) * stride + c);
                __builtin_prefetch(x + (r + AT_ONCE) * stride + c);
                A::store(to + r * to_stride + c,
                         A::load(dz + r * stride + c) * scale + A::load(x + r * stride + c) * slope + offset);
            }
        }
}

// All threads' sums of x - origin and its square to scale and shift. What the threads have is merged as in Chan, Golub,
// LeVeque, "Algorithms for Computing the Sample Variance", The American Statistician 37 (1983).
template <class Own>
static void finish_statistics(const Team &team, const std::vector<Own> &own, const TrainNetwork &net,
                              const TrainNorm &t, Norm &n, long channels, long padded) {
    team.wait();
    long begin, end;
    team.share(padded, 16, begin, end);
    for (long c = begin; c < end; c++) {
        double count = 0, mean = 0, squares = 0;  // squares: of the distances to the mean
        for (int i = 0; i < team.size; i++) {
            const double rows = own[i].rows, sum = own[i].first.data()[c];
            if (rows == 0) continue;
            const double step = own[i].origin.data()[c] + sum / rows - mean;
            const double own_squares = own[i].second.data()[c] - sum * sum / rows;
            squares += (own_squares > 0 ? own_squares : 0) + step * step * count * rows / (count + rows);
            mean += step * rows / (count + rows);
            count += rows;
        }
        const double variance = squares / count;
        const bool real = c < channels;
        n.mean.data()[c] = (float)mean;
        n.inverse.data()[c] = (float)(1 / std::sqrt(variance + net.epsilon));
        n.scale.data()[c] = real ? t.gamma[c] * n.inverse.data()[c] : 0;
        n.shift.data()[c] = real ? t.beta[c] - (float)mean * n.scale.data()[c] : 0;
        if (!real) continue;
        t.mean[c] = net.momentum * t.mean[c] + (1 - net.momentum) * (float)mean;
        t.variance[c] = net.momentum * t.variance[c] + (1 - net.momentum) * (float)variance;
    }
    team.wait();
}
// All threads' sums of dz and dz (x - mean) to what the gradient at x needs.
template <class Own>
static void finish_gradient(const Team &team, const std::vector<Own> &own, const TrainNorm &t, Norm &n, long channels,
                            long padded, double count) {
    team.wait();
    long begin, end;
    team.share(padded, 16, begin, end);
    for (long c = begin; c < end; c++) {
        double sum = 0, product = 0;
        for (int i = 0; i < team.size; i++) sum += own[i].first.data()[c], product += own[i].second.data()[c];
        const double inverse = n.inverse.data()[c], scale = n.scale.data()[c];
        const double slope = -scale * inverse * inverse * product / count;
        n.slope.data()[c] = (float)slope;
        n.offset.data()[c] = (float)(-scale * sum / count - slope * n.mean.data()[c]);
        if (c < channels) t.d_gamma[c] = (float)(inverse * product), t.d_beta[c] = (float)sum;
    }
    team.wait();
}
