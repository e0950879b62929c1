// What a pass keeps, and the weights in the form that products read.

// Rows that an epilogue reads or writes, `stride` values apart; they are prefetched before the tile's products.
template <class V> struct Rows {
    const V *start = nullptr;
    long stride = 0;
};

template <class A> class Memory : public Pass {
protected:
    using V = typename A::V;

    struct Block {
        Buffer<V> input;   // its first channels are overwritten by PConv's result
        Buffer<V> narrow;  // what these were
        Buffer<V> mixed;   // a depthwise convolution's result
        Buffer<V> hidden;  // before BatchNorm
        Rhs<V> conv, conv_back, first, first_back, second, second_back;
        Norm norm;
    };
    struct Stage {
        long height, width, rows;  // of an image, and in all
        long stride;               // of rows: channels, rounded up
        Patches patches;
        Buffer<V> embedded, output, gradient;
        Rhs<V> embed, embed_back;
        Norm norm;
        Block *blocks = nullptr;
        long block_count = 0;
        ~Stage() { delete[] blocks; }
        Map<V> map(const Buffer<V> &rows) const { return {rows.data(), height, width, stride}; }
        V *input(long block) const { return block < block_count ? blocks[block].input.data() : output.data(); }
    };
    // What a thread has for itself.
    struct Own {
        Buffer<V> chunk, patches, halo, halo_back, dense, forms;
        Buffer<float> sums[2], first, second, origin;
        long rows;  // that `first` and `second` are sums over, each less `origin`
        Buffer<int> places;
    };

    std::vector<Stage> stages;
    std::vector<Own> own;
    Buffer<V> d_hidden, d_mixed;
    Buffer<float> factors;          // of rows: stochastic depth
    std::atomic<int> next_task{0};  // of packing weights
    Barrier barrier;

    const TrainNetwork *net = nullptr;
    const Images *batch = nullptr;

    static long up(long n) { return round_up(n, A::pad); }

    static long chunk_rows(long columns) {
        const long rows = CHUNK_BYTES / (columns * (long)sizeof(V)) / 32 * 32;
        return rows < 64 ? 64 : lesser(rows, 1024);
    }
    void prepare(const TrainNetwork &network, const Images &images, int threads) {
        net = &network, batch = &images;
        if (own.size() < (size_t)threads) own = std::vector<Own>(threads);
        if (stages.size() != (size_t)network.stage_count) stages = std::vector<Stage>(network.stage_count);
        long chunk = 0, patches = 0, halo = 0, dense = 0, forms = 0, sums = 0, channels = 0;  // the most of each
        long hidden_all = 0, mixed_all = 0, rows_all = 0, places = 0;
        long height = images.height, width = images.width, before = network.channels;
        auto most = [](long &a, long b) {
            if (b > a) a = b;
        };
        auto right = [&](Rhs<V> &w, long depth, long columns) {
            w.depth = depth, w.columns = columns;
            w.data.grow(depth * columns + SLACK);
            most(dense, depth * columns);
        };
        auto product = [&](long m, long n, long rows) {
            most(forms, round_up(rows, 32) * (m + n) + 2 * SLACK);
            most(sums, (m + 16) * n);
        };
        for (int i = 0; i < network.stage_count; i++) {
            const TrainStage &t = network.stages[i];
            Stage &s = stages[i];
            s.height = height = height / t.patches.step, s.width = width = width / t.patches.step;
            s.rows = images.count * height * width;
            s.stride = up(t.dim);
            const long size = t.patches.size(), depth = before * size * size;
            s.patches = {height, width, t.patches, before, depth, up(depth)};
            most(rows_all, s.rows);
            const long values = (s.rows + 64) * s.stride + SLACK;
            for (Buffer<V> *b : {&s.embedded, &s.output, &s.gradient}) b->grow(values);
            right(s.embed, s.patches.stride, s.stride);
            right(s.embed_back, s.stride, s.patches.stride);
            s.norm.grow(s.stride);
            most(channels, s.stride);
            const long piece = chunk_rows(s.patches.stride);
            most(patches, (piece + 64) * s.patches.stride);
            most(chunk, (piece + 64) * s.stride);
            product(s.patches.stride, s.stride, piece);
            if (s.block_count != t.depth) {
                delete[] s.blocks;
                s.blocks = nullptr, s.block_count = 0;
                s.blocks = new Block[t.depth];
                s.block_count = t.depth;
            }
            for (int j = 0; j < t.depth; j++) {
                const TrainBlock &b = t.blocks[j];
                Block &d = s.blocks[j];
                const long hidden = up(b.hidden), narrow = up(b.dim_conv), run = up(b.kernel * b.dim_conv);
                d.input.grow(s.rows * s.stride + 64 * s.stride + SLACK);
                d.hidden.grow(s.rows * hidden + 64 * hidden + SLACK);
                right(d.first, s.stride, hidden), right(d.first_back, hidden, s.stride);
                right(d.second, hidden, s.stride), right(d.second_back, s.stride, hidden);
                d.norm.grow(hidden);
                most(channels, hidden);
                const long block_piece = chunk_rows(hidden);
                most(chunk, (block_piece + 64) * hidden);
                product(s.stride, hidden, block_piece);
                most(hidden_all, s.rows * hidden);
                most(sums, b.kernel * b.kernel * s.stride);
                if (b.mixer == MIXER_PARTIAL) {
                    const Plane plane(s.height, s.width, b.kernel);
                    d.narrow.grow(s.rows * narrow + SLACK);
                    right(d.conv, b.kernel * run, narrow), right(d.conv_back, b.kernel * run, narrow);
                    most(places, plane.rows(plane.group));
                    most(halo, (plane.pixels(plane.group) + 64) * b.dim_conv + SLACK);
                    product(run, narrow, plane.rows(plane.group));
                    most(sums, (b.kernel * run + 16) * narrow);
                    most(mixed_all, s.rows * narrow);
                } else if (b.mixer == MIXER_DEPTHWISE) {
                    d.mixed.grow(s.rows * s.stride + 64 * s.stride + SLACK);
                    most(mixed_all, s.rows * s.stride);
                }
            }
            before = t.dim;
        }
        d_hidden.grow(hidden_all + SLACK), d_mixed.grow(mixed_all + SLACK), factors.grow(rows_all);
        for (Own &o : own) {
            o.chunk.grow(chunk + SLACK), o.patches.grow(patches + SLACK);
            o.halo.grow(halo), o.halo_back.grow(halo), o.dense.grow(dense + SLACK), o.forms.grow(forms);
            for (Buffer<float> &b : o.sums) b.grow(sums + SLACK);
            o.first.grow(channels), o.second.grow(channels), o.origin.grow(channels);
            o.places.grow(places);
        }
        next_task = 0;
    }

    // ---- weights ----

    // dense[rows][columns] in rows of `stride`, zeros around; at(row, column) gives the values
    template <class F> static V *fill(Own &o, long rows, long columns, long all_rows, long stride, F at) {
        V *to = o.dense.data();
        std::memset(to, 0, all_rows * stride * sizeof(V));
        float values[LANES];
        for (long r = 0; r < rows; r++)
            for (long c = 0; c < columns; c += LANES) {
                const long count = lesser(LANES, columns - c);
                for (long i = 0; i < LANES; i++) values[i] = i < count ? at(r, c + i) : 0;
                vec v;
                std::memcpy(&v, values, sizeof v);
                A::store(to + r * stride + c, v, count);
            }
        return to;
    }
    void pack_embedding(Own &o, int i) {
        const TrainStage &t = net->stages[i];
        Stage &s = stages[i];
        const long area = t.patches.size() * t.patches.size(), before = s.patches.channels;
        const V *dense = fill(o, t.dim, s.patches.depth, s.stride, s.patches.stride, [&](long r, long c) {
            return t.weight[r * s.patches.depth + (i ? c % before * area + c / before : c)];
        });
        A::pack_transposed(s.embed, dense);
        if (i) A::pack(s.embed_back, dense);
    }
    // Where a convolution's weight from channel `in` to channel `out` lies, -1 between groups: a grouped convolution is
    // computed as a dense one with zeros there, for its groups are narrower than a tile.
    static long conv_place(const TrainBlock &b, long out, long in, long y, long x) {
        const long group = b.dim_conv / b.groups;
        return in / group == out / group ? ((out * group + in % group) * b.kernel + y) * b.kernel + x : -1;
    }
    void pack_block(Own &o, const TrainStage &t, const TrainBlock &b, Block &d, const Stage &s) {
        const long hidden = up(b.hidden), kernel = b.kernel, channels = b.dim_conv;
        const V *dense =
            fill(o, b.hidden, t.dim, hidden, s.stride, [&](long r, long c) { return b.first[r * t.dim + c]; });
        A::pack_transposed(d.first, dense);
        A::pack(d.first_back, dense);
        dense = fill(o, t.dim, b.hidden, s.stride, hidden, [&](long r, long c) {
            return b.scale ? b.scale[r] * b.second[r * b.hidden + c] : b.second[r * b.hidden + c];
        });
        A::pack_transposed(d.second, dense);
        A::pack(d.second_back, dense);
        if (b.mixer != MIXER_PARTIAL) return;
        const long run = up(kernel * channels), narrow = up(channels);
        for (int back = 0; back < 2; back++) {
            dense = fill(o, kernel * run, channels, kernel * run, narrow, [&](long r, long c) -> float {
                long y = r / run, x = r % run / channels, in = r % run % channels;
                if (x >= kernel) return 0;
                const long last = kernel - 1;
                const long place = back ? conv_place(b, in, c, last - y, last - x) : conv_place(b, c, in, y, x);
                return place < 0 ? 0 : b.conv[place];
            });
            A::pack(back ? d.conv_back : d.conv, dense);
        }
    }
    void pack_all(Own &o) {
        int task = next_task++, number = 0;
        for (int i = 0; i < net->stage_count; i++)
            for (int j = -1; j < net->stages[i].depth; j++) {
                if (number++ != task) continue;
                if (j < 0) pack_embedding(o, i);
                else pack_block(o, net->stages[i], net->stages[i].blocks[j], stages[i].blocks[j], stages[i]);
                task = next_task++;
            }
    }
};
