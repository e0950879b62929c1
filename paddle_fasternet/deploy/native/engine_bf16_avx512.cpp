// bfloat16 on AVX-512 with its bfloat16 instructions (AMD from Zen 4, Intel from Cooper Lake).
#include "standard.h"
#include "processor.h"

#if defined(FASTERNET_AMX)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#include <immintrin.h>
#define INSTRUCTIONS bf16_avx512
#define LANES 16
#include "engine.h"

namespace fasternet {
namespace bf16_avx512 {
struct Bfloat16 {
    using Value = uint16_t;
    using Right = __m512bh;
    using Left = __m512bh;
    static constexpr int step = 2;

    static vec load(const uint16_t *p) {
        return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
    }
    static void store(uint16_t *p, vec v) { _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v)); }
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
};
}
Engine *make_bf16_avx512(const Network &net) {
    return new bf16_avx512::Runner<bf16_avx512::Registers<bf16_avx512::Bfloat16, 14, 2>>(net);
}
}  // namespace fasternet
#endif
