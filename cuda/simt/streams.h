// Streams and events of the stand-in runtime. A GPU runs streams beside each other and the host does not wait for them;
// here all happens in one thread, but as late as the program allows, so that a wait that is missing gives other
// results. For one host thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

struct CUstream_st;
struct CUevent_st;

namespace simt {

// What is late: it happens when something waits for it, or when later work of its stream happens. The rest happens at
// once, after what its stream holds.
enum class Lag : std::uint8_t {
  copies,   // a kernel that does not wait for a copy reads what was there before
  kernels,  // a copy that does not wait for a kernel changes what it reads. Faults of kernels show when it is waited
            // for
};
Lag parse_lag(const std::string& text);  // "copies", "kernels"; else Error (exit 2)
void set_lag(Lag lag);                   // at the start that of $PTQ_SIMT_LAG, or copies

enum class Work : std::uint8_t { kernel, copy };

// Puts work behind what the stream holds. Null: CUDA's default stream, whose work waits for all others and is not late.
void put(CUstream_st* stream, Work kind, std::function<void()> work);

CUstream_st* make_stream();
void destroy(CUstream_st* stream);  // finishes it
void finish(CUstream_st* stream);   // all of them if it is null

CUevent_st* make_event();
void destroy(CUevent_st* event);
void record(CUevent_st* event, CUstream_st* stream);
void wait_for(CUstream_st* stream, const CUevent_st* event);  // the stream for the record before this call, if any
void finish(const CUevent_st* event);
double seconds_between(const CUevent_st* begin, const CUevent_st* end);

// Calls `last` after all work that streams hold now: CUDA frees memory that it still works on only when it is done.
void when_done(std::function<void()> last);

}  // namespace simt
