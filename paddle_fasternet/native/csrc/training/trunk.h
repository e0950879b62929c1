// Stem, stages and merging layers, forward and backward, with BatchNorm over the batch.
//
// Activations are matrices, a row for every pixel of every image, a column for every channel. A thread keeps the same
// images through all layers, so that threads meet only where BatchNorm needs sums over the batch and where gradients of
// weights are summed. Of a block, what its backward pass needs is kept: PConv's result, which overwrites the channels
// it was made of (these are kept beside it, a narrow matrix), and the hidden layer before BatchNorm. Normalisation and
// activation are done in passing, on pieces of the hidden layer that stay in the cache, between two products.

template <class A> class Trunk : public Mixing<A> {
    using Base = Mixing<A>;
    using Base::barrier, Base::batch, Base::d_hidden, Base::d_mixed, Base::factors, Base::net, Base::own, Base::stages;
    using Base::chunk_rows, Base::clear_sums, Base::mix, Base::mix_backward, Base::reduce, Base::share, Base::up;
    using Base::clear_unused;
    using typename Base::Block;
    using typename Base::Own;
    using typename Base::Share;
    using typename Base::Stage;
    using typename Base::V;

    // A product's result goes to `to`. Its columns' sums and sums of squares go to the thread's, less the value of the
    // thread's first row (where `begins`): avoids cancellation where the variance is small
    // relative to the squared mean.
    auto storing(V *to, long stride, Own &o, bool begins) {
        return [to, stride, begins, first = o.first.data(), second = o.second.data(), origin = o.origin.data()](
                   long row, long rows, long column, long columns, const float *sums) {
            for (long j = 0; j < columns; j += LANES) {
                const float *from = sums + j;
                if (begins && row == 0) std::memcpy(origin + column + j, from, sizeof(vec));
                const vec zero = load(origin + column + j);
                vec sum{}, squares{};
                V *target = to + row * stride + column + j;
                for (long r = 0; r < rows; r++, from += A::NR, target += stride) {
                    const vec v = load(from), less = v - zero;
                    sum += less, squares += less * less;
                    A::store(target, v);
                }
                add(first + column + j, sum), add(second + column + j, squares);
            }
        };
    }

    template <class F>
    static void multiply(const Lhs<V> &lhs, long rows, const Rhs<V> &w, F epilogue, Rows<V> touched = {},
                         Rows<V> also = {}) {
        A::multiply(&lhs, 1, rows, w, epilogue, touched, also);
    }
    void gather(V *to, int i, long first, long rows) const {
        const Patches &p = stages[i].patches;
        const Matrix<V> target{to, p.stride, 0};
        if (i == 0) {
            gather_floats<A>(target, *batch, p.channels, p.shape, first, rows, p.height, p.width, p.stride);
            return;
        }
        const Stage &from = stages[i - 1];
        gather_patches(target, Matrix<V>{from.output.data(), from.stride, 0}, 1, p.channels, p.shape, first, rows,
                       p.height, p.width, from.height, from.width, p.stride);
    }
    void embed(const Team &team, int i) {
        const TrainStage &t = net->stages[i];
        Stage &s = stages[i];
        Own &o = own[team.rank];
        const Share mine = share(team);
        const long area = s.height * s.width, begin = mine.image * area, end = begin + mine.images * area;
        clear_sums(team, s.stride);
        const long piece = chunk_rows(s.patches.stride);
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            V *to = s.embedded.data() + row * s.stride;
            gather(o.patches.data(), i, row, rows);
            multiply({o.patches.data(), s.patches.stride, s.patches.stride}, rows, s.embed,
                     storing(to, s.stride, o, row == begin), {to, s.stride});
        }
        o.rows = end - begin;
        finish_statistics(team, own, *net, t.norm, s.norm, t.dim, s.stride);
        normalise<A>(s.input(0) + begin * s.stride, s.stride, s.embedded.data() + begin * s.stride, s.stride,
                     end - begin, s.stride, s.norm, net->embed_act);
    }

    // The rows' factors of stochastic depth; null without it.
    const float *row_factors(const TrainBlock &b, const Stage &s, Share mine) {
        if (!b.drop) return nullptr;
        const long area = s.height * s.width;
        for (long image = mine.image; image < mine.image + mine.images; image++)
            for (long i = 0; i < area; i++) factors.data()[image * area + i] = b.drop[image];
        return factors.data();
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
        for (long row = begin; row < end; row += piece) {
            V *to = d.hidden.data() + row * hidden;
            multiply({mixed + row * s.stride, s.stride, s.stride}, lesser(piece, end - row), d.first,
                     storing(to, hidden, o, row == begin), {to, hidden});
        }
        o.rows = end - begin;
        finish_statistics(team, own, *net, b.norm, d.norm, b.hidden, hidden);
        const bool partial = b.mixer == MIXER_PARTIAL;
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            normalise<A>(o.chunk.data(), hidden, d.hidden.data() + row * hidden, hidden, rows, hidden, d.norm, ACT);
            V *out = s.input(j + 1) + row * s.stride;
            const V *in = d.input.data() + row * s.stride, *kept = d.narrow.data() + row * narrow;
            multiply({o.chunk.data(), hidden, hidden}, rows, d.second,
                     [&](long r0, long count, long column, long columns, const float *sums) {
                         for (long c = column; c < column + columns; c += LANES) {
                             // of the channels that PConv overwrote, the kept ones are added
                             const vec own_share = partial ? from_channel(b.dim_conv - c) : splat(1.f);
                             const bool both = partial && c < b.dim_conv;
                             const vec kept_share = splat(1.f) - own_share;
                             const float *from = sums + c - column;
                             for (long r = r0; r < r0 + count; r++, from += A::NR) {
                                 vec v = load(from);
                                 if (factor) v *= factor[row + r];
                                 vec x = A::load(in + r * s.stride + c);
                                 if (both) x = x * own_share + A::load(kept + r * narrow + c) * kept_share;
                                 A::store(out + r * s.stride + c, v + x);
                             }
                         }
                     },
                     {in, s.stride}, {out, s.stride});
        }
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
        clear_unused(o, mine, turn, (s.stride + 16) * hidden);
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            V *values = o.chunk.data(), *dz = d_hidden.data() + row * hidden;
            const V *before = d.hidden.data() + row * hidden;
            multiply({gradient + row * s.stride, s.stride, s.stride}, rows, d.second_back,
                     [&](long r0, long count, long column, long columns, const float *sums) {
                         for (long c = column; c < column + columns; c += LANES) {
                             const vec scale = load(d.norm.scale.data() + c), shift = load(d.norm.shift.data() + c);
                             const vec mean = load(d.norm.mean.data() + c);
                             vec sum{}, product{};
                             const float *from = sums + c - column;
                             for (long r = r0; r < r0 + count; r++, from += A::NR) {
                                 vec g = load(from), value, slope;
                                 const vec x = A::load(before + r * hidden + c);
                                 activate<A>(x * scale + shift, ACT, value, slope);
                                 if (factor) g *= factor[row + r], value *= factor[row + r];
                                 g *= slope;
                                 A::store(values + r * hidden + c, value);
                                 A::store(dz + r * hidden + c, g);
                                 sum += g, product += g * (x - mean);
                             }
                             add(o.first.data() + c, sum), add(o.second.data() + c, product);
                         }
                     },
                     {before, hidden}, {dz, hidden});
            A::accumulate(gradient + row * s.stride, s.stride, s.stride, values, hidden, hidden, rows,
                          o.sums[turn].data(), row == begin, o.forms);
        }
        finish_gradient(team, own, b.norm, d.norm, b.hidden, hidden, (double)s.rows);
        reduce_second(team, turn, t, b, hidden);
        turn ^= 1;

        // through the first, to what the mixer gave
        clear_unused(o, mine, turn, (s.stride + 16) * hidden);
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            V *dh = o.chunk.data();
            denormalise<A>(dh, hidden, d_hidden.data() + row * hidden, d.hidden.data() + row * hidden, hidden, rows,
                           hidden, d.norm);
            V *out = gradient + row * s.stride;
            const long mixed_stride = partial ? narrow : s.stride;
            const long mixed_columns = b.mixer == MIXER_NONE ? 0 : mixed_stride;
            V *d_mix = d_mixed.data() + row * mixed_stride;
            multiply({dh, hidden, hidden}, rows, d.first_back,
                     [&](long r0, long count, long column, long columns, const float *sums) {
                         for (long c = column; c < column + columns; c += LANES) {
                             const bool to_mixer = c < mixed_columns;
                             const bool passes = b.mixer == MIXER_NONE || (partial && c + LANES > b.dim_conv);
                             const vec through = partial ? from_channel(b.dim_conv - c) : splat(1.f);
                             const float *from = sums + c - column;
                             for (long r = r0; r < r0 + count; r++, from += A::NR) {
                                 const vec v = load(from);
                                 if (to_mixer) A::store(d_mix + r * mixed_stride + c, v);
                                 V *place = out + r * s.stride + c;
                                 if (passes) A::store(place, A::load(place) + v * through);
                             }
                         }
                     },
                     {out, s.stride});
            A::accumulate(mixed + row * s.stride, s.stride, s.stride, dh, hidden, hidden, rows, o.sums[turn].data(),
                          row == begin, o.forms);
        }
        reduce(team, turn, t.dim, b.hidden, hidden, [&](long r, long c, float v) { b.d_first[c * t.dim + r] = v; });
        turn ^= 1;

        mix_backward(team, b, d, s, mine, turn);
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
                const vec scale = load(s.norm.scale.data() + c), shift = load(s.norm.shift.data() + c);
                const vec mean = load(s.norm.mean.data() + c);
                vec sum{}, product{};
                for (long r = top; r < lesser(end, top + 16); r++) {
                    const vec x = A::load(s.embedded.data() + r * s.stride + c);
                    vec g = A::load(gradient + r * s.stride + c), value, slope;
                    if (ACT != NONE) {
                        activate<A>(x * scale + shift, ACT, value, slope);
                        g *= slope;
                        A::store(gradient + r * s.stride + c, g);
                    }
                    sum += g, product += g * (x - mean);
                }
                add(o.first.data() + c, sum), add(o.second.data() + c, product);
            }
        finish_gradient(team, own, t.norm, s.norm, t.dim, s.stride, (double)s.rows);
        const long piece = chunk_rows(s.patches.stride);
        clear_unused(o, mine, turn, (s.patches.stride + 16) * s.stride);
        if (i && (t.patches.overlap || stages[i - 1].height % t.patches.step || stages[i - 1].width % t.patches.step)) {
            const long pixels = stages[i - 1].height * stages[i - 1].width * stages[i - 1].stride;
            std::memset(stages[i - 1].gradient.data() + mine.image * pixels, 0, mine.images * pixels * sizeof(V));
        }
        for (long row = begin; row < end; row += piece) {
            const long rows = lesser(piece, end - row);
            denormalise<A>(o.chunk.data(), s.stride, gradient + row * s.stride, s.embedded.data() + row * s.stride,
                           s.stride, rows, s.stride, s.norm);
            gather(o.patches.data(), i, row, rows);
            A::accumulate(o.patches.data(), s.patches.stride, s.patches.stride, o.chunk.data(), s.stride, s.stride,
                          rows, o.sums[turn].data(), row == begin, o.forms);
            if (i == 0) continue;
            V *patches = o.patches.data();
            multiply({o.chunk.data(), s.stride, s.stride}, rows, s.embed_back,
                     [&](long r0, long count, long column, long columns, const float *sums) {
                         for (long r = 0; r < count; r++)
                             for (long j = 0; j < columns; j += LANES)
                                 A::store(patches + (r0 + r) * s.patches.stride + column + j,
                                          load(sums + r * A::NR + j));
                     });
            scatter_map<A>(patches, s.patches, stages[i - 1].map(stages[i - 1].gradient), row, rows);
        }
        const long patch = t.patches.size() * t.patches.size(), channels = s.patches.channels, depth = s.patches.depth;
        reduce(team, turn, depth, t.dim, s.stride, [&](long r, long c, float v) {
            t.d_weight[c * depth + (i ? r % channels * patch + r / channels : r)] = v;
        });
        turn ^= 1;
    }
    template <class F> void on_threads(Pool &pool, F work) {
        pool.run([&](int rank, int size) {
            A::begin();
            work(Team{rank, size, &barrier});
            A::end();
        });
    }
    // f(stage i, image, pixels of its map, channels) for this thread's images.
    template <class F> void each_image(const Team &team, int i, F f) {
        const Share mine = share(team);
        const Stage &s = stages[i];
        for (long image = mine.image; image < mine.image + mine.images; image++)
            f(s, image, s.height * s.width, net->stages[i].dim);
    }

public:
    void forward(const TrainNetwork &network, const Images &images, float *const *maps, Pool &pool) override {
        assert(images.floats && images.count > 0);
        this->prepare(network, images, pool.size());
        on_threads(pool, [&](const Team &team) {
            this->pack_all(own[team.rank]);
            team.wait();
            for (int i = 0; i < network.stage_count; i++) {
                embed(team, i);
                for (int j = 0; j < network.stages[i].depth; j++)
                    with_activation(network.act,
                                    [&](auto act) { this->template block_forward<decltype(act)::value>(team, i, j); });
                if (!maps[i]) continue;
                each_image(team, i, [&](const Stage &s, long image, long area, long dim) {
                    to_planes<A>(maps[i] + image * dim * area, s.output.data() + image * area * s.stride, s.stride,
                                 area, dim);
                });
            }
        });
    }
    void backward(const TrainNetwork &network, const Images &images, const float *const *d_maps, Pool &pool) override {
        net = &network, batch = &images;
        const int last = network.stage_count - 1;
        on_threads(pool, [&](const Team &team) {
            int turn = 0;
            for (int i = last; i >= 0; i--) {
                each_image(team, i, [&](const Stage &s, long image, long area, long dim) {
                    V *to = s.gradient.data() + image * area * s.stride;
                    const float *from = d_maps[i] ? d_maps[i] + image * dim * area : nullptr;
                    if (i == last) std::memset(to, 0, area * s.stride * sizeof(V));
                    if (from) add_planes<A>(to, from, s.stride, area, dim);
                });
                for (int j = network.stages[i].depth - 1; j >= 0; j--)
                    with_activation(network.act, [&](auto act) {
                        this->template block_backward<decltype(act)::value>(team, i, j, turn);
                    });
                with_activation(network.embed_act,
                                [&](auto act) { this->template embed_backward<decltype(act)::value>(team, i, turn); });
            }
        });
    }
};
