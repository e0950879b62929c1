// Activations with their derivatives.

static inline vec choose(ints where, vec a, vec b) { return (vec)(((ints)a & where) | ((ints)b & ~where)); }
static inline vec step_up(vec x) { return (vec)((ints)all(1.f) & (x > vec{})); }  // ReLU's

// x Phi(x) and Phi(x) + x phi(x) to float32 precision; for Phi see activation.h.
static inline void gelu(vec x, vec &value, vec &slope) {
    vec a = smaller(larger(x, -x), all(6.f));
    vec y = a * 4.278765572962584e-06f - 1.2798448551620822e-05f;
    y = y * a - 0.000575785175897181f;
    y = y * a + 0.007670781575143337f;
    y = y * a - 0.05294856056571007f;
    y = y * a - 0.4590439200401306f;
    y = y * a - 1.1511269807815552f;
    y = y * a - 1.f;
    const vec tail = power_of_two(y);                                                       // Phi(-a)
    const vec bell = power_of_two(a * a * -0.7213475204444817f - 1.3257480647361592f);  // phi(a)
    value = larger(x, vec{}) - a * tail;
    slope = tail - a * bell;  // at -a
    slope = choose(x > vec{}, 1.f - slope, slope);
}

// Both to 3e-4, for bfloat16. The slope is 1/2 and an odd polynomial, too, fitted here for the least largest error.
static inline void gelu_rough(vec x, vec &value, vec &slope) {
    vec c = larger(smaller(x, all(4.f)), all(-4.f));
    vec t = c * c;
    vec p = t * 2.258820153144825e-08f - 1.5888268762864755e-06f;
    vec q = t * -1.6420115045434613e-08f + 1.2138262945882161e-06f;
    p = p * t + 4.776388232130557e-05f;
    q = q * t - 3.8460068026324734e-05f;
    p = p * t - 0.000812187441624701f;
    q = q * t + 0.000687651801854372f;
    p = p * t + 0.00876369047909975f;
    q = q * t - 0.007687486708164215f;
    p = p * t - 0.06455441564321518f;
    q = q * t + 0.055914994329214096f;
    p = p * t + 0.397870272397995f;
    q = q * t - 0.26203015446662903f;
    q = q * t + 0.7967218160629272f;
    value = x * (p * c + .5f);
    slope = q * c + .5f;
}
