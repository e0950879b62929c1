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

    // Two panels lie interleaved in memory: one holds the even columns, the other the odd ones. So a value is the lower
    // or the upper half of a 32-bit lane, and is taken out of it or put into it without a shuffle. (A last panel without
    // a partner holds its columns as they are.) Eight lanes at a time: AVX2 leaves port 5, where AMX works, alone.

    static vec even(__m256i v) { return (vec)_mm256_slli_epi32(v, 16); }
    static vec odd(__m256i v) { return (vec)_mm256_and_si256(v, _mm256_set1_epi32(0xffff0000)); }
    static __m256i load_values(const V *from) { return _mm256_loadu_si256((const __m256i *)from); }

    // 16 neighbouring values
    static void read(const V *from, long part, vec &evens, vec &odds) {
        __m256i v = load_values(from);
        evens = even(v), odds = odd(v);
        for (int p = 1; p < PARTS; p++) {
            v = load_values(from + p * part);
            evens += even(v), odds += odd(v);
        }
    }
    static __m256i join(__m256i evens, __m256i odds) {
        return _mm256_or_si256(_mm256_srli_epi32(evens, 16), _mm256_and_si256(odds, _mm256_set1_epi32(0xffff0000)));
    }
    template <class S> static void write(V *to, long part, vec evens, vec odds, S store_values) {
        if (PARTS == 1) {  // rounded to the nearest, halves upwards
            const __m256i half = _mm256_set1_epi32(0x8000);
            store_values(to, join(_mm256_add_epi32((__m256i)evens, half), _mm256_add_epi32((__m256i)odds, half)));
            return;
        }
        for (int p = 0; p < PARTS; p++) {
            store_values(to + p * part, join((__m256i)evens, (__m256i)odds));
            evens -= odd((__m256i)evens), odds -= odd((__m256i)odds);
        }
    }
    static void write(V *to, long part, vec evens, vec odds) {
        write(to, part, evens, odds, [](V *place, __m256i v) { _mm256_storeu_si256((__m256i *)place, v); });
    }
    static float rounded(float value) {
        V values[16 * PARTS];
        float back[16];
        write(values, 16, all(value), all(value));
        load(values, 16, back);
        return back[0];
    }
    // 16 values in their order
    static void load(const V *from, long part, float *to) {
        vec evens, odds;
        read(from, part, evens, odds);
        for (int i = 0; i < 8; i++) to[2 * i] = evens[i], to[2 * i + 1] = odds[i];
    }
    template <class T> static void store(V *to, long part, const T *from) {
        __m512 v;
        if (sizeof(T) == 1) v = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)));
        else v = _mm512_loadu_ps(from);
        if (PARTS == 1) v = (__m512)_mm512_add_epi32((__m512i)v, _mm512_set1_epi32(0x8000));
        for (int p = 0; p < PARTS; p++) {
            __m256i upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)v, 16));
            _mm256_storeu_si256((__m256i *)(to + p * part), upper);
            v -= (__m512)_mm512_and_si512((__m512i)v, _mm512_set1_epi32(0xffff0000));
        }
    }

    // The column of the dense matrix that is column j of a panel.
    static long source(long panel, long panels, long j) {
        return panel / 2 * 2 + 1 < panels ? panel / 2 * 32 + 2 * j + panel % 2 : panel * 16 + j;
    }
    // dense: [depth, 16 panels] to tiles [panel][step][part][16 pairs of rows][16 columns][2]
    static void pack(Weights<V> &w, const float *dense) {
        const long columns = w.panels * 16;
        w.data.grow(w.depth * columns * PARTS);
        V *to = w.data.data();
        for (long panel = 0; panel < w.panels; panel++)
            for (long k = 0; k < w.depth; k += step)
                for (int p = 0; p < PARTS; p++)
                    for (int pair = 0; pair < 16; pair++, to += 32) {
                        float values[32];
                        V parts_of[32 * PARTS];
                        for (int j = 0; j < 32; j++)
                            values[j] = dense[(k + 2 * pair + j % 2) * columns + source(panel, w.panels, j / 2)];
                        store(parts_of, 32, values);
                        store(parts_of + 16, 32, values + 16);
                        std::memcpy(to, parts_of + 32 * p, 64);
                    }
        Buffer<float> bias;
        bias.grow(columns);
        for (long i = 0; i < columns; i++) bias.data()[i] = w.bias.data()[source(i / 16, w.panels, i % 16)];
        std::memcpy(w.bias.data(), bias.data(), columns * sizeof(float));
    }

    // ---- what happens to the sums ----

    template <int ACT, bool ADD, bool PLACED, bool FLOATS> struct Finish {
        const Output<V> out;
        alignas(64) float sums[2][32 * 32];  // those under way, those to be finished
        int turn = 0;
        long row = 0, column = 0;  // of the sums to be finished
        int rows = 0, done = 0;
        bool wide = false;  // two panels of them

        explicit Finish(const Output<V> &output) : out(output) {}

        static vec activate(vec v) {
            if (ACT == RELU) return larger(v, vec{});
            if (ACT == GELU) return PARTS == 1 ? gelu_rough(v) : gelu(v);
            return v;
        }
        // Rows below `target` of two panels.
        void finish_wide(int target) {
            // in registers: the compiler must take every store for one into this structure
            const float *from = sums[turn ^ 1] + done * 32;
            const int *places = PLACED ? out.places + row : nullptr;
            const long stride = out.rows.stride, part = out.rows.part, left = out.columns - column;
            V *to = out.rows.data + (PLACED ? 0 : row) * stride + column;
            for (int r = done; r < target; r++, from += 32) {
                const long place = PLACED ? places[r] : r;
                if (PLACED && place < 0) continue;
                V *values = to + place * stride;
                for (int i = 0; i < 16; i += 8, values += 16) {
                    vec evens = activate(*(const vec *)(from + i)), odds = activate(*(const vec *)(from + 16 + i));
                    if (ADD) {
                        vec evens_before, odds_before;
                        read(values, part, evens_before, odds_before);
                        evens += evens_before, odds += odds_before;
                    }
                    const long some = left - 2 * i;
                    if (!PLACED || some >= 16) {
                        write(values, part, evens, odds);
                    } else {
                        const __mmask16 mask = some > 0 ? (1 << some) - 1 : 0;
                        write(values, part, evens, odds,
                              [=](V *at, __m256i v) { _mm256_mask_storeu_epi16(at, mask, v); });
                    }
                }
            }
            done = target;
        }
        // The rare rest: a last panel alone (with zeros behind it, so that it fills a step), and plain floats.
        void finish_other(int target) {
            for (; done < target; done++) {
                const float *from = sums[turn ^ 1] + done * 32;
                const long place = PLACED ? out.places[row + done] : row + done;
                if (place < 0) continue;
                float values[32] = {};
                for (int i = 0; i < (wide ? 32 : 16); i += 8) {
                    const vec v = activate(*(const vec *)(from + i));
                    for (int j = 0; j < 8; j++) values[wide ? (i + j) % 16 * 2 + i / 16 : i + j] = v[j];
                }
                const long left = lesser(out.columns - column, 32);
                if (FLOATS) {
                    std::memcpy(out.floats + place * out.columns + column, values, left * sizeof(float));
                    continue;
                }
                V *to = out.rows.row(place) + column, ready[32 * PARTS];
                float before[16] = {};
                if (ADD) load(to, out.rows.part, before);
                for (int i = 0; i < 16; i++) values[i] += before[i];
                store(ready, 32, values), store(ready + 16, 32, values + 16);
                for (int p = 0; p < PARTS; p++)
                    std::memcpy(to + p * out.rows.part, ready + p * 32, (PLACED ? left : 32) * sizeof(V));
            }
        }
        void until(int target) {
            if (target > rows) target = rows;
            if (done >= target) return;
            if (wide && !FLOATS) finish_wide(target);
            else finish_other(target);
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
