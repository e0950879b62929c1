// The factors of a product, as the kernels see them.

// The left one: `runs` pieces of rows, each `length` values long, a piece `jump` values behind the one before.
template <class V> struct Left {
    const V *start;
    long stride, length, runs = 1, jump = 0;
};

// The right one, in the order in which the kernel reads it.
template <class V> struct Packed {
    Buffer<V> data;
    long depth = 0, columns = 0;
};

// Rows of a matrix, `stride` values apart.
template <class V> struct Rows {
    const V *start = nullptr;
    long stride = 0;
};
