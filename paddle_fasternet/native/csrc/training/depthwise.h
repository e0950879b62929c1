// Depthwise convolution of rows of pixels and its gradients.

// Which maps: `count` from number `first` on, each height x width rows of `stride` values.
struct Maps {
    long first, count, height, width, stride;
};

// Calls inside(row) for each pixel whose 3 x 3 neighbours all lie in the map, and otherwise near(row, k, neighbour) for
// each neighbour in the map, k counting the kernel's positions, and then done(row).
template <class Inside, class Near, class Done>
static void visit(const Maps &s, long image, long kernel, Inside inside, Near near, Done done) {
    const long border = kernel / 2;
    for (long y = 0; y < s.height; y++)
        for (long x = 0; x < s.width; x++) {
            const long row = (image * s.height + y) * s.width + x;
            if (kernel == 3 && y > 0 && y + 1 < s.height && x > 0 && x + 1 < s.width) {
                inside(row);
                continue;
            }
            for (long ky = 0; ky < kernel; ky++)
                for (long kx = 0; kx < kernel; kx++) {
                    const long yy = y + ky - border, xx = x + kx - border;
                    if (yy >= 0 && yy < s.height && xx >= 0 && xx < s.width)
                        near(row, ky * kernel + kx, (image * s.height + yy) * s.width + xx);
                }
            done(row);
        }
}
// Depthwise convolution of the maps, or its transpose, which is added to `to`.
template <class A, bool BACK, class V>
static void depthwise(V *to, const V *from, const TrainBlock &b, const Maps &s, float *scratch) {
    const long positions = b.kernel * b.kernel, dim = s.stride, line = s.width * dim;
    for (long c = 0; c < dim; c++)  // to [channels / LANES][positions][LANES]
        for (long k = 0; k < positions; k++)
            scratch[(c / LANES * positions + k) * LANES + c % LANES] =
                c < b.dim_conv ? b.conv[c * positions + (BACK ? positions - 1 - k : k)] : 0;
    for (long image = s.first; image < s.first + s.count; image++)
        for (long c = 0; c < dim; c += LANES) {
            const float *weights = scratch + c * positions;
            vec w[9], sum{};
            for (int k = 0; k < 9; k++) w[k] = take(weights + (k < positions ? k : 0) * LANES);
            auto put = [&](long row, vec v) {
                V *place = to + row * dim + c;
                A::store(place, BACK ? A::load(place) + v : v);
            };
            visit(s, image, b.kernel,
                  [&](long row) {
                      const V *above = from + row * dim + c - line - dim;
                      vec v{};
#pragma GCC unroll 3
                      for (int y = 0; y < 3; y++)
#pragma GCC unroll 3
                          for (int x = 0; x < 3; x++) v += A::load(above + y * line + x * dim) * w[3 * y + x];
                      put(row, v);
                  },
                  [&](long, long k, long neighbour) {
                      sum += A::load(from + neighbour * dim + c) * take(weights + k * LANES);
                  },
                  [&](long row) { put(row, sum), sum = vec{}; });
        }
}
// sums[kernel position][channel] of gradient times shifted input
template <class A, class V>
static void depthwise_weights(float *sums, const V *input, const V *gradient, const TrainBlock &b, const Maps &s) {
    const long positions = b.kernel * b.kernel, dim = s.stride, line = s.width * dim;
    std::memset(sums, 0, positions * dim * sizeof(float));
    for (long image = s.first; image < s.first + s.count; image++)
        for (long c = 0; c < dim; c += LANES) {
            vec total[9] = {};
            visit(s, image, b.kernel,
                  [&](long row) {
                      const vec g = A::load(gradient + row * dim + c);
                      const V *above = input + row * dim + c - line - dim;
#pragma GCC unroll 3
                      for (int y = 0; y < 3; y++)
#pragma GCC unroll 3
                          for (int x = 0; x < 3; x++) total[3 * y + x] += A::load(above + y * line + x * dim) * g;
                  },
                  [&](long row, long k, long neighbour) {
                      add(sums + k * dim + c, A::load(input + neighbour * dim + c) * A::load(gradient + row * dim + c));
                  },
                  [](long) {});
            for (long k = 0; b.kernel == 3 && k < 9; k++) add(sums + k * dim + c, total[k]);
        }
}
