// The blocks of Compacter in training on a CPU, with their gradients.
//
//   mix    y = x + CASA(LN(x)): the projections to q, k, v, and from the moments of the norm the channel
//          map; then, window by window, u = s * sigmoid(t) + t * sigmoid(s) + DWConv(v), s the window
//          attention, t the channel attention, and y = x + W_o u + b_o
//   feed   y = x + DSGM(LN(x)), row by row: h = W_in n + b_in, (a, b) = DWConv(h),
//          g = sigmoid(a) * b + GELU(b) * a, and y = x + W_out g + b_out
//
// and `_backward` of each. Kept for the backward pass are q, k, v, s, t, u, the sums of the softmax, what
// the channel map is made of, and h; the rest is cheaper to compute again. The weights of a norm are
// folded into the projection behind it. Sources: casa_arch.py, dsgm_arch.py, moments.py.
//
// Compiled on the user's machine for its instructions and for one network: DIM, HEADS, HIDDEN,
// WINDOW_H, WINDOW_W. Images are (B, H, W, channels) in float32, contiguous; H and W multiples of the
// window. Weights and their gradients are in the layouts of PyTorch's layers. The work is divided into
// units that depend on the sizes of the images alone, and each unit has gradients of the weights of its
// own, which are then added up: the number of threads changes no bit. The threads are OpenMP's, and so
// PyTorch's.

#include <cmath>
#include <initializer_list>
#include <vector>

#include "vectors.h"

namespace {

constexpr int TILE = 64;      // pixels that are projected at once
constexpr int UNITS = 8;      // of work, at least: more threads than that have nothing to do
constexpr int K = C + 4;      // channels of a pixel, a one, and zeros up to whole vectors
constexpr int H = 2 * E;      // channels of h
constexpr int WIDE = H + 16;  // from pixel to pixel in the cache: an odd number of its lines

// Memory of a thread that is kept for the next call, in pieces that begin with a cache line. Two of
// them do not overlap if their `owner` differs.
template <int owner>
class Scratch {
  char* next;

 public:
  explicit Scratch(int64_t bytes) {
    thread_local std::vector<char> memory;
    if (int64_t(memory.size()) < bytes) memory.resize(bytes);
    next = memory.data();
  }
  template <class T = float>
  T* take(int64_t count) {
    next += -reinterpret_cast<uintptr_t>(next) % 64;
    T* const piece = reinterpret_cast<T*>(next);
    next += count * sizeof(T);
    return piece;
  }
};
template <class T = float>
constexpr int64_t bytes(std::initializer_list<int64_t> counts) {  // for pieces of these sizes
  int64_t total = 0;
  for (const int64_t n : counts) total += n * sizeof(T) + 64;
  return total;
}

constexpr int64_t up_to_8(int64_t n) { return (n + 7) / 8 * 8; }

// Rows of N floats that a product can read up to a multiple of 8: themselves, or a copy.
template <int N>
const float* padded(const float* rows, int64_t count, float* copy) {
  if (count % 8 == 0) return rows;
  std::memcpy(copy, rows, sizeof(float) * count * N);
  std::memset(copy + count * N, 0, sizeof(float) * (up_to_8(count) - count) * N);
  return copy;
}

// sums += the sum of rows of N floats.
template <int N>
void add_rows(float* sums, const float* rows, int64_t count, int stride = N) {
  for (int c = 0; c < N; c += LANES) {
    V total = load(sums + c);
    for (int64_t i = 0; i < count; i++) total += load(rows + i * stride + c);
    store(sums + c, total);
  }
}

// The gradient of a projection, (M, N), grows by left^T right, `count` rows each.
template <int M, int N>
void add_product(float* weight, const float* left, int left_stride, const float* right, int right_stride,
                 int count) {
  product<N>(M, count, left, 1, left_stride, right, right_stride,
             [=](int m, int n) { return load(weight + m * N + n); },
             [=](int m, int n, V y) { store(weight + m * N + n, y); });
}

// second (C, C) += n^T n and first (C) += n of `count` pixels, in float64: where the channels of an image depend
// on each other, what matters of the moments is a small difference. `second` from the diagonal on alone.
inline void add_moments(double* second, double* first, const float* n, int count) {
  typedef double W __attribute__((vector_size(4 * LANES)));
  typedef double Any __attribute__((vector_size(4 * LANES), aligned(8), may_alias));
  constexpr int lanes = LANES / 2, columns = 2, rows = 4;  // of a tile
  alignas(64) double wide[TILE * C];
  for (int i = 0; i < count; i++)
    for (int c = 0; c < C; c++) first[c] += wide[i * C + c] = n[i * C + c];
  for (int column = 0; column < C; column += columns * lanes)
    for (int row = 0; row < column + columns * lanes; row += rows) {
      W sums[rows][columns] = {};
      for (int i = 0; i < count; i++) {
        W right[columns];
        for (int j = 0; j < columns; j++)
          hold(right[j] = *reinterpret_cast<const Any*>(wide + i * C + column + j * lanes));
        for (int m = 0; m < rows; m++)
          for (int j = 0; j < columns; j++) sums[m][j] += (wide[i * C + row + m] - W{}) * right[j];
      }
      for (int m = 0; m < rows; m++)
        for (int j = 0; j < columns; j++)
          *reinterpret_cast<Any*>(second + (row + m) * C + column + j * lanes) += sums[m][j];
    }
}

// Through a layer norm: dx = dy + the gradient of the bare norm n, whose own gradient is dn.
void norm_backward(const float* dn, const float* n, float scale, const float* dy, float* dx) {
  V total{}, products{};
  for (int c = 0; c < C; c += LANES) total += load(dn + c), products += load(dn + c) * load(n + c);
  const V mean = splat(sum(total) / C), along = splat(sum(products) / C);
  for (int c = 0; c < C; c += LANES)
    store(dx + c, load(dy + c) + (load(dn + c) - mean - load(n + c) * along) * scale);
}

// How the channels of a row lie in memory. Interleaved: those of a pixel one after the other. In groups:
// 16 channels of all pixels, a cache line each, then the next 16, so that a convolution, which takes one
// vector of channels after the other, reads line after line.
struct Layout {
  int64_t pixel, group;  // floats from one to the next

  int64_t at(int64_t i, int c) const { return unsigned(c) / 16 * group + i * pixel + unsigned(c) % 16; }
};
inline Layout interleaved(int64_t channels) { return {channels, 16}; }
inline Layout grouped(int64_t width) { return {16, (width | 1) * 16}; }  // an odd number of lines apart

// visit(j, offset) for the taps j of a convolution that see the image at a pixel of a row, `offset` floats
// from where they begin; then done(i).
template <class Visit, class Done>
inline __attribute__((always_inline)) void slide(int64_t width, int64_t pixel, Visit visit, Done done) {
  const auto edge = [=](int64_t i) {
    for (int j = 0; j < 9; j++)
      if ((i > 0 || j % 3 > 0) && (i + 1 < width || j % 3 < 2)) visit(j, (i + j % 3 - 1) * pixel);
    done(i);
  };
  edge(0);
  for (int64_t i = 1; i + 1 < width; i++) {
    for (int j = 0; j < 9; j++) visit(j, (i + j % 3 - 1) * pixel);
    done(i);
  }
  if (width > 1) edge(width - 1);
}

// out(i, c, sums): the depth-wise convolution of a row with N channels by taps (3, 3, N), with or without a
// bias. line: the rows above, at and below it.
template <int N, class Out>
void convolve(const float* const* line, int64_t width, Layout layout, const float* taps, const float* bias, Out out) {
  for (int c = 0; c < N; c += LANES) {
    const int64_t first = layout.at(0, c);
    const float *const above = line[0] + first, *const at = line[1] + first, *const below = line[2] + first;
    V weight[9];
    for (int j = 0; j < 9; j++) weight[j] = load(taps + j * N + c);
    const V start = bias ? load(bias + c) : V{};
    V y = start;
    slide(width, layout.pixel,
          [&](int j, int64_t offset) { y += load((j < 3 ? above : j < 6 ? at : below) + offset) * weight[j]; },
          [&](int64_t i) { out(i, c, y), y = start; });
  }
}

// The gradients of its taps and of its bias, dtaps (3, 3, N) and dbias (N), grow by those of a row, of
// whose output dy is the gradient.
template <int N>
void convolve_backward(const float* const* line, int64_t width, Layout layout, const float* dy, Layout of_dy,
                       float* dtaps, float* dbias) {
  for (int c = 0; c < N; c += LANES) {
    const int64_t first = layout.at(0, c);
    const float *const above = line[0] + first, *const at = line[1] + first, *const below = line[2] + first;
    const float* grads = dy + of_dy.at(0, c);
    V sums[9], total = load(dbias + c), grad = load(grads);
    for (int j = 0; j < 9; j++) sums[j] = load(dtaps + j * N + c);
    slide(width, layout.pixel,
          [&](int j, int64_t offset) { sums[j] += load((j < 3 ? above : j < 6 ? at : below) + offset) * grad; },
          [&](int64_t i) {
            total += grad;
            if (i + 1 < width) hold(grad = load(grads + (i + 1) * of_dy.pixel));
          });
    for (int j = 0; j < 9; j++) store(dtaps + j * N + c, sums[j]);
    store(dbias + c, total);
  }
}

// The sizes of a batch of images, and how far the windows are moved.
struct Size {
  int64_t batch, height, width, step_h, step_w, variants, threads;

  int64_t pixels() const { return height * width; }
  int64_t windows() const { return height * width / L; }  // of an image
  int64_t parts() const {  // of an image, for units of work
    const int64_t wanted = (UNITS + batch - 1) / batch;
    return wanted < windows() ? wanted : windows();
  }
  int64_t units() const { return batch * parts(); }
};

// Where the pixels of a window are in the image, and which of the masks is its own.
struct Window {
  int64_t pixel[L];
  bool inner[L];  // all nine taps of a convolution see the image
  int variant;

  Window(int64_t number, const Size& size) {
    const int64_t height = size.height, width = size.width;
    const int64_t rows = height / WINDOW_H, columns = width / WINDOW_W;
    const int64_t b = number / (rows * columns), row = number / columns % rows, column = number % columns;
    variant = size.variants == 1 ? 0 : (row == rows - 1) * 2 + (column == columns - 1);
    for (int i = 0; i < L; i++) {
      int64_t y = row * WINDOW_H + i / WINDOW_W + size.step_h;
      int64_t x = column * WINDOW_W + i % WINDOW_W + size.step_w;
      y -= y < height ? 0 : height, x -= x < width ? 0 : width;
      pixel[i] = (b * height + y) * width + x;
      inner[i] = y > 0 && y + 1 < height && x > 0 && x + 1 < width;
    }
  }

  // Its pixels of an image with N channels: (L, N).
  template <int N>
  void read(const float* image, float* rows) const {
    for (int i = 0; i < L; i++) std::memcpy(rows + i * N, image + pixel[i] * N, sizeof(float) * N);
  }
};

inline void transpose(const float* a, float* out) {  // (C, C)
  for (int i = 0; i < C; i++)
    for (int j = 0; j < C; j++) out[j * C + i] = a[i * C + j];
}

inline void transpose(const float* rows, int stride, float* columns) {  // (L, D) to (D, L)
  for (int i = 0; i < L; i++)
    for (int c = 0; c < D; c++) columns[c * L + i] = rows[i * stride + c];
}

const auto zero = [](int, int) { return V{}; };
const float SCALE = 1.f / std::sqrt(float(D));

// A projection with the norm before it folded in, and its gradient through that.
template <int N>
struct Projection {
  float *left, *right, *bias;  // (N, C), (C, N), (N)

  static constexpr int64_t space() { return bytes({N * C, N * C, N}); }

  template <class S>
  Projection(S& scratch, const float* w, const float* b, const float* norm_w, const float* norm_b)
      : left(scratch.take(N * C)), right(scratch.take(N * C)), bias(scratch.take(N)) {
    for (int n = 0; n < N; n++) {
      double total = b[n];
      for (int c = 0; c < C; c++) {
        left[n * C + c] = right[c * N + n] = w[n * C + c] * norm_w[c];
        total += double(w[n * C + c]) * norm_b[c];
      }
      bias[n] = float(total);
    }
  }

  // dw, db: those of the folded ones, of dw in place.
  static void backward(const float* w, const float* norm_w, const float* norm_b, float* dw, const float* db,
                       float* dnorm_w, float* dnorm_b) {
    double of_w[C] = {}, of_b[C] = {};
    for (int n = 0; n < N; n++)
      for (int c = 0; c < C; c++) {
        float& grad = dw[n * C + c];
        of_w[c] += double(grad) * w[n * C + c];
        of_b[c] += double(db[n]) * w[n * C + c];
        grad = grad * norm_w[c] + db[n] * norm_b[c];
      }
    for (int c = 0; c < C; c++) dnorm_w[c] = float(of_w[c]), dnorm_b[c] = float(of_b[c]);
  }
};

// The taps of a depth-wise convolution, (N, 3, 3), as (3, 3, N), the right way round or turned by half.
template <int N>
void arrange(const float* weight, float* taps, bool turned) {
  for (int n = 0; n < N; n++)
    for (int j = 0; j < 9; j++) taps[(turned ? 8 - j : j) * N + n] = weight[n * 9 + j];
}

// And its gradient back.
template <int N>
void arrange_back(const float* taps, float* weight) {
  for (int n = 0; n < N; n++)
    for (int j = 0; j < 9; j++) weight[n * 9 + j] = taps[j * N + n];
}

template <size_t count>
void copy(const float (&from)[count], float* to) {
  std::memcpy(to, from, sizeof from);
}

// The first of `count` structures of floats becomes the sum of all.
template <class T>
void add_up(T* parts, int64_t count, int64_t threads) {
  constexpr int64_t size = sizeof(T) / sizeof(float), most = 2048;
  float* const sum = reinterpret_cast<float*>(parts);
#pragma omp parallel for num_threads(int(threads)) schedule(static)
  for (int64_t from = 0; from < size; from += most)
    for (int64_t i = 1; i < count; i++)
      for (int64_t j = from; j < from + most && j < size; j++) sum[j] += sum[i * size + j];
}

// The channel attention of an image by the moments of n, see moments.py, in float64. With P the folded
// projection to q and k, biases last, and M the moments: the cosines of P_q M P_k^T.
struct Channels {
  double products[2 * C * K], norms[2 * C], cosines[C * C];  // P M, the norms of P
  float map[C * C];  // their softmax

  // p: (2C, K). `parts` sums: of n^T n, above the diagonal, and of n.
  void forward(const double* p, const double* second, const double* first, int64_t parts, int64_t pixels,
               float temperature) {
    double moments[K * K] = {};
    for (int64_t part = 0; part < parts; part++)
      for (int i = 0; i < C; i++) {
        for (int j = i; j < C; j++) moments[i * K + j] += second[(part * C + i) * C + j];
        moments[i * K + C] += first[part * C + i];
      }
    for (int i = 0; i < K; i++)
      for (int j = 0; j < i; j++) moments[i * K + j] = moments[j * K + i];
    moments[C * K + C] = double(pixels);
    multiply<K>(2 * C, K, p, K, 1, moments, products);
    double p_k[K * C];
    for (int i = 0; i < C; i++)
      for (int k = 0; k < K; k++) p_k[k * C + i] = p[(C + i) * K + k];
    multiply<C>(C, K, products, K, 1, p_k, cosines);
    for (int i = 0; i < 2 * C; i++) {
      double square = 0;
      for (int k = 0; k < K; k++) square += products[i * K + k] * p[i * K + k];
      norms[i] = std::sqrt(square > LEAST * LEAST ? square : square != square ? square : LEAST * LEAST);
    }
    for (int i = 0; i < C; i++) {
      double most = -INFINITY, total = 0, row[C];
      for (int j = 0; j < C; j++) {
        double& cosine = cosines[i * C + j];
        cosine /= norms[i] * norms[C + j];
        most = std::fmax(most, row[j] = cosine * temperature);
      }
      for (double& x : row) total += x = std::exp(x - most);
      for (int j = 0; j < C; j++) map[i * C + j] = float(row[j] / total);
    }
  }

  // dmap: (C, C). dp: (2C, K). dmoments: (C, C), with its transpose added; dfirst: (C).
  void backward(const double* p, float temperature, const float* dmap, double* dp, double* dtemperature,
                float* dmoments, float* dfirst) const {
    double grads[C * C], transposed[C * C], of_norms[2 * C] = {}, right[C * K], sum[K * K];
    *dtemperature = 0;
    for (int i = 0; i < C; i++) {
      double mean = 0;
      for (int j = 0; j < C; j++) mean += double(map[i * C + j]) * dmap[i * C + j];
      for (int j = 0; j < C; j++) {
        const double of_logit = map[i * C + j] * (dmap[i * C + j] - mean), cosine = cosines[i * C + j];
        *dtemperature += of_logit * cosine;
        of_norms[i] -= of_logit * temperature * cosine;
        of_norms[C + j] -= of_logit * temperature * cosine;
        grads[i * C + j] = transposed[j * C + i] = of_logit * temperature / (norms[i] * norms[C + j]);
      }
    }
    for (int i = 0; i < 2 * C; i++) of_norms[i] *= norms[i] > LEAST ? 1 / (norms[i] * norms[i]) : 0;
    multiply<K>(C, C, grads, C, 1, products + C * K, dp);
    multiply<K>(C, C, transposed, C, 1, products, dp + C * K);
    for (int i = 0; i < 2 * C; i++)
      for (int k = 0; k < K; k++) dp[i * K + k] += of_norms[i] * products[i * K + k];
    multiply<K>(C, C, grads, C, 1, p + C * K, right);
    for (int i = 0; i < C; i++)
      for (int k = 0; k < K; k++) right[i * K + k] += of_norms[i] / 2 * p[i * K + k];
    multiply<K>(K, C, p, 1, K, right, sum);
    for (int i = 0; i < C; i++)
      for (int k = 0; k < K; k++) right[i * K + k] = of_norms[C + i] / 2 * p[(C + i) * K + k];
    multiply<K, true>(K, C, p + C * K, 1, K, right, sum);
    for (int i = 0; i < C; i++) {
      for (int j = 0; j < C; j++) dmoments[i * C + j] = float(sum[i * K + j] + sum[j * K + i]);
      dfirst[i] = float(sum[i * K + C] + sum[C * K + i]);
    }
  }

 private:
  static constexpr double LEAST = 1e-4;  // NORM_EPS of casa_arch.py

  // out (rows, N) = a b, or += with `add`; a[row * am + k * ak].
  template <int N, bool add = false>
  static void multiply(int rows, int depth, const double* a, int am, int ak, const double* b, double* out) {
    for (int row = 0; row < rows; row++) {
      double total[N] = {};
      for (int k = 0; k < depth; k++)
        for (int n = 0; n < N; n++) total[n] += a[row * am + k * ak] * b[k * N + n];
      for (int n = 0; n < N; n++) out[row * N + n] = total[n] + (add ? out[row * N + n] : 0);
    }
  }
};

// The folded projection to q and k as `Channels` takes it.
void with_bias(const Projection<3 * C>& qkv, double* p) {
  for (int i = 0; i < 2 * C; i++) {
    for (int k = 0; k < K; k++) p[i * K + k] = k < C ? qkv.left[i * C + k] : 0;
    p[i * K + C] = qkv.bias[i];
  }
}

}  // namespace

extern "C" {

// masks: (variants, HEADS, L, L), variants 1 or 4: [in the last row of windows][in the last column].
struct Mix {
  float *norm_w, *norm_b, *w, *b, *temperature, *masks, *taps, *b_local, *w_o, *b_o;
};

struct Feed {
  float *norm_w, *norm_b, *w_in, *b_in, *taps, *b_conv, *w_out, *b_out;
};

// What `mix` keeps for `mix_backward`. qkv: (B, H, W, 3C). s, t, u: (windows, L, C). sums: (windows,
// HEADS, 2, L), the largest logit of each row and one over the sum of the exponentials of the differences to it.
// channels: one for each image.
struct Kept {
  float *qkv, *s, *t, *u, *sums;
  Channels* channels;
};

int64_t channels_size() { return sizeof(Channels); }

}  // extern "C"

namespace {

// qkv and the channel maps of x.
void project(const float* x, const Projection<3 * C>& w, float temperature, const Kept& kept, const Size& size) {
  const int64_t pixels = size.pixels(), parts = size.parts(), units = size.units();
  Scratch<2> scratch(bytes<double>({units * C * C, units * C, 2 * C * K}));
  double *const second = scratch.take<double>(units * C * C), *const first = scratch.take<double>(units * C);
  double* const p = scratch.take<double>(2 * C * K);
  with_bias(w, p);
#pragma omp parallel for num_threads(int(size.threads)) schedule(static)
  for (int64_t unit = 0; unit < units; unit++) {
    const int64_t b = unit / parts, part = unit % parts;
    const int64_t from = b * pixels + pixels * part / parts, to = b * pixels + pixels * (part + 1) / parts;
    std::memset(second + unit * C * C, 0, sizeof(double) * C * C);
    std::memset(first + unit * C, 0, sizeof(double) * C);
    alignas(64) float n[TILE * C];
    for (int64_t at = from; at < to; at += TILE) {
      const int count = int(to - at < TILE ? to - at : TILE);
      if (count % 8) std::memset(n, 0, sizeof n);
      for (int i = 0; i < count; i++) normalise(x + (at + i) * C, [&](int c, V y) { store(n + i * C + c, y); });
      const float* const bias = w.bias;
      float* const to = kept.qkv + at * (3 * C);
      product<3 * C>(int(up_to_8(count)), C, n, C, 1, w.right, 3 * C, [=](int, int c) { return load(bias + c); },
                     [=](int i, int c, V y) { if (i < count) store(to + i * (3 * C) + c, y); });
      add_moments(second + unit * C * C, first + unit * C, n, count);
    }
  }
#pragma omp parallel for num_threads(int(size.threads)) schedule(static)
  for (int64_t b = 0; b < size.batch; b++)
    kept.channels[b].forward(p, second + b * parts * C * C, first + b * parts * C, parts, pixels, temperature);
}

// The gradients of a unit of a half of a block, one after the other.
struct MixParts {
  float w[3 * C * C], b[3 * C], taps[9 * C], b_local[C], w_o[C * C], b_o[C], map[C * C], mask[HEADS * L * L];
};

struct FeedParts {
  float w_in[H * C], b_in[H], taps[9 * H], b_conv[H], w_out[C * E], b_out[C];
};

// Through all behind qkv: dqkv, but for what the convolution adds to that of v; du (B, H, W, C), that of
// the output of the convolution; map, mask, w_o and b_o of `parts`.
void attention_backward(const float* dy, const Mix& weights, const Kept& kept, float* dqkv, float* du_image,
                        MixParts* units, const Size& size) {
  const int64_t windows = size.windows(), parts = size.parts();
#pragma omp parallel for num_threads(int(size.threads)) schedule(static)
  for (int64_t unit = 0; unit < size.units(); unit++) {
    const int64_t b = unit / parts, part = unit % parts;
    MixParts& own = units[unit];
    std::memset(&own, 0, sizeof own);
    const float* const map = kept.channels[b].map;
    Scratch<1> scratch(bytes({L * 3 * C, L * C, L * C, L * C, L * C, D * L, D * L, L * L, L * L}));
    float *const rows = scratch.take(L * 3 * C), *const dout = scratch.take(L * C);
    float *const ds = scratch.take(L * C), *const dt = scratch.take(L * C), *const dv = scratch.take(L * C);
    float *const k_t = scratch.take(D * L), *const v_t = scratch.take(D * L);
    float *const p = scratch.take(L * L), *const dp = scratch.take(L * L);
    for (int64_t i = windows * part / parts; i < windows * (part + 1) / parts; i++) {
      const int64_t number = b * windows + i;
      const Window window(number, size);
      const float* const mask = weights.masks + window.variant * (HEADS * L * L);
      const float *const s = kept.s + number * L * C, *const t = kept.t + number * L * C;
      window.read<3 * C>(kept.qkv, rows);
      window.read<C>(dy, dout);
      const int64_t* const pixel = window.pixel;
      product<C>(L, C, dout, C, 1, weights.w_o, C, zero, [=](int j, int c, V grad) {
        store(du_image + pixel[j] * C + c, grad);
        const V x = load(s + j * C + c), y = load(t + j * C + c);
        const V a = sigmoid(x), z = sigmoid(y);
        store(ds + j * C + c, grad * (z + y * a * (1.f - a)));
        store(dt + j * C + c, grad * (a + x * z * (1.f - z)));
      });
      add_product<C, C>(own.w_o, dout, C, kept.u + number * L * C, C, L);
      add_rows<C>(own.b_o, dout, L);
      add_product<C, C>(own.map, dt, C, rows + 2 * C, 3 * C, L);
      product<C>(L, C, dt, C, 1, map, C, zero, [=](int j, int c, V z) { store(dv + j * C + c, z); });
      for (int head = 0; head < HEADS; head++) {
        const float *const q = rows + head * D, *const k = rows + C + head * D, *const grads = ds + head * D;
        const float *const shifts = kept.sums + (number * HEADS + head) * 2 * L, *const shares = shifts + L;
        float along[L];
        for (int j = 0; j < L; j++) {
          V total{};
          for (int c = 0; c < D; c += LANES) total += load(grads + j * C + c) * load(s + j * C + head * D + c);
          along[j] = sum(total);
        }
        transpose(k, 3 * C, k_t);
        transpose(rows + 2 * C + head * D, 3 * C, v_t);
        const float *const added = mask + head * L * L, *const means = along, scale = SCALE;
        float *const sums = own.mask + head * L * L, *const to = dqkv + head * D, *const start = dv + head * D;
        product<L>(L, D, q, 3 * C, 1, k_t, L, zero, [=](int j, int m, V z) {
          store(p + j * L + m, exponential(z * scale + load(added + j * L + m) - shifts[j]) * shares[j]);
        });
        product<L>(L, D, grads, C, 1, v_t, L, zero, [=](int j, int m, V z) {
          const V grad = load(p + j * L + m) * (z - means[j]);  // of the logits
          store(dp + j * L + m, grad);
          store(sums + j * L + m, load(sums + j * L + m) + grad);
        });
        const auto write = [=](int which, int j, int c, V z) { store(to + pixel[j] * (3 * C) + which * C + c, z); };
        product<D>(L, L, dp, L, 1, k, 3 * C, zero, [=](int j, int c, V z) { write(0, j, c, z * scale); });
        product<D>(L, L, dp, 1, L, q, 3 * C, zero, [=](int j, int c, V z) { write(1, j, c, z * scale); });
        product<D>(L, L, p, 1, L, grads, C, [=](int j, int c) { return load(start + j * C + c); },
                   [=](int j, int c, V z) { write(2, j, c, z); });
      }
    }
  }
}

// Through the convolution, the projection and the norm. dmoments: (B, C, C) and dfirst: (B, C), of the sums
// of n^T n and of n. taps: turned. Of `parts`: taps, b_local, w and b.
void project_backward(const float* x, const float* dy, const Kept& kept, float* dqkv, const float* du,
                      const float* dmoments, const float* dfirst, const float* w, const float* taps, float* dx,
                      MixParts* units, const Size& size) {
  const int64_t height = size.height, width = size.width, parts = size.parts();
#pragma omp parallel for num_threads(int(size.threads)) schedule(static)
  for (int64_t unit = 0; unit < size.units(); unit++) {
    const int64_t b = unit / parts, part = unit % parts;
    const int64_t top = height * part / parts, bottom = height * (part + 1) / parts;
    MixParts& own = units[unit];
    Scratch<1> scratch(bytes({width * 3 * C, TILE * C, TILE * C, TILE * 3 * C}));
    float *const nothing = scratch.take(width * 3 * C), *const n = scratch.take(TILE * C);
    float *const dn = scratch.take(TILE * C), *const copy = scratch.take(TILE * 3 * C);
    std::memset(nothing, 0, sizeof(float) * width * 3 * C);
    for (int64_t row = top; row < bottom; row++) {
      const int64_t at = (b * height + row) * width;
      const float *values[3], *grads[3];
      for (int i = 0; i < 3; i++) {
        const bool seen = row + i - 1 >= 0 && row + i - 1 < height;
        values[i] = seen ? kept.qkv + (at + (i - 1) * width) * (3 * C) + 2 * C : nothing;
        grads[i] = seen ? du + (at + (i - 1) * width) * C : nothing;
      }
      float* const dv = dqkv + at * (3 * C) + 2 * C;
      convolve<C>(grads, width, interleaved(C), taps, nullptr, [=](int64_t i, int c, V y) {
        store(dv + i * (3 * C) + c, load(dv + i * (3 * C) + c) + y);
      });
      convolve_backward<C>(values, width, interleaved(3 * C), grads[1], interleaved(C), own.taps, own.b_local);
    }
    const int64_t end = (b * height + bottom) * width;
    for (int64_t at = (b * height + top) * width; at < end; at += TILE) {
      const int count = int(end - at < TILE ? end - at : TILE), rows = int(up_to_8(count));
      const float* const grad = dqkv + at * (3 * C);
      float scale[TILE];
      if (count % 8) std::memset(n, 0, sizeof(float) * TILE * C);
      for (int i = 0; i < count; i++)
        scale[i] = normalise(x + (at + i) * C, [&](int c, V y) { store(n + i * C + c, y); });
      const float* const start = dfirst + b * C;
      product<C>(rows, C, n, C, 1, dmoments + b * C * C, C, [=](int, int c) { return load(start + c); },
                 [=](int i, int c, V y) { store(dn + i * C + c, y); });
      product<C>(rows, 3 * C, padded<3 * C>(grad, count, copy), 3 * C, 1, w, C,
                 [=](int i, int c) { return load(dn + i * C + c); },
                 [=](int i, int c, V y) { store(dn + i * C + c, y); });
      add_product<3 * C, C>(own.w, grad, 3 * C, n, C, count);
      add_rows<3 * C>(own.b, grad, count);
      for (int i = 0; i < count; i++)
        norm_backward(dn + i * C, n + i * C, scale[i], dy + (at + i) * C, dx + (at + i) * C);
    }
  }
}

}  // namespace

extern "C" {

// x, y: (B, H, W, C).
void mix(const Mix* weights, const float* x, float* y, const Kept* kept, const Size* sizes) {
  const Mix m = *weights;
  const Size size = *sizes;
  const int64_t windows = size.windows(), height = size.height, width = size.width;
  Scratch<0> scratch(Projection<3 * C>::space() + bytes({C * C, C * C * size.batch, 9 * C}));
  const Projection<3 * C> qkv(scratch, m.w, m.b, m.norm_w, m.norm_b);
  float *const w_o = scratch.take(C * C), *const maps = scratch.take(C * C * size.batch);  // right factors
  float* const taps = scratch.take(9 * C);
  arrange<C>(m.taps, taps, false);
  project(x, qkv, *m.temperature, *kept, size);
  transpose(m.w_o, w_o);
  for (int64_t b = 0; b < size.batch; b++) transpose(kept->channels[b].map, maps + b * C * C);
#pragma omp parallel for num_threads(int(size.threads)) schedule(static)
  for (int64_t unit = 0; unit < size.batch * windows; unit++) {
    const Window window(unit, size);
    const float* const mask = m.masks + window.variant * (HEADS * L * L);
    float *const s = kept->s + unit * L * C, *const t = kept->t + unit * L * C, *const u = kept->u + unit * L * C;
    Scratch<1> scratch(bytes({L * 3 * C, D * L, L * L}));
    float *const rows = scratch.take(L * 3 * C), *const k_t = scratch.take(D * L), *const p = scratch.take(L * L);
    window.read<3 * C>(kept->qkv, rows);
    for (int head = 0; head < HEADS; head++) {
      const float *const q = rows + head * D, *const v = rows + 2 * C + head * D;
      float *const shifts = kept->sums + (unit * HEADS + head) * 2 * L, *const shares = shifts + L;
      float* const out = s + head * D;
      const float* const added = mask + head * L * L;
      const float scale = SCALE;
      transpose(rows + C + head * D, 3 * C, k_t);
      product<L>(L, D, q, 3 * C, 1, k_t, L, zero,
                 [=](int i, int j, V z) { store(p + i * L + j, z * scale + load(added + i * L + j)); });
      for (int i = 0; i < L; i++) {
        V most = load(p + i * L), total{};
        for (int j = LANES; j < L; j += LANES) most = larger(most, load(p + i * L + j));
        const float shift = maximum(most);
        for (int j = 0; j < L; j += LANES) {
          const V z = exponential(load(p + i * L + j) - shift);
          total += z;
          store(p + i * L + j, z);
        }
        shifts[i] = shift, shares[i] = 1.f / sum(total);
      }
      product<D>(L, L, p, L, 1, v, 3 * C, zero, [=](int i, int c, V z) { store(out + i * C + c, z * shares[i]); });
    }
    product<C>(L, C, rows + 2 * C, 3 * C, 1, maps + unit / windows * (C * C), C, zero,
               [=](int i, int c, V z) { store(t + i * C + c, z); });
    for (int c = 0; c < C; c += LANES) {
      const float* const v = kept->qkv + 2 * C + c;
      const V bias = load(m.b_local + c);
      V weight[9];
      for (int j = 0; j < 9; j++) weight[j] = load(taps + j * C + c);
      for (int i = 0; i < L; i++) {
        const float* const at = v + window.pixel[i] * (3 * C);
        V z = bias;
        if (window.inner[i]) {
          for (int j = 0; j < 9; j++) z += load(at + ((j / 3 - 1) * width + j % 3 - 1) * (3 * C)) * weight[j];
        } else {
          const int64_t row = window.pixel[i] / width % height, column = window.pixel[i] % width;
          for (int j = 0; j < 9; j++) {
            const int64_t y = row + j / 3 - 1, x = column + j % 3 - 1;
            if (y >= 0 && y < height && x >= 0 && x < width)
              z += load(at + ((j / 3 - 1) * width + j % 3 - 1) * (3 * C)) * weight[j];
          }
        }
        store(u + i * C + c, z + gate(load(s + i * C + c), load(t + i * C + c)));
      }
    }
    const float* const b_o = m.b_o;
    const int64_t* const pixel = window.pixel;
    product<C>(L, C, u, C, 1, w_o, C, [=](int, int c) { return load(b_o + c); }, [=](int i, int c, V z) {
      store(y + pixel[i] * C + c, load(x + pixel[i] * C + c) + z);
    });
  }
}

// dy, dx: the gradients of y and x. grads: those of the weights, of the masks what all share.
void mix_backward(const Mix* weights, const Mix* grads, const float* x, const float* dy, float* dx,
                  const Kept* kept, const Size* sizes) {
  const Mix m = *weights, d = *grads;
  const Size size = *sizes;
  const int64_t batch = size.batch, pixels = batch * size.pixels(), units = size.units(), parts = size.parts();
  Scratch<0> scratch(Projection<3 * C>::space() +
                     bytes({pixels * 3 * C, pixels * C, batch * C * C, batch * C, 9 * C}) +
                     bytes<double>({2 * C * K, batch * 2 * C * K, batch}) + bytes<MixParts>({units}));
  const Projection<3 * C> qkv(scratch, m.w, m.b, m.norm_w, m.norm_b);
  float *const dqkv = scratch.take(pixels * 3 * C), *const du = scratch.take(pixels * C);
  float *const dmoments = scratch.take(batch * C * C), *const dfirst = scratch.take(batch * C);
  float* const taps = scratch.take(9 * C);
  double *const p = scratch.take<double>(2 * C * K), *const dp = scratch.take<double>(batch * 2 * C * K);
  double* const dtemperature = scratch.take<double>(batch);
  MixParts* const own = scratch.take<MixParts>(units);
  arrange<C>(m.taps, taps, true);
  with_bias(qkv, p);
  attention_backward(dy, m, *kept, dqkv, du, own, size);
#pragma omp parallel for num_threads(int(size.threads)) schedule(static)
  for (int64_t b = 0; b < batch; b++) {
    float* const dmap = own[b * parts].map;
    for (int64_t part = 1; part < parts; part++)
      for (int i = 0; i < C * C; i++) dmap[i] += own[b * parts + part].map[i];
    kept->channels[b].backward(p, *m.temperature, dmap, dp + b * 2 * C * K, dtemperature + b, dmoments + b * C * C,
                               dfirst + b * C);
  }
  project_backward(x, dy, *kept, dqkv, du, dmoments, dfirst, qkv.left, taps, dx, own, size);
  add_up(own, units, size.threads);
  copy(own->w, d.w), copy(own->b, d.b), copy(own->b_local, d.b_local), copy(own->w_o, d.w_o);
  copy(own->b_o, d.b_o), copy(own->mask, d.masks), arrange_back<C>(own->taps, d.taps);
  std::memset(d.masks + HEADS * L * L, 0, sizeof(float) * (size.variants - 1) * HEADS * L * L);
  double total = 0;
  for (int64_t b = 0; b < batch; b++) {
    total += dtemperature[b];
    for (int i = 0; i < 2 * C; i++) {
      for (int c = 0; c < C; c++) d.w[i * C + c] += float(dp[(b * 2 * C + i) * K + c]);
      d.b[i] += float(dp[(b * 2 * C + i) * K + C]);
    }
  }
  *d.temperature = float(total);
  Projection<3 * C>::backward(m.w, m.norm_w, m.norm_b, d.w, d.b, d.norm_w, d.norm_b);
}

// x, y: (B, H, W, C). h: (B, H, 2E / 16, W or the next odd number, 16), kept for the backward pass.
void feed(const Feed* weights, const float* x, float* y, float* h, const Size* sizes) {
  const Feed f = *weights;
  const Size size = *sizes;
  const int64_t height = size.height, width = size.width, parts = size.parts(), rows = up_to_8(width);
  const Layout groups = grouped(width);
  const int64_t line_size = H / 16 * groups.group;
  Scratch<0> scratch(Projection<H>::space() + bytes({9 * H, E * C}));
  const Projection<H> in(scratch, f.w_in, f.b_in, f.norm_w, f.norm_b);
  float *const taps = scratch.take(9 * H), *const w_out = scratch.take(E * C);
  arrange<H>(f.taps, taps, false);
  for (int c = 0; c < C; c++)
    for (int e = 0; e < E; e++) w_out[e * C + c] = f.w_out[c * E + e];
#pragma omp parallel for num_threads(int(size.threads)) schedule(static)
  for (int64_t unit = 0; unit < size.units(); unit++) {
    const int64_t b = unit / parts, part = unit % parts;
    const int64_t top = height * part / parts, bottom = height * (part + 1) / parts;
    Scratch<1> scratch(bytes({rows * C, line_size, line_size, line_size, rows * E}));
    float *const n = scratch.take(rows * C), *const ab = scratch.take(line_size);
    float *const above = scratch.take(line_size), *const below = scratch.take(line_size);
    float* const g = scratch.take(rows * E);
    // A row of h: of this part, of the row next to it on either side, or zero outside of the image.
    const auto line = [&](int64_t row) {
      return row < top ? above : row < bottom ? h + (b * height + row) * line_size : below;
    };
    std::memset(n, 0, sizeof(float) * rows * C);
    for (int64_t row = top - 1; row <= bottom; row++) {
      float* const next = line(row);
      if (row < 0 || row >= height) {
        std::memset(next, 0, sizeof(float) * line_size);
      } else {
        const float* const from = x + (b * height + row) * width * C;
        for (int64_t i = 0; i < width; i++) normalise(from + i * C, [&](int c, V z) { store(n + i * C + c, z); });
        const float* const bias = in.bias;
        product<H>(int(rows), C, n, C, 1, in.right, H, [=](int, int c) { return load(bias + c); },
                   [=](int i, int c, V z) { if (i < width) store(next + groups.at(i, c), z); });
      }
      if (row <= top) continue;
      const float* const lines[3] = {line(row - 2), line(row - 1), next};
      convolve<H>(lines, width, groups, taps, f.b_conv, [=](int64_t i, int c, V z) { store(ab + groups.at(i, c), z); });
      for (int c = 0; c < E; c += LANES)
        for (int64_t i = 0; i < width; i++) {
          const V a = load(ab + groups.at(i, c)), z = load(ab + groups.at(i, E + c));
          store(g + i * E + c, sigmoid(a) * z + z * normal(z) * a);
        }
      const int64_t at = (b * height + row - 1) * width * C;
      const float *const from = x + at, *const bias = f.b_out;
      float* const to = y + at;
      product<C>(int(rows), E, g, E, 1, w_out, C, [=](int, int c) { return load(bias + c); },
                 [=](int i, int c, V z) { if (i < width) store(to + i * C + c, load(from + i * C + c) + z); });
    }
  }
}

// dy, dx: the gradients of y and x. grads: those of the weights.
void feed_backward(const Feed* weights, const Feed* grads, const float* x, const float* dy, float* dx,
                   const float* h, const Size* sizes) {
  const Feed f = *weights, d = *grads;
  const Size size = *sizes;
  const int64_t height = size.height, width = size.width, parts = size.parts(), units = size.units();
  const Layout groups = grouped(width);
  const int64_t line_size = H / 16 * groups.group;
  Scratch<0> scratch(Projection<H>::space() + bytes({9 * H, 9 * H}) + bytes<FeedParts>({units}));
  const Projection<H> in(scratch, f.w_in, f.b_in, f.norm_w, f.norm_b);
  float *const taps = scratch.take(9 * H), *const turned = scratch.take(9 * H);
  FeedParts* const all = scratch.take<FeedParts>(units);
  arrange<H>(f.taps, taps, false);
  arrange<H>(f.taps, turned, true);
#pragma omp parallel for num_threads(int(size.threads)) schedule(static)
  for (int64_t unit = 0; unit < units; unit++) {
    const int64_t b = unit / parts, part = unit % parts;
    const int64_t top = height * part / parts, bottom = height * (part + 1) / parts;
    FeedParts& own = all[unit];
    std::memset(&own, 0, sizeof own);
    // As many rows of gradients as make a tile are gathered before they are multiplied.
    const int64_t most = width < TILE ? TILE / width : 1, rows = up_to_8(most * width);
    Scratch<1> scratch(bytes({line_size, line_size, 3 * line_size, rows * WIDE, rows * E, rows * C, rows * C, rows}));
    float *const nothing = scratch.take(line_size), *const ab = scratch.take(line_size);
    float *const ring = scratch.take(3 * line_size), *const dhs = scratch.take(rows * WIDE);
    float *const gs = scratch.take(rows * E), *const ns = scratch.take(rows * C);
    float *const dn = scratch.take(rows * C), *const scale = scratch.take(rows);
    std::memset(nothing, 0, sizeof(float) * line_size);
    std::memset(dhs, 0, sizeof(float) * rows * WIDE);
    // A row of h, and one of the gradient of (a, b).
    const auto line = [&](int64_t row) { return row < 0 || row >= height ? nothing : h + (b * height + row) * line_size; };
    const auto dab = [&](int64_t row) { return ring + (row + 3) % 3 * line_size; };
    int64_t waiting_g = 0, waiting_h = 0;  // rows that are gathered
    for (int64_t row = top - 1; row <= bottom; row++) {
      float* const next = dab(row);
      if (row < 0 || row >= height) {
        std::memset(next, 0, sizeof(float) * line_size);
      } else {
        const float* const lines[3] = {line(row - 1), line(row), line(row + 1)};
        const float* const grad = dy + (b * height + row) * width * C;
        float* const g = gs + waiting_g * width * E;
        product<E>(int(up_to_8(width)), C, padded<C>(grad, width, dn), C, 1, f.w_out, E, zero,
                   [=](int i, int c, V z) { if (i < width) store(g + i * E + c, z); });  // of g
        convolve<H>(lines, width, groups, taps, f.b_conv,
                    [=](int64_t i, int c, V z) { store(ab + groups.at(i, c), z); });
        for (int c = 0; c < E; c += LANES)
          for (int64_t i = 0; i < width; i++) {
            const V a = load(ab + groups.at(i, c)), z = load(ab + groups.at(i, E + c)), dg = load(g + i * E + c);
            const V open = sigmoid(a), share = normal(z), density = exponential(z * z * -0.5f) * 0.398942280f;
            store(next + groups.at(i, c), dg * z * (open * (1.f - open) + share));
            store(next + groups.at(i, E + c), dg * (open + a * (share + z * density)));
            store(g + i * E + c, open * z + z * share * a);
          }
        if (row >= top && row < bottom) {
          add_rows<C>(own.b_out, grad, width);
          if (++waiting_g == most || row == bottom - 1) {
            add_product<C, E>(own.w_out, grad - (waiting_g - 1) * width * C, C, gs, E, int(waiting_g * width));
            waiting_g = 0;
          }
        }
      }
      if (row <= top) continue;
      const float* const lines[3] = {line(row - 2), line(row - 1), line(row)};
      const float* const slopes[3] = {dab(row - 2), dab(row - 1), next};
      float *const dh = dhs + waiting_h * width * WIDE, *const n = ns + waiting_h * width * C;
      convolve_backward<H>(lines, width, groups, slopes[1], groups, own.taps, own.b_conv);
      convolve<H>(slopes, width, groups, turned, nullptr, [=](int64_t i, int c, V z) { store(dh + i * WIDE + c, z); });
      const int64_t at = (b * height + row - 1) * width * C;
      for (int64_t i = 0; i < width; i++)
        scale[waiting_h * width + i] = normalise(x + at + i * C, [&](int c, V z) { store(n + i * C + c, z); });
      if (++waiting_h < most && row < bottom) continue;
      const int count = int(waiting_h * width);
      const int64_t first = at - (waiting_h - 1) * width * C;
      waiting_h = 0;
      product<C>(int(up_to_8(count)), H, dhs, WIDE, 1, in.left, C, zero,
                 [=](int i, int c, V z) { store(dn + i * C + c, z); });
      add_product<H, C>(own.w_in, dhs, WIDE, ns, C, count);
      add_rows<H>(own.b_in, dhs, count, WIDE);
      for (int i = 0; i < count; i++)
        norm_backward(dn + i * C, ns + i * C, scale[i], dy + first + i * C, dx + first + i * C);
    }
  }
  add_up(all, units, size.threads);
  copy(all->w_in, d.w_in), copy(all->b_in, d.b_in), copy(all->b_conv, d.b_conv), copy(all->w_out, d.w_out);
  copy(all->b_out, d.b_out), arrange_back<H>(all->taps, d.taps);
  Projection<H>::backward(f.w_in, f.norm_w, f.norm_b, d.w_in, d.b_in, d.norm_w, d.norm_b);
}

}  // extern "C"
