// The network's schedule, for any kernel: which rows of which layer a thread computes when.
//
// Images are cut into groups, one size for each stage, so that a stage's activations stay in the second-level cache;
// a group of a late stage is made of several groups of the stage before. Within a block the pixels are cut again into
// slices whose hidden layer stays in that cache. Nothing is split or concatenated: the mixer writes into a matrix of the
// channels that it convolves, and the first pointwise product reads these there and the others from the block's input.
//
// A team of threads shares one group. Where there are images enough, every thread is a team of its own.

template <class K> class Runner : public Engine {
    using V = typename K::Value;

    struct Map {  // geometry of a stage for the present image size
        long height, width, group;
        long pixels() const { return height * width; }
    };
    struct Workspace {
        Buffer<V> stages[MAX_STAGES], mixed, hidden, halo, gathered;
        Buffer<int> places;
    };

    int stage_count, act, embed_act;
    long channels, features, classes;
    StageWeights<K> stages[MAX_STAGES];
    Rhs<V> stem_of_floats, feature, head;
    Map maps[MAX_STAGES];
    Workspace *workspaces = nullptr;
    int workspace_count = 0;
    Barrier *barriers = nullptr;
    Buffer<V> pooled, pooled_features;
    Buffer<float> outside;  // bytes that stand for zero, a line of a patch
    Images images;

    // Values between two rows: an odd number of cache lines, so that a column's values do not meet in a few cache sets.
    static long stride_of(long columns) { return (padded<K>(columns) * K::parts / K::pad | 1) * K::pad; }

    // A buffer as rows of so many columns, from a row on.
    static Matrix<V> matrix(const Buffer<V> &buffer, long columns, long row = 0) {
        const long stride = stride_of(columns);
        return {buffer.data() + row * stride, stride, padded<K>(columns)};
    }

public:
    explicit Runner(const Network &net)
        : stage_count(net.stage_count),
          act(net.act),
          embed_act(net.embed_act),
          channels(net.channels),
          features(net.features),
          classes(net.classes) {
        for (int i = 0; i < stage_count; i++) {
            const Stage &from = net.stages[i];
            StageWeights<K> &s = stages[i];
            s.dim = from.dim, s.patches = from.patches, s.depth = from.depth;
            s.before = i ? net.stages[i - 1].dim : channels;
            if (i) pack_merging<K>(s.embed, from, s.before);
            s.blocks = new BlockWeights<K>[s.depth];
            for (long j = 0; j < s.depth; j++) pack_block<K>(s.blocks[j], from.blocks[j], s.dim);
        }
        pack_stem_of_bytes<K>(stages[0].embed, net);
        pack_stem_of_floats<K>(stem_of_floats, net);
        const long line = stages[0].patches.size() * channels;
        outside.grow(line + 16);
        for (long i = 0; i < line; i++) outside.data()[i] = net.mean[i % channels];
        const long dim = stages[stage_count - 1].dim;
        pack<K>(feature, dim, features, net.feature_bias, [&](long k, long n) { return net.feature[n * dim + k]; });
        if (classes)
            pack<K>(head, features, classes, net.head_bias, [&](long k, long n) { return net.head[k * classes + n]; });
    }
    ~Runner() {
        delete[] workspaces;
        delete[] barriers;
    }

private:
    // ---- memory ----

    static long slice_rows(long hidden) {
        long rows = SLICE_BYTES / (hidden * (long)sizeof(V) * K::parts) / 64 * 64;
        return rows < 64 ? 64 : rows;
    }

    void prepare(long height, long width, int threads) {
        if (threads > workspace_count) {
            delete[] workspaces;
            delete[] barriers;
            workspaces = nullptr, barriers = nullptr, workspace_count = 0;
            workspaces = new Workspace[threads];
            barriers = new Barrier[threads + 1];  // one for each possible team, one for all
            workspace_count = threads;
        }
        for (int i = 0; i < stage_count; i++) {
            height /= stages[i].patches.step, width /= stages[i].patches.step;
            Map &map = maps[i];
            map.height = height, map.width = width;
            long bytes = map.pixels() * stride_of(stages[i].dim) * sizeof(V);
            map.group = GROUP_BYTES / bytes;
            if (map.group < 1) map.group = 1;
            if (i && map.group < maps[i - 1].group) map.group = maps[i - 1].group;
        }
        for (int t = 0; t < threads; t++)
            for (int i = 0; i < stage_count; i++) {
                Workspace &w = workspaces[t];
                StageWeights<K> &s = stages[i];
                Map &map = maps[i];
                long rows = map.group * map.pixels() + SLACK_ROWS;
                w.stages[i].grow(rows * stride_of(s.dim));
                w.gathered.grow((GATHER_ROWS + SLACK_ROWS) * stride_of(gathered_columns(s)));
                for (long j = 0; j < s.depth; j++) {
                    BlockWeights<K> &b = s.blocks[j];
                    w.hidden.grow((slice_rows(b.hidden) + SLACK_ROWS) * stride_of(b.hidden));
                    w.mixed.grow(rows * stride_of(b.mixed));
                    w.halo.grow(halo_part(b, map) * K::parts);
                    w.places.grow(map.height * (map.width + b.kernel) + SLACK_ROWS);
                }
            }
    }

    // ---- layers ----

    // Columns of a gathered matrix: copies may write past a row's last column, but not into what follows it.
    static long gathered_columns(const StageWeights<K> &s) {
        return padded<K>(s.patches.size() * s.patches.size() * s.before) + K::pad;
    }

    // A thread's part of a product of so many rows: some of the rows, or all rows and some panels where there are more
    // columns than rows, for then it is the weights that take the time to read.
    struct Part {
        long begin, end, first_panel, last_panel;

        Part(const Team &team, long rows, const Rhs<V> &w)
            : begin(0),
              end(rows),
              first_panel(0),
              last_panel(w.panels()) {
            if (by_columns(team, rows, w)) team.share(w.panels(), 2, first_panel, last_panel);
            else team.share(rows, K::MR, begin, end);
        }
        static bool by_columns(const Team &team, long rows, const Rhs<V> &w) {
            return team.size > 1 && w.columns > rows;
        }
    };

    static Lhs<V> whole(Matrix<V> m, const Rhs<V> &w) { return {m.data, m.stride, w.depth, m.part}; }

    // The stem or a merging layer: rows of stage s's buffer from `target` on. gather(matrix, first, rows)
    template <class G>
    void embed(int s, const Rhs<V> &w, long rows, long target, const Team &team, Workspace &shared, Workspace &own,
               G gather) {
        Part part(team, rows, w);
        const long columns = gathered_columns(stages[s]);
        const Matrix<V> gathered = matrix(own.gathered, columns);
        const Lhs<V> run = whole(gathered, w);
        for (long i = part.begin; i < part.end; i += GATHER_ROWS) {
            long count = lesser(GATHER_ROWS, part.end - i);
            gather(gathered, i, count);
            Output<V> out{matrix(shared.stages[s], stages[s].dim, target + i), nullptr, 0, false, embed_act, nullptr};
            K::multiply(&run, 1, w, count, part.first_panel, part.last_panel, out);
        }
        team.wait();
    }

    void stem(long first, long count, const Team &team, Workspace &shared, Workspace &own) {
        const Map &map = maps[0];
        const PatchShape &patches = stages[0].patches;
        const Rhs<V> &w = images.bytes ? stages[0].embed : stem_of_floats;
        embed(0, w, count * map.pixels(), 0, team, shared, own, [&](Matrix<V> to, long row, long rows) {
            row += first * map.pixels();
            if (images.bytes)
                gather_bytes<K>(to, images, channels, patches, row, rows, map.height, map.width, w.depth,
                                outside.data());
            else gather_floats<K>(to, images, channels, patches, row, rows, map.height, map.width, w.depth);
        });
    }

    void merge(int s, long target, long count, const Team &team, Workspace &shared, Workspace &own) {
        const Map &map = maps[s], &before = maps[s - 1];
        const StageWeights<K> &stage = stages[s];
        const Matrix<V> from = matrix(shared.stages[s - 1], stage.before);
        embed(s, stage.embed, count * map.pixels(), target * map.pixels(), team, shared, own,
              [&](Matrix<V> to, long row, long rows) {
                  gather_patches(to, from, K::parts, stage.before, stage.patches, row, rows, map.height, map.width,
                                 before.height, before.width, stage.embed.depth);
              });
    }

    static long halo_part(const BlockWeights<K> &b, const Map &map) {
        long pixels = (map.height + b.kernel) * (map.width + b.kernel) + SLACK_ROWS;
        return round_up(pixels * b.channels + 128, 64);
    }

    // shared.mixed = the channels that the mixer convolves, and those after them up to a whole step.
    void mix(int s, const BlockWeights<K> &b, long count, const Team &team, Workspace &shared, Workspace &own) {
        const Map &map = maps[s];
        const bool by_columns = !b.is_depthwise() && Part::by_columns(team, count * map.pixels(), b.conv[0]);
        const long panels = b.is_depthwise() ? 1 : b.conv[0].panels(), line = map.width + b.kernel / 2;
        long begin = 0, end = count * map.height, first_panel = 0, last_panel = panels;
        if (by_columns) team.share(panels, 2, first_panel, last_panel);
        else team.share(count * map.height, 1, begin, end);
        int *places = own.places.data();
        for (long i = 0; i < line * lesser(map.height, end - begin); i++)
            places[i] = i % line < map.width ? (int)(i / line * map.width + i % line) : -1;
        while (begin < end && first_panel < last_panel) {
            const long image = begin / map.height, y = begin % map.height, y_end = lesser(map.height, y + end - begin);
            const Matrix<V> from = matrix(shared.stages[s], stages[s].dim, image * map.pixels());
            const Matrix<V> to = matrix(shared.mixed, b.mixed, image * map.pixels());
            if (b.is_depthwise())
                depthwise<K, false>(to, from, b.depthwise.data(), b.kernel, map.height, map.width,
                                    round_up(b.mixed, LANES), y, y_end);
            else mix_band(b, map, to, from, y, y_end, first_panel, last_panel, own);
            begin += y_end - y;
        }
        team.wait();
    }
    // Lines [y, y_end) of an image's map, some panels of the columns: each group a product over a band with a border.
    void mix_band(const BlockWeights<K> &b, const Map &map, Matrix<V> to, Matrix<V> from, long y, long y_end,
                  long first_panel, long last_panel, Workspace &own) {
        const long part = halo_part(b, map), all = b.channels * b.groups, before = (b.kernel - 1) / 2;
        const long border = b.kernel / 2, line = map.width + border, first = y * map.width;
        if (b.mixed > all && last_panel == b.conv[0].panels()) {  // the products then overwrite their own columns
            const long column = all / K::pad * K::pad;
            copy_pixels(Matrix<V>{to.row(first) + column, to.stride, to.part},
                        Matrix<V>{from.row(first) + column, from.stride, from.part}, K::parts, (y_end - y) * map.width,
                        K::pad);
        }
        for (long g = 0; g < b.groups; g++) {
            V *halo = own.halo.data();
            clear(halo, part, K::parts, before * b.channels);
            V *last = gather_lines(halo + before * b.channels, part,
                                   Matrix<V>{from.data + g * b.channels, from.stride, from.part}, K::parts, b.channels,
                                   border, map.height, map.width, y - before, y_end + border);
            clear(last, part, K::parts, 64);
            Lhs<V> runs[MAX_KERNEL];
            for (long k = 0; k < b.kernel; k++)
                runs[k] = {halo + k * line * b.channels, b.channels, b.conv[g].depth / b.kernel, part};
            const Matrix<V> target{to.row(first) + g * b.channels, to.stride, to.part};
            K::multiply(runs, b.kernel, b.conv[g], (y_end - y) * line, first_panel, last_panel,
                        Output<V>{target, own.places.data(), b.channels, false, NONE, nullptr});
        }
    }

    void block(int s, const BlockWeights<K> &b, long count, const Team &team, Workspace &shared, Workspace &own) {
        if (b.channels) mix(s, b, count, team, shared, own);
        const long rows = count * maps[s].pixels(), slice = slice_rows(b.hidden);
        const bool by_columns = Part::by_columns(team, rows, b.first);
        Matrix<V> hidden = matrix(by_columns ? shared.hidden : own.hidden, b.hidden);
        long begin = 0, end = rows;
        if (!by_columns) team.share(rows, K::MR, begin, end);
        for (long i = begin; i < end; i += slice) {
            const long part = lesser(slice, end - i);
            const Matrix<V> x = matrix(shared.stages[s], stages[s].dim, i);
            const Matrix<V> mixed = matrix(shared.mixed, b.mixed, i);
            const Lhs<V> runs[] = {{mixed.data, mixed.stride, b.mixed, mixed.part},
                                   {x.data + b.mixed, x.stride, b.first.depth - b.mixed, x.part}};
            long panels[2] = {0, b.first.panels()}, second_panels[2] = {0, b.second.panels()};
            if (by_columns) {
                team.share(b.first.panels(), 2, panels[0], panels[1]);
                team.share(b.second.panels(), 2, second_panels[0], second_panels[1]);
            }
            K::multiply(runs, 2, b.first, part, panels[0], panels[1],
                        Output<V>{hidden, nullptr, 0, false, act, nullptr});
            if (by_columns) team.wait();
            const Lhs<V> run = whole(hidden, b.second);
            K::multiply(&run, 1, b.second, part, second_panels[0], second_panels[1],
                        Output<V>{x, nullptr, 0, true, NONE, nullptr});
            if (by_columns) team.wait();
        }
        if (!by_columns) team.wait();
    }

    // The mean over each image's pixels.
    void pool(long first, long count, const Team &team, Workspace &shared) {
        const long pixels = maps[stage_count - 1].pixels(), dim = stages[stage_count - 1].dim;
        const Matrix<V> x = matrix(shared.stages[stage_count - 1], dim), to = matrix(pooled, dim);
        long begin, end;
        team.share(count, 1, begin, end);
        for (long i = begin; i < end; i++)
            for (long column = 0; column < dim; column += LANES) {
                vec sum{};
                for (long p = 0; p < pixels; p++) sum += K::load(x.row(i * pixels + p) + column, x.part);
                K::store(to.row(first + i) + column, to.part, sum / splat(pixels));
            }
        team.wait();
    }

    void answer(const Team &team, float *answers) {
        const long rows = images.count;
        const Matrix<V> in = matrix(pooled, stages[stage_count - 1].dim), between = matrix(pooled_features, features);
        const Lhs<V> first = whole(in, feature), second = whole(between, head);
        auto product = [&](const Lhs<V> &run, const Rhs<V> &w, const Matrix<V> &to, long columns, int act,
                           float *floats) {
            Part part(team, rows, w);
            const Lhs<V> own{run.start + part.begin * run.stride, run.stride, run.length, run.part};
            const Matrix<V> target{to.row(part.begin), to.stride, to.part};
            K::multiply(
                &own, 1, w, part.end - part.begin, part.first_panel, part.last_panel,
                Output<V>{target, nullptr, columns, false, act, floats ? floats + part.begin * columns : nullptr});
            team.wait();
        };
        product(first, feature, between, features, act, classes ? nullptr : answers);
        if (classes) product(second, head, between, classes, NONE, answers);
    }

    // ---- the whole ----

    // Stage s of `count` images into the team's buffer of that stage. w: the team's; own: this thread's.
    void run_stage(int s, long first, long count, const Team &team, Workspace &w, Workspace &own) {
        if (s == 0) stem(first, count, team, w, own);
        for (long i = 0; s > 0 && i < count; i += maps[s - 1].group) {
            long part = lesser(maps[s - 1].group, count - i);
            run_stage(s - 1, first + i, part, team, w, own);
            merge(s, i, part, team, w, own);
        }
        for (long j = 0; j < stages[s].depth; j++) block(s, stages[s].blocks[j], count, team, w, own);
    }

    void work(int rank, int threads, float *answers) {
        K::begin();
        const int last = stage_count - 1;
        const Team all{rank, threads, barriers + threads};
        for (long first = 0; first < images.count;) {
            // as many teams as there are images left, each of as many threads as there are for it
            long left = images.count - first;
            int teams = left < threads ? left : threads, size = threads / teams;
            long each = left / teams;
            int leader = rank / size * size;
            if (rank < teams * size) {
                Team team{rank - leader, size, barriers + leader};
                long begin = first + each * (rank / size), end = begin + each;
                for (long i = begin; i < end; i += maps[last].group) {
                    long part = lesser(maps[last].group, end - i);
                    run_stage(last, i, part, team, workspaces[leader], workspaces[rank]);
                    pool(i, part, team, workspaces[leader]);
                }
            }
            first += each * teams;
            all.wait();
        }
        answer(all, answers);
        K::end();
    }

public:
    void run(const Images &batch, float *answers, Pool &pool) override {
        assert((batch.bytes != nullptr) != (batch.floats != nullptr) && batch.count > 0);
        images = batch;
        prepare(batch.height, batch.width, pool.size());
        pooled.grow((batch.count + SLACK_ROWS) * stride_of(stages[stage_count - 1].dim));
        pooled_features.grow((batch.count + SLACK_ROWS) * stride_of(features));
        pool.run([&](int rank, int threads) { work(rank, threads, answers); });
    }
};
