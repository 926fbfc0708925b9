// The walk over [n][c][l]: rows of one channel, short ones many at once.
#pragma once

#include "walk.h"

namespace aconite {
namespace ACONITE_NS {

// Rows of up to this length go in groups of up to kLanes, walked flat.
constexpr int64_t kShortRow = 1024, kTerms = 512;  // kTerms: in one lane's float sum
constexpr int64_t kPart = 16384, kChunk = 2048;
constexpr int64_t kNear = 1 << 20;  // elements of a tensor that is near the cores, not in memory
// Channels prepared at once: the divisions' latency would otherwise stall each group of rows anew. The table is one vector
// longer, as short groups load whole vectors from it.
constexpr int64_t kFill = 128, kTable = kFill + kLanes;

template <class P>
void plan_channels_first(P& p, bool samples_alike) {
  // Near samples go by eight (0.95 of four), but not where they lie a multiple of a page apart, in the same sets of the first
  // cache; from memory so many streams take twice the time.
  bool crowded = p.c * p.l * (int64_t)sizeof(*p.in[0]) % 4096 == 0;
  int64_t together = least(p.n * p.c * p.l <= kNear && !crowded ? 8 : 4, most(1, kTerms * P::lanes / p.l));
  p.samples = P::lanes > 1 && samples_alike && p.l <= kShortRow ? least(p.n, together) : 1;
  p.parts = most(1, ceil_div(p.l, kPart));
  p.length = kPart;
  p.group = most(1, least(kLanes, 4096 / p.l));
}

template <class F, class T>
ACONITE_INLINE void long_row(const pass<F, T>& p, int64_t at, int64_t count, typename storage<T>::scalar* partial,
                             const typename storage<T>::vector* t) {
  typedef typename storage<T>::vector V;
  constexpr int W = storage<T>::lanes;
  double total[F::sums + 1] = {};
  for (int64_t done = 0; done < count; done += kChunk) {
    int64_t end = least(count, done + kChunk), i = done;
    V sum[F::sums + 1] = {};
    for (; i + 4 * W <= end; i += 4 * W) several<4, true>(p, at + i, W, sum, t);
    for (; i + W <= end; i += W) one_vector(p, at + i, sum, t);
    if (W > 1 && i < end) part_vector(p, at + i, end - i, sum, t);
    for (int s = 0; s < F::sums; ++s) total[s] += (double)aconite::ACONITE_NS::sum(sum[s]);
  }
  for (int s = 0; s < F::sums; ++s) partial[s * p.sums_stride()] = (typename storage<T>::scalar)total[s];
}

template <class F, class T>
ACONITE_INLINE void store_sums(const pass<F, T>& p, int64_t rows, const typename storage<T>::vector* total,
                               typename storage<T>::scalar* partial) {
  int64_t stride = F::sums ? p.sums_stride() : 0;
  for (int s = 0; s < F::sums; ++s) {
    if (rows == storage<T>::lanes)
      store(partial + s * stride, total[s]);
    else
      store(partial + s * stride, total[s], rows);
  }
}

// `rows` <= kLanes rows of at least one vector each, walked as one stretch: the vector that holds the end of a row and the
// beginning of the next takes its coefficients from both. 16 rows of 7x7 are 49 vectors, all aligned if the first is; row by
// row they are 64 and nearly all cross cache lines (12 ns a vector in the backward, against 8 here).
//
// The rows' sums are left in `late` and reduced while the next group's rows are under way: reduced at once, they would wait
// for the last row's latency with the reorder buffer full.
template <class F, class T>
struct late_sums {
  typename storage<T>::vector rows[F::sums + 1][storage<T>::lanes];
  int64_t count = 0;
  typename storage<T>::scalar* partial = nullptr;
};

template <class F, class T>
ACONITE_INLINE void settle(const pass<F, T>& p, late_sums<F, T>& late) {
  typedef typename storage<T>::vector V;
  if (F::sums == 0 || late.count == 0) return;
  V total[F::sums + 1];
  for (int s = 0; s < F::sums; ++s) {
    for (int64_t r = late.count; r < storage<T>::lanes; ++r) late.rows[s][r] = V{};
    total[s] = sums_of(late.rows[s]);
  }
  store_sums(p, late.count, total, late.partial);
  late.count = 0;
}

// One vector of each of `samples` samples: what the coefficients cost, and splitting the sums between two rows, is shared.
template <class F, class T>
ACONITE_INLINE void same_vector(const pass<F, T>& p, int64_t at, int64_t samples, typename storage<T>::vector* sum,
                                const typename storage<T>::vector* t) {
  int64_t step = p.c * p.l, k = 0;
  for (; k + 4 <= samples; k += 4) several<4, true>(p, at + k * step, step, sum, t);
  for (; k + 2 <= samples; k += 2) several<2, true>(p, at + k * step, step, sum, t);
  for (; k < samples; ++k) one_vector(p, at + k * step, sum, t);
}

template <class F, class T>
ACONITE_INLINE void flat_rows(const pass<F, T>& p, int64_t at, int64_t samples, int64_t rows, late_sums<F, T>& late,
                              const typename storage<T>::scalar (*table)[kTable], int64_t first) {
  typedef typename storage<T>::vector V;
  constexpr int W = storage<T>::lanes;
  V sum[F::sums + 1] = {}, t[F::rows];
  for (int i = 0; i < F::rows; ++i) t[i] = set1<V>(table[i][first]);
  int64_t i = 0;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t end = (r + 1) * p.l;
    for (; i + W <= end; i += W) same_vector(p, at + i, samples, sum, t);
    int64_t rest = end - i;
    V next[F::sums + 1] = {};
    if (r + 1 == rows) {
      for (int64_t k = 0; W > 1 && rest && k < samples; ++k) part_vector(p, at + k * p.c * p.l + i, rest, sum, t);
    } else {
      V following[F::rows];
      for (int k = 0; k < F::rows; ++k) following[k] = set1<V>(table[k][first + r + 1]);
      if (rest) {
        V both[F::sums + 1] = {};
        for (int k = 0; k < F::rows; ++k) t[k] = lanes_below(rest, t[k], following[k]);
        same_vector(p, at + i, samples, both, t);
        for (int s = 0; s < F::sums; ++s) {
          sum[s] = add_below(rest, sum[s], both[s]);
          next[s] = lanes_below(rest, V{}, both[s]);
        }
        i += W;
      }
      for (int k = 0; k < F::rows; ++k) t[k] = following[k];
    }
    for (int s = 0; s < F::sums; ++s) {
      late.rows[s][r] = sum[s];
      sum[s] = next[s];
    }
  }
  late.count = rows;
}

// Rows shorter than a vector: one element of each row in a vector, a channel per lane.
template <class F, class T>
ACONITE_INLINE void across_rows(const pass<F, T>& p, int64_t at, int64_t samples, int64_t rows, typename storage<T>::scalar* partial,
                                const typename storage<T>::scalar (*table)[kTable], int64_t first) {
  typedef typename storage<T>::vector V;
  constexpr int W = storage<T>::lanes;
  V total[F::sums + 1] = {}, t[F::rows];
  for (int i = 0; i < F::rows; ++i) t[i] = load(&table[i][first]);
  for (int64_t sample = 0; sample < samples; ++sample, at += p.c * p.l)
    for (int64_t i = 0; i < p.l; ++i) {
      V in[F::inputs], out[F::outputs ? F::outputs : 1];
      T column[W] = {};
      for (int k = 0; k < F::inputs; ++k) {
        for (int64_t r = 0; r < rows; ++r) column[r] = p.in[k][at + r * p.l + i];
        in[k] = load(column);
      }
      F::apply(in, out, total, t);
      for (int k = 0; k < F::outputs; ++k) {
        store(column, out[k]);
        for (int64_t r = 0; r < rows; ++r) p.out[k][at + r * p.l + i] = column[r];
      }
    }
  store_sums(p, rows, total, partial);
}

template <class F, class T>
void channels_first_units(int64_t begin, int64_t end, void* context) {
  const pass<F, T>& p = *(const pass<F, T>*)context;
  typedef typename storage<T>::vector V;
  typedef typename storage<T>::scalar S;
  alignas(64) S table[F::rows][kTable] = {};
  late_sums<F, T> late[2];
  int64_t groups = ceil_div(p.c, p.group);
  int64_t part = begin % p.parts, group = begin / p.parts % groups, block = begin / p.parts / groups;
  int64_t filled = 0, filled_to = 0;  // the table holds the channels [filled, filled_to) of this sample
  for (int64_t unit = begin; unit < end; ++unit, ++part) {
    if (part == p.parts) part = 0, ++group;
    if (group == groups) group = 0, ++block, filled = filled_to = 0;
    int64_t n = block * p.samples, samples = least(p.samples, p.n - n);
    int64_t c = group * p.group, count = least(p.group, p.c - c), at = (n * p.c + c) * p.l;
    if (c + count > filled_to) {
      filled = c;
      filled_to = least(p.c, c + least(kFill / p.group * p.group, ceil_div(end - unit, p.parts) * p.group));
      F::prepare(&table[0][0], kTable, p.parameters, n, c, filled_to - c);
    }
    S* partial = F::sums ? p.partial + (block * p.parts + part) * p.c + c : nullptr;
    if (storage<T>::lanes > 1 && p.l <= kShortRow) {
      if (p.l < storage<T>::lanes) {
        across_rows(p, at, samples, count, partial, table, c - filled);
        continue;
      }
      late_sums<F, T>& mine = late[unit & 1];
      mine.partial = partial;
      flat_rows(p, at, samples, count, mine, table, c - filled);
      settle(p, late[~unit & 1]);
      continue;
    }
    for (int64_t r = 0; r < count; ++r) {
      V t[F::rows];
      for (int i = 0; i < F::rows; ++i) t[i] = set1<V>(table[i][c - filled + r]);
      int64_t start = part * p.length;
      long_row(p, at + r * p.l + start, least(p.length, p.l - start), partial + r, t);
    }
  }
  settle(p, late[0]);
  settle(p, late[1]);
  if (p.past) end_past();
}

template <class F, class T>
void run_channels_first(pass<F, T>& p, int64_t grain) {
  int64_t units = p.blocks() * ceil_div(p.c, p.group) * p.parts;
  int64_t size = p.samples * least(p.group, p.c) * least(p.l, p.length);
  run_tasks(units, most(1, grain / most(1, size)), channels_first_units<F, T>, &p);
}

}  // namespace ACONITE_NS
}  // namespace aconite
