// The walks of the fused norm: blocks of channels, over one sample or all of them, with sums in double. A block's
// second pass then finds in L2 what the first has read. What is added up with what depends on the shape alone.
#pragma once

#include "strip.h"
#include "tasks.h"

namespace aconite {
namespace ACONITE_NS {
namespace norm_walk {

constexpr int64_t kWidth = 512;               // channels in a block at most
constexpr int64_t kTable = kWidth + kStagger; // which leaves room for the whole vectors that short groups load
constexpr int64_t kShortRow = 1024;           // up to here rows are walked in groups, as one stretch
constexpr int64_t kTogether = 8;              // samples, channels first; rows, channels last
constexpr int64_t kManySamples = 256;         // the row length below which samples are walked together (14x14: 0.8)
constexpr int64_t kNarrow = 128;              // rows of up to this many channels go by four
constexpr int64_t kChunk = 2048, kFlush = 128;

template <class F, class T>
struct stream {
  typedef F formula;
  typedef T element;
  typedef typename storage<T>::vector V;
  typedef typename storage<T>::scalar S;
  static constexpr int W = storage<T>::lanes;
  int64_t c, l;
  const T* in[F::inputs];
  T* out[F::outputs ? F::outputs : 1];
  bool past;  // whole vectors are stored past the caches
};

// The lanes beyond `count` read zeros, which are no values: their terms stay out of the sums.
template <class F, class T>
ACONITE_INLINE void part_vector(const stream<F, T>& s, int64_t at, int64_t count, typename storage<T>::vector* sum,
                                const typename storage<T>::vector* t) {
  typedef typename storage<T>::vector V;
  V in[F::inputs], out[F::outputs ? F::outputs : 1], own[F::sums + 1] = {};
  for (int i = 0; i < F::inputs; ++i) in[i] = load(s.in[i] + at, count);
  F::apply(in, out, own, t);
  for (int i = 0; i < F::sums; ++i) sum[i] = add_below(count, sum[i], own[i]);
  for (int i = 0; i < F::outputs; ++i) store(s.out[i] + at, out[i], count);
}

// ---- channels first -------------------------------------------------------------------------------------------------

template <class F, class T>
ACONITE_INLINE void long_row(const stream<F, T>& s, int64_t at, const typename storage<T>::vector* t, double* total) {
  typedef typename storage<T>::vector V;
  constexpr int W = storage<T>::lanes;
  for (int64_t done = 0; done < s.l; done += kChunk) {
    int64_t end = least(s.l, done + kChunk), i = done;
    V sum[F::sums + 1] = {};
    for (; i + W <= end; i += W) {
      ask_ahead<true>(s, at + i);
      one_vector(s, at + i, sum, t);
    }
    if (W > 1 && i < end) part_vector(s, at + i, end - i, sum, t);
    for (int k = 0; k < F::sums; ++k) total[k * kWidth] += (double)aconite::ACONITE_NS::sum(sum[k]);
  }
}

// The sums of one group of rows, reduced while the next group is under way.
template <class F, class T>
struct late_sums {
  typename storage<T>::vector rows[F::sums + 1][storage<T>::lanes];
  int64_t count = 0;
  double* total = nullptr;

  ACONITE_INLINE void settle() {
    typedef typename storage<T>::vector V;
    typedef typename storage<T>::scalar S;
    constexpr int W = storage<T>::lanes;
    if (F::sums == 0 || count == 0) return;
    for (int k = 0; k < F::sums; ++k) {
      for (int64_t r = count; r < W; ++r) rows[k][r] = V{};
      alignas(64) S lane[W];
      store(lane, sums_of(rows[k]));
      for (int64_t r = 0; r < W; ++r) total[k * kWidth + r] += (double)lane[r];
    }
    count = 0;
  }
};

// `rows` <= kLanes rows of `samples` samples, walked flat: a vector that holds the end of a row and the beginning of
// the next takes its coefficients from both.
template <class F, class T>
ACONITE_INLINE void flat_rows(const stream<F, T>& s, int64_t at, int64_t samples, int64_t rows, late_sums<F, T>& late,
                              const typename storage<T>::scalar (*table)[kTable], int64_t first) {
  typedef typename storage<T>::vector V;
  constexpr int W = storage<T>::lanes;
  const int64_t step = s.c * s.l;
  V sum[F::sums + 1] = {}, t[F::rows];
  for (int i = 0; i < F::rows; ++i) t[i] = set1<V>((double)table[i][first]);
  int64_t i = 0;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t end = (r + 1) * s.l;
    for (; i + W <= end; i += W)
      for (int64_t k = 0; k < samples; ++k) {
        ask_ahead(s, at + k * step + i);
        one_vector(s, at + k * step + i, sum, t);
      }
    int64_t rest = end - i;
    V next[F::sums + 1] = {};
    if (r + 1 == rows) {
      for (int64_t k = 0; W > 1 && rest && k < samples; ++k) part_vector(s, at + k * step + i, rest, sum, t);
    } else {
      if (rest) {
        V both[F::sums + 1] = {}, mixed[F::rows];
        for (int k = 0; k < F::rows; ++k) mixed[k] = lanes_below(rest, t[k], set1<V>((double)table[k][first + r + 1]));
        for (int64_t k = 0; k < samples; ++k) one_vector(s, at + k * step + i, both, mixed);
        for (int k = 0; k < F::sums; ++k) {
          sum[k] = add_below(rest, sum[k], both[k]);
          next[k] = lanes_below(rest, V{}, both[k]);
        }
        i += W;
      }
      for (int k = 0; k < F::rows; ++k) t[k] = set1<V>((double)table[k][first + r + 1]);
    }
    for (int k = 0; k < F::sums; ++k) {
      late.rows[k][r] = sum[k];
      sum[k] = next[k];
    }
  }
  late.count = rows;
}

// Rows shorter than a vector: a channel per lane.
template <class F, class T>
ACONITE_INLINE void across_rows(const stream<F, T>& s, int64_t at, int64_t samples, int64_t rows,
                                const typename storage<T>::scalar (*table)[kTable], int64_t first, double* total) {
  typedef typename storage<T>::vector V;
  typedef typename storage<T>::scalar S;
  constexpr int W = storage<T>::lanes;
  V sum[F::sums + 1] = {}, t[F::rows];
  for (int i = 0; i < F::rows; ++i) t[i] = load(&table[i][first]);
  for (int64_t k = 0; k < samples; ++k, at += s.c * s.l)
    for (int64_t i = 0; i < s.l; ++i) {
      V in[F::inputs], out[F::outputs ? F::outputs : 1];
      T column[W] = {};
      for (int j = 0; j < F::inputs; ++j) {
        for (int64_t r = 0; r < rows; ++r) column[r] = s.in[j][at + r * s.l + i];
        in[j] = load(column);
      }
      F::apply(in, out, sum, t);
      for (int j = 0; j < F::outputs; ++j) {
        store(column, out[j]);
        for (int64_t r = 0; r < rows; ++r) s.out[j][at + r * s.l + i] = column[r];
      }
    }
  for (int k = 0; k < F::sums; ++k) {
    alignas(64) S lane[W];
    store(lane, sum[k]);
    for (int64_t r = 0; r < rows; ++r) total[k * kWidth + r] += (double)lane[r];
  }
}

// Channels [c, c + count) of samples [from, to): total[k][i] += sum k of channel c + i.
template <class F, class T>
void channels_first(const stream<F, T>& s, int64_t from, int64_t to, int64_t c, int64_t count,
                    const typename storage<T>::scalar (*table)[kTable], double* total) {
  typedef typename storage<T>::vector V;
  constexpr int W = storage<T>::lanes;
  if (W == 1 || s.l > kShortRow) {
    for (int64_t r = 0; r < count; ++r) {
      V t[F::rows];
      for (int i = 0; i < F::rows; ++i) t[i] = set1<V>((double)table[i][r]);
      for (int64_t n = from; n < to; ++n) long_row(s, (n * s.c + c + r) * s.l, t, total + r);
    }
    return;
  }
  int64_t together = s.l < kManySamples ? kTogether : 1;
  late_sums<F, T> late[2];
  int64_t turn = 0;
  for (int64_t n = from; n < to; n += together) {
    int64_t samples = least(together, to - n);
    for (int64_t r = 0; r < count; r += W, ++turn) {
      int64_t rows = least(W, count - r), at = (n * s.c + c + r) * s.l;
      if (s.l < W) {
        across_rows(s, at, samples, rows, table, r, total + r);
        continue;
      }
      late_sums<F, T>& mine = late[turn & 1];
      mine.total = total + r;
      if (samples == 1)
        flat_rows(s, at, 1, rows, mine, table, r);
      else
        flat_rows(s, at, samples, rows, mine, table, r);
      late[~turn & 1].settle();
    }
  }
  late[0].settle();
  late[1].settle();
}

// ---- channels last --------------------------------------------------------------------------------------------------

// `width` columns of `rows` rows of `pitch`, from `at` on, and of a last row that is cut short after `tail`. Behind the table's
// rows there is room for those of the sums.
template <class F, class T>
void channels_last(const stream<F, T>& s, int64_t at, int64_t rows, int64_t tail, int64_t pitch, int64_t width,
                   typename storage<T>::scalar (*table)[kTable], double* total) {
  typedef typename storage<T>::vector V;
  constexpr int W = storage<T>::lanes;
  for (int64_t r = 0; r < rows || tail;) {
    int64_t stop = least(rows, r + kFlush);
    for (int k = 0; k < F::sums; ++k)
      for (int64_t i = 0; i < width; i += W) store(&table[F::rows + k][i], V{});
    // By measurement: 56x56x64 and 7x7x1024 take 0.85 of the time by four, 14x14x256 0.8 by eight.
    if (pitch > kNarrow && pitch <= kWidth)
      for (; r + kTogether <= stop; r += kTogether) strip<kTogether>(s, at + r * pitch, pitch, width, table);
    for (; r + 4 <= stop; r += 4) strip<4>(s, at + r * pitch, pitch, width, table);
    for (; r < stop; ++r) strip<1>(s, at + r * pitch, pitch, width, table);
    if (r == rows && tail) {
      strip<1>(s, at + r * pitch, pitch, tail, table);
      tail = 0;
    }
    for (int k = 0; k < F::sums; ++k)
      for (int64_t i = 0; i < width; ++i) total[k * kWidth + i] += (double)table[F::rows + k][i];
  }
}

}  // namespace norm_walk
}  // namespace ACONITE_NS
}  // namespace aconite
