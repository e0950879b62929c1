// Inference's products on AMX tiles: 16 x 32 times 32 x 16 bfloat16, summed in float32.
//
// PARTS = 1 is bfloat16. PARTS = 3 is float32: a float32 value is exactly the sum of three bfloat16 values, its leading
// 8, middle 8 and last 8 bits, and of the nine products of parts the three that lie below float32's resolution are left
// out (Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations", 2019, https://arxiv.org/abs/1904.06376). Six tile products are still faster than float32's own units.
//
// The epilogue of one block of tiles (activation, residual, rounding) runs while the tiles of the next are under way: the
// two use different units of the processor.

template <int PARTS> struct TileKernel {
    using Value = uint16_t;
    using V = Value;
    static constexpr int parts = PARTS, step = 32, pad = 32, MR = 16;
    static constexpr bool rough = PARTS == 1;
    static constexpr long tile = 512;  // values in a tile: 16 rows of 32

    static void begin() { configure_tiles(); }
    static void end() { _tile_release(); }

    // ---- values ----

    // Two panels lie interleaved in memory: one holds the even columns, the other the odd ones. So a value is the lower
    // or the upper half of a 32-bit lane, and is taken out of it or put into it without a shuffle. (A last panel without
    // a partner holds its columns as they are.)

    static vec even(__m512i v) { return (vec)_mm512_slli_epi32(v, 16); }
    static vec odd(__m512i v) { return (vec)_mm512_and_si512(v, _mm512_set1_epi32(0xffff0000)); }
    static __m512i load_values(const V *from) { return _mm512_loadu_si512(from); }

    // 32 neighbouring values
    static void read(const V *from, long part, vec &evens, vec &odds) {
        __m512i v = load_values(from);
        evens = even(v), odds = odd(v);
        for (int p = 1; p < PARTS; p++) {
            v = load_values(from + p * part);
            evens += even(v), odds += odd(v);
        }
    }
    static __m512i join(__m512i evens, __m512i odds) {
        return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(evens, 16), odds);
    }
    static void write(V *to, long part, vec evens, vec odds, __mmask32 mask = 0xffffffff) {
        if (PARTS == 1) {  // rounded to the nearest, halves upwards
            const __m512i half = _mm512_set1_epi32(0x8000);
            _mm512_mask_storeu_epi16(
                to, mask, join(_mm512_add_epi32((__m512i)evens, half), _mm512_add_epi32((__m512i)odds, half)));
            return;
        }
        for (int p = 0; p < PARTS; p++) {
            _mm512_mask_storeu_epi16(to + p * part, mask, join((__m512i)evens, (__m512i)odds));
            evens -= odd((__m512i)evens), odds -= odd((__m512i)odds);
        }
    }
    // 16 neighbouring values, in order
    static vec read(const V *from, long part) {
        vec sum{};
        for (int p = 0; p < PARTS; p++)
            sum += even(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(from + p * part))));
        return sum;
    }
    // ... and zeros behind them
    static void write(V *to, long part, vec values, __mmask32 mask = 0xffffffff) {
        __m512i v = (__m512i)values;
        if (PARTS == 1) v = _mm512_add_epi32(v, _mm512_set1_epi32(0x8000));
        for (int p = 0; p < PARTS; p++) {
            __m256i upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16));
            _mm512_mask_storeu_epi16(to + p * part, mask, _mm512_zextsi256_si512(upper));
            v = (__m512i)((vec)v - odd(v));
        }
    }
    static float rounded(float value) {
        V values[32 * PARTS];
        write(values, 32, splat(value));
        return read(values, 32)[0];
    }
    static vec load(const V *from, long part) { return read(from, part); }
    static void store(V *to, long part, vec values) { write(to, part, values, 0xffff); }
    static void store16(V *to, long part, const float *from) { store(to, part, _mm512_loadu_ps(from)); }
    static void store16(V *to, long part, const uint8_t *from) {
        store(to, part, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from))));
    }

    // The column of the dense matrix that is column j of a panel.
    static long source(long panel, long panels, long j) {
        return panel / 2 * 2 + 1 < panels ? panel / 2 * 32 + 2 * j + panel % 2 : panel * 16 + j;
    }
    // dense: [depth, 16 panels] to tiles [panel][step][part][16 pairs of rows][16 columns][2]
    static void pack(Rhs<V> &w, const float *dense) {
        const long columns = w.columns;
        w.data.grow(w.depth * columns * PARTS);
        V *to = w.data.data();
        for (long panel = 0; panel < w.panels(); panel++)
            for (long k = 0; k < w.depth; k += step)
                for (int p = 0; p < PARTS; p++)
                    for (int pair = 0; pair < 16; pair++, to += 32) {
                        float values[32];
                        V parts_of[32 * PARTS];
                        for (int j = 0; j < 32; j++)
                            values[j] = dense[(k + 2 * pair + j % 2) * columns + source(panel, w.panels(), j / 2)];
                        store16(parts_of, 32, values);
                        store16(parts_of + 16, 32, values + 16);
                        std::memcpy(to, parts_of + 32 * p, 64);
                    }
        Buffer<float> bias;
        bias.grow(columns);
        for (long i = 0; i < columns; i++) bias.data()[i] = w.bias.data()[source(i / 16, w.panels(), i % 16)];
        std::memcpy(w.bias.data(), bias.data(), columns * sizeof(float));
    }

    // ---- epilogue ----

    // The sums of one block of tiles: 32 rows of two panels, or 64 rows of one.
    template <int ACT, bool ADD, bool PLACED, bool FLOATS> struct Epilogue {
        const Output<V> out;
        alignas(64) float sums[2][1024];  // those under way, those to be finished
        int turn = 0;
        long row = 0, column = 0;  // of the sums to be finished
        int rows = 0, done = 0;
        bool wide = false;  // two panels

        explicit Epilogue(const Output<V> &output) : out(output) {}

        static vec activate(vec v) { return INSTRUCTIONS::activate<TileKernel>(v, ACT); }
        // Rows below `target`. Loop invariants are copied to locals: the compiler must assume that stores alias *this.
        template <bool WIDE> void finish(int target) {
            const float *from = sums[turn ^ 1] + done * (WIDE ? 32 : 16);
            const int *places = PLACED ? out.places + row : nullptr;
            const long stride = out.rows.stride, part = out.rows.part, left = out.columns - column;
            const __mmask32 mask = PLACED && left < 32 ? (1u << left) - 1 : 0xffffffff;
            V *to = out.rows.data + (PLACED ? 0 : row) * stride + column;
            for (int r = done; r < target; r++, from += WIDE ? 32 : 16) {
                const long place = PLACED ? places[r] : r;
                if (PLACED && place < 0) continue;
                V *values = to + place * stride;
                vec first = activate(*(const vec *)from), second{}, before_first, before_second;
                if (WIDE) {
                    second = activate(*(const vec *)(from + 16));
                    if (ADD) {
                        read(values, part, before_first, before_second);
                        first += before_first, second += before_second;
                    }
                    write(values, part, first, second, mask);
                } else {
                    if (ADD) first += read(values, part);
                    write(values, part, first, mask);
                }
            }
            done = target;
        }
        void finish_floats(int target) {
            for (; done < target; done++) {
                const float *from = sums[turn ^ 1] + done * (wide ? 32 : 16);
                float values[32];
                for (int i = 0; i < (wide ? 2 : 1); i++) {
                    const vec v = activate(*(const vec *)(from + 16 * i));
                    for (int j = 0; j < 16; j++) values[wide ? 2 * j + i : j] = v[j];
                }
                const long count = lesser(out.columns - column, wide ? 32 : 16);
                std::memcpy(out.floats + (row + done) * out.columns + column, values, count * sizeof(float));
            }
        }
        void until(int target) {
            if (target > rows) target = rows;
            if (done >= target) return;
            if (FLOATS) finish_floats(target);
            else if (wide) finish<true>(target);
            else finish<false>(target);
        }
        // The sums under way become those to be finished.
        void next(long new_row, long new_rows, long new_column, bool new_wide) {
            until(rows);
            turn ^= 1;
            row = new_row, rows = (int)new_rows, column = new_column, wide = new_wide, done = 0;
        }
    };

    // ---- sums ----

    // Two shapes of up to four tiles of sums (0 to 3). left and right load what is multiplied next, products multiplies
    // it and calls between() after each product.

    // 16 M rows of two panels
    template <int M> struct Wide {
        static void start(const float *bias) {
            _tile_loadd(0, bias, 0);  // sixteen times the same row
            _tile_loadd(1, bias + 16, 0);
            if (M > 1) _tile_loadd(2, bias, 0);
            if (M > 1) _tile_loadd(3, bias + 16, 0);
        }
        static void resume(const float *from) {
            _tile_loadd(0, from, 128);
            _tile_loadd(1, from + 16, 128);
            if (M > 1) _tile_loadd(2, from + 512, 128);
            if (M > 1) _tile_loadd(3, from + 528, 128);
        }
        static void left(const V *a, long bytes) {
            _tile_loadd(4, a, bytes);
            if (M > 1) _tile_loadd(5, a + 8 * bytes, bytes);
        }
        static void right(const V *b, long panel) {
            _tile_stream_loadd(6, b, 64);  // not to drive the left-hand side out of the first-level cache
            _tile_stream_loadd(7, b + panel, 64);
        }
        template <class F> static void products(const V *, long, F between) {
            _tile_dpbf16ps(0, 4, 6);
            between();
            _tile_dpbf16ps(1, 4, 7);
            between();
            if (M == 1) return;
            _tile_dpbf16ps(2, 5, 6);
            between();
            _tile_dpbf16ps(3, 5, 7);
            between();
        }
        static void save(float *to) {
            _tile_stored(0, to, 128);
            _tile_stored(1, to + 16, 128);
            if (M > 1) _tile_stored(2, to + 512, 128);
            if (M > 1) _tile_stored(3, to + 528, 128);
        }
    };

    // 16 M rows of one panel
    template <int M> struct Narrow {
        static void start(const float *bias) {
            _tile_loadd(0, bias, 0);
            if (M > 1) _tile_loadd(1, bias, 0);
            if (M > 2) _tile_loadd(2, bias, 0);
            if (M > 3) _tile_loadd(3, bias, 0);
        }
        static void resume(const float *from) {
            _tile_loadd(0, from, 64);
            if (M > 1) _tile_loadd(1, from + 256, 64);
            if (M > 2) _tile_loadd(2, from + 512, 64);
            if (M > 3) _tile_loadd(3, from + 768, 64);
        }
        static void left(const V *, long) {}
        static void right(const V *b, long) { _tile_stream_loadd(7, b, 64); }
        template <class F> static void products(const V *a, long bytes, F between) {
            _tile_loadd(4, a, bytes);
            _tile_dpbf16ps(0, 4, 7);
            between();
            if (M < 2) return;
            _tile_loadd(5, a + 8 * bytes, bytes);
            _tile_dpbf16ps(1, 5, 7);
            between();
            if (M < 3) return;
            _tile_loadd(6, a + 16 * bytes, bytes);
            _tile_dpbf16ps(2, 6, 7);
            between();
            if (M < 4) return;
            _tile_loadd(4, a + 24 * bytes, bytes);
            _tile_dpbf16ps(3, 4, 7);
            between();
        }
        static void save(float *to) {
            _tile_stored(0, to, 64);
            if (M > 1) _tile_stored(1, to + 256, 64);
            if (M > 2) _tile_stored(2, to + 512, 64);
            if (M > 3) _tile_stored(3, to + 768, 64);
        }
    };

    // Columns [begin, end) of the left-hand side times their part of the right-hand side, for one shape from a row on. What is
    // pending is finished meanwhile, `pace` / 65536 rows after each product.
    template <class Shape, class F>
    static void add_products(const Lhs<V> *runs, int count, long row, long begin, long end, const V *b, long panel,
                             F &finish, long pace) {
        long target = 0;
        auto between = [&] { finish.until((int)((target += pace) >> 16)); };
        b += begin * 16 * PARTS;
        for (int i = 0; i < count; begin -= runs[i].length, end -= runs[i].length, i++) {
            const long bytes = runs[i].stride * sizeof(V), part = runs[i].part;
            const V *a = runs[i].start + row * runs[i].stride;
            const V *last = a + lesser(end, runs[i].length);
            for (a += begin > 0 ? begin : 0; a < last; a += step, b += tile * PARTS) {
                auto left = [&](int p) { Shape::left(a + p * part, bytes); };
                auto right = [&](int p) { Shape::right(b + p * tile, panel); };
                auto products = [&](int p) { Shape::products(a + p * part, bytes, between); };
                if (PARTS == 1) {
                    left(0), right(0), products(0);
                } else {
                    left(0), right(2), products(0);
                    right(1), products(0);
                    left(1), products(1);
                    right(0), products(1);
                    left(0), products(0);
                    left(2), products(2);
                }
            }
        }
    }

    template <int ACT, bool ADD, bool PLACED, bool FLOATS>
    static void multiply_as(const Lhs<V> *runs, int count, const Rhs<V> &w, long rows, long begin, long end,
                            const Output<V> &out) {
        Epilogue<ACT, ADD, PLACED, FLOATS> finish(out);
        // A block of rows and of the left-hand side's columns stays in the first-level cache while panels pass by, as many
        // of them as stay in the second; their unfinished sums wait in `partial`.
        const long block = (end - begin) % 2 ? 64 : 32, panel = w.depth * 16 * PARTS;
        const long pieces = (w.depth * block * PARTS * (long)sizeof(V) + LEFT_BYTES - 1) / LEFT_BYTES;
        const long piece = round_up((w.depth + pieces - 1) / pieces, step);
        const long chunk = lesser(STAY_BYTES / (panel * (long)sizeof(V)) / 2 * 2 + 2, MAX_CHUNK);
        alignas(64) static thread_local float partial[MAX_CHUNK / 2 * 2048];
        const long pace = 65536 * 64 / (piece / step * (PARTS == 1 ? 4 : 24)) + 1;

        for (long first = begin; first < end; first += chunk)
            for (long row = 0; row < rows; row += block)
                for (long k = 0; k < w.depth; k += piece)
                    for (long p = first; p < end && p < first + chunk; p += 2) {
                        const V *b = w.data.data() + p * panel;
                        auto sums = [&](auto shape, long at, long most) {
                            using Shape = decltype(shape);
                            float *part = partial + (p - first) * 1024 + (at - row) * 32;
                            k ? Shape::resume(part) : Shape::start(w.bias.data() + p * 16);
                            add_products<Shape>(runs, count, at, k, lesser(k + piece, w.depth), b, panel, finish, pace);
                            if (k + piece < w.depth) {
                                Shape::save(part);
                                return;
                            }
                            finish.until(64);
                            Shape::save(finish.sums[finish.turn]);
                            finish.next(at, lesser(most, rows - at), p * 16, most == 32);
                        };
                        const long left = rows - row;
                        if (p + 1 < end) {
                            for (long at = row; at < row + block && at < rows; at += 32)
                                rows - at > 16 ? sums(Wide<2>{}, at, 32) : sums(Wide<1>{}, at, 32);
                        } else {
                            left > 48   ? sums(Narrow<4>{}, row, 64)
                            : left > 32 ? sums(Narrow<3>{}, row, 64)
                            : left > 16 ? sums(Narrow<2>{}, row, 64)
                                        : sums(Narrow<1>{}, row, 64);
                        }
                    }
        finish.until(64);
    }

    // See RegisterKernel::multiply.
    static void multiply(const Lhs<V> *runs, int count, const Rhs<V> &w, long rows, long begin, long end,
                         const Output<V> &out) {
        assert(w.depth % step == 0 && w.columns % 16 == 0 && end <= w.panels() && count <= MAX_KERNEL);
        if (out.floats)
            out.act == NONE   ? multiply_as<NONE, false, false, true>(runs, count, w, rows, begin, end, out)
            : out.act == RELU ? multiply_as<RELU, false, false, true>(runs, count, w, rows, begin, end, out)
                              : multiply_as<GELU, false, false, true>(runs, count, w, rows, begin, end, out);
        else if (out.places) multiply_as<NONE, false, true, false>(runs, count, w, rows, begin, end, out);
        else if (out.add) multiply_as<NONE, true, false, false>(runs, count, w, rows, begin, end, out);
        else if (out.act == NONE) multiply_as<NONE, false, false, false>(runs, count, w, rows, begin, end, out);
        else if (out.act == RELU) multiply_as<RELU, false, false, false>(runs, count, w, rows, begin, end, out);
        else multiply_as<GELU, false, false, false>(runs, count, w, rows, begin, end, out);
    }
};
