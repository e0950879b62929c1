// Stem, stages and merging layers, forward and backward, with BatchNorm over the batch.
//
// Activations are matrices, a row for every pixel of every image, a column for every channel. A thread keeps the same
// images through all layers, so that threads meet only where BatchNorm needs sums over the batch and where gradients of
// weights are summed. Of a block, what its backward pass needs is kept: PConv's result, which overwrites the channels it
// was made of (these are kept beside it, a narrow matrix), and the hidden layer before BatchNorm. Normalisation and
// activation are done in passing, on pieces of the hidden layer that stay in the cache, between two products.

template <class A> class Trunk : public Pass {
    using V = typename A::V;

    // Per channel. Forward: z = scale x + shift. Backward: the gradient at x is scale dz + slope x + offset.
    struct Norm {
        Buffer<float> mean, inverse, scale, shift, slope, offset;
        void grow(long channels) {
            for (Buffer<float> *b : {&mean, &inverse, &scale, &shift, &slope, &offset}) b->grow(channels);
        }
    };
    struct Rows {
        V *data;
        long stride;
        V *row(long i) const { return data + i * stride; }
    };
    struct Block {
        Buffer<V> input;   // its first channels are overwritten by PConv's result
        Buffer<V> narrow;  // what these were
        Buffer<V> mixed;   // a depthwise convolution's result
        Buffer<V> hidden;  // before BatchNorm
        Packed<V> conv, conv_back, first, first_back, second, second_back;
        Norm norm;
    };
    struct Stage {
        long height, width, rows;         // of an image, and in all
        long stride, hidden_stride;       // of rows: channels, rounded up
        long depth, depth_stride;         // of a patch
        Buffer<V> embedded, output, gradient;
        Packed<V> embed, embed_back;
        Norm norm;
        Block *blocks = nullptr;
        long block_count = 0;
        ~Stage() { delete[] blocks; }
        V *input(long block) const { return block < block_count ? blocks[block].input.data() : output.data(); }
    };
    // What a thread has for itself.
    struct Own {
        Buffer<V> chunk, patches, halo, halo_back, dense, forms;
        Buffer<float> sums[2], first, second;
        std::vector<int> places;
    };

    std::vector<Stage> stages;
    std::vector<Own> own;
    Buffer<V> d_hidden, d_mixed;
    Buffer<float> factors;  // of rows: stochastic depth
    std::atomic<int> next_task{0};  // of packing weights
    Barrier barrier;

    const TrainNetwork *net = nullptr;
    const Batch *batch = nullptr;

    static long up(long n) { return round_up(n, A::pad); }

    // ---- sizes and memory ----

    static long chunk_rows(long columns) {
        const long rows = CHUNK_BYTES / (columns * (long)sizeof(V)) / 32 * 32;
        return rows < 64 ? 64 : lesser(rows, 1024);
    }
    // How images lie beside each other for a convolution: each with `border` lines of zeros below it and as many zeros
    // behind each line, which serve as the border before the next, too.
    struct Plane {
        long border, line, lines, group;  // group: images at once
        Plane(const Stage &s, long kernel) {
            border = kernel / 2, line = s.width + border, lines = s.height + border;
            group = line * lines < PLANE_ROWS ? PLANE_ROWS / (line * lines) : 1;
        }
        long rows(long images) const { return images * lines * line; }
        long pixels(long images) const { return (images * lines + border) * line + 2 * border; }
    };

    void prepare(const TrainNetwork &network, const Batch &images, int threads) {
        net = &network, batch = &images;
        if (own.size() < (size_t)threads) own = std::vector<Own>(threads);
        if (stages.size() != (size_t)network.stage_count) stages = std::vector<Stage>(network.stage_count);
        long chunk = 0, patches = 0, halo = 0, dense = 0, forms = 0, sums = 0, channels = 0, hidden_all = 0, mixed_all = 0;
        long rows_all = 0, height = images.height, width = images.width, before = network.channels;
        auto most = [](long &a, long b) { if (b > a) a = b; };
        auto right = [&](Packed<V> &w, long depth, long columns) {
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
            s.height = height = height / t.size, s.width = width = width / t.size;
            s.rows = images.count * height * width;
            s.stride = up(t.dim), s.depth = before * t.size * t.size, s.depth_stride = up(s.depth);
            s.hidden_stride = 0;
            most(rows_all, s.rows);
            for (Buffer<V> *b : {&s.embedded, &s.output, &s.gradient}) b->grow(s.rows * s.stride + 64 * s.stride + SLACK);
            right(s.embed, s.depth_stride, s.stride);
            right(s.embed_back, s.stride, s.depth_stride);
            s.norm.grow(s.stride);
            most(channels, s.stride);
            const long piece = chunk_rows(s.depth_stride);
            most(patches, (piece + 64) * s.depth_stride);
            most(chunk, (piece + 64) * s.stride);
            product(s.depth_stride, s.stride, piece);
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
                s.hidden_stride = hidden;
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
                    const Plane plane(s, b.kernel);
                    d.narrow.grow(s.rows * narrow + SLACK);
                    right(d.conv, b.kernel * run, narrow), right(d.conv_back, b.kernel * run, narrow);
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
            o.first.grow(channels), o.second.grow(channels);
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
        const long area = t.size * t.size, before = s.depth / area;
        const V *dense = fill(o, t.dim, s.depth, s.stride, s.depth_stride, [&](long r, long c) {
            return t.weight[r * s.depth + (i ? c % before * area + c / before : c)];
        });
        A::pack_transposed(s.embed, dense);
        if (i) A::pack(s.embed_back, dense);
    }
    void pack_block(Own &o, const TrainStage &t, const TrainBlock &b, Block &d, const Stage &s) {
        const long hidden = up(b.hidden), kernel = b.kernel, channels = b.dim_conv;
        const V *dense = fill(o, b.hidden, t.dim, hidden, s.stride, [&](long r, long c) { return b.first[r * t.dim + c]; });
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
                if (!back) return b.conv[((c * channels + in) * kernel + y) * kernel + x];
                return b.conv[((in * channels + c) * kernel + kernel - 1 - y) * kernel + kernel - 1 - x];
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

    // ---- BatchNorm ----

    static void add(float *to, vec v) {
        vec sum;
        std::memcpy(&sum, to, sizeof sum);
        sum += v;
        std::memcpy(to, &sum, sizeof sum);
    }
    static vec take(const float *from) {
        vec v;
        std::memcpy(&v, from, sizeof v);
        return v;
    }
    void clear_sums(const Team &team, long channels) {
        std::memset(own[team.rank].first.data(), 0, channels * sizeof(float));
        std::memset(own[team.rank].second.data(), 0, channels * sizeof(float));
    }
    // All threads' sums of x and x^2 to scale and shift.
    void finish_statistics(const Team &team, const TrainNorm &t, Norm &n, long channels, long padded, double count) {
        team.wait();
        long begin, end;
        team.share(padded, 16, begin, end);
        for (long c = begin; c < end; c++) {
            double sum = 0, squares = 0;
            for (int i = 0; i < team.size; i++) sum += own[i].first.data()[c], squares += own[i].second.data()[c];
            const double mean = sum / count;
            double variance = squares / count - mean * mean;
            if (variance < 0) variance = 0;
            const bool real = c < channels;
            n.mean.data()[c] = (float)mean;
            n.inverse.data()[c] = (float)(1 / std::sqrt(variance + net->epsilon));
            n.scale.data()[c] = real ? t.gamma[c] * n.inverse.data()[c] : 0;
            n.shift.data()[c] = real ? t.beta[c] - (float)mean * n.scale.data()[c] : 0;
            if (!real) continue;
            t.mean[c] = net->momentum * t.mean[c] + (1 - net->momentum) * (float)mean;
            t.variance[c] = net->momentum * t.variance[c] + (1 - net->momentum) * (float)variance;
        }
        team.wait();
    }
    // All threads' sums of dz and dz (x - mean) to what the gradient at x needs.
    void finish_gradient(const Team &team, const TrainNorm &t, Norm &n, long channels, long padded, double count) {
        team.wait();
        long begin, end;
        team.share(padded, 16, begin, end);
        for (long c = begin; c < end; c++) {
            double sum = 0, product = 0;
            for (int i = 0; i < team.size; i++) sum += own[i].first.data()[c], product += own[i].second.data()[c];
            const double inverse = n.inverse.data()[c], scale = n.scale.data()[c];
            const double slope = -scale * inverse * inverse * product / count;
            n.slope.data()[c] = (float)slope;
            n.offset.data()[c] = (float)(-scale * sum / count - slope * n.mean.data()[c]);
            if (c < channels) t.d_gamma[c] = (float)(inverse * product), t.d_beta[c] = (float)sum;
        }
        team.wait();
    }

    // ---- rows of pixels ----

    // Whole vectors are moved, so a row's copy may run over its end: rows are written in ascending order.
    static void copy(V *to, const V *from, long count) {
        constexpr long block = 64 / sizeof(V);
        for (long i = 0; i < count; i += block) std::memcpy(to + i, from + i, 64);
    }
    // `images` maps, rows of `channels` values, with the border of zeros around each.
    static void gather_halo(V *to, Rows from, const Stage &s, const Plane &p, long images, long channels) {
        V *const start = to;
        std::memset(to, 0, (p.border * p.line + p.border) * channels * sizeof(V));
        to += (p.border * p.line + p.border) * channels;
        for (long image = 0, pixel = 0; image < images; image++) {
            for (long y = 0; y < s.height; y++) {
                for (long x = 0; x < s.width; x++, pixel++, to += channels) copy(to, from.row(pixel), channels);
                std::memset(to, 0, p.border * channels * sizeof(V));
                to += p.border * channels;
            }
            std::memset(to, 0, p.border * p.line * channels * sizeof(V));
            to += p.border * p.line * channels;
        }
        std::memset(to, 0, (p.pixels(images) * channels - (to - start)) * sizeof(V) + 256);
    }
    // The row of a map at each position between borders, -1 at a border.
    static void find_places(std::vector<int> &places, const Stage &s, const Plane &p, long images) {
        places.assign(p.rows(images), -1);
        for (long image = 0; image < images; image++)
            for (long y = 0; y < s.height; y++)
                for (long x = 0; x < s.width; x++)
                    places[(image * p.lines + y) * p.line + x] = (int)((image * s.height + y) * s.width + x);
    }
    static Left<V> under_kernel(const V *halo, const Plane &p, long kernel, long channels) {
        return {halo, channels, up(kernel * channels), kernel, p.line * channels};
    }
    // Patches of images (stage 0: columns in the order channel, y, x) or of the map before (y, x, channel).
    void gather_patches(V *to, int i, long first, long rows) {
        const TrainStage &t = net->stages[i];
        const Stage &s = stages[i];
        const long size = t.size, area = s.height * s.width;
        for (long r = first; r < first + rows; r++, to += s.depth_stride) {
            const long image = r / area, y = r % area / s.width * size, x = r % s.width * size;
            if (i == 0) {
                float values[1024];
                long count = 0;
                auto flush = [&](V *place) {
                    for (long c = 0; c < count; c += LANES) A::store(place + c, take(values + c), lesser(LANES, count - c));
                };
                V *place = to;
                for (long c = 0; c < net->channels; c++)
                    for (long dy = 0; dy < size; dy++) {
                        const float *from = batch->images + ((image * net->channels + c) * batch->height + y + dy) * batch->width + x;
                        for (long dx = 0; dx < size; dx++) {
                            values[count++] = from[dx];
                            if (count == 1008) flush(place), place += count, count = 0;
                        }
                    }
                flush(place);
            } else {
                const Stage &before = stages[i - 1];
                const V *source = before.output.data();
                const long channels = s.depth / (size * size);
                V *place = to;
                for (long dy = 0; dy < size; dy++)
                    for (long dx = 0; dx < size; dx++, place += channels)
                        copy(place, source + ((image * before.height + y + dy) * before.width + x + dx) * before.stride, channels);
            }
            std::memset(to + s.depth, 0, (s.depth_stride - s.depth) * sizeof(V));
        }
    }

    // ---- gradients of weights ----

    // The threads' sums[m][n], added and handed to put(m, n, value). `turn` alternates between successive calls.
    template <class F> void reduce(const Team &team, int turn, long rows, long columns, long stride, F put) {
        team.wait();
        long begin, end;
        team.share(rows, 16, begin, end);
        for (long top = begin; top < end; top += 16)
            for (long c0 = 0; c0 < columns; c0 += 16)
                for (long r = top; r < lesser(end, top + 16); r++)
                    for (long c = c0; c < lesser(columns, c0 + 16); c++) {
                        float value = 0;
                        for (int i = 0; i < team.size; i++) value += own[i].sums[turn].data()[r * stride + c];
                        put(r, c, value);
                    }
    }

    // ---- layers ----

    struct Share {
        long image, images;  // this thread's
    };
    Share share(const Team &team) const {
        const long begin = batch->count * team.rank / team.size, end = batch->count * (team.rank + 1) / team.size;
        return {begin, end - begin};
    }

    static vec activate(vec x, int act) {
        if (act == TRAIN_GELU) return A::rough ? gelu_rough(x) : gelu(x);
        return act == TRAIN_RELU ? larger(x, vec{}) : x;
    }
    static void activate(vec x, int act, vec &value, vec &slope) {
        if (act == TRAIN_GELU) A::rough ? gelu_rough(x, value, slope) : gelu(x, value, slope);
        else if (act == TRAIN_RELU) value = larger(x, vec{}), slope = step_up(x);
        else value = x, slope = all(1.f);
    }
    // Rows of z = act(scale x + shift).
    template <int ACT> static void normalise_as(V *to, long to_stride, const V *from, long stride, long rows, long columns, const Norm &n) {
        for (long c = 0; c < columns; c += LANES) {
            const vec scale = take(n.scale.data() + c), shift = take(n.shift.data() + c);
            for (long r = 0; r < rows; r++)
                A::store(to + r * to_stride + c, activate(A::load(from + r * stride + c) * scale + shift, ACT));
        }
    }
    static void normalise(V *to, long to_stride, const V *from, long stride, long rows, long columns, const Norm &n, int act) {
        // few rows at once, so that what is read for one column is still there for the next
        for (long r = 0; r < rows; r += 16) {
            const long count = lesser(16, rows - r);
            V *target = to + r * to_stride;
            const V *source = from + r * stride;
            if (act == TRAIN_GELU) normalise_as<TRAIN_GELU>(target, to_stride, source, stride, count, columns, n);
            else if (act == TRAIN_RELU) normalise_as<TRAIN_RELU>(target, to_stride, source, stride, count, columns, n);
            else normalise_as<TRAIN_NONE>(target, to_stride, source, stride, count, columns, n);
        }
    }
    // Rows of scale dz + slope x + offset.
    static void denormalise(V *to, long to_stride, const V *dz, const V *x, long stride, long rows, long columns, const Norm &n) {
        for (long top = 0; top < rows; top += 16)
            for (long c = 0; c < columns; c += LANES) {
                const vec scale = take(n.scale.data() + c), slope = take(n.slope.data() + c), offset = take(n.offset.data() + c);
                for (long r = top; r < lesser(rows, top + 16); r++)
                    A::store(to + r * to_stride + c, A::load(dz + r * stride + c) * scale + A::load(x + r * stride + c) * slope + offset);
            }
    }
    // A product's result goes to `to`, its columns' sums and sums of squares to the thread's.
    auto storing(V *to, long stride, Own &o) {
        return [to, stride, first = o.first.data(), second = o.second.data()](long row, long rows, long column, const float *sums) {
            for (long j = 0; j < A::width; j += LANES) {
                vec sum{}, squares{};
                V *target = to + row * stride + column + j;
                const float *from = sums + j;
                for (long r = 0; r < rows; r++, from += A::width, target += stride) {
                    const vec v = take(from);
                    sum += v, squares += v * v;
                    A::store(target, v);
                }
                add(first + column + j, sum), add(second + column + j, squares);
            }
        };
    }

    void embed(const Team &team, int i) {
        const TrainStage &t = net->stages[i];
        Stage &s = stages[i];
        Own &o = own[team.rank];
        const Share mine = share(team);
        const long area = s.height * s.width, begin = mine.image * area, end = begin + mine.images * area;
        clear_sums(team, s.stride);
        const long piece = chunk_rows(s.depth_stride);
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            gather_patches(o.patches.data(), i, row, rows);
            A::multiply(Left<V>{o.patches.data(), s.depth_stride, s.depth_stride}, rows, s.embed,
                        storing(s.embedded.data() + row * s.stride, s.stride, o));
        }
        finish_statistics(team, t.norm, s.norm, t.dim, s.stride, (double)s.rows);
        normalise(s.input(0) + begin * s.stride, s.stride, s.embedded.data() + begin * s.stride, s.stride, end - begin,
                  s.stride, s.norm, net->embed_act);
    }

    // The rows' factors of stochastic depth; null without it.
    const float *row_factors(const TrainBlock &b, const Stage &s, Share mine) {
        if (!b.drop) return nullptr;
        const long area = s.height * s.width;
        for (long image = mine.image; image < mine.image + mine.images; image++)
            for (long i = 0; i < area; i++) factors.data()[image * area + i] = b.drop[image];
        return factors.data();
    }

    void mix(const Team &team, const TrainBlock &b, Block &d, const Stage &s, Share mine) {
        Own &o = own[team.rank];
        const long area = s.height * s.width;
        if (b.mixer == MIXER_DEPTHWISE) {
            depthwise<false>(d.mixed.data(), d.input.data(), b, s, mine, o.sums[0].data());
        } else if (b.mixer == MIXER_PARTIAL) {
            const Plane plane(s, b.kernel);
            const long narrow = up(b.dim_conv);
            find_places(o.places, s, plane, plane.group);
            for (long image = mine.image; image < mine.image + mine.images; image += plane.group) {
                const long images = lesser(plane.group, mine.image + mine.images - image), first = image * area;
                V *rows = d.input.data() + first * s.stride;
                gather_halo(o.halo.data(), Rows{rows, s.stride}, s, plane, images, b.dim_conv);
                for (long r = 0; r < images * area; r++)
                    copy(d.narrow.data() + (first + r) * narrow, rows + r * s.stride, narrow);
                const int *places = o.places.data();
                A::multiply(under_kernel(o.halo.data(), plane, b.kernel, b.dim_conv), plane.rows(images), d.conv,
                            [&](long row, long count, long column, const float *sums) {
                                for (long r = 0; r < count; r++) {
                                    const long place = places[row + r];
                                    if (place < 0) continue;
                                    V *to = rows + place * s.stride + column;
                                    for (long j = 0; j < A::width && column + j < b.dim_conv; j += LANES)
                                        A::store(to + j, take(sums + r * A::width + j), b.dim_conv - column - j);
                                }
                            });
            }
        }
    }

    // Calls inside(row) for each pixel whose 3 x 3 neighbours all lie in the map, and otherwise near(row, k, neighbour) for
    // each neighbour in the map, k counting the kernel's positions, and then done(row).
    template <class Inside, class Near, class Done>
    static void visit(const Stage &s, long image, long kernel, Inside inside, Near near, Done done) {
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
    // Depthwise convolution of this thread's images, or its transpose, which is added to `to`.
    template <bool BACK> void depthwise(V *to, const V *from, const TrainBlock &b, const Stage &s, Share mine, float *scratch) {
        const long positions = b.kernel * b.kernel, dim = s.stride, line = s.width * dim;
        float *weights = scratch;  // [channels / LANES][positions][LANES]
        for (long c = 0; c < dim; c++)
            for (long k = 0; k < positions; k++)
                weights[(c / LANES * positions + k) * LANES + c % LANES] =
                    c < b.dim_conv ? b.conv[c * positions + (BACK ? positions - 1 - k : k)] : 0;
        for (long image = mine.image; image < mine.image + mine.images; image++)
            for (long c = 0; c < dim; c += LANES, weights += positions * LANES) {
                if (c == 0) weights = scratch;
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
                      [&](long, long k, long neighbour) { sum += A::load(from + neighbour * dim + c) * take(weights + k * LANES); },
                      [&](long row) { put(row, sum), sum = vec{}; });
            }
    }
    // sums[kernel position][channel] of gradient times shifted input
    void depthwise_weights(float *sums, const V *input, const V *gradient, const TrainBlock &b, const Stage &s, Share mine) {
        const long positions = b.kernel * b.kernel, dim = s.stride, line = s.width * dim;
        std::memset(sums, 0, positions * dim * sizeof(float));
        for (long image = mine.image; image < mine.image + mine.images; image++)
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

    template <int ACT> void block_forward(const Team &team, int i, int j) {
        const TrainStage &t = net->stages[i];
        const TrainBlock &b = t.blocks[j];
        Stage &s = stages[i];
        Block &d = s.blocks[j];
        Own &o = own[team.rank];
        const Share mine = share(team);
        const long area = s.height * s.width, begin = mine.image * area, end = begin + mine.images * area;
        const long hidden = up(b.hidden), piece = chunk_rows(hidden), narrow = up(b.dim_conv);
        const float *factor = row_factors(b, s, mine);
        clear_sums(team, hidden);
        mix(team, b, d, s, mine);
        const V *mixed = b.mixer == MIXER_DEPTHWISE ? d.mixed.data() : d.input.data();
        for (long row = begin; row < end; row += piece)
            A::multiply(Left<V>{mixed + row * s.stride, s.stride, s.stride}, lesser(piece, end - row), d.first,
                        storing(d.hidden.data() + row * hidden, hidden, o));
        finish_statistics(team, b.norm, d.norm, b.hidden, hidden, (double)s.rows);
        const bool partial = b.mixer == MIXER_PARTIAL;
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            normalise(o.chunk.data(), hidden, d.hidden.data() + row * hidden, hidden, rows, hidden, d.norm, ACT);
            V *out = s.input(j + 1) + row * s.stride;
            const V *in = d.input.data() + row * s.stride, *kept = d.narrow.data() + row * narrow;
            A::multiply(Left<V>{o.chunk.data(), hidden, hidden}, rows, d.second,
                        [&](long r0, long count, long column, const float *sums) {
                            for (long c = column; c < column + A::width; c += LANES) {
                                // of the channels that PConv overwrote, the kept ones are added
                                const vec own_share = partial ? from_channel(b.dim_conv - c) : all(1.f);
                                const bool both = partial && c < b.dim_conv;
                                const vec kept_share = all(1.f) - own_share;
                                const float *from = sums + c - column;
                                for (long r = r0; r < r0 + count; r++, from += A::width) {
                                    vec v = take(from);
                                    if (factor) v *= factor[row + r];
                                    vec x = A::load(in + r * s.stride + c);
                                    if (both) x = x * own_share + A::load(kept + r * narrow + c) * kept_share;
                                    A::store(out + r * s.stride + c, v + x);
                                }
                            }
                        });
        }
    }
    // 0 in the first `count` lanes, 1 behind.
    static vec from_channel(long count) {
        vec v{};
        for (long i = 0; i < LANES; i++) v[i] = i < count ? 0.f : 1.f;
        return v;
    }

    template <int ACT> void block_backward(const Team &team, int i, int j, int &turn) {
        const TrainStage &t = net->stages[i];
        const TrainBlock &b = t.blocks[j];
        Stage &s = stages[i];
        Block &d = s.blocks[j];
        Own &o = own[team.rank];
        const Share mine = share(team);
        const long area = s.height * s.width, begin = mine.image * area, end = begin + mine.images * area;
        const long hidden = up(b.hidden), piece = chunk_rows(hidden), narrow = up(b.dim_conv);
        const float *factor = row_factors(b, s, mine);
        const bool partial = b.mixer == MIXER_PARTIAL;
        V *gradient = s.gradient.data();
        const V *mixed = b.mixer == MIXER_DEPTHWISE ? d.mixed.data() : d.input.data();

        // through the second pointwise convolution and the activation
        clear_sums(team, hidden);
        auto weights_begin = [&](long bytes_of) { if (begin == end) std::memset(o.sums[turn].data(), 0, bytes_of * sizeof(float)); };
        weights_begin((s.stride + 16) * hidden);
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            V *values = o.chunk.data(), *dz = d_hidden.data() + row * hidden;
            const V *before = d.hidden.data() + row * hidden;
            A::multiply(Left<V>{gradient + row * s.stride, s.stride, s.stride}, rows, d.second_back,
                        [&](long r0, long count, long column, const float *sums) {
                            for (long c = column; c < column + A::width; c += LANES) {
                                const vec scale = take(d.norm.scale.data() + c), shift = take(d.norm.shift.data() + c);
                                const vec mean = take(d.norm.mean.data() + c);
                                vec sum{}, product{};
                                const float *from = sums + c - column;
                                for (long r = r0; r < r0 + count; r++, from += A::width) {
                                    vec g = take(from), value, slope;
                                    const vec x = A::load(before + r * hidden + c);
                                    activate(x * scale + shift, ACT, value, slope);
                                    if (factor) g *= factor[row + r], value *= factor[row + r];
                                    g *= slope;
                                    A::store(values + r * hidden + c, value);
                                    A::store(dz + r * hidden + c, g);
                                    sum += g, product += g * (x - mean);
                                }
                                add(o.first.data() + c, sum), add(o.second.data() + c, product);
                            }
                        });
            A::accumulate(gradient + row * s.stride, s.stride, s.stride, values, hidden, hidden, rows,
                          o.sums[turn].data(), row == begin, o.forms);
        }
        finish_gradient(team, b.norm, d.norm, b.hidden, hidden, (double)s.rows);
        reduce_second(team, turn, t, b, hidden);
        turn ^= 1;

        // through the first, to what the mixer gave
        weights_begin((s.stride + 16) * hidden);
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            V *dh = o.chunk.data();
            denormalise(dh, hidden, d_hidden.data() + row * hidden, d.hidden.data() + row * hidden, hidden, rows, hidden, d.norm);
            V *out = gradient + row * s.stride;
            const long mixed_stride = partial ? narrow : s.stride, mixed_columns = b.mixer == MIXER_NONE ? 0 : mixed_stride;
            V *d_mix = d_mixed.data() + row * mixed_stride;
            A::multiply(Left<V>{dh, hidden, hidden}, rows, d.first_back,
                        [&](long r0, long count, long column, const float *sums) {
                            for (long c = column; c < column + A::width; c += LANES) {
                                const bool to_mixer = c < mixed_columns;
                                const bool passes = b.mixer == MIXER_NONE || (partial && c + LANES > b.dim_conv);
                                const vec through = partial ? from_channel(b.dim_conv - c) : all(1.f);
                                const float *from = sums + c - column;
                                for (long r = r0; r < r0 + count; r++, from += A::width) {
                                    const vec v = take(from);
                                    if (to_mixer) A::store(d_mix + r * mixed_stride + c, v);
                                    V *place = out + r * s.stride + c;
                                    if (passes) A::store(place, A::load(place) + v * through);
                                }
                            }
                        });
            A::accumulate(mixed + row * s.stride, s.stride, s.stride, dh, hidden, hidden, rows, o.sums[turn].data(),
                          row == begin, o.forms);
        }
        reduce(team, turn, t.dim, b.hidden, hidden, [&](long r, long c, float v) { b.d_first[c * t.dim + r] = v; });
        turn ^= 1;

        // through the mixer
        if (partial) {
            const Plane plane(s, b.kernel);
            const long run = up(b.kernel * b.dim_conv);
            weights_begin((b.kernel * run + 16) * narrow);
            find_places(o.places, s, plane, plane.group);
            for (long image = mine.image; image < mine.image + mine.images; image += plane.group) {
                const long images = lesser(plane.group, mine.image + mine.images - image), first = image * area;
                V *rows = gradient + first * s.stride;
                gather_halo(o.halo_back.data(), Rows{d_mixed.data() + first * narrow, narrow}, s, plane, images, b.dim_conv);
                gather_halo(o.halo.data(), Rows{d.narrow.data() + first * narrow, narrow}, s, plane, images, b.dim_conv);
                const int *places = o.places.data();
                A::multiply(under_kernel(o.halo_back.data(), plane, b.kernel, b.dim_conv), plane.rows(images), d.conv_back,
                            [&](long row, long count, long column, const float *sums) {
                                for (long r = 0; r < count; r++) {
                                    const long place = places[row + r];
                                    if (place < 0) continue;
                                    V *to = rows + place * s.stride + column;
                                    for (long j = 0; j < A::width && column + j < b.dim_conv; j += LANES)
                                        A::store(to + j, A::load(to + j) + take(sums + r * A::width + j), b.dim_conv - column - j);
                                }
                            });
                const V *center = o.halo_back.data() + (plane.border * plane.line + plane.border) * b.dim_conv;
                for (long y = 0; y < b.kernel; y++)
                    A::accumulate(o.halo.data() + y * plane.line * b.dim_conv, b.dim_conv, run, center, b.dim_conv, narrow,
                                  plane.rows(images), o.sums[turn].data() + y * run * narrow, image == mine.image, o.forms);
            }
            const long kernel = b.kernel, channels = b.dim_conv;
            reduce(team, turn, kernel * run, channels, narrow, [&](long r, long c, float v) {
                const long y = r / run, x = r % run / channels, in = r % run % channels;
                if (x < kernel) b.d_conv[((c * channels + in) * kernel + y) * kernel + x] = v;
            });
            turn ^= 1;
        } else if (b.mixer == MIXER_DEPTHWISE) {
            depthwise<true>(gradient, d_mixed.data(), b, s, mine, o.sums[turn].data());
            depthwise_weights(o.sums[turn].data(), d.input.data(), d_mixed.data(), b, s, mine);
            const long area_of_kernel = b.kernel * b.kernel;
            reduce(team, turn, area_of_kernel, b.dim_conv, s.stride, [&](long r, long c, float v) { b.d_conv[c * area_of_kernel + r] = v; });
            turn ^= 1;
        }
    }
    void reduce_second(const Team &team, int turn, const TrainStage &t, const TrainBlock &b, long hidden) {
        // each row of the sums belongs to one thread, and so does its layer scale
        if (b.scale && b.d_scale) {
            long begin, end;
            team.wait();
            team.share(t.dim, 16, begin, end);
            for (long r = begin; r < end; r++) b.d_scale[r] = 0;
        }
        reduce(team, turn, t.dim, b.hidden, hidden, [&](long r, long c, float v) {
            b.d_second[r * b.hidden + c] = b.scale ? v * b.scale[r] : v;
            if (b.scale) b.d_scale[r] += v * b.second[r * b.hidden + c];
        });
    }

    template <int ACT> void embed_backward(const Team &team, int i, int &turn) {
        const TrainStage &t = net->stages[i];
        Stage &s = stages[i];
        Own &o = own[team.rank];
        const Share mine = share(team);
        const long area = s.height * s.width, begin = mine.image * area, end = begin + mine.images * area;
        clear_sums(team, s.stride);
        V *gradient = s.gradient.data();
        for (long top = begin; top < end; top += 16)
            for (long c = 0; c < s.stride; c += LANES) {
                const vec scale = take(s.norm.scale.data() + c), shift = take(s.norm.shift.data() + c), mean = take(s.norm.mean.data() + c);
                vec sum{}, product{};
                for (long r = top; r < lesser(end, top + 16); r++) {
                    const vec x = A::load(s.embedded.data() + r * s.stride + c);
                    vec g = A::load(gradient + r * s.stride + c), value, slope;
                    if (ACT != TRAIN_NONE) {
                        activate(x * scale + shift, ACT, value, slope);
                        g *= slope;
                        A::store(gradient + r * s.stride + c, g);
                    }
                    sum += g, product += g * (x - mean);
                }
                add(o.first.data() + c, sum), add(o.second.data() + c, product);
            }
        finish_gradient(team, t.norm, s.norm, t.dim, s.stride, (double)s.rows);
        const long piece = chunk_rows(s.depth_stride);
        if (begin == end) std::memset(o.sums[turn].data(), 0, (s.depth_stride + 16) * s.stride * sizeof(float));
        if (i && (stages[i - 1].height % t.size || stages[i - 1].width % t.size)) {
            const long pixels = stages[i - 1].height * stages[i - 1].width * stages[i - 1].stride;
            std::memset(stages[i - 1].gradient.data() + mine.image * pixels, 0, mine.images * pixels * sizeof(V));
        }
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            denormalise(o.chunk.data(), s.stride, gradient + row * s.stride, s.embedded.data() + row * s.stride, s.stride, rows, s.stride, s.norm);
            gather_patches(o.patches.data(), i, row, rows);
            A::accumulate(o.patches.data(), s.depth_stride, s.depth_stride, o.chunk.data(), s.stride, s.stride, rows,
                          o.sums[turn].data(), row == begin, o.forms);
            if (i == 0) continue;
            V *patches = o.patches.data();
            A::multiply(Left<V>{o.chunk.data(), s.stride, s.stride}, rows, s.embed_back,
                        [&](long r0, long count, long column, const float *sums) {
                            for (long r = 0; r < count; r++)
                                for (long j = 0; j < A::width; j += LANES)
                                    A::store(patches + (r0 + r) * s.depth_stride + column + j, take(sums + r * A::width + j));
                        });
            scatter_patches(patches, i, row, rows);
        }
        const long patch = t.size * t.size, channels = s.depth / patch;
        reduce(team, turn, s.depth, t.dim, s.stride, [&](long r, long c, float v) {
            t.d_weight[c * s.depth + (i ? r % channels * patch + r / channels : r)] = v;
        });
        turn ^= 1;
    }
    // The inverse of gather_patches, into the gradient of the map before.
    void scatter_patches(const V *from, int i, long first, long rows) {
        const Stage &s = stages[i], &before = stages[i - 1];
        const long size = net->stages[i].size, area = s.height * s.width, channels = s.depth / (size * size);
        for (long r = first; r < first + rows; r++, from += s.depth_stride) {
            const long image = r / area, y = r % area / s.width * size, x = r % s.width * size;
            const V *place = from;
            for (long dy = 0; dy < size; dy++)
                for (long dx = 0; dx < size; dx++, place += channels)
                    copy(before.gradient.data() + ((image * before.height + y + dy) * before.width + x + dx) * before.stride, place, channels);
        }
    }

    // Rows of the last stage's map to [images, channels, h w] floats, or back.
    void write_map(const Team &team, float *map) {
        const Stage &s = stages.back();
        const Share mine = share(team);
        const long area = s.height * s.width, dim = net->stages[net->stage_count - 1].dim;
        for (long image = mine.image; image < mine.image + mine.images; image++)
            for (long p = 0; p < area; p++)
                for (long c = 0; c < dim; c += LANES) {
                    const vec v = A::load(s.output.data() + (image * area + p) * s.stride + c);
                    for (long k = 0; k < lesser(LANES, dim - c); k++) map[(image * dim + c + k) * area + p] = v[k];
                }
    }
    void read_map(const Team &team, const float *map) {
        Stage &s = stages.back();
        const Share mine = share(team);
        const long area = s.height * s.width, dim = net->stages[net->stage_count - 1].dim;
        for (long image = mine.image; image < mine.image + mine.images; image++)
            for (long p = 0; p < area; p++)
                for (long c = 0; c < s.stride; c += LANES) {
                    vec v{};
                    for (long k = 0; k < LANES; k++) v[k] = c + k < dim ? map[(image * dim + c + k) * area + p] : 0;
                    A::store(s.gradient.data() + (image * area + p) * s.stride + c, v);
                }
    }

    template <class F> void on_threads(Pool &pool, F work) {
        struct Context {
            F &work;
            Barrier &barrier;
            int size;
        } context{work, barrier, pool.size()};
        pool.run([](void *c, int rank) {
            Context &context = *(Context *)c;
            A::begin();
            context.work(Team{rank, context.size, &context.barrier});
            A::end();
        }, &context);
    }

public:
    void forward(const TrainNetwork &network, const Batch &images, float *map, Pool &pool) override {
        prepare(network, images, pool.size());
        on_threads(pool, [&](const Team &team) {
            pack_all(own[team.rank]);
            team.wait();
            for (int i = 0; i < network.stage_count; i++) {
                embed(team, i);
                for (int j = 0; j < network.stages[i].depth; j++)
                    network.act == TRAIN_GELU ? block_forward<TRAIN_GELU>(team, i, j)
                    : network.act == TRAIN_RELU ? block_forward<TRAIN_RELU>(team, i, j)
                                                : block_forward<TRAIN_NONE>(team, i, j);
            }
            write_map(team, map);
        });
    }
    void backward(const TrainNetwork &network, const Batch &images, const float *d_map, Pool &pool) override {
        net = &network, batch = &images;
        on_threads(pool, [&](const Team &team) {
            int turn = 0;
            read_map(team, d_map);
            for (int i = network.stage_count - 1; i >= 0; i--) {
                for (int j = network.stages[i].depth - 1; j >= 0; j--)
                    network.act == TRAIN_GELU ? block_backward<TRAIN_GELU>(team, i, j, turn)
                    : network.act == TRAIN_RELU ? block_backward<TRAIN_RELU>(team, i, j, turn)
                                                : block_backward<TRAIN_NONE>(team, i, j, turn);
                network.embed_act == TRAIN_GELU ? embed_backward<TRAIN_GELU>(team, i, turn)
                : network.embed_act == TRAIN_RELU ? embed_backward<TRAIN_RELU>(team, i, turn)
                                                  : embed_backward<TRAIN_NONE>(team, i, turn);
            }
        });
    }
};
