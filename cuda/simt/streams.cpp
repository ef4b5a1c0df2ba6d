#include "cuda/simt/streams.h"

#include "host/error.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <memory>
#include <vector>

namespace simt {

namespace {

struct Queue {
  std::deque<std::function<void()>> waiting;
  std::uint64_t done = 0;  // pieces of work that have waited and are over

  std::uint64_t end() const { return done + waiting.size(); }

  void run_until(std::uint64_t piece) {
    while (done < piece) {
      const std::function<void()> work = std::move(waiting.front());
      waiting.pop_front();
      ++done;
      try {
        work();
      } catch (...) {  // as on a GPU, where nothing runs after a fault
        done = end();
        waiting.clear();
        throw;
      }
    }
  }
  void run() { run_until(end()); }
};

struct Record {
  std::shared_ptr<Queue> queue;
  std::uint64_t piece = 0;  // everything before it belongs to the event
  std::chrono::steady_clock::time_point time;
};

Lag initial_lag() {
  const char* text = std::getenv("PTQ_SIMT_LAG");
  return text == nullptr || *text == '\0' ? Lag::copies : parse_lag(text);
}

Lag& lag() {
  static Lag l = initial_lag();
  return l;
}

std::vector<CUstream_st*>& streams() {
  static std::vector<CUstream_st*> all;
  return all;
}

}  // namespace

}  // namespace simt

struct CUstream_st {
  std::shared_ptr<simt::Queue> queue = std::make_shared<simt::Queue>();
};
struct CUevent_st {
  std::shared_ptr<simt::Record> last;  // null: never recorded
};

namespace simt {

namespace {

// Work that takes no time: at once if the stream holds nothing.
void put_mark(Queue& queue, std::function<void()> work) {
  if (queue.waiting.empty())
    work();
  else
    queue.waiting.push_back(std::move(work));
}

}  // namespace

Lag parse_lag(const std::string& text) {
  ptq::require(text == "copies" || text == "kernels", ptq::Exit::usage, "PTQ_SIMT_LAG={}: expected copies or kernels",
               text);
  return text == "copies" ? Lag::copies : Lag::kernels;
}

void set_lag(Lag l) { lag() = l; }

void put(CUstream_st* stream, Work kind, std::function<void()> work) {
  if (stream != nullptr && kind == (lag() == Lag::copies ? Work::copy : Work::kernel)) {
    stream->queue->waiting.push_back(std::move(work));
    return;
  }
  finish(stream);
  work();
}

CUstream_st* make_stream() { return streams().emplace_back(new CUstream_st); }

void destroy(CUstream_st* stream) {
  finish(stream);
  std::erase(streams(), stream);
  delete stream;
}

void finish(CUstream_st* stream) {
  if (stream != nullptr) return stream->queue->run();
  for (CUstream_st* s : streams()) s->queue->run();
}

CUevent_st* make_event() { return new CUevent_st; }

void destroy(CUevent_st* event) { delete event; }

void record(CUevent_st* event, CUstream_st* stream) {
  if (stream == nullptr) finish(stream);
  const auto queue = stream == nullptr ? std::make_shared<Queue>() : stream->queue;
  const auto last = std::make_shared<Record>(Record{queue, 0, {}});
  event->last = last;
  put_mark(*queue, [last] { last->time = std::chrono::steady_clock::now(); });
  last->piece = queue->end();
}

void wait_for(CUstream_st* stream, const CUevent_st* event) {
  if (event->last == nullptr) return;
  const auto wait = [last = event->last] { last->queue->run_until(last->piece); };
  if (stream == nullptr)
    wait();
  else
    put_mark(*stream->queue, wait);
}

void finish(const CUevent_st* event) { wait_for(nullptr, event); }

double seconds_between(const CUevent_st* begin, const CUevent_st* end) {
  return std::chrono::duration<double>(end->last->time - begin->last->time).count();
}

void when_done(std::function<void()> last) {
  const std::shared_ptr<void> call(nullptr, [last = std::move(last)](void*) { last(); });
  for (CUstream_st* s : streams()) put_mark(*s->queue, [call] {});
}

}  // namespace simt
