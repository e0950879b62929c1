// The spatial mixing of a block, forward and backward, and what threads need to share a batch.

template <class A> class Mixing : public Memory<A> {
    using Base = Memory<A>;

protected:
    using typename Base::Block;
    using typename Base::Own;
    using typename Base::Stage;
    using typename Base::V;
    using Base::batch, Base::d_mixed, Base::own, Base::up;

    struct Share {
        long image, images;  // this thread's
    };
    Share share(const Team &team) const {
        const long begin = batch->count * team.rank / team.size, end = batch->count * (team.rank + 1) / team.size;
        return {begin, end - begin};
    }

    static Maps maps(const Stage &s, Share mine) { return {mine.image, mine.images, s.height, s.width, s.stride}; }
    void clear_sums(const Team &team, long channels) {
        std::memset(own[team.rank].first.data(), 0, channels * sizeof(float));
        std::memset(own[team.rank].second.data(), 0, channels * sizeof(float));
    }
    // A thread without images adds nothing to the sums of weights.
    static void clear_unused(Own &o, Share mine, int turn, long count) {
        if (mine.images == 0) std::memset(o.sums[turn].data(), 0, count * sizeof(float));
    }
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

    void mix(const Team &team, const TrainBlock &b, Block &d, const Stage &s, Share mine) {
        Own &o = own[team.rank];
        const long area = s.height * s.width;
        if (b.mixer == MIXER_DEPTHWISE) {
            depthwise<A, false>(d.mixed.data(), d.input.data(), b, maps(s, mine), o.sums[0].data());
        } else if (b.mixer == MIXER_PARTIAL) {
            const Plane plane(s.height, s.width, b.kernel);
            const long narrow = up(b.dim_conv);
            find_places(o.places, plane, plane.group);
            for (long image = mine.image; image < mine.image + mine.images; image += plane.group) {
                const long images = lesser(plane.group, mine.image + mine.images - image), first = image * area;
                V *rows = d.input.data() + first * s.stride;
                gather_halo(o.halo.data(), rows, s.stride, plane, images, b.dim_conv);
                for (long r = 0; r < images * area; r++)
                    copy(d.narrow.data() + (first + r) * narrow, rows + r * s.stride, narrow);
                const int *places = o.places.data();
                A::multiply(under_kernel<A>(o.halo.data(), plane, b.kernel, b.dim_conv), plane.rows(images), d.conv,
                            [&](long row, long count, long column, long columns, const float *sums) {
                                for (long r = 0; r < count; r++) {
                                    const long place = places[row + r];
                                    if (place < 0) continue;
                                    V *to = rows + place * s.stride + column;
                                    for (long j = 0; j < lesser(columns, b.dim_conv - column); j += LANES)
                                        A::store(to + j, take(sums + r * A::width + j), b.dim_conv - column - j);
                                }
                            });
            }
        }
    }
    // From d_mixed, the gradient at what the mixer gave, to its weights' and, added, to the input's.
    void mix_backward(const Team &team, const TrainBlock &b, Block &d, Stage &s, Share mine, int &turn) {
        Own &o = own[team.rank];
        const long area = s.height * s.width, narrow = up(b.dim_conv);
        V *gradient = s.gradient.data();
        if (b.mixer == MIXER_PARTIAL) {
            const Plane plane(s.height, s.width, b.kernel);
            const long run = up(b.kernel * b.dim_conv);
            clear_unused(o, mine, turn, (b.kernel * run + 16) * narrow);
            find_places(o.places, plane, plane.group);
            for (long image = mine.image; image < mine.image + mine.images; image += plane.group) {
                const long images = lesser(plane.group, mine.image + mine.images - image), first = image * area;
                V *rows = gradient + first * s.stride;
                gather_halo(o.halo_back.data(), d_mixed.data() + first * narrow, narrow, plane, images, b.dim_conv);
                gather_halo(o.halo.data(), d.narrow.data() + first * narrow, narrow, plane, images, b.dim_conv);
                const int *places = o.places.data();
                auto add_to_input = [&](long row, long count, long column, long columns, const float *sums) {
                    for (long r = 0; r < count; r++) {
                        const long place = places[row + r];
                        if (place < 0) continue;
                        V *to = rows + place * s.stride + column;
                        for (long j = 0; j < lesser(columns, b.dim_conv - column); j += LANES)
                            A::store(to + j, A::load(to + j) + take(sums + r * A::width + j), b.dim_conv - column - j);
                    }
                };
                A::multiply(under_kernel<A>(o.halo_back.data(), plane, b.kernel, b.dim_conv), plane.rows(images),
                            d.conv_back, add_to_input);
                const V *center = o.halo_back.data() + (plane.border * plane.line + plane.border) * b.dim_conv;
                for (long y = 0; y < b.kernel; y++)
                    A::accumulate(o.halo.data() + y * plane.line * b.dim_conv, b.dim_conv, run, center, b.dim_conv,
                                  narrow, plane.rows(images), o.sums[turn].data() + y * run * narrow,
                                  image == mine.image, o.forms);
            }
            const long kernel = b.kernel, channels = b.dim_conv;
            reduce(team, turn, kernel * run, channels, narrow, [&](long r, long c, float v) {
                const long y = r / run, x = r % run / channels, in = r % run % channels;
                const long place = x < kernel ? Base::conv_place(b, c, in, y, x) : -1;
                if (place >= 0) b.d_conv[place] = v;
            });
            turn ^= 1;
        } else if (b.mixer == MIXER_DEPTHWISE) {
            depthwise<A, true>(gradient, d_mixed.data(), b, maps(s, mine), o.sums[turn].data());
            depthwise_weights<A>(o.sums[turn].data(), d.input.data(), d_mixed.data(), b, maps(s, mine));
            const long area_of_kernel = b.kernel * b.kernel;
            reduce(team, turn, area_of_kernel, b.dim_conv, s.stride,
                   [&](long r, long c, float v) { b.d_conv[c * area_of_kernel + r] = v; });
            turn ^= 1;
        }
    }
};
