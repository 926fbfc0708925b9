// The walk over [n][l][c]: rows of all channels, a table of coefficients and a vector of sums beside them.
#pragma once

#include "strip.h"
#include "walk.h"

namespace aconite {
namespace ACONITE_NS {

// A sample is walked flat with a table of `period` entries: c itself, or several rows' worth where c is no multiple of the
// vector (c = 24: 48 entries, no wasted lane). Wider periods than kBlock go block by block, to keep table and sums near (blocks
// of 1024: 0.87 of the time of two of 512).
constexpr int64_t kBlock = 1024, kWide = kBlock + kStagger, kFlush = 128;

template <class P>
void plan_channels_last(P& p, bool sums) {
  p.samples = 1;
  int64_t fold = 1;
  while (p.c * fold % P::lanes && fold < P::lanes) fold *= 2;
  p.group = p.c * fold <= kBlock && p.l >= 4 * fold ? fold : 1;
  int64_t rows = ceil_div(p.l, p.group), period = p.c * p.group;
  // With sums a part costs a vector of them for each channel (15 % of its time at 16k elements of 256 channels), without them
  // next to nothing.
  p.parts = even_parts(rows, sums ? most(48, ceil_div(65536, period)) : most(4, ceil_div(8192, period)));
  p.length = ceil_div(rows, p.parts);
}

// `rows` rows of VECTORS vectors, one behind the other, with the sums in registers.
template <int VECTORS, class F, class T>
ACONITE_INLINE void rows_of(const pass<F, T>& p, int64_t at, int64_t rows, typename storage<T>::scalar (*beside)[kWide]) {
  typedef typename storage<T>::vector V;
  constexpr int W = storage<T>::lanes;
  V sum[VECTORS][F::sums + 1] = {}, t[VECTORS][F::rows];
  auto fetch = [&](int v) {
    for (int k = 0; k < F::rows; ++k) t[v][k] = load(&beside[k][v * W]);
  };
  constexpr bool once = F::sums == 0 || VECTORS <= 2;  // else the registers are the sums'
  for (int v = 0; once && v < VECTORS; ++v) fetch(v);
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v, at += W) {
      if (!once) fetch(v);
      ask_ahead<true>(p, at);
      one_vector(p, at, sum[v], t[v]);
    }
  }
  for (int v = 0; v < VECTORS; ++v)
    for (int s = 0; s < F::sums; ++s) store(&beside[F::rows + s][v * W], load(&beside[F::rows + s][v * W]) + sum[v][s]);
}

// Whole rows of one to four vectors; false where they are wider.
template <class F, class T>
bool narrow_rows(const pass<F, T>& p, int64_t at, int64_t rows, int64_t width,
                 typename storage<T>::scalar (*beside)[kWide]) {
  constexpr int W = storage<T>::lanes;
  switch (width % W == 0 ? width / W : 0) {
    case 1: rows_of<1>(p, at, rows, beside); return true;
    case 2: rows_of<2>(p, at, rows, beside); return true;
    case 3: rows_of<3>(p, at, rows, beside); return true;
    case 4: rows_of<4>(p, at, rows, beside); return true;
    default: return false;
  }
}

template <class F, class T>
void channels_last_units(int64_t begin, int64_t end, void* context) {
  const pass<F, T>& p = *(const pass<F, T>*)context;
  typedef typename storage<T>::vector V;
  typedef typename storage<T>::scalar S;
  constexpr int W = storage<T>::lanes;
  // Where rows lie a multiple of a page apart, `beside` is kept out of the way of the last input's, too, and of the other
  // tensors' that lie alike in their pages, as large ones mostly do (up to 1.1 of the time).
  constexpr uint64_t page = 4096, clear = 6 * 64;
  alignas(64) unsigned char memory[sizeof(S) * kWide * (F::rows + F::sums) + page];
  S(*beside)[kWide] = (S(*)[kWide])(memory + ((uint64_t)p.in[F::inputs - 1] + clear - (uint64_t)memory) % page / 64 * 64);
  S(*sums)[kWide] = beside + F::rows;
  alignas(64) double total[F::sums + 1][kWide];
  int64_t period = p.c * p.group, size = p.l * p.c, rows = ceil_div(p.l, p.group);
  for (int k = 0; k < F::rows; ++k) memset(beside[k], 0, sizeof(S) * (size_t)(least(kBlock, period) + W));
  // Blocks outside: the parts of a sample share a table. (Blocks as units of their own would have two threads in one page.)
  for (int64_t c = 0; c < period; c += kBlock) {
    int64_t width = least(kBlock, period - c), prepared = -1;
    for (int64_t unit = begin; unit < end; ++unit) {
      int64_t part = unit % p.parts, n = unit / p.parts;
      int64_t first = part_start(rows, p.parts, part, 4), last = part_start(rows, p.parts, part + 1, 4);
      for (int64_t f = 0; n != prepared && f < p.group; ++f)
        F::prepare(&beside[0][f * p.c], kWide, p.parameters, n, c, p.group > 1 ? p.c : width);
      prepared = n;
      const bool one = last - first <= kFlush && p.group == 1;  // the lanes' sums are the part's
      for (int s = 0; s < F::sums && !one; ++s) memset(total[s], 0, sizeof(double) * (size_t)width);
      for (int64_t r = first; r < last;) {
        int64_t stop = least(last, r + kFlush);
        for (int s = 0; s < F::sums; ++s)
          for (int64_t i = 0; i < width; i += W) store(&sums[s][i], V{});
        int64_t whole = least(stop, size / period);
        if constexpr (W > 1) {
          int64_t at = n * size + r * period;
          if (width == period && r < whole && narrow_rows(p, at, whole - r, width, beside)) r = whole;
        }
        for (; r + 4 <= whole; r += 4) strip<4>(p, n * size + r * period + c, period, width, beside);
        for (; r < stop; ++r)  // the last row may be cut short where the period folds several rows
          strip<1>(p, n * size + r * period + c, 0, least(width, size - r * period - c), beside);
        for (int s = 0; s < F::sums && !one; ++s)
          for (int64_t i = 0; i < width; ++i) total[s][i] += (double)sums[s][i];
      }
      for (int s = 0; s < F::sums; ++s) {
        S* partial = p.partial + s * p.sums_stride() + (n * p.parts + part) * p.c + c;
        if (one) {
          int64_t i = 0;  // by vectors: the compiler's own copy of up to 8 KiB is a slow rep movs
          for (; i + W <= width; i += W) store(partial + i, load(&sums[s][i]));
          for (; i < width; ++i) partial[i] = sums[s][i];
          continue;
        }
        for (int64_t f = 1; f < p.group; ++f)
          for (int64_t i = 0; i < p.c; ++i) total[s][i] += total[s][i + f * p.c];
        for (int64_t i = 0; i < least(width, p.c); ++i) partial[i] = (S)total[s][i];
      }
      if (F::sums && c + kBlock >= period) join_behind(p, begin, unit);
    }
  }
  if (p.past) end_past();
}

template <class F, class T>
void run_channels_last(pass<F, T>& p, int64_t grain) {
  run_tasks(p.n * p.parts, most(1, grain / most(1, p.length * p.c * p.group)), channels_last_units<F, T>, &p);
}

}  // namespace ACONITE_NS
}  // namespace aconite
