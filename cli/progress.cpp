#include "cli/progress.h"

#include "host/error.h"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

namespace ptq {

namespace {

volatile std::sig_atomic_t interrupted = 0;

void on_signal(int signal) {
  interrupted = signal;
  std::signal(signal, SIG_DFL);
}

std::string duration(double seconds) {
  const auto s = static_cast<long>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

void install_interrupt_handler() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  if (std::signal(SIGHUP, on_signal) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
}

void stop_if_interrupted() {
  require(interrupted == 0, Exit::again,
          "interrupted by signal {}; nothing was left half-written, run the command again",
          static_cast<int>(interrupted));
}

ProgressMode progress_mode(const std::string& name) {
  if (name == "none") return ProgressMode::none;
  if (name == "bar") return ProgressMode::bar;
  if (name == "lines") return ProgressMode::lines;
  if (name == "json") return ProgressMode::json;
  return isatty(STDERR_FILENO) ? ProgressMode::bar : ProgressMode::lines;
}

Progress::Progress(ProgressMode mode) : mode_(mode), start_(Clock::now()), last_(start_) {}

Progress::~Progress() { finish(); }

void Progress::finish() {
  if (open_) std::fputc('\n', stderr);
  open_ = false;
}

void Progress::update(const std::string& what, std::int64_t done, std::int64_t total) {
  stop_if_interrupted();
  if (mode_ == ProgressMode::none) return;
  const auto now = Clock::now();
  if (total != total_ || done < done_) start_ = last_ = now;  // other work: its own rate
  done_ = done;
  total_ = total;
  const bool last = done >= total;
  const auto interval = std::chrono::milliseconds(mode_ == ProgressMode::bar ? 100 : 5000);
  if (now - last_ < interval && !(last && last_ != start_)) return;  // short work shows nothing
  last_ = now;

  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double rate = elapsed > 0 ? static_cast<double>(done) / elapsed : 0.0;
  const double eta = rate > 0 ? static_cast<double>(total - done) / rate : 0.0;
  if (mode_ == ProgressMode::json) {
    const nlohmann::json line = {{"what", what}, {"done", done}, {"total", total}, {"seconds", elapsed}, {"eta", eta}};
    fmt::print(stderr, "{}\n", line.dump());
  } else if (mode_ == ProgressMode::lines) {
    fmt::print(stderr, "{} {}/{} {:.1f}/s elapsed {} eta {}\n", what, done, total, rate, duration(elapsed),
               duration(eta));
  } else {
    constexpr int width = 30;
    const auto filled = static_cast<std::size_t>(total > 0 ? width * std::min(done, total) / total : width);
    fmt::print(stderr, "\r\x1b[K[{}{}] {:3}% {} {:.1f}/s eta {}", std::string(filled, '#'),
               std::string(width - filled, '.'), total > 0 ? 100 * std::min(done, total) / total : 100, what, rate,
               duration(eta));
    open_ = true;
    if (last) finish();
  }
  std::fflush(stderr);
}

}  // namespace ptq
