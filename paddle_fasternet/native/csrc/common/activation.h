// Vectors `vec` of LANES floats, and activations with their derivatives on them. Included within a namespace of the
// instruction set.

static inline vec splat(float value) { return value - vec{}; }
static inline vec load(const float *from) {
    vec v;
    std::memcpy(&v, from, sizeof v);
    return v;
}
static inline void store(float *to, vec v) { std::memcpy(to, &v, sizeof v); }
static inline vec choose(ints where, vec a, vec b) { return (vec)(((ints)a & where) | ((ints)b & ~where)); }
#if LANES == 16  // what the compiler does not find by itself
static inline vec max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec min(vec a, vec b) { return _mm512_min_ps(a, b); }
#elif LANES == 8
static inline vec max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec min(vec a, vec b) { return _mm256_min_ps(a, b); }
#else
static inline vec max(vec a, vec b) { return a > b ? a : b; }
static inline vec min(vec a, vec b) { return a < b ? a : b; }
#endif

// 2^y for y from -126 to 0, to 1e-7 of its value.
static inline vec power_of_two(vec y) {
    vec shifted = y + 12582912.f;  // 1.5 * 2^23: the whole part of y lands in the lowest bits
    vec f = y - (shifted - 12582912.f);
    vec power = f * 0.001326472731307149f + 0.009671512991189957f;
    power = power * f + 0.05550733581185341f;
    power = power * f + 0.24022242426872253f;
    power = power * f + 0.6931470036506653f;
    power = power * f + 1.f;
    return (vec)((ints)power + ((ints)shifted << 23));  // times 2 to the whole part
}

// log2 Phi(-a) for a from 0 to 6, nearly a parabola. This polynomial and that of 2^f were fitted here for the least
// largest error: 4e-8 for a Phi(-a), 1e-7 relative for 2^f.
static inline vec log2_tail(vec a) {
    vec y = a * 4.278765572962584e-06f - 1.2798448551620822e-05f;
    y = y * a - 0.000575785175897181f;
    y = y * a + 0.007670781575143337f;
    y = y * a - 0.05294856056571007f;
    y = y * a - 0.4590439200401306f;
    y = y * a - 1.1511269807815552f;
    return y * a - 1.f;
}

// GELU, x Phi(x), to float32 precision: with a = |x| it is max(x, 0) - a Phi(-a). Phi(-6) is 1e-9.
static inline vec gelu(vec x) {
    vec a = min(max(x, -x), splat(6.f));
    vec tail = power_of_two(log2_tail(a));
    return max(x, vec{}) - a * tail;
}
// ... and its derivative Phi(x) + x phi(x).
static inline void gelu(vec x, vec &value, vec &slope) {
    vec a = min(max(x, -x), splat(6.f));
    const vec tail = power_of_two(log2_tail(a));                                        // Phi(-a)
    const vec bell = power_of_two(a * a * -0.7213475204444817f - 1.3257480647361592f);  // phi(a)
    value = max(x, vec{}) - a * tail;
    slope = tail - a * bell;  // at -a
    slope = choose(x > vec{}, 1.f - slope, slope);
}

// GELU to 2e-4, a tenth of bfloat16's resolution at 1: Phi(x) as 1/2 and an odd polynomial, which is 1/2 at 4.
static inline vec gelu_rough(vec x) {
#if defined(BFLOAT16)
    vec c = _mm512_range_ps(x, splat(4.f), 2);  // the smaller in magnitude, with the sign of x
#else
    vec c = max(min(x, splat(4.f)), splat(-4.f));
#endif
    vec t = c * c;
    vec p = t * 2.258820153144825e-08f - 1.5888268762864755e-06f;
    p = p * t + 4.776388232130557e-05f;
    p = p * t - 0.000812187441624701f;
    p = p * t + 0.00876369047909975f;
    p = p * t - 0.06455441564321518f;
    p = p * t + 0.397870272397995f;
    return x * (p * c + .5f);
}

// ... and its derivative, both to 3e-4. The derivative is 1/2 and an odd polynomial, fitted for the least largest error.
static inline void gelu_rough(vec x, vec &value, vec &slope) {
    vec c = max(min(x, splat(4.f)), splat(-4.f));
    vec t = c * c;
    vec p = t * 2.258820153144825e-08f - 1.5888268762864755e-06f;
    vec q = t * -1.6420115045434613e-08f + 1.2138262945882161e-06f;
    p = p * t + 4.776388232130557e-05f;
    q = q * t - 3.8460068026324734e-05f;
    p = p * t - 0.000812187441624701f;
    q = q * t + 0.000687651801854372f;
    p = p * t + 0.00876369047909975f;
    q = q * t - 0.007687486708164215f;
    p = p * t - 0.06455441564321518f;
    q = q * t + 0.055914994329214096f;
    p = p * t + 0.397870272397995f;
    q = q * t - 0.26203015446662903f;
    q = q * t + 0.7967218160629272f;
    value = x * (p * c + .5f);
    slope = q * c + .5f;
}

template <class A> static inline vec activate(vec x, int act) {
    if (act == GELU) return A::rough ? gelu_rough(x) : gelu(x);
    return act == RELU ? max(x, vec{}) : x;
}
template <class A> static inline void activate(vec x, int act, vec &value, vec &slope) {
    if (act == GELU) A::rough ? gelu_rough(x, value, slope) : gelu(x, value, slope);
    else if (act == RELU) value = max(x, vec{}), slope = choose(x > vec{}, splat(1.f), vec{});
    else value = x, slope = splat(1.f);
}
// f(act) with the activation as a compile-time constant.
template <class F> static inline void with_activation(int act, F f) {
    if (act == GELU) f(std::integral_constant<int, GELU>{});
    else if (act == RELU) f(std::integral_constant<int, RELU>{});
    else f(std::integral_constant<int, NONE>{});
}
