// Directory of a zip file whose entries are stored (not compressed), as torch.save writes it. ZIP64 is understood.
#pragma once

#include "host/input_file.h"

#include <map>
#include <string>

namespace ptq {

struct ZipEntry {
  Size offset;  // of the first byte of its content
  Size size;
};

// Entries by name. Refuses (65) compressed or encrypted entries, duplicate names, entries that overlap or reach beyond
// the central directory, and headers that contradict each other.
std::map<std::string, ZipEntry> read_zip(const InputFile& file);

}  // namespace ptq
