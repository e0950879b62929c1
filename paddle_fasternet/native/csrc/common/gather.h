// Copies that bring the left-hand side of a product into rows. All move 16 values at once and so write past a row's end:
// rows are written in ascending order, and every buffer has slack after its last row. Source and target do not overlap.

template <class V> static inline void copy_values(V *to, const V *from, long count) {
    for (long i = 0; i < count; i += 16) std::memcpy(to + i, from + i, 16 * sizeof(V));
}

template <class V> static inline void copy_pixels(Matrix<V> to, Matrix<V> from, int parts, long pixels, long channels) {
    for (int p = 0; p < parts; p++)
        for (long i = 0; i < pixels; i++) copy_values(to.row(i) + p * to.part, from.row(i) + p * from.part, channels);
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

// A patch that may reach beyond the edges: its first row and column, and which of its columns lie within the image.
struct Reach {
    long top, left, begin, end;

    Reach(const Position &at, const PatchShape &p, long width)
        : top(at.y * p.step - p.overlap),
          left(at.x * p.step - p.overlap),
          begin(left < 0 ? -left : 0),
          end(lesser(p.size(), width - left)) {}
};

// Patches of NHWC bytes, number `first` and those after it, in rows of `depth` values: columns in the order y, x,
// channel, then zeros. height, width: patches of an image. outside: stands for a line of a patch beyond the edges.
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
            for (long c = 0; c < begin; c += 16) K::store16(row + c, to.part, outside + c);
            const uint8_t *from = images.bytes + (at.image * images.height + image_y) * pitch + reach.left * channels;
            for (long c = begin; c < end; c += 16) {
                if (from + c + 16 <= last) {
                    K::store16(row + c, to.part, from + c);
                } else {
                    uint8_t rest[16] = {};
                    std::memcpy(rest, from + c, last - from - c);
                    K::store16(row + c, to.part, rest);
                }
            }
            for (long c = end; c < line; c += 16) K::store16(row + c, to.part, outside + c);
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
                const float *from =
                    images.floats + ((at.image * channels + c) * images.height + image_y) * images.width + reach.left;
                for (long x = begin; x < end; x += 16) {
                    if (from + x + 16 <= last) {
                        K::store16(row + x, to.part, from + x);
                    } else {
                        float rest[16] = {};
                        std::memcpy(rest, from + x, (last - from - x) * sizeof(float));
                        K::store16(row + x, to.part, rest);
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

// Lines [y_begin, y_end) of a map for a convolution: `channels` values a pixel, and after each line `border` pixels of
// zeros, which serve as the border before the next line, too. Lines beyond the map are zeros. Returns the end.
template <class V>
static V *gather_lines(V *to, long part, Matrix<V> map, int parts, long channels, long border, long height, long width,
                       long y_begin, long y_end) {
    for (long y = y_begin; y < y_end; y++) {
        if (y >= 0 && y < height)
            copy_pixels(Matrix<V>{to, channels, part}, Matrix<V>{map.row(y * width), map.stride, map.part}, parts,
                        width, channels);
        else clear(to, part, parts, width * channels);
        to += width * channels;
        clear(to, part, parts, border * channels);
        to += border * channels;
    }
    return to;
}
