// The gradient of a depthwise convolution's weights.

// sums[kernel position][channel] += gradient times shifted input, over an image's map. columns: whole vectors.
template <class A, class V>
static void depthwise_weights(float *sums, const V *input, const V *gradient, long kernel, long height, long width,
                              long columns) {
    with_kernel(kernel, [&](auto constant) {
        constexpr int SIZE = decltype(constant)::value, ROOM = SIZE ? SIZE : MAX_KERNEL;
        const int size = SIZE ? SIZE : (int)kernel, border = size / 2;
        for (long y = 0; y < height; y++)
            for (long c = 0; c < columns; c += LANES)
                for (int k = 0; k < size; k++) {
                    const long line = y + k - border;
                    if (line < 0 || line >= height) continue;
                    const V *from = input + line * width * columns + c, *g = gradient + y * width * columns + c;
                    vec window[ROOM] = {}, total[ROOM] = {};  // the inputs from x - border to x + border
                    for (long x = 0; x < lesser(border, width); x++)
                        window[size - border + x] = A::load(from + x * columns);
                    for (long x = 0; x < width; x++) {
#pragma GCC unroll 8
                        for (int i = 0; i + 1 < size; i++) window[i] = window[i + 1];
                        window[size - 1] = x + border < width ? A::load(from + (x + border) * columns) : vec{};
                        const vec slope = A::load(g + x * columns);
#pragma GCC unroll 8
                        for (int i = 0; i < size; i++) total[i] += window[i] * slope;
                    }
                    for (int i = 0; i < size; i++) add(sums + (k * size + i) * columns + c, total[i]);
                }
    });
}
