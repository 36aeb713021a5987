// A block of Compacter on a CPU, in three passes over the image, each on every thread.
//
//   values        v = W_v n + b_v with n = LN(x), and the second moments of n
//   mix           x += W_o (s * sigmoid(t) + t * sigmoid(s) + DWConv(v)), window by window
//   feed_forward  y = x + DSGM(LN(x)), in tiles of columns, a row at a time
//
// What the slow path writes to memory between two operations stays in registers and in the first
// two levels of the cache here. Sources: casa_arch.py, dsgm_arch.py; the norms' weights are folded
// into the projections behind them.
//
// Compiled on the user's machine for its instructions and for one network: DIM, HEADS, HIDDEN,
// WINDOW_H, WINDOW_W, and BF16 for bfloat16 factors (sums stay float32).
// Images are (B, H, W, C) in float32, contiguous; H and W multiples of the window.

#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#include "vectors.h"

namespace {

constexpr int TILE = 64;  // pixels that are projected at once
constexpr int STRIP = 32;  // rows of a unit of the feed-forward part

// function(unit) for every unit, on up to `threads` threads.
template <class Function>
void parallel(int64_t units, int threads, Function function) {
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t i; (i = next++) < units;) function(i);
  };
  std::vector<std::thread> pool;
  try {
    while (int(pool.size()) + 1 < threads && int64_t(pool.size()) + 1 < units) pool.emplace_back(work);
  } catch (const std::system_error&) {  // no more threads to be had: those there are do it
  }
  work();
  for (auto& thread : pool) thread.join();
}

}  // namespace

extern "C" {

// x: (B, pixels, C). v: the same shape. moments: (B, spans, C, C) and sums: (B, spans, C): those of
// the image in the first of its `spans`, the parts summed one by one, whatever the threads.
void values(const float* x, float* v, double* moments, double* sums, const Element* w, const float* bias,
            int64_t batch, int64_t pixels, int64_t spans, int threads) {
  parallel(batch * spans, threads, [=](int64_t unit) {
    const int64_t b = unit / spans, s = unit % spans;
    const int64_t first = b * pixels + pixels * s / spans, last = b * pixels + pixels * (s + 1) / spans;
    double* const second = moments + unit * C * C;
    double* const total = sums + unit * C;
    std::memset(second, 0, sizeof(double) * C * C);
    std::memset(total, 0, sizeof(double) * C);
    alignas(64) float n[TILE * C];
    alignas(64) Element left[TILE * C / STEP], right[TILE / STEP * C];
    for (int64_t at = first; at < last; at += TILE) {
      const int count = int(last - at < TILE ? last - at : TILE);
      if (count < TILE) std::memset(n, 0, sizeof n);
      for (int p = 0; p < count; p++)
        normalise(x + (at + p) * C, [&](int i, V y) {
          store(n + p * C + i, y);
          store_left(left + p * C / STEP, i, y);
        });
      product<C>((count + 7) / 8 * 8, C / STEP, left, C / STEP, 1, w, C,
                 [&](int, int i) { return load(bias + i); },
                 [&](int p, int i, V y) { if (p < count) store(v + (at + p) * C + i, y); });
      for (int i = 0; i < C; i += LANES) {
        V y{};
        for (int p = 0; p < TILE; p += 2) {
          const V even = load(n + p * C + i), odd = load(n + (p + 1) * C + i);
          store_right(right + i, p, C, even, odd);
          y += even + odd;
        }
        for (int j = 0; j < LANES; j++) total[i + j] += y[j];
      }
      product<C>(C, TILE / STEP, right, 1, C, right, C, [](int, int) { return V{}; },
                 [&](int row, int i, V y) { for (int j = 0; j < LANES; j++) second[row * C + i + j] += y[j]; });
    }
  });
  for (int64_t b = 0; b < batch; b++)
    for (int64_t s = 1; s < spans; s++) {
      for (int i = 0; i < C * C; i++) moments[b * spans * C * C + i] += moments[(b * spans + s) * C * C + i];
      for (int i = 0; i < C; i++) sums[b * spans * C + i] += sums[(b * spans + s) * C + i];
    }
}

// x: (B, H, W, C), changed in place; v: from `values`. step: by how much the windows are moved.
// w_q: (C, C), scaled; w_k: (C, C) transposed, as a left factor; w_t: (B, C, C); w_o: (C, C).
// masks: (variants, HEADS, L, L), variants 1 or 4: [in the last row of windows][in the last column].
// local: (3, 3, C).
struct Mix {
  const Element *w_q, *w_k, *w_t, *w_o;
  const float *b_q, *b_k, *b_t, *b_o, *masks, *local, *b_local;
};

void mix(float* x, const float* v, const Mix* weights, int64_t batch, int64_t height, int64_t width,
         int step_h, int step_w, int variants, int threads) {
  const Mix w = *weights;
  const int64_t rows = height / WINDOW_H, columns = width / WINDOW_W;
  parallel(batch * rows * columns, threads, [=](int64_t unit) {
    const int64_t b = unit / (rows * columns), row = unit / columns % rows, column = unit % columns;
    const float* const mask =
        w.masks + (variants == 1 ? 0 : (row == rows - 1) * 2 + (column == columns - 1)) * (HEADS * L * L);
    alignas(64) Element n[L * C / STEP], n_t[C / STEP * L], q[L * C / STEP], k[C / STEP * L];
    alignas(64) Element right[L / STEP * D], p[8 * L / STEP], u[L * C / STEP];
    alignas(64) float k_rows[C * L], t[L * C], s[L * C], logits[8 * L];
    int64_t pixel[L];
    for (int i = 0; i < L; i++) {
      const int64_t py = (row * WINDOW_H + i / WINDOW_W + step_h) % height;
      const int64_t px = (column * WINDOW_W + i % WINDOW_W + step_w) % width;
      pixel[i] = (b * height + py) * width + px;
      normalise(x + pixel[i] * C, [&](int c, V y) { store_left(n + i * C / STEP, c, y); });
    }
    for (int i = 0; i < L; i++)
      for (int c = 0; c < C / STEP; c++) n_t[c * L + i] = n[i * C / STEP + c];

    product<C>(L, C / STEP, n, C / STEP, 1, w.w_q, C, [&](int, int c) { return load(w.b_q + c); },
               [&](int i, int c, V y) { store_left(q + i * C / STEP, c, y); });
    product<C>(L, C / STEP, n, C / STEP, 1, w.w_t + b * (C * C / STEP), C,
               [&](int, int c) { return load(w.b_t + b * C + c); },
               [&](int i, int c, V y) { store(t + i * C + c, y); });
    product<L>(C, C / STEP, w.w_k, C / STEP, 1, n_t, L, [&](int c, int) { return splat(w.b_k[c]); },
               [&](int c, int i, V y) { store(k_rows + c * L + i, y); });
    for (int c = 0; c < C; c += 2)
      for (int i = 0; i < L; i += LANES)
        store_right(k + i, c, L, load(k_rows + c * L + i), load(k_rows + (c + 1) * L + i));

    for (int head = 0; head < HEADS; head++) {
      for (int i = 0; i < L; i += 2)
        for (int c = 0; c < D; c += LANES)
          store_right(right + c, i, D, load(v + pixel[i] * C + head * D + c),
                      load(v + pixel[i + 1] * C + head * D + c));
      for (int top = 0; top < L; top += 8) {
        product<L>(8, D / STEP, q + (top * C + head * D) / STEP, C / STEP, 1, k + head * D / STEP * L, L,
                   [&](int i, int j) { return load(mask + (head * L + top + i) * L + j); },
                   [&](int i, int j, V y) { store(logits + i * L + j, y); });
        float share[8];
        for (int i = 0; i < 8; i++) {
          V most = load(logits + i * L), total{};
          for (int j = LANES; j < L; j += LANES) most = larger(most, load(logits + i * L + j));
          const V shift = splat(maximum(most));
          for (int j = 0; j < L; j += LANES) {
            const V y = exponential(load(logits + i * L + j) - shift);
            total += y;
            store_left(p + i * L / STEP, j, y);
          }
          share[i] = 1.f / sum(total);
        }
        product<D>(8, L / STEP, p, L / STEP, 1, right, D, [](int, int) { return V{}; },
                   [&](int i, int c, V y) { store(s + (top + i) * C + head * D + c, y * share[i]); });
      }
    }

    for (int i = 0; i < L; i++) {
      const int64_t py = pixel[i] / width % height, px = pixel[i] % width;
      for (int c = 0; c < C; c += LANES) {
        V y = load(w.b_local + c);
        for (int dy = -1; dy <= 1; dy++)
          for (int dx = -1; dx <= 1; dx++)
            if (py + dy >= 0 && py + dy < height && px + dx >= 0 && px + dx < width)
              y += load(v + (pixel[i] + dy * width + dx) * C + c) * load(w.local + ((dy + 1) * 3 + dx + 1) * C + c);
        store_left(u + i * C / STEP, c, y + gate(load(s + i * C + c), load(t + i * C + c)));
      }
    }
    product<C>(L, C / STEP, u, C / STEP, 1, w.w_o, C, [&](int, int c) { return load(w.b_o + c); },
               [&](int i, int c, V y) { store(x + pixel[i] * C + c, load(x + pixel[i] * C + c) + y); });
  });
}

// y: (B, H, W, C). w_in: (C, 2E); conv: (3, 3, 2E); w_out: (E, C).
struct FeedForward {
  const Element *w_in, *w_out;
  const float *b_in, *b_out, *conv, *b_conv;
};

void feed_forward(const float* x, float* y, const FeedForward* weights, int64_t batch, int64_t height,
                  int64_t width, int threads) {
  const FeedForward w = *weights;
  constexpr int INNER = TILE - 2;  // columns of a tile, without those that only the convolution sees
  const int64_t tiles = (width + INNER - 1) / INNER, strips = (height + STRIP - 1) / STRIP;
  parallel(batch * strips * tiles, threads, [=](int64_t unit) {
    const int64_t b = unit / (strips * tiles), left = unit % tiles * INNER;
    const int64_t top = unit / tiles % strips * STRIP;
    const int64_t bottom = top + STRIP < height ? top + STRIP : height;
    const int columns = int(left + INNER < width ? INNER : width - left);
    // Three rows of (columns + 2, 2E); zero outside of the image, as the convolution pads.
    std::vector<float> memory(3 * TILE * 2 * E);
    alignas(64) Element n[TILE * C / STEP] = {}, g[TILE * E / STEP] = {};
    const int skip = left == 0, count = columns + 2 - skip - (left + columns == width);
    for (int64_t r = top - 1; r <= bottom; r++) {
      float* const ring = memory.data() + (r + 3) % 3 * (TILE * 2 * E);
      if (r < 0 || r >= height) {
        std::memset(ring, 0, sizeof(float) * TILE * 2 * E);
      } else {
        const float* const from = x + ((b * height + r) * width + left - 1 + skip) * C;
        for (int i = 0; i < count; i++)
          normalise(from + i * C, [&](int c, V z) { store_left(n + i * C / STEP, c, z); });
        product<2 * E>((count + 7) / 8 * 8, C / STEP, n, C / STEP, 1, w.w_in, 2 * E,
                       [&](int, int c) { return load(w.b_in + c); },
                       [&](int i, int c, V z) { if (i < count) store(ring + (i + skip) * 2 * E + c, z); });
      }
      if (r <= top) continue;
      const float* line[3];  // the rows above, at and below the one that is written
      for (int i = 0; i < 3; i++) line[i] = memory.data() + (r + 1 + i) % 3 * (TILE * 2 * E);
      for (int c = 0; c < E; c += LANES) {
        V wa[9], wb[9];
        for (int i = 0; i < 9; i++) wa[i] = load(w.conv + i * 2 * E + c), wb[i] = load(w.conv + i * 2 * E + E + c);
        const V bias_a = load(w.b_conv + c), bias_b = load(w.b_conv + E + c);
        for (int i = 0; i < columns; i++) {
          V a = bias_a, z = bias_b;
          for (int j = 0; j < 9; j++) {
            const float* const at = line[j / 3] + (i + j % 3) * 2 * E + c;
            a += load(at) * wa[j];
            z += load(at + E) * wb[j];
          }
          store_left(g + i * E / STEP, c, sigmoid(a) * z + z * normal(z) * a);
        }
      }
      const int64_t to = ((b * height + r - 1) * width + left) * C;
      product<C>((columns + 7) / 8 * 8, E / STEP, g, E / STEP, 1, w.w_out, C,
                 [&](int, int c) { return load(w.b_out + c); },
                 [&](int i, int c, V z) { if (i < columns) store(y + to + i * C + c, load(x + to + i * C + c) + z); });
    }
  });
}

}  // extern "C"
