// Patches of images or of the map before, the way of a map from and to Paddle, and maps side by side for a convolution.

// Patches, a row for each.
struct Patches {
    long height, width;  // patches of an image
    PatchShape shape;
    long channels;       // before
    long depth, stride;  // values in a row, and between rows
};
template <class V> struct Map {
    V *data;
    long height, width, stride;

    bool holds(long y, long x) const { return y >= 0 && y < height && x >= 0 && x < width; }
    V *pixel(long image, long y, long x) const { return data + ((image * height + y) * width + x) * stride; }
};

// The inverse of gather_patches: to the map's pixels, summed where patches overlap.
template <class A, class V> static void scatter_map(const V *from, const Patches &p, Map<V> to, long first, long rows) {
    const long size = p.shape.size();
    Position at(first, p.height, p.width);
    for (long r = 0; r < rows; r++, at.next())
        for (long dy = 0; dy < size; dy++)
            for (long dx = 0; dx < size; dx++) {
                const long y = at.y * p.shape.step - p.shape.overlap + dy;
                const long x = at.x * p.shape.step - p.shape.overlap + dx;
                if (!to.holds(y, x)) continue;
                V *pixel = to.pixel(at.image, y, x);
                const V *values = from + r * p.stride + (dy * size + dx) * p.channels;
                if (!p.shape.overlap) copy_values(pixel, values, to.stride);  // the whole row: it may hold old values
                else
                    for (long c = 0; c < p.channels; c += LANES)
                        A::store(pixel + c, A::load(pixel + c) + A::load(values + c));
            }
}

// Pixels [channels] of an image to planes [channels, height, width] of floats, or these added to the pixels.
template <class A, class V>
static void to_planes(float *planes, const V *pixels, long stride, long area, long channels) {
    for (long p = 0; p < area; p++)
        for (long c = 0; c < channels; c += LANES) {
            const vec v = A::load(pixels + p * stride + c);
            for (long k = 0; k < lesser(LANES, channels - c); k++) planes[(c + k) * area + p] = v[k];
        }
}
template <class A, class V>
static void add_planes(V *pixels, const float *planes, long stride, long area, long channels) {
    for (long p = 0; p < area; p++)
        for (long c = 0; c < stride; c += LANES) {
            vec v = A::load(pixels + p * stride + c);
            for (long k = 0; k < lesser(LANES, channels - c); k++) v[k] += planes[(c + k) * area + p];
            A::store(pixels + p * stride + c, v);
        }
}

// Images side by side for a convolution: each with `border` lines of zeros below it and as many zeros after each line,
// which serve as the border before the next, too. What lies under a row of the kernel is then one run of values.
struct Plane {
    long height, width, border, line, lines, group;  // group: images at once
    Plane(long height, long width, long kernel) : height(height), width(width) {
        border = kernel / 2, line = width + border, lines = height + border;
        group = line * lines < PLANE_ROWS ? PLANE_ROWS / (line * lines) : 1;
    }
    long rows(long images) const { return images * lines * line; }
    // ... and what lies under a kernel after the last row
    long pixels(long images) const { return rows(images) + 2 * border * (line + 1); }
};
// `images` maps from `from` on, with the border of zeros around each.
template <class V> static void gather_planes(V *to, Matrix<V> from, const Plane &p, long images, long channels) {
    V *const start = to;
    clear(to, 0, 1, p.border * channels);
    to += p.border * channels;
    for (long image = 0; image < images; image++)
        to = gather_lines(to, 0, Matrix<V>{from.row(image * p.height * p.width), from.stride, 0}, 1, channels, p.border,
                          p.height, p.width, image ? 0 : -p.border, p.height + p.border);
    std::memset(to, 0, (p.pixels(images) * channels - (to - start)) * sizeof(V) + 256);
}
// The row of a map at each position between borders, -1 at a border.
static inline void find_places(Buffer<int> &places, const Plane &p, long images) {
    std::memset(places.data(), -1, p.rows(images) * sizeof(int));
    for (long image = 0; image < images; image++)
        for (long y = 0; y < p.height; y++)
            for (long x = 0; x < p.width; x++)
                places.data()[(image * p.lines + y) * p.line + x] = (int)((image * p.height + y) * p.width + x);
}
// The left-hand side of the convolution: a run for each row of the kernel.
template <class A> struct UnderKernel {
    using V = typename A::V;
    Lhs<V> runs[MAX_KERNEL];
    UnderKernel(const V *halo, const Plane &p, long kernel, long channels) {
        for (long k = 0; k < kernel; k++)
            runs[k] = {halo + k * p.line * channels, channels, round_up(kernel * channels, A::pad)};
    }
};
