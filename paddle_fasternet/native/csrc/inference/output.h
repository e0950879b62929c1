// What inference's products do with their sums.
template <class V> struct Output {
    Matrix<V> rows;
    const int *places;  // row i goes to rows.row(places[i]), or nowhere if that is negative; null: to row i
    long columns;       // with `places` and `floats`: only so many columns are written
    bool add;           // the sums are added to what is there
    int act;
    float *floats;  // instead of rows: float rows of `columns` values
};
