// Progress of long work on standard error: a bar on a terminal, plain lines elsewhere, JSON lines on request.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ptq {

enum class ProgressMode : std::uint8_t { none, bar, lines, json };

// auto: a bar if standard error is a terminal, else lines.
ProgressMode progress_mode(const std::string& name);

class Progress {
 public:
  explicit Progress(ProgressMode mode);
  ~Progress();  // ends an open bar with a newline
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `what` is the current step ("layer 3/30 down_proj"), done of total units. Fails with exit 75 after SIGINT,
  // SIGTERM or SIGHUP: this is the safe boundary at which work stops, so that nothing half-written is left.
  void update(const std::string& what, std::int64_t done, std::int64_t total);
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  ProgressMode mode_;
  Clock::time_point start_, last_;
  std::int64_t done_ = 0, total_ = 0;
  bool open_ = false;
};

// SIGINT, SIGTERM and SIGHUP (unless it is ignored, as nohup does) ask the next Progress::update to stop; a second one
// ends the program at once.
void install_interrupt_handler();
void stop_if_interrupted();

}  // namespace ptq
