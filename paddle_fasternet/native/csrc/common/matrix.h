// Memory, activations and weights as the products see them. Included within a namespace of the instruction set.

// Zeroed, aligned memory that grows only. The slack behind its end may be read by products, which work on whole tiles.
template <class V> class Buffer {
    void *memory = nullptr;
    V *start = nullptr;
    long count = 0;

public:
    Buffer() {}
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { std::free(memory); }
    V *data() const { return start; }
    void grow(long size) {
        if (size <= count) return;
        std::free(memory);
        start = nullptr, count = 0;
        memory = std::calloc(1, size * sizeof(V) + 64);
        if (!memory) throw std::bad_alloc();
        start = (V *)(((uintptr_t)memory + 63) / 64 * 64);
        count = size;
    }
};

static inline long round_up(long value, long unit) { return (value + unit - 1) / unit * unit; }
static inline long lesser(long a, long b) { return a < b ? a : b; }

// Activations: one row for each pixel. A value may be stored in several parts, `part` apart (see tiles.h).
template <class V> struct Matrix {
    V *data;
    long stride, part;

    V *row(long index) const { return data + index * stride; }
};

// One run of the left factor's columns: `length` values in each row, the rows `stride` apart.
template <class V> struct Run {
    const V *start;
    long stride, part, length;
};

// The right factor, in the order in which the kernel reads it, and the bias for whole panels of 16 columns.
template <class V> struct Weights {
    Buffer<V> data;
    Buffer<float> bias;
    long depth = 0, panels = 0;  // rows (in values, padded) and columns (in panels)
};

// Where the rows of a product go and what is done to them on the way.
template <class V> struct Output {
    Matrix<V> rows;
    const int *places;  // row i goes to rows.row(places[i]), or nowhere if that is negative; null: to row i
    long columns;       // with `places`: only so many columns are written
    bool add;           // the product is added to what is there
    int act;
    float *floats;      // instead of rows: plain float rows of `columns` values
};
