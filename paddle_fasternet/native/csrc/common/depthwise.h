// Depthwise convolution of a map with its transpose (kernel sizes odd, borders of zeros).

// f(size) with the kernel's size as a compile-time constant where it is a usual one, 0 for others.
template <class F> static inline void with_kernel(long kernel, F f) {
    if (kernel == 3) f(std::integral_constant<int, 3>{});
    else if (kernel == 5) f(std::integral_constant<int, 5>{});
    else if (kernel == 7) f(std::integral_constant<int, 7>{});
    else f(std::integral_constant<int, 0>{});
}

// weights[channels][kernel][kernel] to [columns / LANES][kernel][kernel][LANES], zeros after the channels; flipped for
// the transposed convolution.
static inline void pack_depthwise(float *to, const float *weights, long channels, long columns, long kernel,
                                  bool flip) {
    const long positions = kernel * kernel;
    for (long c = 0; c < columns; c++)
        for (long k = 0; k < positions; k++)
            to[(c / LANES * positions + k) * LANES + c % LANES] =
                c < channels ? weights[c * positions + (flip ? positions - 1 - k : k)] : 0;
}

// One line of LANES channels, to[x] = sum of from[y'][x'] w[y' - y + border][x' - x + border], or added to `to`.
// sums[i] belongs to pixel x - border + i while column x is read, so that every input is read once for a line.
template <class K, bool ADD, int SIZE, class V>
static inline void depthwise_line(Matrix<V> to, Matrix<V> from, const float *weights, long kernel, long y, long height,
                                  long width) {
    constexpr int ROOM = SIZE ? SIZE : MAX_KERNEL;
    const int size = SIZE ? SIZE : (int)kernel, border = size / 2;
    vec w[ROOM * ROOM], sums[ROOM] = {};
    for (int k = 0; k < size * size; k++) w[k] = load(weights + k * LANES);
    auto read = [&](int k, long x) {
        const vec v = K::load(from.row((y - border + k) * width + x), from.part);
#pragma GCC unroll 8
        for (int i = 0; i < size; i++) sums[i] += v * w[k * size + size - 1 - i];
    };
    auto write = [&](long x) {
        if (x >= 0) {
            V *pixel = to.row(y * width + x);
            K::store(pixel, to.part, ADD ? K::load(pixel, to.part) + sums[0] : sums[0]);
        }
#pragma GCC unroll 8
        for (int i = 0; i + 1 < size; i++) sums[i] = sums[i + 1];
        sums[size - 1] = vec{};
    };
    const int begin = y < border ? border - (int)y : 0;
    const int end = y + border < height ? size : size - (int)(y + border - height + 1);
    if (SIZE && begin == 0 && end == SIZE) {
        for (long x = 0; x < width; x++) {
#pragma GCC unroll 8
            for (int k = 0; k < SIZE; k++) read(k, x);
            write(x - border);
        }
    } else {
        for (long x = 0; x < width; x++) {
            for (int k = begin; k < end; k++) read(k, x);
            write(x - border);
        }
    }
    for (long x = width; x < width + border; x++) write(x - border);
}

// Lines [y_begin, y_end) of an image's map, `columns` channels in whole vectors. `to` and `from` do not overlap.
// weights: see pack_depthwise.
template <class K, bool ADD, class V>
static void depthwise(Matrix<V> to, Matrix<V> from, const float *weights, long kernel, long height, long width,
                      long columns, long y_begin, long y_end) {
    assert(kernel % 2 == 1 && kernel <= MAX_KERNEL && columns % LANES == 0);
    with_kernel(kernel, [&](auto size) {
        for (long y = y_begin; y < y_end; y++)
            for (long c = 0; c < columns; c += LANES)
                depthwise_line<K, ADD, decltype(size)::value>(Matrix<V>{to.data + c, to.stride, to.part},
                                                              Matrix<V>{from.data + c, from.stride, from.part},
                                                              weights + c * kernel * kernel, kernel, y, height, width);
    });
}
