// Patches that do not overlap, a row for each: of images or of the map before, and a map's way from and to Paddle.

struct Patches {
    long height, width;  // how many
    long size, channels;  // side, and channels before
    long depth, stride;   // values in a row, and between rows
};
template <class V> struct Map {
    V *data;
    long height, width, stride;

    V *pixel(long image, long y, long x) const { return data + ((image * height + y) * width + x) * stride; }
};

// Calls at(row, image, y, x) for `rows` patches from number `first` on; y and x of the patch's first pixel.
template <class F> static inline void each_patch(const Patches &p, long first, long rows, F at) {
    for (long r = 0; r < rows; r++) {
        const long patch = (first + r) % (p.height * p.width);
        at(r, (first + r) / (p.height * p.width), patch / p.width * p.size, patch % p.width * p.size);
    }
}
// Columns in the order channel, y, x, zeros behind.
template <class A, class V>
static void gather_images(V *to, const Patches &p, const Batch &images, long first, long rows) {
    each_patch(p, first, rows, [&](long r, long image, long y, long x) {
        V *row = to + r * p.stride;
        std::memset(row, 0, p.stride * sizeof(V));
        for (long c = 0; c < p.channels; c++)
            for (long dy = 0; dy < p.size; dy++) {
                const float *from =
                    images.images + ((image * p.channels + c) * images.height + y + dy) * images.width + x;
                for (long dx = 0; dx < p.size; dx += LANES) {
                    float values[LANES] = {};
                    const long count = lesser(LANES, p.size - dx);
                    for (long i = 0; i < count; i++) values[i] = from[dx + i];
                    A::store(row + (c * p.size + dy) * p.size + dx, take(values), count);
                }
            }
    });
}
// Columns in the order y, x, channel, zeros behind.
template <class V> static void gather_map(V *to, const Patches &p, Map<V> from, long first, long rows) {
    each_patch(p, first, rows, [&](long r, long image, long y, long x) {
        V *row = to + r * p.stride;
        for (long dy = 0; dy < p.size; dy++)
            for (long dx = 0; dx < p.size; dx++)
                copy(row + (dy * p.size + dx) * p.channels, from.pixel(image, y + dy, x + dx), p.channels);
        std::memset(row + p.depth, 0, (p.stride - p.depth) * sizeof(V));
    });
}
// The inverse.
template <class V> static void scatter_map(const V *from, const Patches &p, Map<V> to, long first, long rows) {
    each_patch(p, first, rows, [&](long r, long image, long y, long x) {
        for (long dy = 0; dy < p.size; dy++)
            for (long dx = 0; dx < p.size; dx++)
                copy(to.pixel(image, y + dy, x + dx), from + r * p.stride + (dy * p.size + dx) * p.channels,
                     p.channels);
    });
}

// Pixels [channels] of an image to or from planes [channels, height, width] of floats.
template <class A, class V>
static void to_planes(float *planes, const V *pixels, long stride, long area, long channels) {
    for (long p = 0; p < area; p++)
        for (long c = 0; c < channels; c += LANES) {
            const vec v = A::load(pixels + p * stride + c);
            for (long k = 0; k < lesser(LANES, channels - c); k++) planes[(c + k) * area + p] = v[k];
        }
}
template <class A, class V>
static void from_planes(V *pixels, const float *planes, long stride, long area, long channels) {
    for (long p = 0; p < area; p++)
        for (long c = 0; c < stride; c += LANES) {
            vec v{};
            for (long k = 0; k < LANES; k++) v[k] = c + k < channels ? planes[(c + k) * area + p] : 0;
            A::store(pixels + p * stride + c, v);
        }
}
