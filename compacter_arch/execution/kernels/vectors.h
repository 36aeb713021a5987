// What the kernels have in common: vectors of the widest kind that this CPU has, functions of them,
// and a product of small matrices.

#pragma once

#include <cstdint>
#include <cstring>
#ifdef __AVX__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#else
constexpr int LANES = 4, REGISTERS = 32;
#endif
constexpr int C = DIM, D = DIM / HEADS, E = HIDDEN, L = WINDOW_H * WINDOW_W;

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline V load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, V v) { *reinterpret_cast<Unaligned*>(p) = v; }
inline V splat(float x) { return x - V{}; }  // not V{} + x, which -0 keeps from being a mere copy

template <class Op>
inline float reduce(V v, Op op) {
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) v[i] = op(v[i], v[i + half]);
  return v[0];
}
#ifdef __AVX512F__
inline V larger(V a, V b) { return (V)_mm512_max_ps((__m512)a, (__m512)b); }
inline V smaller(V a, V b) { return (V)_mm512_min_ps((__m512)a, (__m512)b); }
inline float sum(V v) { return _mm512_reduce_add_ps((__m512)v); }
inline float maximum(V v) { return _mm512_reduce_max_ps((__m512)v); }
#else
#ifdef __AVX__  // in one instruction, which GCC does not find
inline V larger(V a, V b) { return (V)_mm256_max_ps((__m256)a, (__m256)b); }
inline V smaller(V a, V b) { return (V)_mm256_min_ps((__m256)a, (__m256)b); }
#else
inline V larger(V a, V b) { return a > b ? a : b; }
inline V smaller(V a, V b) { return a < b ? a : b; }
#endif
inline float sum(V v) { return reduce(v, [](float a, float b) { return a + b; }); }
inline float maximum(V v) { return reduce(v, [](float a, float b) { return a > b ? a : b; }); }
#endif

// e^x to 2e-7 relative: 2^n e^r with |r| <= ln 2 / 2, e^r by its Taylor polynomial.
inline V exponential(V x) {
  x = larger(splat(-87.f), smaller(splat(88.f), x));  // the second operand where one is no number
  const V magic = splat(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer
  const V t = x * 1.44269504f + magic, n = t - magic;
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = splat(1.f / 720);
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  return (V)((I)p + ((I)t << 23));
}

// s * sigmoid(t) + t * sigmoid(s), with one division.
inline V gate(V s, V t) {
  const V a = 1.f + exponential(-larger(s, splat(-40.f))), b = 1.f + exponential(-larger(t, splat(-40.f)));
  return (s * a + t * b) / (a * b);
}

inline V sigmoid(V x) { return 1.f / (1.f + exponential(-x)); }

// Phi(x), the normal distribution, to 4e-7: Phi(x) - 1/2 is x times a polynomial of degree 12 in x^2
// (a minimax fit on |x| <= 5.2, beyond which Phi is 0 or 1 to 1e-7).
inline V normal(V x) {
  const V z = larger(splat(-5.2f), smaller(splat(5.2f), x));
  const V u = z * z * (2 / (5.2f * 5.2f)) - 1.f;
  constexpr float coefficient[] = {
      0.000860943459f, -0.00250649266f, 0.00284952670f, -0.00349989860f, 0.00756028155f,
      -0.0131076537f,  0.0183867235f,   -0.0245920551f, 0.0319072306f,   -0.0399414673f,
      0.0500301793f,   -0.0677434082f,  0.135949939f};
  V p = splat(coefficient[0]);
  for (int i = 1; i <= 12; i++) p = p * u + coefficient[i];
  return z * p + 0.5f;
}

constexpr float EPS = 1e-5f;  // of the layer norms

// The norm of a pixel without its weights: out(channel, vector), and by what it was multiplied.
template <class Out>
inline float normalise(const float* x, Out out) {
  V total{}, squares{};
  for (int i = 0; i < C; i += LANES) total += load(x + i);
  const V mean = splat(sum(total) / C);
  for (int i = 0; i < C; i += LANES) {
    const V d = load(x + i) - mean;
    squares += d * d;
  }
  const float scale = 1.f / __builtin_sqrtf(sum(squares) / C + EPS);
  for (int i = 0; i < C; i += LANES) out(i, (load(x + i) - mean) * scale);
  return scale;
}

// Matrix factors. An element is 4 bytes: a float, or two bfloat16 neighbours along the sum.
#ifdef BF16
typedef uint32_t Element;
constexpr int STEP = 2;
typedef __m512bh Factor;
inline Factor factor(const Element* p) { return (Factor)_mm512_loadu_si512(p); }
inline Factor spread(Element a) { return (Factor)_mm512_set1_epi32(int(a)); }
inline V multiply_add(V c, Factor a, Factor b) { return (V)_mm512_dpbf16_ps((__m512)c, a, b); }
inline __m512i narrow(V v) {
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v));
}
// A vector of a row of the left factor; `i` counts channels.
inline void store_left(Element* row, int i, V v) {
  _mm256_storeu_si256((__m256i*)(row + i / 2), (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
// Two rows of the right factor, `stride` elements between two of its rows; `k` is even.
inline void store_right(Element* b, int k, int stride, V even, V odd) {
  _mm512_storeu_si512(b + k / 2 * stride,
                      _mm512_or_si512(narrow(even), _mm512_slli_epi32(narrow(odd), 16)));
}
#else
typedef float Element;
constexpr int STEP = 1;
typedef V Factor;
inline Factor factor(const Element* p) { return load(p); }
inline Factor spread(Element a) { return splat(a); }
inline V multiply_add(V c, Factor a, Factor b) { return c + a * b; }
inline void store_left(Element* row, int i, V v) { store(row + i, v); }
inline void store_right(Element* b, int k, int stride, V even, V odd) {
  store(b + k * stride, even);
  store(b + (k + 1) * stride, odd);
}
#endif

// Keeps a vector in its register. GCC would read a factor from memory again for each use of it, and
// the loads would take longer than the sums.
template <class T>
inline void hold(T& x) {
#if defined(__x86_64__)
  asm("" : "+v"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
}

constexpr int width(int vectors) {  // of a tile of the product, in vectors: what divides them
  return vectors % 3 == 0 ? 3 : vectors % 2 == 0 ? 2 : 1;
}
constexpr int rows_of(int vectors) {  // of a tile: its sums take three quarters of the registers
  return REGISTERS * 3 / 4 / vectors >= 8 ? 8 : REGISTERS * 3 / 4 / vectors >= 4 ? 4 : 2;
}

// out(row, column, sums) of init(row, column) + a b: `rows` x N by a sum over `depth` elements.
// a[row * am + k * ak], b[k * bk + column]; rows are a multiple of 8, or computed up to one. A function
// of its own: inlined, its sums would share the registers with all that is around it.
template <int N, class Init, class Out>
__attribute__((noinline)) void product(int rows, int depth, const Element* a, int am, int ak, const Element* b,
                                       int bk, Init init, Out out) {
  constexpr int W = width(N / LANES), M = rows_of(W);
  for (int column = 0; column < N; column += W * LANES)
    for (int row = 0; row < rows; row += M) {
      V c[M][W];
      for (int m = 0; m < M; m++)
        for (int j = 0; j < W; j++) c[m][j] = init(row + m, column + j * LANES);
      for (int k = 0; k < depth; k++) {
        Factor right[W];
        for (int j = 0; j < W; j++) hold(right[j] = factor(b + k * bk + column + j * LANES));
        for (int m = 0; m < M; m++) {
          const Factor left = spread(a[(row + m) * am + k * ak]);
          for (int j = 0; j < W; j++) c[m][j] = multiply_add(c[m][j], left, right[j]);
        }
      }
      for (int m = 0; m < M; m++)
        for (int j = 0; j < W; j++) out(row + m, column + j * LANES, c[m][j]);
    }
}

}  // namespace
