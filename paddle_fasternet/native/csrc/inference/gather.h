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

// Of a patch that may reach beyond the edges: its first row and column, and which of its columns lie within the image.
struct Reach {
    long top, left, begin, end;

    Reach(const Position &at, const PatchShape &p, long width) : top(at.y * p.step - p.overlap),
            left(at.x * p.step - p.overlap), begin(left < 0 ? -left : 0), end(lesser(p.size(), width - left)) {}
};

// Patches of NHWC bytes: columns in the order y, x, channel. outside: what stands for a line of a patch beyond the edges.
template <class K>
static void gather_bytes(Matrix<typename K::Value> to, const Images &images, long channels, const PatchShape &p,
                         long first, long rows, long height, long width, long depth, const float *outside) {
    using V = typename K::Value;
    const long line = p.size() * channels, pitch = images.width * channels;
    const uint8_t *last = images.bytes + images.count * images.height * pitch;
    Position at(first, height, width);
    for (long i = 0; i < rows; i++, at.next()) {
        const Reach reach(at, p, images.width);
        V *row = to.row(i);
        for (long y = 0; y < p.size(); y++, row += line) {
            const long image_y = reach.top + y;
            const bool within = image_y >= 0 && image_y < images.height;
            const long begin = within ? reach.begin * channels : line, end = within ? reach.end * channels : line;
            for (long c = 0; c < begin; c += 16) K::store(row + c, to.part, outside + c);
            const uint8_t *from = images.bytes + (at.image * images.height + image_y) * pitch + reach.left * channels;
            for (long c = begin; c < end; c += 16) {
                if (from + c + 16 <= last) {
                    K::store(row + c, to.part, from + c);
                } else {
                    uint8_t rest[16] = {};
                    std::memcpy(rest, from + c, last - from - c);
                    K::store(row + c, to.part, rest);
                }
            }
            for (long c = end; c < line; c += 16) K::store(row + c, to.part, outside + c);
        }
        clear(row, to.part, K::parts, depth - p.size() * line);
    }
}

// The same of NCHW floats: columns in the order channel, y, x, zeros beyond the edges.
template <class K>
static void gather_floats(Matrix<typename K::Value> to, const Images &images, long channels, const PatchShape &p,
                          long first, long rows, long height, long width, long depth) {
    using V = typename K::Value;
    const long size = p.size();
    const float *last = images.floats + images.count * channels * images.height * images.width;
    Position at(first, height, width);
    for (long i = 0; i < rows; i++, at.next()) {
        const Reach reach(at, p, images.width);
        V *row = to.row(i);
        for (long c = 0; c < channels; c++)
            for (long y = 0; y < size; y++, row += size) {
                const long image_y = reach.top + y;
                const bool within = image_y >= 0 && image_y < images.height;
                const long begin = within ? reach.begin : size, end = within ? reach.end : size;
                clear(row, to.part, K::parts, begin);
                const float *from = images.floats +
                    ((at.image * channels + c) * images.height + image_y) * images.width + reach.left;
                for (long x = begin; x < end; x += 16) {
                    if (from + x + 16 <= last) {
                        K::store(row + x, to.part, from + x);
                    } else {
                        float rest[16] = {};
                        std::memcpy(rest, from + x, (last - from - x) * sizeof(float));
                        K::store(row + x, to.part, rest);
                    }
                }
                clear(row + end, to.part, K::parts, size - end);
            }
        clear(row, to.part, K::parts, depth - channels * size * size);
    }
}

// Patches of a map: columns in the order y, x, channel, zeros beyond the edges.
template <class V>
static void gather_patches(Matrix<V> to, Matrix<V> from, int parts, long channels, const PatchShape &p, long first,
                           long rows, long height, long width, long from_height, long from_width, long depth) {
    const long line = p.size() * channels;
    Position at(first, height, width);
    for (long i = 0; i < rows; i++, at.next()) {
        const Reach reach(at, p, from_width);
        V *row = to.row(i);
        for (long y = 0; y < p.size(); y++, row += line) {
            const long map_y = reach.top + y;
            if (map_y < 0 || map_y >= from_height) {
                clear(row, to.part, parts, line);
                continue;
            }
            const long pixel = (at.image * from_height + map_y) * from_width + reach.left + reach.begin;
            const long begin = reach.begin * channels, end = reach.end * channels;
            clear(row, to.part, parts, begin);
            copy_pixels(Matrix<V>{row + begin, channels, to.part}, Matrix<V>{from.row(pixel), from.stride, from.part},
                        parts, reach.end - reach.begin, channels);
            clear(row + end, to.part, parts, line - end);
        }
        clear(row, to.part, parts, depth - p.size() * line);
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
