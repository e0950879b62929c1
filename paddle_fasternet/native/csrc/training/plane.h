// Maps laid out for a convolution, so that what lies under a row of the kernel is one run of values.

// How images lie beside each other for a convolution: each with `border` lines of zeros below it and as many zeros
// behind each line, which serve as the border before the next, too.
struct Plane {
    long height, width, border, line, lines, group;  // group: images at once
    Plane(long height, long width, long kernel) : height(height), width(width) {
        border = kernel / 2, line = width + border, lines = height + border;
        group = line * lines < PLANE_ROWS ? PLANE_ROWS / (line * lines) : 1;
    }
    long rows(long images) const { return images * lines * line; }
    // ... and as much behind the last row as lies under a kernel there
    long pixels(long images) const { return rows(images) + 2 * border * (line + 1); }
};

// Runs of 16 values are moved, so a row's copy may run over its end: rows are written in ascending order.
template <class V> static inline void copy(V *to, const V *from, long count) {
    for (long i = 0; i < count; i += 16) std::memcpy(to + i, from + i, 16 * sizeof(V));
}
// `images` maps, rows of `channels` values, with the border of zeros around each.
template <class V>
static void gather_halo(V *to, const V *from, long stride, const Plane &p, long images, long channels) {
    V *const start = to;
    std::memset(to, 0, (p.border * p.line + p.border) * channels * sizeof(V));
    to += (p.border * p.line + p.border) * channels;
    for (long image = 0, pixel = 0; image < images; image++) {
        for (long y = 0; y < p.height; y++) {
            for (long x = 0; x < p.width; x++, pixel++, to += channels) copy(to, from + pixel * stride, channels);
            std::memset(to, 0, p.border * channels * sizeof(V));
            to += p.border * channels;
        }
        std::memset(to, 0, p.border * p.line * channels * sizeof(V));
        to += p.border * p.line * channels;
    }
    std::memset(to, 0, (p.pixels(images) * channels - (to - start)) * sizeof(V) + 256);
}
// The row of a map at each position between borders, -1 at a border.
static inline void find_places(std::vector<int> &places, const Plane &p, long images) {
    places.assign(p.rows(images), -1);
    for (long image = 0; image < images; image++)
        for (long y = 0; y < p.height; y++)
            for (long x = 0; x < p.width; x++)
                places[(image * p.lines + y) * p.line + x] = (int)((image * p.height + y) * p.width + x);
}
template <class A, class V> static Left<V> under_kernel(const V *halo, const Plane &p, long kernel, long channels) {
    return {halo, channels, round_up(kernel * channels, A::pad), kernel, p.line * channels};
}
