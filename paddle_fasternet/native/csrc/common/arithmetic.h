// What products in vector registers are made of: values of one kind, LANES at once. Included within a namespace of the
// instruction set.
//
//     Value, step: the stored type, and how many of them meet in one instruction
//     Lanes right(p): so many rows of LANES columns; Lanes left(p): as many values of one row, in all lanes
//     multiply(sum, left, right): sum + left * right
//     load(p), store(p, v), rounded(f): LANES values as floats; store(p, v, count): only the first
//     lace(to, from, stride, rows): up to `step` rows of 16 values, in the order of the columns; zeros for missing rows

struct Float {
    using Value = float;
    using Lanes = vec;
    static constexpr int step = 1;
    static constexpr bool rough = false;  // activations to full precision

    static vec load(const float *p) {
        vec v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static void store(float *p, vec v) { std::memcpy(p, &v, sizeof v); }
    static void store(float *p, vec v, long count) { std::memcpy(p, &v, lesser(count, LANES) * sizeof(float)); }
    static float rounded(float value) { return value; }
    static vec right(const float *p) { return load(p); }
    static vec left(const float *p) { return all(*p); }
    static vec multiply(vec sum, vec left, vec right) { return sum + left * right; }
    static vec gelu(vec x) { return fasternet::INSTRUCTIONS::gelu(x); }
    static void lace(float *to, const float *from, long, long) { std::memcpy(to, from, 16 * sizeof(float)); }
};

#if defined(BFLOAT16)
struct Bfloat16 {
    using Value = uint16_t;
    using Lanes = __m512bh;
    static constexpr int step = 2;
    static constexpr bool rough = true;  // activations to bfloat16's precision

    static __m512i widened(const uint16_t *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)); }
    static vec load(const uint16_t *p) { return (vec)_mm512_slli_epi32(widened(p), 16); }
    static void store(uint16_t *p, vec v) { _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v)); }
    static void store(uint16_t *p, vec v, long count) {
        _mm256_mask_storeu_epi16(p, count < 16 ? (1u << count) - 1 : 0xffff, (__m256i)_mm512_cvtneps_pbh(v));
    }
    static float rounded(float value) {
        uint16_t values[16];
        store(values, all(value));
        return load(values)[0];
    }
    static __m512bh right(const uint16_t *p) { return (__m512bh)_mm512_loadu_si512(p); }
    static __m512bh left(const uint16_t *p) {
        int pair;
        std::memcpy(&pair, p, sizeof pair);
        return (__m512bh)_mm512_set1_epi32(pair);
    }
    static vec multiply(vec sum, __m512bh left, __m512bh right) { return _mm512_dpbf16_ps(sum, left, right); }
    static vec gelu(vec x) { return gelu_rough(x); }
    static void lace(uint16_t *to, const uint16_t *from, long stride, long rows) {
        __m512i pairs = widened(from);
        if (rows > 1) pairs = _mm512_or_si512(pairs, _mm512_slli_epi32(widened(from + stride), 16));
        _mm512_storeu_si512(to, pairs);
    }
};
#endif
