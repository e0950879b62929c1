// Copies that bring the left factor of a product into rows. All move whole vectors and so write past a row's end: rows
// are written in ascending order, and every buffer has slack behind its last row.

template <class V> static inline void copy_values(V *to, const V *from, long count) {
    constexpr long block = 64 / sizeof(V);
    for (long i = 0; i < count; i += block) std::memcpy(to + i, from + i, 64);
}

template <class V> static inline void copy_pixels(Matrix<V> to, Matrix<V> from, int parts, long pixels, long channels) {
    for (int p = 0; p < parts; p++)
        for (long i = 0; i < pixels; i++)
            copy_values(to.row(i) + p * to.part, from.row(i) + p * from.part, channels);
}

template <class V> static inline void clear(V *to, long part, int parts, long count) {
    for (int p = 0; p < parts; p++) std::memset(to + p * part, 0, count * sizeof(V));
}

// The position of a row in [count, height, width], moving on.
struct Position {
    long image, y, x, height, width;

    Position(long row, long h, long w) : image(row / (h * w)), y(row / w % h), x(row % w), height(h), width(w) {}
    void next() {
        if (++x < width) return;
        x = 0;
        if (++y < height) return;
        y = 0, image++;
    }
};

// size x size patches of NHWC bytes: columns in the order y, x, channel.
template <class K>
static void gather_bytes(Matrix<typename K::Value> to, const Images &images, long channels, long size, long first,
                         long rows, long height, long width, long depth) {
    using V = typename K::Value;
    const long line = size * channels, pitch = images.width * channels;
    const uint8_t *end = images.bytes + images.count * images.height * pitch;
    Position at(first, height, width);
    for (long i = 0; i < rows; i++, at.next()) {
        const uint8_t *from = images.bytes + (at.image * images.height + at.y * size) * pitch + at.x * line;
        V *row = to.row(i);
        for (long y = 0; y < size; y++, from += pitch)
            for (long c = 0; c < line; c += 16) {
                if (from + c + 16 <= end) {
                    K::store(row + y * line + c, to.part, from + c);
                } else {
                    uint8_t last[16] = {};
                    std::memcpy(last, from + c, end - from - c);
                    K::store(row + y * line + c, to.part, last);
                }
            }
        clear(row + size * line, to.part, K::parts, depth - size * line);
    }
}

// The same of NCHW floats: columns in the order channel, y, x.
template <class K>
static void gather_floats(Matrix<typename K::Value> to, const Images &images, long channels, long size, long first,
                          long rows, long height, long width, long depth) {
    using V = typename K::Value;
    const long plane = images.height * images.width;
    const float *end = images.floats + images.count * channels * plane;
    Position at(first, height, width);
    for (long i = 0; i < rows; i++, at.next()) {
        V *row = to.row(i);
        for (long c = 0; c < channels; c++) {
            const float *from =
                images.floats + (at.image * channels + c) * plane + at.y * size * images.width + at.x * size;
            for (long y = 0; y < size; y++, from += images.width)
                for (long x = 0; x < size; x += 16) {
                    V *place = row + (c * size + y) * size + x;
                    if (from + x + 16 <= end) {
                        K::store(place, to.part, from + x);
                    } else {
                        float last[16] = {};
                        std::memcpy(last, from + x, (end - from - x) * sizeof(float));
                        K::store(place, to.part, last);
                    }
                }
        }
        clear(row + channels * size * size, to.part, K::parts, depth - channels * size * size);
    }
}

// size x size patches of a map: columns in the order y, x, channel.
template <class V>
static void gather_patches(Matrix<V> to, Matrix<V> from, int parts, long channels, long size, long first, long rows,
                           long height, long width, long from_height, long from_width, long depth) {
    Position at(first, height, width);
    for (long i = 0; i < rows; i++, at.next()) {
        V *row = to.row(i);
        for (long y = 0; y < size; y++) {
            long pixel = (at.image * from_height + at.y * size + y) * from_width + at.x * size;
            Matrix<V> target{row + y * size * channels, channels, to.part};
            Matrix<V> source{from.row(pixel), from.stride, from.part};
            copy_pixels(target, source, parts, size, channels);
        }
        clear(row + size * size * channels, to.part, parts, depth - size * size * channels);
    }
}

// A band of an image's map with the border of zeros that a kernel needs, `channels` values a pixel. The zeros between
// two rows serve both as the right border of one and the left border of the next: `width + kernel / 2` pixels a row.
template <class V>
static void gather_halo(V *to, long to_part, Matrix<V> image, int parts, long channels, long kernel, long height,
                        long width, long y_begin, long y_end) {
    const long before = (kernel - 1) / 2, after = kernel - 1 - before, line = (width + after) * channels;
    clear(to, to_part, parts, before * channels);
    to += before * channels;
    for (long y = y_begin - before; y < y_end + after; y++, to += line) {
        if (y < 0 || y >= height) {
            clear(to, to_part, parts, line);
            continue;
        }
        Matrix<V> target{to, channels, to_part}, source{image.row(y * width), image.stride, image.part};
        copy_pixels(target, source, parts, width, channels);
        clear(to + width * channels, to_part, parts, after * channels);
    }
    clear(to, to_part, parts, 64);
}
