// How long a cache line takes from one core to another: g++ -O2 -pthread core_to_core.cpp -o core_to_core && ./core_to_core 0 1
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <thread>

alignas(128) static std::atomic<int64_t> line{0};
constexpr int64_t kTurns = 400000;

static void stay_on(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set)) {
    fprintf(stderr, "no core %d here\n", core);
    exit(1);
  }
}

// Waits for each value of its parity and answers with the next.
static void play(int core, int64_t parity) {
  stay_on(core);
  for (int64_t turn = 0; turn < kTurns; ++turn) {
    int64_t awaited = 2 * turn + parity;
    while (line.load(std::memory_order_acquire) != awaited) {
    }
    line.store(awaited + 1, std::memory_order_release);
  }
}

int main(int argc, char** argv) {
  int first = argc > 1 ? atoi(argv[1]) : 0, second = argc > 2 ? atoi(argv[2]) : 1;
  std::thread other([second] { play(second, 1); });
  auto start = std::chrono::steady_clock::now();
  play(first, 0);
  double ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
  other.join();
  printf("%.0f ns from core %d to core %d\n", ns / (2 * kTurns), first, second);
}
