// Memory, activations and weights as the products see them. Included within a namespace of the instruction set.

// Zeroed memory, aligned to 64 bytes, that grows only and then loses its content. Products work on whole tiles and read
// beyond what they need, so sizes include slack.
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

// Activations: one row for each pixel. A value may be stored in several parts, `part` apart (inference/tile_kernel.h).
template <class V> struct Matrix {
    V *data;
    long stride, part;

    V *row(long index) const { return data + index * stride; }
};

// One run of the left-hand side's columns: `length` values in each row, a whole number of steps, the rows `stride`
// apart. Rows of several runs may overlap. Not owned.
template <class V> struct Lhs {
    const V *start;
    long stride, length, part = 0;
};

// The right-hand side of a product, packed in the order in which a kernel reads it.
template <class V> struct Rhs {
    Buffer<V> data;
    Buffer<float> bias;           // one for each column; empty: none
    long depth = 0, columns = 0;  // rows in whole steps, columns in whole panels of 16
    long panels() const { return columns / 16; }
};
