// A notice that is the reason of another one.
#pragma once

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// What `notice` says, with the options that it is about, as a part of another text.
Text said_in(const Notice& notice);

/// What is said about options, a file or nothing by name, and the notice that says why: its options
/// stay options, its cause and its hint are those of the whole.
Notice because(About about, const Text& text, const Notice& reason);

/// `notice` said of `name`, such as one of several runs: "NAME: ...".
Notice said_of(const std::string& name, const Notice& notice);

/// Whether it says nothing, as a reason that there is not.
bool is_empty(const Notice& notice);

}  // namespace x_transformers
