// Windows drawn at random as the GPTQ reference does (spec A.8).
#pragma once

#include "data/packing.h"

namespace ptq {

// random.seed(rule.seed); until there are rule.samples windows: a document by randint, drawn again while it is not
// longer than a window, then a window of it by randint. A corpus of one text has no first draw (as the reference does
// with WikiText-2). Adds windows and the number of documents used. Exit 65 if no document is long enough.
void draw_windows(CalibrationSet& set, const Corpus& corpus, const Tokenizer& tokenizer, const WindowRule& rule);

}  // namespace ptq
