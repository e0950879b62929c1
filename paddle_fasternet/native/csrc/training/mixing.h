// The spatial mixing of a block, forward and backward, and what threads need to share a batch.

template <class A> class Mixing : public Memory<A> {
    using Base = Memory<A>;

protected:
    using Base::batch, Base::d_mixed, Base::own, Base::up;
    using typename Base::Block;
    using typename Base::Own;
    using typename Base::Stage;
    using typename Base::V;

    struct Share {
        long image, images;  // this thread's
    };
    Share share(const Team &team) const {
        const long begin = batch->count * team.rank / team.size, end = batch->count * (team.rank + 1) / team.size;
        return {begin, end - begin};
    }

    static Matrix<V> rows_of(V *map, const Stage &s, long image) {
        return {map + image * s.height * s.width * s.stride, s.stride, 0};
    }
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
            float *weights = o.sums[0].data();
            pack_depthwise(weights, b.conv, b.dim_conv, s.stride, b.kernel, false);
            for (long image = mine.image; image < mine.image + mine.images; image++)
                depthwise<A, false>(rows_of(d.mixed.data(), s, image), rows_of(d.input.data(), s, image), weights,
                                    b.kernel, s.height, s.width, s.stride, 0, s.height);
        } else if (b.mixer == MIXER_PARTIAL) {
            const Plane plane(s.height, s.width, b.kernel);
            const long narrow = up(b.dim_conv);
            find_places(o.places, plane, plane.group);
            for (long image = mine.image; image < mine.image + mine.images; image += plane.group) {
                const long images = lesser(plane.group, mine.image + mine.images - image), first = image * area;
                V *rows = d.input.data() + first * s.stride;
                gather_planes(o.halo.data(), Matrix<V>{rows, s.stride, 0}, plane, images, b.dim_conv);
                for (long r = 0; r < images * area; r++)
                    copy_values(d.narrow.data() + (first + r) * narrow, rows + r * s.stride, narrow);
                const int *places = o.places.data();
                const UnderKernel<A> lhs(o.halo.data(), plane, b.kernel, b.dim_conv);
                A::multiply(lhs.runs, b.kernel, plane.rows(images), d.conv,
                            [&](long row, long count, long column, long columns, const float *sums) {
                                for (long r = 0; r < count; r++) {
                                    const long place = places[row + r];
                                    if (place < 0) continue;
                                    V *to = rows + place * s.stride + column;
                                    for (long j = 0; j < lesser(columns, b.dim_conv - column); j += LANES)
                                        A::store(to + j, load(sums + r * A::NR + j), b.dim_conv - column - j);
                                }
                            });
            }
        }
    }
    // Backward of the mixer: from d_mixed, write the weights' gradients and accumulate the input's.
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
                gather_planes(o.halo_back.data(), Matrix<V>{d_mixed.data() + first * narrow, narrow, 0}, plane, images,
                              b.dim_conv);
                gather_planes(o.halo.data(), Matrix<V>{d.narrow.data() + first * narrow, narrow, 0}, plane, images,
                              b.dim_conv);
                const int *places = o.places.data();
                auto add_to_input = [&](long row, long count, long column, long columns, const float *sums) {
                    for (long r = 0; r < count; r++) {
                        const long place = places[row + r];
                        if (place < 0) continue;
                        V *to = rows + place * s.stride + column;
                        for (long j = 0; j < lesser(columns, b.dim_conv - column); j += LANES)
                            A::store(to + j, A::load(to + j) + load(sums + r * A::NR + j), b.dim_conv - column - j);
                    }
                };
                const UnderKernel<A> lhs(o.halo_back.data(), plane, b.kernel, b.dim_conv);
                A::multiply(lhs.runs, b.kernel, plane.rows(images), d.conv_back, add_to_input);
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
            const long area_of_kernel = b.kernel * b.kernel;
            float *sums = o.sums[turn].data();
            pack_depthwise(sums, b.conv, b.dim_conv, s.stride, b.kernel, true);
            for (long image = mine.image; image < mine.image + mine.images; image++)
                depthwise<A, true>(rows_of(gradient, s, image), rows_of(d_mixed.data(), s, image), sums, b.kernel,
                                   s.height, s.width, s.stride, 0, s.height);
            std::memset(sums, 0, area_of_kernel * s.stride * sizeof(float));
            for (long image = mine.image; image < mine.image + mine.images; image++)
                depthwise_weights<A>(sums, rows_of(d.input.data(), s, image).data,
                                     rows_of(d_mixed.data(), s, image).data, b.kernel, s.height, s.width, s.stride);
            reduce(team, turn, area_of_kernel, b.dim_conv, s.stride,
                   [&](long r, long c, float v) { b.d_conv[c * area_of_kernel + r] = v; });
            turn ^= 1;
        }
    }
};
