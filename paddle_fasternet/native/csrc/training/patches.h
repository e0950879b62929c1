// Patches, a row for each: of images or of the map before, with zeros beyond its edges; and a map's way from and to
// Paddle.

struct Patches {
    long height, width;  // how many
    long step, overlap;   // between neighbours; and how far each reaches beyond that, to every side
    long size, channels;  // side: step + 2 overlap; channels before
    long depth, stride;   // values in a row, and between rows
};
template <class V> struct Map {
    V *data;
    long height, width, stride;

    bool holds(long y, long x) const { return y >= 0 && y < height && x >= 0 && x < width; }
    V *pixel(long image, long y, long x) const { return data + ((image * height + y) * width + x) * stride; }
};

// Calls at(row, image, y, x) for `rows` patches from number `first` on; y and x of the patch's first pixel, which may be
// one before the edge.
template <class F> static inline void each_patch(const Patches &p, long first, long rows, F at) {
    for (long r = 0; r < rows; r++) {
        const long patch = (first + r) % (p.height * p.width);
        at(r, (first + r) / (p.height * p.width), patch / p.width * p.step - p.overlap,
           patch % p.width * p.step - p.overlap);
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
                if (y + dy < 0 || y + dy >= images.height) continue;
                const float *from =
                    images.images + ((image * p.channels + c) * images.height + y + dy) * images.width;
                for (long dx = 0; dx < p.size; dx += LANES) {
                    float values[LANES] = {};
                    const long count = lesser(LANES, p.size - dx);
                    for (long i = 0, column = x + dx; i < count; i++, column++)
                        if (column >= 0 && column < images.width) values[i] = from[column];
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
            for (long dx = 0; dx < p.size; dx++) {
                V *to_pixel = row + (dy * p.size + dx) * p.channels;
                if (from.holds(y + dy, x + dx)) copy(to_pixel, from.pixel(image, y + dy, x + dx), p.channels);
                else std::memset(to_pixel, 0, p.channels * sizeof(V));
            }
        std::memset(row + p.depth, 0, (p.stride - p.depth) * sizeof(V));
    });
}
// The inverse; what patches that overlap have for a pixel is added to what is there.
template <class A, class V> static void scatter_map(const V *from, const Patches &p, Map<V> to, long first, long rows) {
    each_patch(p, first, rows, [&](long r, long image, long y, long x) {
        for (long dy = 0; dy < p.size; dy++)
            for (long dx = 0; dx < p.size; dx++) {
                if (!to.holds(y + dy, x + dx)) continue;
                V *pixel = to.pixel(image, y + dy, x + dx);
                const V *values = from + r * p.stride + (dy * p.size + dx) * p.channels;
                if (!p.overlap) copy(pixel, values, to.stride);  // to its end: nothing of the step before stays there
                else
                    for (long c = 0; c < p.channels; c += LANES)
                        A::store(pixel + c, A::load(pixel + c) + A::load(values + c));
            }
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
