// The network's weights, laid out for a kernel.

template <class K> struct BlockWeights {
    long channels, groups, kernel, hidden;  // channels: of one group of the mixer as it is computed, 0: no mixer
    long mixed;                             // columns of the mixer's result that the product reads: whole steps
    Rhs<typename K::Value> *conv = nullptr, first, second;  // conv: of each group
    Buffer<float> depthwise;                                // instead of conv, see pack_depthwise

    ~BlockWeights() { delete[] conv; }
    bool is_depthwise() const { return channels == 1 && groups > 1; }
};

template <class K> struct StageWeights {
    long dim, before, depth;  // before: channels that the embedding takes
    PatchShape patches;
    Rhs<typename K::Value> embed;
    BlockWeights<K> *blocks = nullptr;

    ~StageWeights() { delete[] blocks; }
};

template <class K> static long padded(long columns) { return round_up(columns, K::pad); }

// value(k, n): row k and column n of the right-hand side
template <class K, class F>
static void pack(Rhs<typename K::Value> &w, long depth, long columns, const float *bias, F value) {
    w.depth = round_up(depth, K::step);
    w.columns = round_up(columns, 16);
    Buffer<float> dense;
    dense.grow(w.depth * w.columns);
    for (long k = 0; k < depth; k++)
        for (long n = 0; n < columns; n++) dense.data()[k * w.columns + n] = value(k, n);
    w.bias.grow(w.columns);
    for (long n = 0; bias && n < columns; n++) w.bias.data()[n] = bias[n];
    K::pack(w, dense.data());
}

template <class K> static void pack_block(BlockWeights<K> &b, const Block &block, long dim) {
    b.groups = block.groups, b.channels = block.dim_conv / block.groups, b.kernel = block.kernel;
    b.hidden = block.hidden;
    const long narrow = b.channels;
    b.mixed = lesser(round_up(block.dim_conv, K::step), padded<K>(dim));
    const long size = b.kernel;
    if (b.is_depthwise()) {
        const long columns = round_up(b.mixed, LANES);
        b.depthwise.grow(columns * size * size);
        pack_depthwise(b.depthwise.data(), block.conv, dim, columns, size, false);
    } else if (narrow) {
        // Groups narrower than a tile are computed together, with zeros between them.
        for (long m = b.groups; m > 1; m--)
            if (b.groups % m == 0 && narrow * m <= 32) {
                b.groups /= m, b.channels *= m;
                break;
            }
        // one run of columns for each row of the kernel: position in the row, then channel
        const long channels = b.channels, run = round_up(size * channels, K::step);
        b.conv = new Rhs<typename K::Value>[b.groups];
        for (long g = 0; g < b.groups; g++)
            pack<K>(b.conv[g], size * run, channels, nullptr, [&](long k, long n) {
                long y = k / run, x = k % run / channels, c = k % run % channels;
                return x < size && n / narrow == c / narrow
                           ? block.conv[(((g * channels + n) * narrow + c % narrow) * size + y) * size + x]
                           : 0.f;
            });
    }
    pack<K>(b.first, dim, b.hidden, block.first_bias, [&](long k, long n) { return block.first[n * dim + k]; });
    pack<K>(b.second, b.hidden, dim, block.second_bias, [&](long k, long n) { return block.second[n * b.hidden + k]; });
}

// A merging layer: columns in the order y, x, channel.
template <class K> static void pack_merging(Rhs<typename K::Value> &w, const Stage &stage, long before) {
    const long size = stage.patches.size();
    pack<K>(w, size * size * before, stage.dim, stage.bias, [&](long k, long n) {
        long c = k % before, x = k / before % size, y = k / before / size;
        return stage.weight[((n * before + c) * size + y) * size + x];
    });
}

// The stem for NCHW floats: columns in the order channel, y, x.
template <class K> static void pack_stem_of_floats(Rhs<typename K::Value> &w, const Network &net) {
    const Stage &stem = net.stages[0];
    const long depth = net.channels * stem.patches.size() * stem.patches.size();
    pack<K>(w, depth, stem.dim, stem.bias, [&](long k, long n) { return stem.weight[n * depth + k]; });
}

// The stem for NHWC bytes, columns in the order y, x, channel, with the normalisation folded in:
// w (byte - mean) / std = (w / std) byte - (w / std) mean. In both terms w / std is rounded as the kernel rounds it, so
// that what rounding adds is multiplied with byte - mean and not with byte.
template <class K> static void pack_stem_of_bytes(Rhs<typename K::Value> &w, const Network &net) {
    const Stage &stem = net.stages[0];
    const long channels = net.channels, size = stem.patches.size(), depth = channels * size * size;
    auto weight = [&](long k, long n) {
        long c = k % channels, x = k / channels % size, y = k / channels / size;
        return stem.weight[((n * channels + c) * size + y) * size + x] / net.std[c];
    };
    Buffer<float> bias;
    bias.grow(stem.dim);
    for (long n = 0; n < stem.dim; n++) {
        double sum = stem.bias ? stem.bias[n] : 0;
        for (long k = 0; k < depth; k++) sum -= (double)K::rounded(weight(k, n)) * net.mean[k % channels];
        bias.data()[n] = (float)sum;
    }
    pack<K>(w, depth, stem.dim, bias.data(), weight);
}
