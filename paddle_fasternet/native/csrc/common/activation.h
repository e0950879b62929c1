// GELU, x Phi(x), on vectors of `vec` (LANES floats). Included within a namespace of the instruction set.

static inline vec all(float value) { return value - vec{}; }
#if LANES == 16  // what the compiler does not find by itself
static inline vec larger(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec smaller(vec a, vec b) { return _mm512_min_ps(a, b); }
#elif LANES == 8
static inline vec larger(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec smaller(vec a, vec b) { return _mm256_min_ps(a, b); }
#else
static inline vec larger(vec a, vec b) { return a > b ? a : b; }
static inline vec smaller(vec a, vec b) { return a < b ? a : b; }
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

// To float32 precision: with a = |x| it is max(x, 0) - a Phi(-a), and log2 Phi(-a) is nearly a parabola. Both
// polynomials were fitted here for the least largest error: 4e-8 for a Phi(-a) with the first, 1e-7 relative for 2^f
// with the second.
static inline vec gelu(vec x) {
    vec a = smaller(larger(x, -x), all(6.f));  // Phi(-6) is 1e-9
    vec y = a * 4.278765572962584e-06f - 1.2798448551620822e-05f;
    y = y * a - 0.000575785175897181f;
    y = y * a + 0.007670781575143337f;
    y = y * a - 0.05294856056571007f;
    y = y * a - 0.4590439200401306f;
    y = y * a - 1.1511269807815552f;
    y = y * a - 1.f;  // log2 Phi(-a)
    vec tail = power_of_two(y);
    return larger(x, vec{}) - a * tail;
}

// To 2e-4, a tenth of bfloat16's resolution at 1: Phi(x) as 1/2 and an odd polynomial, which is 1/2 at 4.
static inline vec gelu_rough(vec x) {
#if defined(BFLOAT16)
    vec c = _mm512_range_ps(x, all(4.f), 2);  // the smaller in magnitude, with the sign of x
#else
    vec c = larger(smaller(x, all(4.f)), all(-4.f));
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
