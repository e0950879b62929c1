// Arithmetic policies: what values are stored, and how they are multiplied. Included within a namespace of the
// instruction set.
//
//     Value, step: the stored type, and how many values of a row meet in one instruction
//     rough: activations need no more than bfloat16's precision
//     load(p), store(p, v): LANES values as floats; store(p, v, count): only the first `count`
//     load_rhs(p): `step` rows of LANES columns; splat_lhs(p): `step` values of one row, in all lanes
//     multiply(sum, lhs, rhs): sum + lhs * rhs
//     interleave(to, from, stride, rows): up to `step` rows of 16 values in the order of load_rhs; zeros for missing rows

struct Float {
    using Value = float;
    using Lanes = vec;
    static constexpr int step = 1;
    static constexpr bool rough = false;

    static vec load(const float *p) { return INSTRUCTIONS::load(p); }
    static void store(float *p, vec v) { std::memcpy(p, &v, sizeof v); }
    static void store(float *p, vec v, long count) { std::memcpy(p, &v, lesser(count, LANES) * sizeof(float)); }
    static vec load_rhs(const float *p) { return load(p); }
    static vec splat_lhs(const float *p) { return splat(*p); }
    static vec multiply(vec sum, vec lhs, vec rhs) { return sum + lhs * rhs; }
    static void interleave(float *to, const float *from, long, long) { std::memcpy(to, from, 16 * sizeof(float)); }
};

#if defined(BFLOAT16)
struct Bfloat16 {
    using Value = uint16_t;
    using Lanes = __m512bh;
    static constexpr int step = 2;
    static constexpr bool rough = true;

    static __m512i widen(const uint16_t *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)); }
    static vec load(const uint16_t *p) { return (vec)_mm512_slli_epi32(widen(p), 16); }
    static void store(uint16_t *p, vec v) { _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v)); }
    static void store(uint16_t *p, vec v, long count) {
        _mm256_mask_storeu_epi16(p, count < 16 ? (1u << count) - 1 : 0xffff, (__m256i)_mm512_cvtneps_pbh(v));
    }
    static __m512bh load_rhs(const uint16_t *p) { return (__m512bh)_mm512_loadu_si512(p); }
    static __m512bh splat_lhs(const uint16_t *p) {
        int pair;
        std::memcpy(&pair, p, sizeof pair);
        return (__m512bh)_mm512_set1_epi32(pair);
    }
    static vec multiply(vec sum, __m512bh lhs, __m512bh rhs) { return _mm512_dpbf16_ps(sum, lhs, rhs); }
    static void interleave(uint16_t *to, const uint16_t *from, long stride, long rows) {
        __m512i pairs = widen(from);
        if (rows > 1) pairs = _mm512_or_si512(pairs, _mm512_slli_epi32(widen(from + stride), 16));
        _mm512_storeu_si512(to, pairs);
    }
};
#endif

// A policy for code that does not know whether a value is stored in several parts: here it is one.
template <class A> struct OnePart : A {
    using V = typename A::Value;
    using A::load, A::store;
    static constexpr int parts = 1;

    static vec load(const V *from, long) { return A::load(from); }
    static void store(V *to, long, vec v) { A::store(to, v); }
    // 16 floats, or bytes, to 16 values
    template <class T> static void store16(V *to, long, const T *from) {
        for (int i = 0; i < 16; i += LANES) {
            vec v;
            for (int j = 0; j < LANES; j++) v[j] = from[i + j];
            A::store(to + i, v);
        }
    }
};
