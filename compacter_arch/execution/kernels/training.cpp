// The parts of a block of Compacter that are slow in training on a CPU, and their gradients.
//
//   attend       window attention, from the pixels of an image and back to them
//   interact     u = s * sigmoid(t) + t * sigmoid(s) + l, the interaction of CASA
//   open_gates   g = sigmoid(a) * b + GELU(b) * a, the gates of DSGM
//
// Projections, norms and convolutions are left to PyTorch. Sources: casa_arch.py, dsgm_arch.py.
//
// Compiled on the user's machine for its instructions and for one network: DIM, HEADS, HIDDEN,
// WINDOW_H, WINDOW_W, and HALF for images in bfloat16, which are computed with in float32. Images are
// (B, H, W, channels), contiguous; H and W multiples of the window. The threads are OpenMP's, and so
// PyTorch's; their number changes no bit.

#include <cmath>

#include "vectors.h"

namespace {

#ifdef HALF
struct T {  // a bfloat16
  uint16_t bits;
};
typedef uint16_t H __attribute__((vector_size(2 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));

inline V load(const T* p) {
  H h;
  std::memcpy(&h, p, sizeof h);
  return (V)(__builtin_convertvector(h, U) << 16);
}
inline void store(T* p, V v) {  // to the nearest, of two the even one
#ifdef __AVX512BF16__
  const __m256bh h = _mm512_cvtneps_pbh((__m512)v);
#else
  const U u = (U)v, rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  const H h = __builtin_convertvector(v == v ? rounded : U{} + 0x7fc0, H);
#endif
  std::memcpy(p, &h, sizeof h);
}
#else
typedef float T;
#endif

// Where the pixels of a window are in the image, and which of the masks is its own.
struct Window {
  int64_t pixel[L];
  int variant;

  Window(int64_t number, int64_t height, int64_t width, int64_t step_h, int64_t step_w, int64_t variants) {
    const int64_t rows = height / WINDOW_H, columns = width / WINDOW_W;
    const int64_t b = number / (rows * columns), row = number / columns % rows, column = number % columns;
    variant = variants == 1 ? 0 : (row == rows - 1) * 2 + (column == columns - 1);
    for (int i = 0; i < L; i++) {
      int64_t y = row * WINDOW_H + i / WINDOW_W + step_h, x = column * WINDOW_W + i % WINDOW_W + step_w;
      y -= y < height ? 0 : height, x -= x < width ? 0 : width;
      pixel[i] = (b * height + y) * width + x;
    }
  }

  // D channels of its pixels: (L, D).
  void read(const T* image, int64_t channels, float* rows) const {
    for (int i = 0; i < L; i++)
      for (int c = 0; c < D; c += LANES) ::store(rows + i * D + c, load(image + pixel[i] * channels + c));
  }
  void write(T* image, int channels, int i, int c, V y) const {
    store(image + pixel[i] * channels + c, y);
  }
};

inline void transpose(const float* rows, float* columns) {  // (L, D) to (D, L)
  for (int c = 0; c < D; c++)
    for (int i = 0; i < L; i++) columns[c * L + i] = rows[i * D + c];
}

const auto zero = [](int, int) { return V{}; };
const float SCALE = 1.f / std::sqrt(float(D));

}  // namespace

extern "C" {

// q, k, v: (B, H, W, C), each pixel `stride` elements after the one before. s: (B, H, W, C), contiguous.
// step: by how much the windows are moved.
// masks: (variants, HEADS, L, L), variants 1 or 4: [in the last row of windows][in the last column].
// sums: (windows, HEADS, L), the logarithms of the sums of the exponentials of the logits.
void attend(const T* q_image, const T* k_image, const T* v_image, const float* masks, T* s, float* sums,
            int64_t stride, int64_t batch, int64_t height, int64_t width, int64_t step_h, int64_t step_w,
            int64_t variants, int64_t threads) {
  const int64_t units = batch * height * width / L * HEADS;
#pragma omp parallel for num_threads(int(threads)) schedule(static)
  for (int64_t unit = 0; unit < units; unit++) {
    const int head = int(unit % HEADS);
    const Window window(unit / HEADS, height, width, step_h, step_w, variants);
    const float* const mask = masks + (window.variant * HEADS + head) * (L * L);
    alignas(64) float q[L * D], k[L * D], k_t[D * L], right[L * D], p[8 * L];
    window.read(q_image + head * D, stride, q);
    window.read(k_image + head * D, stride, k);
    window.read(v_image + head * D, stride, right);
    transpose(k, k_t);
    for (int top = 0; top < L; top += 8) {
      product<L>(8, D, q + top * D, D, 1, k_t, L, zero, [&](int i, int j, V y) {
        store(p + i * L + j, y * SCALE + load(mask + (top + i) * L + j));
      });
      float share[8];
      for (int i = 0; i < 8; i++) {
        V most = load(p + i * L), total{};
        for (int j = LANES; j < L; j += LANES) most = larger(most, load(p + i * L + j));
        const float shift = maximum(most);
        for (int j = 0; j < L; j += LANES) {
          const V y = exponential(load(p + i * L + j) - shift);
          total += y;
          store(p + i * L + j, y);
        }
        share[i] = 1.f / sum(total);
        sums[unit * L + top + i] = shift - std::log(share[i]);
      }
      product<D>(8, L, p, L, 1, right, D, zero,
                 [&](int i, int c, V y) { window.write(s + head * D, C, top + i, c, y * share[i]); });
    }
  }
}

// ds: the gradient of s; dq, dk, dv: those of q, k, v, contiguous. dmasks: (parts, HEADS, L, L), whose
// sum is that of what all masks share.
void attend_backward(const T* q_image, const T* k_image, const T* v_image, const float* masks, const float* sums,
                     const T* ds, T* dq, T* dk, T* dv, float* dmasks, int64_t stride, int64_t batch,
                     int64_t height, int64_t width, int64_t step_h, int64_t step_w, int64_t variants,
                     int64_t parts, int64_t threads) {
  const int64_t windows = batch * height * width / L;
#pragma omp parallel for num_threads(int(threads)) schedule(static)
  for (int64_t part = 0; part < parts * HEADS; part++) {
    const int head = int(part % HEADS);
    float* const dmask = dmasks + part * (L * L);
    std::memset(dmask, 0, sizeof(float) * L * L);
    const int64_t first = windows * (part / HEADS) / parts, last = windows * (part / HEADS + 1) / parts;
    for (int64_t number = first; number < last; number++) {
      const Window window(number, height, width, step_h, step_w, variants);
      const float* const mask = masks + (window.variant * HEADS + head) * (L * L);
      const float* const total = sums + (number * HEADS + head) * L;
      alignas(64) float q[L * D], k[L * D], k_t[D * L], rows[L * D], v_t[D * L], dy[L * D];
      alignas(64) float p[L * L], dp[L * L];
      window.read(q_image + head * D, stride, q);
      window.read(k_image + head * D, stride, k);
      window.read(v_image + head * D, stride, rows);
      window.read(ds + head * D, C, dy);
      transpose(k, k_t);
      transpose(rows, v_t);
      product<L>(L, D, q, D, 1, k_t, L, zero, [&](int i, int j, V y) {
        store(p + i * L + j, exponential(y * SCALE + load(mask + i * L + j) - total[i]));
      });
      product<L>(L, D, dy, D, 1, v_t, L, zero, [&](int i, int j, V y) { store(dp + i * L + j, y); });
      product<D>(L, L, p, 1, L, dy, D, zero, [&](int i, int c, V y) { window.write(dv + head * D, C, i, c, y); });
      for (int i = 0; i < L; i++) {  // through the softmax: dp becomes the gradient of the logits
        V mean{};
        for (int j = i * L; j < (i + 1) * L; j += LANES) mean += load(p + j) * load(dp + j);
        const V shift = splat(sum(mean));
        for (int j = i * L; j < (i + 1) * L; j += LANES) {
          const V y = load(p + j) * (load(dp + j) - shift);
          store(dp + j, y);
          store(dmask + j, load(dmask + j) + y);
        }
      }
      product<D>(L, L, dp, L, 1, k, D, zero,
                 [&](int i, int c, V y) { window.write(dq + head * D, C, i, c, y * SCALE); });
      product<D>(L, L, dp, 1, L, q, D, zero,
                 [&](int i, int c, V y) { window.write(dk + head * D, C, i, c, y * SCALE); });
    }
  }
}

// s, t, l, u: (B, H, W, C).
void interact(const T* s, const T* t, const T* l, T* u, int64_t pixels, int64_t threads) {
#pragma omp parallel for num_threads(int(threads)) schedule(static)
  for (int64_t i = 0; i < pixels * C; i += LANES) store(u + i, gate(load(s + i), load(t + i)) + load(l + i));
}

void interact_backward(const T* s, const T* t, const T* du, T* ds, T* dt, int64_t pixels, int64_t threads) {
#pragma omp parallel for num_threads(int(threads)) schedule(static)
  for (int64_t i = 0; i < pixels * C; i += LANES) {
    const V x = load(s + i), y = load(t + i), grad = load(du + i), a = sigmoid(x), b = sigmoid(y);
    store(ds + i, grad * (b + y * a * (1.f - a)));
    store(dt + i, grad * (a + x * b * (1.f - b)));
  }
}

// ab: (B, H, W, 2E). g: (B, H, W, E).
void open_gates(const T* ab, T* g, int64_t pixels, int64_t threads) {
#pragma omp parallel for num_threads(int(threads)) schedule(static)
  for (int64_t p = 0; p < pixels; p++)
    for (int c = 0; c < E; c += LANES) {
      const V a = load(ab + p * 2 * E + c), b = load(ab + p * 2 * E + E + c);
      store(g + p * E + c, sigmoid(a) * b + b * normal(b) * a);
    }
}

void open_gates_backward(const T* ab, const T* dg, T* dab, int64_t pixels, int64_t threads) {
#pragma omp parallel for num_threads(int(threads)) schedule(static)
  for (int64_t p = 0; p < pixels; p++)
    for (int c = 0; c < E; c += LANES) {
      const V a = load(ab + p * 2 * E + c), b = load(ab + p * 2 * E + E + c), grad = load(dg + p * E + c);
      const V open = sigmoid(a), share = normal(b), density = exponential(b * b * -0.5f) * 0.398942280f;
      store(dab + p * 2 * E + c, grad * b * (open * (1.f - open) + share));
      store(dab + p * 2 * E + E + c, grad * (open + a * (share + b * density)));
    }
}

}  // extern "C"
