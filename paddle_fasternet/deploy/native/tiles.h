// Products on AMX tiles (Intel, from Sapphire Rapids): 16 x 32 times 32 x 16 bfloat16, summed in float32.
//
// PARTS = 1 is bfloat16. PARTS = 3 is float32: a float32 value is exactly the sum of three bfloat16 values, its leading
// 8, middle 8 and last 8 bits, and of the nine products of parts the three that lie below float32's resolution are left
// out (Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations", 2019, https://arxiv.org/abs/1904.06376). Six tile products are still faster than float32's own units.
//
// The sums of one block of tiles are finished (activation, residual, rounding) while the tiles of the next are under
// way: the two use different units of the processor.

template <int PARTS> struct Tiles {
    using Value = uint16_t;
    using V = Value;
    static constexpr int parts = PARTS, step = 32, pad = 32, row_tile = 16;
    static constexpr long tile = 512;  // values in a tile: 16 rows of 32

    struct alignas(64) Config {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
    };
    static void begin() {
        Config config;
        for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = 16;
        _tile_loadconfig(&config);
    }
    static void end() { _tile_release(); }

    // ---- values ----

    static __m512 widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
    static __m512i narrow(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

    // 32 neighbouring values as float32
    static void read(const V *from, long part, __m512 &low, __m512 &high) {
        __m512i v = _mm512_loadu_si512(from);
        low = widen(_mm512_castsi512_si256(v)), high = widen(_mm512_extracti64x4_epi64(v, 1));
        for (int p = 1; p < PARTS; p++) {
            v = _mm512_loadu_si512(from + p * part);
            low += widen(_mm512_castsi512_si256(v)), high += widen(_mm512_extracti64x4_epi64(v, 1));
        }
    }
    static void write(V *to, long part, __m512 low, __m512 high, __mmask32 mask = 0xffffffff) {
        if (PARTS == 1) {
            _mm512_mask_storeu_epi16(to, mask, narrow(low, high));
            return;
        }
        // the upper halves of 32 float32 values
        const __m512i upper = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27,
                                               25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
        const __m512i bits = _mm512_set1_epi32(0xffff0000);
        for (int p = 0; p < PARTS; p++) {
            __m512i l = _mm512_castps_si512(low), h = _mm512_castps_si512(high);
            _mm512_mask_storeu_epi16(to + p * part, mask, _mm512_permutex2var_epi16(l, upper, h));
            low -= _mm512_castsi512_ps(l & bits), high -= _mm512_castsi512_ps(h & bits);
        }
    }
    static float rounded(float value) {
        if (PARTS == 3) return value;
        return _mm512_cvtss_f32(widen((__m256i)_mm512_cvtneps_pbh(_mm512_set1_ps(value))));
    }
    // 16 values
    static void load(const V *from, long part, float *to) {
        __m512 sum = widen(_mm256_loadu_si256((const __m256i *)from));
        for (int p = 1; p < PARTS; p++) sum += widen(_mm256_loadu_si256((const __m256i *)(from + p * part)));
        _mm512_storeu_ps(to, sum);
    }
    static void store(V *to, long part, __m512 values) { write(to, part, values, _mm512_setzero_ps(), 0xffff); }
    static void store(V *to, long part, const float *from) { store(to, part, _mm512_loadu_ps(from)); }
    static void store(V *to, long part, const uint8_t *from) {
        store(to, part, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from))));
    }

    // dense: [depth, 16 panels] to tiles [panel][step][part][16 pairs of rows][16 columns][2]
    static void pack(Weights<V> &w, const float *dense) {
        w.data.grow(w.depth * w.panels * 16 * PARTS);
        V *to = w.data.data();
        for (long panel = 0; panel < w.panels; panel++)
            for (long k = 0; k < w.depth; k += step, to += tile * PARTS)
                for (int i = 0; i < tile; i++) {
                    float value = dense[(k + i / 32 * 2 + i % 2) * w.panels * 16 + panel * 16 + i / 2 % 16];
                    V split[32];
                    write(split, 1, _mm512_set1_ps(value), _mm512_setzero_ps(), 1);
                    for (int p = 0; p < PARTS; p++) to[p * tile + i] = split[p];
                }
    }

    // ---- what happens to the sums ----

    template <int ACT, bool ADD, bool PLACED, bool FLOATS> struct Finish {
        const Output<V> out;
        alignas(64) float sums[2][32 * 32];  // those under way, those to be finished
        int turn = 0;
        long row = 0, column = 0;  // of the sums to be finished
        int rows = 0, done = 0;
        bool wide = false;

        explicit Finish(const Output<V> &output) : out(output) {}

        static __m512 activate(__m512 v) {
            if (ACT == RELU) return _mm512_max_ps(v, _mm512_setzero_ps());
            if (ACT == GELU) return PARTS == 1 ? gelu_rough(v) : gelu(v);
            return v;
        }
        void until(int target) {
            if (target > rows) target = rows;
            if (done >= target) return;
            // in registers: the compiler must take every store for one into this structure
            const bool both = wide;
            const float *from = sums[turn ^ 1] + done * 32;
            const long stride = FLOATS ? out.columns : out.rows.stride, part = out.rows.part, left = out.columns - column;
            const int *places = PLACED ? out.places + row : nullptr;
            const long first = PLACED ? 0 : row;
            V *to = out.rows.data + first * stride + column;
            float *floats = out.floats + first * stride + column;
            const __mmask32 mask = (PLACED || FLOATS) && left < 32 ? (1u << left) - 1 : 0xffffffff;
            for (int r = done; r < target; r++, from += 32) {
                const long place = PLACED ? places[r] : r;
                if (PLACED && place < 0) continue;
                __m512 low = activate(_mm512_load_ps(from)), high = _mm512_setzero_ps();
                if (both) high = activate(_mm512_load_ps(from + 16));
                if (FLOATS) {
                    _mm512_mask_storeu_ps(floats + place * stride, (__mmask16)mask, low);
                    if (both) _mm512_mask_storeu_ps(floats + place * stride + 16, (__mmask16)(mask >> 16), high);
                    continue;
                }
                if (ADD) {
                    __m512 before_low, before_high;
                    read(to + place * stride, part, before_low, before_high);
                    low += before_low, high += before_high;
                }
                if (PLACED) write(to + place * stride, part, low, high, mask);
                else write(to + place * stride, part, low, high);
            }
            done = target;
        }
        // The sums under way become those to be finished.
        void next(long new_row, int new_rows, long new_column, bool new_wide) {
            until(rows);
            turn ^= 1;
            row = new_row, rows = new_rows, column = new_column, wide = new_wide, done = 0;
        }
    };

    // Sums of 16 M rows and 16 N columns; what is pending is finished meanwhile, `share` / 65536 rows at a time.
    template <int M, int N, class F>
    static void sums_of(const Run<V> *runs, int count, long row, const V *b, long panel, const float *bias, F &finish,
                        long share) {
        _tile_loadd(0, bias, 0);  // every row of the tile
        if (N > 1) _tile_loadd(1, bias + 16, 0);
        if (M > 1) _tile_loadd(2, bias, 0);
        if (M > 1 && N > 1) _tile_loadd(3, bias + 16, 0);
        long target = 0;
#define LOAD_A(P) \
    _tile_loadd(4, a + P * part, bytes); \
    if (M > 1) _tile_loadd(5, a + P * part + below, bytes);
#define LOAD_B(P) \
    _tile_stream_loadd(6, b + P * tile, 64); \
    if (N > 1) _tile_stream_loadd(7, b + P * tile + panel, 64);
#define MULTIPLY \
    _tile_dpbf16ps(0, 4, 6); \
    if (N > 1) _tile_dpbf16ps(1, 4, 7); \
    if (M > 1) _tile_dpbf16ps(2, 5, 6); \
    if (M > 1 && N > 1) _tile_dpbf16ps(3, 5, 7); \
    finish.until((target += share) >> 16);
        for (int i = 0; i < count; i++) {
            const long bytes = runs[i].stride * sizeof(V), below = 16 * runs[i].stride, part = runs[i].part;
            const V *a = runs[i].start + row * runs[i].stride;
            for (const V *end = a + runs[i].length; a < end; a += step, b += tile * PARTS) {
                if (PARTS == 1) {
                    LOAD_A(0) LOAD_B(0) MULTIPLY
                } else {
                    LOAD_A(0) LOAD_B(2) MULTIPLY
                    LOAD_B(1) MULTIPLY
                    LOAD_A(1) MULTIPLY
                    LOAD_B(0) MULTIPLY
                    LOAD_A(0) MULTIPLY
                    LOAD_A(2) MULTIPLY
                }
            }
        }
#undef LOAD_A
#undef LOAD_B
#undef MULTIPLY
        finish.until(32);
        float *to = finish.sums[finish.turn];
        _tile_stored(0, to, 128);
        if (N > 1) _tile_stored(1, to + 16, 128);
        if (M > 1) _tile_stored(2, to + 512, 128);
        if (M > 1 && N > 1) _tile_stored(3, to + 528, 128);
    }

    template <int ACT, bool ADD, bool PLACED, bool FLOATS>
    static void multiply_as(const Run<V> *runs, int count, const Weights<V> &w, long rows, long begin, long end,
                            const Output<V> &out) {
        Finish<ACT, ADD, PLACED, FLOATS> finish(out);
        const long panel = w.depth * 16 * PARTS, share = 32 * 65536 / (w.depth / step * (PARTS == 1 ? 1 : 6)) + 1;
        // as many panels at once as stay in the second-level cache; 32 rows stay in the first while those pass by
        const long chunk = STAY_BYTES / (panel * (long)sizeof(V)) / 2 * 2 + 2;
        for (long first = begin; first < end; first += chunk)
            for (long row = 0; row < rows; row += 32) {
                const long left = rows - row;
                for (long p = first; p < end && p < first + chunk; p += 2) {
                    const V *b = w.data.data() + p * panel;
                    const float *bias = w.bias.data() + p * 16;
                    const bool wide = p + 1 < end;
                    if (left > 16 && wide) sums_of<2, 2>(runs, count, row, b, panel, bias, finish, share);
                    else if (left > 16) sums_of<2, 1>(runs, count, row, b, panel, bias, finish, share);
                    else if (wide) sums_of<1, 2>(runs, count, row, b, panel, bias, finish, share);
                    else sums_of<1, 1>(runs, count, row, b, panel, bias, finish, share);
                    finish.next(row, left < 32 ? left : 32, p * 16, wide);
                }
            }
        finish.until(32);
    }

    static void multiply(const Run<V> *runs, int count, const Weights<V> &w, long rows, long begin, long end,
                         const Output<V> &out) {
        if (out.floats)
            out.act == NONE ? multiply_as<NONE, false, false, true>(runs, count, w, rows, begin, end, out)
            : out.act == RELU ? multiply_as<RELU, false, false, true>(runs, count, w, rows, begin, end, out)
                              : multiply_as<GELU, false, false, true>(runs, count, w, rows, begin, end, out);
        else if (out.places) multiply_as<NONE, false, true, false>(runs, count, w, rows, begin, end, out);
        else if (out.add) multiply_as<NONE, true, false, false>(runs, count, w, rows, begin, end, out);
        else if (out.act == NONE) multiply_as<NONE, false, false, false>(runs, count, w, rows, begin, end, out);
        else if (out.act == RELU) multiply_as<RELU, false, false, false>(runs, count, w, rows, begin, end, out);
        else multiply_as<GELU, false, false, false>(runs, count, w, rows, begin, end, out);
    }
};
