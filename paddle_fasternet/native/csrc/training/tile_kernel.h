// Training's products on AMX tiles: bfloat16 values, float32 sums. A tile of the left-hand side is 16 rows of 32 values; one
// of the right-hand side has 16 rows of 16 pairs, each pair two successive values of one column.

struct TileKernel : OnePart<Bfloat16> {
    static constexpr long pad = 32, NR = 32, tile = 512;

    static void begin() { configure_tiles(); }
    static void end() { _tile_release(); }

    // ---- packing ----

    // Rows of 32 values, the first and the second of a pair, to 32 pairs.
    static void interleave(__m512i first, __m512i second, V *left, V *right) {
        alignas(64) static const uint16_t LOW[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                     8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
        const __m512i low = _mm512_load_si512(LOW), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
        _mm512_storeu_si512(left, _mm512_permutex2var_epi16(first, low, second));
        _mm512_storeu_si512(right, _mm512_permutex2var_epi16(first, high, second));
    }
    // 16 x 16 pairs, rows `stride` values apart, to a tile with rows and columns exchanged.
    static void transpose(const V *from, long stride, V *to) {
        __m512i a[16], b[16];
        for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * stride);
        for (int i = 0; i < 16; i += 2) {
            b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {
            a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
            a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
            a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
            a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
        }
        for (int i = 0; i < 4; i++) {  // a[4 g + i]: column i of each quarter, of the rows 4 g ...
            b[i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88);
            b[4 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88);
            b[8 + i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
            b[12 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
        }
        for (int i = 0; i < 4; i++) {
            _mm512_storeu_si512(to + 32 * i, _mm512_shuffle_i32x4(b[i], b[4 + i], 0x88));
            _mm512_storeu_si512(to + 32 * (8 + i), _mm512_shuffle_i32x4(b[i], b[4 + i], 0xdd));
            _mm512_storeu_si512(to + 32 * (4 + i), _mm512_shuffle_i32x4(b[8 + i], b[12 + i], 0x88));
            _mm512_storeu_si512(to + 32 * (12 + i), _mm512_shuffle_i32x4(b[8 + i], b[12 + i], 0xdd));
        }
    }
    // The right-hand side dense[depth][columns], to tiles [32 columns][32 rows][2].
    static void pack(Rhs<V> &w, const V *dense) {
        V *to = w.data.data();
        for (long column = 0; column < w.columns; column += 32)
            for (long k = 0; k < w.depth; k += 32, to += 2 * tile)
                for (long r = 0; r < 16; r++) {
                    const V *from = dense + (k + 2 * r) * w.columns + column;
                    interleave(_mm512_loadu_si512(from), _mm512_loadu_si512(from + w.columns), to + 32 * r,
                               to + tile + 32 * r);
                }
    }
    // ... of dense[columns][depth]
    static void pack_transposed(Rhs<V> &w, const V *dense) {
        V *to = w.data.data();
        for (long column = 0; column < w.columns; column += 32)
            for (long k = 0; k < w.depth; k += 32, to += 2 * tile)
                for (long half = 0; half < 2; half++)
                    transpose(dense + (column + 16 * half) * w.depth + k, w.depth, to + half * tile);
    }

    // ---- products ----

    // See RegisterKernel::multiply: 32 columns of up to 32 rows at once.
    template <class F>
    static void multiply(const Lhs<V> *runs, int count, long rows, const Rhs<V> &w, F epilogue, Rows<V> = {},
                         Rows<V> = {}) {
        assert(w.depth % 32 == 0 && w.columns % 32 == 0);
        alignas(64) float sums[32 * 32];
        for (long row = 0; row < rows; row += 32) {
            const V *b = w.data.data();
            for (long column = 0; column < w.columns; column += 32) {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
                for (int run = 0; run < count; run++) {
                    const long stride = runs[run].stride, bytes = stride * sizeof(V);
                    const V *from = runs[run].start + row * stride;
                    for (const V *end = from + runs[run].length; from < end; from += 32, b += 2 * tile) {
                        _tile_loadd(4, from, bytes);
                        _tile_loadd(6, b, 64);
                        _tile_dpbf16ps(0, 4, 6);
                        _tile_loadd(7, b + tile, 64);
                        _tile_dpbf16ps(1, 4, 7);
                        _tile_loadd(5, from + 16 * stride, bytes);
                        _tile_dpbf16ps(2, 5, 6);
                        _tile_dpbf16ps(3, 5, 7);
                    }
                }
                _tile_stored(0, sums, 128);
                _tile_stored(1, sums + 16, 128);
                _tile_stored(2, sums + 512, 128);
                _tile_stored(3, sums + 528, 128);
                epilogue(row, lesser(32, rows - row), column, NR, sums);
            }
        }
    }

    // See RegisterKernel::accumulate; m, n: multiples of 32.
    static void accumulate(const V *u, long u_stride, long m, const V *v, long v_stride, long n, long rows, float *sums,
                           bool first, Buffer<V> &forms) {
        const long steps = (rows + 31) / 32;
        forms.grow(steps * (m + n) * 32 + tile);
        V *us = forms.data(), *vs = us + steps * m * 32;
        const __m512i none = _mm512_setzero_si512();
        auto pair_of = [&](const V *from, long stride, long row, V *left, V *right) {
            interleave(row < rows ? _mm512_loadu_si512(from + row * stride) : none,
                       row + 1 < rows ? _mm512_loadu_si512(from + (row + 1) * stride) : none, left, right);
        };
        for (long s = 0; s < steps; s++) {
            for (long j = 0; j < n; j += 32)
                for (long r = 0; r < 16; r++) {
                    V *to = vs + (j / 16 * steps + s) * tile + 32 * r;
                    pair_of(v + j, v_stride, 32 * s + 2 * r, to, to + steps * tile);
                }
            for (long j = 0; j < m; j += 32) {
                alignas(64) V both[2 * tile];
                for (long r = 0; r < 16; r++)
                    pair_of(u + j, u_stride, 32 * s + 2 * r, both + 32 * r, both + tile + 32 * r);
                for (long half = 0; half < 2; half++)
                    transpose(both + half * tile, 32, us + ((j / 16 + half) * steps + s) * tile);
            }
        }
        const long bytes = n * sizeof(float);
        for (long i = 0; i < m; i += 32)
            for (long j = 0; j < n; j += 32) {
                float *to = sums + i * n + j, *below = to + 16 * n;
                if (first) {
                    _tile_zero(0);
                    _tile_zero(1);
                    _tile_zero(2);
                    _tile_zero(3);
                } else {
                    _tile_loadd(0, to, bytes);
                    _tile_loadd(1, to + 16, bytes);
                    _tile_loadd(2, below, bytes);
                    _tile_loadd(3, below + 16, bytes);
                }
                const V *a = us + i / 16 * steps * tile, *b = vs + j / 16 * steps * tile;
                for (long s = 0; s < steps; s++, a += tile, b += tile) {
                    _tile_loadd(4, a, 64);
                    _tile_loadd(6, b, 64);
                    _tile_dpbf16ps(0, 4, 6);
                    _tile_loadd(7, b + steps * tile, 64);
                    _tile_dpbf16ps(1, 4, 7);
                    _tile_loadd(5, a + steps * tile, 64);
                    _tile_dpbf16ps(2, 5, 6);
                    _tile_dpbf16ps(3, 5, 7);
                }
                _tile_stored(0, to, bytes);
                _tile_stored(1, to + 16, bytes);
                _tile_stored(2, below, bytes);
                _tile_stored(3, below + 16, bytes);
            }
    }
};
